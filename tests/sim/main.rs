//! The simulation: the real fleet and the agent's real decisions over a modelled network, store, engine
//! and clock. One seed is one history; invariants are checked after every event, and after the heal
//! every job has to end.
//!
//! `MUSTER_SIM_SEEDS=n` runs n histories, `MUSTER_SIM_SEED=n` runs that one and prints its events.

use crate::bug::Bug;
use crate::script::Script;
use crate::world::{Verdict, run};

mod actions;
mod agent;
mod bug;
mod client;
mod coordinator;
mod engine;
mod host;
mod ledger;
mod network;
mod script;
mod store;
mod trace;
mod verdict;
mod world;

/// Histories of an ordinary run.
const SEEDS: u64 = 400;
/// In so many histories each seeded bug has to be caught.
const BUG_SEEDS: u64 = 200;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("the variable is a number"))
}

/// The smallest number of actions that still fails, if halving finds it.
fn shortest(seed: u64, script: &Script, bug: Option<Bug>) -> usize {
    let fails = |count| {
        run(seed, &script.first(count), bug, false)
            .violation
            .is_some()
    };
    let (mut passing, mut failing) = (0, script.actions.len());
    while failing - passing > 1 {
        let middle = passing.midpoint(failing);
        if fails(middle) {
            failing = middle;
        } else {
            passing = middle;
        }
    }
    failing
}

fn histories(seeds: impl Iterator<Item = u64>) {
    let (mut happenings, mut attempts, mut runs) = (0, 0, 0);
    for seed in seeds {
        let script = Script::of(seed);
        let verdict = run(seed, &script, None, false);
        if let Some(violation) = verdict.violation {
            let count = shortest(seed, &script, None);
            run(seed, &script.first(count), None, true);
            panic!(
                "{violation}\nseed {seed}, first {count} of {} actions (above): \
                 make replay SEED={seed}",
                script.actions.len()
            );
        }
        happenings += verdict.happenings;
        attempts += verdict.attempts;
        runs += 1;
    }
    println!("{runs} histories, {happenings} happenings, {attempts} attempts");
    assert!(attempts > 0, "nothing was run");
}

#[test]
fn every_invariant_holds_in_random_histories() {
    if let Some(seed) = setting("MUSTER_SIM_SEED") {
        let verdict = run(seed, &Script::of(seed), None, true);
        assert_eq!(verdict.violation, None, "seed {seed}");
        return;
    }
    let seeds = setting("MUSTER_SIM_SEEDS").unwrap_or(SEEDS);
    histories(1..=seeds);
}

#[test]
fn a_seed_gives_the_same_history_each_time() {
    for seed in [3, 17, 99] {
        let of = |seed| -> Verdict { run(seed, &Script::of(seed), None, false) };
        assert_eq!(of(seed), of(seed));
        assert_ne!(of(seed).hash, of(seed + 1).hash);
    }
}

#[test]
fn every_seeded_bug_is_caught() {
    if setting("MUSTER_SIM_SEED").is_some() {
        return;
    }
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let found = (1..=BUG_SEEDS).find_map(|seed| {
            let violation = run(seed, &Script::of(seed), Some(bug), false).violation?;
            Some((seed, violation))
        });
        match found {
            Some((seed, violation)) => println!("{bug:?}: seed {seed}: {violation}"),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
