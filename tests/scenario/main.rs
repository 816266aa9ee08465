//! Readable histories of a small fleet. Each file in `scripts/` is a list of commands; what the fleet
//! shows after them is in `golden/`, script and output in one reading. `UPDATE_GOLDEN=1` writes the
//! outputs anew; read the difference before you keep it.

#![expect(
    clippy::unwrap_used,
    reason = "a script that can't be read is a failed test"
)]

use std::path::{Path, PathBuf};

use crate::script::play;

mod command;
mod script;
mod show;
mod stage;
mod words;

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scenario")
        .join(name)
}

/// Compares the output of a script with the golden one, or blesses it.
fn check(name: &str) {
    let script = directory("scripts").join(format!("{name}.txt"));
    let script = std::fs::read_to_string(script).expect("every test has a script");
    let output = play(&script);
    let golden = directory("golden").join(format!("{name}.out"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &output).expect("the tree can be written");
        return;
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    if output != expected {
        let line = output
            .lines()
            .zip(expected.lines())
            .position(|(left, right)| left != right);
        let line = line.unwrap_or_else(|| output.lines().count().min(expected.lines().count()));
        panic!(
            "{name}: differs from line {} on; UPDATE_GOLDEN=1 blesses it\n{output}",
            line + 1
        );
    }
}

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*

        /// A script without a test would never be played.
        #[test]
        fn every_script_is_played() {
            let mut found: Vec<String> = std::fs::read_dir(directory("scripts"))
                .expect("it is part of the tree")
                .map(|entry| {
                    let name = entry.expect("it can be listed").file_name();
                    name.to_string_lossy().trim_end_matches(".txt").to_owned()
                })
                .collect();
            found.sort();
            let mut played = vec![$(stringify!($name).to_owned()),*];
            played.sort();
            assert_eq!(found, played);
        }
    };
}

scenarios! {
    agent_lost_and_back_late,
    array_over_two_pools,
    canary_promoted,
    canary_rolled_back,
    cancel_before_during_and_after,
    concurrency_keys,
    drain_with_a_deadline,
    image_pushed_in_the_middle,
    poison_in_quarantine,
    prefetch_with_a_stalled_agent,
    retry_budgets,
    rollback_of_a_channel,
    rollback_while_baking,
    rollout_paused,
    supersede_and_queue,
    validation_that_fails,
}
