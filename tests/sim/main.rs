//! The simulation: the real fleet and the agent's real decisions over a modelled network, store, engine
//! and clock. One seed is one history; invariants are checked after every event, and after the heal
//! every job has to end.
//!
//! `MUSTER_SIM_SEEDS=n` runs n histories on all CPUs, each on one thread. `MUSTER_SIM_SEED=n` runs that one
//! and prints its events; if it fails, the shortest history that fails like it follows.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::bug::Bug;
use crate::fault::Coverage;
use crate::script::Script;
use crate::shrink::shortest;
use crate::trace::Violation;
use crate::world::{Verdict, run};

mod actions;
mod agent;
mod bug;
mod client;
mod coordinator;
mod engine;
mod fault;
mod host;
mod lease;
mod ledger;
mod network;
mod orphans;
mod parked;
mod release;
mod script;
mod shrink;
mod spoil;
mod start;
mod store;
mod trace;
mod verdict;
mod warm;
mod world;

/// Histories of an ordinary run.
const SEEDS: u64 = 1_000;
/// So many histories show each fault a thousand times.
const MANY: u64 = 10_000;
/// In so many histories each seeded bug has to be caught.
const BUG_SEEDS: u64 = 200;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("the variable is a number"))
}

/// Does the work for each of the numbers, on all CPUs.
fn on_all_cpus(numbers: RangeInclusive<u64>, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(*numbers.start());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if !numbers.contains(&number) {
                        return;
                    }
                    work(number);
                }
            });
        }
    });
}

/// What many histories came to.
#[derive(Default)]
struct Sum {
    /// The smallest seed that failed.
    failed: Option<(u64, Violation)>,
    histories: u64,
    happenings: u64,
    attempts: usize,
    coverage: Coverage,
}

impl Sum {
    fn add(&mut self, seed: u64, verdict: Verdict) {
        if let Some(violation) = verdict.violation
            && self.failed.as_ref().is_none_or(|(first, _)| seed < *first)
        {
            self.failed = Some((seed, violation));
        }
        self.histories += 1;
        self.happenings += verdict.happenings;
        self.attempts += verdict.attempts;
        self.coverage.add(verdict.coverage);
    }
}

/// Prints the shortest history that fails like this one, and what it breaks.
fn explain(seed: u64, bug: Option<Bug>, violation: &Violation) -> String {
    let script = Script::of(seed);
    let short = shortest(seed, &script, bug, violation.invariant);
    println!("the shortest history that breaks {}:", violation.invariant);
    let verdict = run(seed, &short, bug, true);
    let shown = verdict.violation.as_ref().unwrap_or(violation);
    format!(
        "{shown}\nseed {seed}, {} of {} actions (above) on {} of {} hosts: make replay SEED={seed}",
        short.actions.len(),
        script.actions.len(),
        short.hosts,
        script.hosts
    )
}

fn histories(seeds: RangeInclusive<u64>) {
    let begun = Instant::now();
    let sum = Mutex::new(Sum::default());
    let locked = || sum.lock().unwrap_or_else(PoisonError::into_inner);
    on_all_cpus(seeds.clone(), |seed| {
        if locked()
            .failed
            .as_ref()
            .is_none_or(|(first, _)| seed < *first)
        {
            let verdict = run(seed, &Script::of(seed), None, false);
            locked().add(seed, verdict);
        }
    });
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((seed, violation)) = &sum.failed {
        panic!("{}", explain(*seed, None, violation));
    }
    println!(
        "{} histories, {} happenings, {} attempts in {:.1?}",
        sum.histories,
        sum.happenings,
        sum.attempts,
        begun.elapsed()
    );
    sum.coverage.print();
    assert!(sum.attempts > 0, "nothing was run");
    let times = if sum.histories < MANY { 1 } else { 1_000 };
    let missing = sum.coverage.missing(times);
    // A handful of histories need not show everything.
    assert!(
        missing.is_empty() || sum.histories < SEEDS,
        "not seen {times} times: {missing:?}"
    );
}

#[test]
fn every_invariant_holds_in_random_histories() {
    if let Some(seed) = setting("MUSTER_SIM_SEED") {
        let verdict = run(seed, &Script::of(seed), None, true);
        if let Some(violation) = verdict.violation {
            panic!("{}", explain(seed, None, &violation));
        }
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
fn a_failing_history_is_shown_at_its_shortest() {
    let mut fewer_tasks = false;
    for (seed, violation) in caught(Bug::ForgetCancel).take(3) {
        let bug = Some(Bug::ForgetCancel);
        let script = Script::of(seed);
        let short = shortest(seed, &script, bug, violation.invariant);
        // A job and its cancel, and what it takes for the two to meet.
        assert!(short.actions.len() <= 8, "{:?}", short.actions);
        assert!(short.actions.len() < script.actions.len());
        fewer_tasks |= short.most_tasks <= 2;
        let again = run(seed, &short, bug, false).violation;
        assert_eq!(
            again.map(|found| found.invariant),
            Some(violation.invariant)
        );
    }
    assert!(fewer_tasks, "some of them need no more than two tasks");
}

fn caught(bug: Bug) -> impl Iterator<Item = (u64, Violation)> {
    (1..=BUG_SEEDS).filter_map(move |seed| {
        let violation = run(seed, &Script::of(seed), Some(bug), false).violation?;
        Some((seed, violation))
    })
}

#[test]
fn every_seeded_bug_is_caught() {
    if setting("MUSTER_SIM_SEED").is_some() {
        return;
    }
    let found = Mutex::new(BTreeMap::new());
    let last = u64::try_from(Bug::ALL.len()).expect("a handful") - 1;
    on_all_cpus(0..=last, |number| {
        let bug = Bug::ALL[usize::try_from(number).expect("a handful")];
        let caught = caught(bug).next();
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        found.insert(number, (bug, caught));
    });
    let mut missed = Vec::new();
    for (bug, caught) in found
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .into_values()
    {
        match caught {
            Some((seed, violation)) => println!("{bug:?}: seed {seed}: {violation}"),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
