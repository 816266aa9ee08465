//! Tasks that run out of memory and ask for more.

use std::collections::BTreeSet;

use super::restart::Rows;
use super::rig::*;
use crate::effect::{Effect, Order};
use crate::ids::{AttemptId, JobId};
use crate::outcome::{End, EndReason, Outcome};
use crate::spec::{Growth, RetryAction, RetryPolicy, RetryRule, Spec};

const MIB: u64 = 1 << 20;

/// A job of 1 MiB that asks for twice as much after each `oom`.
fn growing(most: u64) -> Spec {
    let rule = RetryRule {
        outcomes: BTreeSet::from([Outcome::Oom]),
        exit_codes: Vec::new(),
        action: RetryAction::Grow(Growth { percent: 200, most }),
    };
    Spec {
        retry: RetryPolicy {
            user: 30,
            infra: 9,
            rules: vec![rule],
            ..spec().retry
        },
        ..spec()
    }
}

fn oom() -> End {
    End::of(Outcome::Oom, EndReason::MemoryLimit)
}

/// Agent, attempt, and what its container may have.
fn asked(effects: &[Effect]) -> Vec<(String, AttemptId, u64)> {
    let offers = effects.iter().filter_map(|effect| match effect {
        Effect::Order {
            agent,
            order: Order::Offer(offer),
        } => Some((agent.to_string(), offer.attempt, offer.memory)),
        _ => None,
    });
    offers.collect()
}

fn fail(rig: &mut Rig, name: &str, attempt: AttemptId, end: End) -> Vec<Effect> {
    rig.start(name, attempt);
    rig.end(name, attempt, end)
}

/// The delay of a retry, and less than an offer waits for its answer.
fn after_the_delay(rig: &mut Rig) -> Vec<Effect> {
    let later = rig.now + crate::time::Millis::from_secs(12);
    rig.tick_until(later)
}

fn reserved(rig: &Rig, name: &str) -> u64 {
    rig.fleet.agents[&agent(name)]
        .reserved
        .resources
        .memory_bytes
}

fn why(rig: &Rig, job: JobId, index: u32) -> String {
    let explained = rig.fleet.explain(rig.now, job, Some(index)).unwrap();
    let blockers = explained.waiting.map(|waiting| waiting.blockers);
    blockers.unwrap_or_default()[0].to_string()
}

#[test]
fn each_attempt_that_runs_out_of_memory_is_followed_by_a_larger_one_up_to_the_most() {
    let mut rig = Rig::new();
    rig.hello("a1", 4);
    let (job, mut effects) = rig.submit(growing(5 * MIB), 1);
    let mut sizes = Vec::new();
    while let [(_, attempt, memory)] = asked(&effects)[..] {
        sizes.push(memory / MIB);
        assert_eq!(reserved(&rig, "a1"), memory);
        fail(&mut rig, "a1", attempt, oom());
        assert_eq!(reserved(&rig, "a1"), 0);
        effects = after_the_delay(&mut rig);
    }
    assert_eq!(sizes, [1, 2, 4, 5]);
    assert!(!rig.fleet.jobs.contains(job), "the last end is final");
}

#[test]
fn other_ends_and_other_tasks_keep_their_size() {
    let mut rig = Rig::new();
    rig.hello("a1", 4);
    let (_, effects) = rig.submit(growing(64 * MIB), 3);
    let [(_, first, _), (_, second, _), (_, third, _)] = asked(&effects)[..] else {
        panic!("{effects:?}");
    };
    fail(&mut rig, "a1", first, oom());
    fail(
        &mut rig,
        "a1",
        second,
        End::of(Outcome::Failed, EndReason::Exited),
    );
    fail(&mut rig, "a1", third, oom());
    let again = after_the_delay(&mut rig);
    let sizes: BTreeSet<_> = asked(&again)
        .into_iter()
        .map(|(_, attempt, memory)| (attempt.task.index, memory / MIB))
        .collect();
    let wanted = [
        (first.task.index, 2),
        (second.task.index, 1),
        (third.task.index, 2),
    ];
    assert_eq!(sizes, wanted.into());
    // A grown task stays so after an end that is not its own.
    let (_, attempt, _) = asked(&again)
        .into_iter()
        .find(|(_, attempt, _)| attempt.task == first.task)
        .unwrap();
    let lost = End::of(Outcome::InfraError, EndReason::KilledExternally);
    fail(&mut rig, "a1", attempt, lost);
    let again = after_the_delay(&mut rig);
    assert_eq!(asked(&again)[0].2, 2 * MIB);
}

#[test]
fn a_grown_task_goes_where_it_fits_or_says_that_it_fits_nowhere() {
    let mut rig = Rig::new();
    rig.hello("a1", 4);
    let all = rig.fleet.agents[&agent("a1")]
        .profile
        .capacity
        .resources
        .memory_bytes;
    let (job, effects) = rig.submit(growing(u64::MAX), 1);
    let mut next = asked(&effects)[0].clone();
    while next.2 <= all {
        fail(&mut rig, "a1", next.1, oom());
        let effects = after_the_delay(&mut rig);
        let Some(found) = asked(&effects).into_iter().next() else {
            break;
        };
        next = found;
    }
    let said = why(&rig, job, next.1.task.index);
    assert!(said.contains("bytes of memory"), "{said}");
    // Nobody waits behind it.
    let (_, effects) = rig.submit(spec(), 1);
    assert_eq!(asked(&effects).len(), 1);
}

#[test]
fn a_restart_keeps_what_a_task_has_grown_to() {
    let mut rig = Rig::new();
    let mut rows = Rows::default();
    rows.keep(rig.hello("a1", 4));
    let (_, effects) = rig.submit(growing(64 * MIB), 1);
    let attempt = asked(&effects)[0].1;
    rows.keep(effects);
    rows.keep(fail(&mut rig, "a1", attempt, oom()));
    let effects = after_the_delay(&mut rig);
    let held = asked(&effects)[0].1;
    rows.keep(effects);

    rows.clone().restart(&mut rig);
    assert_eq!(reserved(&rig, "a1"), 2 * MIB);
    let offered = rig.hello("a1", 4);
    assert_eq!(asked(&offered), [("a1".to_owned(), held, 2 * MIB)]);
}
