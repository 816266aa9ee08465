//! A task that takes its engine down wherever it runs, beside tasks that do no harm: it is put aside, with what is
//! known of it, and the others get done.

use std::path::Path;
use std::time::{Duration, Instant};

use muster_tests::engine::PrivateEngine;
use muster_tests::fleet::{Fleet, enabled};
use muster_tests::processes::eventually;

use crate::crash_points::long;

const AGENTS: [&str; 3] = ["a1", "a2", "a3"];

/// So many harmless tasks.
fn tasks() -> u64 {
    if long() { 1_000 } else { 100 }
}

/// Where the poison takes effect next, beyond what did so before.
fn victim(directory: &Path, job: &str, attempt: usize) -> usize {
    eventually("the poison taking effect", || {
        AGENTS.iter().position(|agent| {
            let run = format!("{agent}/attempts/{job}.0-{attempt}/run/poison");
            directory.join(run).exists()
        })
    })
}

#[test]
fn a_task_that_kills_its_engine_three_times_is_put_aside_and_the_others_get_done() {
    if !enabled() {
        return;
    }
    let mut engines = AGENTS.map(|_| PrivateEngine::start(false));
    let mut fleet = Fleet::start(0);
    for (agent, engine) in AGENTS.iter().zip(&engines) {
        fleet.start_agent_in(agent, &[("DOCKER_HOST", &engine.host())]);
    }
    fleet.wait_for_agents(AGENTS.len());
    let begin = Instant::now();
    let script = "touch /run/muster/poison; sleep 600";
    let poison = fleet.submit(&["--retry-delay", "200ms"], &["sh", "-c", script]);
    // These come back later than the poison: who comes back as soon goes with it from host to host, because both
    // avoid where they were, and ends as a suspect too.
    let array = tasks().to_string();
    let good = fleet.submit(&["--array", &array], &["sleep", "1"]);
    eventually("tasks beside the poison", || {
        let running = &fleet.json(&["job", "get", &good])["counts"]["running"];
        (running.as_u64()? >= 8).then_some(())
    });

    for attempt in 1..=3 {
        let at = victim(fleet.directory.path(), &poison, attempt);
        // Dockerd, containerd, shims, and every task beside it.
        engines[at].crash();
        engines[at].start_again();
    }
    let held = eventually("the quarantine", || {
        let list = fleet.json(&["quarantine", "list"]);
        let tasks = list["tasks"].as_array().expect("a list of tasks").clone();
        tasks
            .into_iter()
            .find(|task| task["job"] == poison.as_str())
    });
    assert_eq!(held["deaths"], 3, "{held}");
    let attempts = held["attempts"].as_array().expect("a list of attempts");
    assert_eq!(attempts.len(), 3, "{held}");
    for attempt in attempts {
        assert_eq!(attempt["end"]["outcome"], "lost", "{held}");
        assert!(
            AGENTS.iter().any(|agent| attempt["agent"] == *agent),
            "{held}"
        );
    }

    let deadline = begin + Duration::from_secs(30 + tasks());
    let counts = loop {
        let counts = fleet.json(&["job", "get", &good])["counts"].clone();
        let done = counts["succeeded"].as_u64().expect("a count");
        // One of them may be on each of the three engines when it goes down, by chance.
        if done * 100 >= tasks() * 99 {
            break counts;
        }
        assert!(Instant::now() < deadline, "{counts}");
        std::thread::park_timeout(Duration::from_millis(200));
    };
    assert_eq!(counts["failed"], 0, "{counts}");
    assert_ne!(counts["retries"], 0, "none was beside it: {counts}");
    eprintln!("{counts} after {:?}", begin.elapsed());
    fleet.ok(&["quarantine", "drop", &format!("{poison}.0")]);
    let end = fleet.json(&["task", "get", &format!("{poison}.0")])["end"].clone();
    assert_eq!(end["outcome"], "infra_error", "{end}");
}
