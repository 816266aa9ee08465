//! Containers of which an agent has no journal: kept while they hold a task, and discarded when nobody wants them.

use std::collections::BTreeSet;

use super::rig::*;
use crate::effect::{Effect, Order};
use crate::event::{Event, Restored};
use crate::ids::{AttemptId, AttemptNo, SessionNo};
use crate::safe_mode::SafeMode;
use crate::task::{Stop, StopReason};

/// A Hello of an agent without a journal, that has these containers.
fn returns_with(rig: &mut Rig, name: &str, containers: &[AttemptId]) -> Vec<Effect> {
    let session = rig.sessions.values().max().map_or(1, |last| last.0 + 1);
    let session = SessionNo(session);
    rig.sessions.insert(name.to_owned(), session);
    let mut hello = hello(name, session, 1, BTreeSet::new());
    hello.orphans = containers.iter().copied().collect();
    rig.handle(Event::AgentHello(hello))
}

/// What the agents are told about containers without a journal.
fn told(effects: &[Effect]) -> Vec<String> {
    let told = |effect: &Effect| match effect {
        Effect::Order { agent, order } => match order {
            Order::Adopt(offer) => Some(format!("{agent}: adopt {}", offer.attempt.number)),
            Order::Discard { attempt } => Some(format!("{agent}: discard {}", attempt.number)),
            Order::Stop { attempt, .. } => Some(format!("{agent}: stop {}", attempt.number)),
            _ => None,
        },
        _ => None,
    };
    effects.iter().filter_map(told).collect()
}

#[test]
fn what_holds_its_task_is_taken_up_again_and_not_run_a_second_time() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, _) = rig.submit(spec(), 1);
    let first = attempt(job, 0, 1);
    rig.start("a1", first);
    rig.hello("a2", 1);
    let effects = returns_with(&mut rig, "a1", &[first]);
    assert_eq!(told(&effects), ["a1: adopt 1"]);
    assert_eq!(offers(&rig.tick_until(at(3_000))), []);
    assert_eq!(rig.fleet.job(job).unwrap().progress.counts.running, 1);
    // The order was lost with its stream: the next Hello names it again.
    rig.gone("a1");
    assert_eq!(
        told(&returns_with(&mut rig, "a1", &[first])),
        ["a1: adopt 1"]
    );
    assert_eq!(
        ends(&rig.end("a1", first, succeeded())),
        [(0, "succeeded".into())]
    );
}

#[test]
fn a_cancel_that_waits_goes_to_the_container_that_is_taken_up() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, _) = rig.submit(spec(), 1);
    let first = attempt(job, 0, 1);
    rig.start("a1", first);
    rig.gone("a1");
    rig.cancel(job, None);
    let effects = returns_with(&mut rig, "a1", &[first]);
    assert_eq!(told(&effects), ["a1: adopt 1", "a1: stop 1"]);
    let canceled = Stop {
        reason: StopReason::Canceled,
        now: false,
    };
    assert!(effects.iter().any(|effect| matches!(
        effect,
        Effect::Order { order: Order::Stop { stop, .. }, .. } if *stop == canceled
    )));
}

#[test]
fn what_is_superseded_or_over_is_discarded_at_once() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, _) = rig.submit(spec(), 2);
    let (first, second) = (attempt(job, 0, 1), attempt(job, 0, 2));
    rig.start("a1", first);
    rig.gone("a1");
    rig.tick_until(at(700));
    rig.hello("a2", 1);
    rig.start("a2", second);
    // It was given up, and its task runs elsewhere.
    assert_eq!(
        told(&returns_with(&mut rig, "a1", &[first])),
        ["a1: discard 1"]
    );
    // The whole task has ended, and its job has not.
    rig.end("a2", second, succeeded());
    let effects = returns_with(&mut rig, "a1", &[first, second]);
    assert_eq!(told(&effects), ["a1: discard 1", "a1: discard 2"]);
}

#[test]
fn what_nobody_knows_is_left_alone_for_the_grace_however_often_it_is_named() {
    let mut rig = Rig::new();
    let (job, _) = rig.submit(spec(), 1);
    let unknown = [
        attempt(job, 0, 7),
        attempt(crate::ids::JobId(uuid::Uuid::from_u128(99)), 0, 1),
    ];
    assert_eq!(told(&returns_with(&mut rig, "a1", &unknown)), [""; 0]);
    rig.tick_until(at(300));
    rig.gone("a1");
    assert_eq!(told(&returns_with(&mut rig, "a1", &unknown)), [""; 0]);
    assert_eq!(told(&rig.tick_until(at(599))), [""; 0]);
    assert_eq!(
        told(&rig.tick_until(at(600))),
        ["a1: discard 7", "a1: discard 1"]
    );
    // What is not named any more is forgotten, and its grace with it.
    returns_with(&mut rig, "a1", &[]);
    assert_eq!(told(&returns_with(&mut rig, "a1", &unknown)), [""; 0]);
}

#[test]
fn nothing_is_discarded_while_the_agent_is_out_of_sight() {
    let mut rig = Rig::new();
    let unknown = attempt(crate::ids::JobId(uuid::Uuid::from_u128(99)), 0, 1);
    returns_with(&mut rig, "a1", &[unknown]);
    rig.tick_until(at(100));
    rig.gone("a1");
    assert_eq!(told(&rig.tick_until(at(5_000))), [""; 0]);
    assert_eq!(
        told(&returns_with(&mut rig, "a1", &[unknown])),
        ["a1: discard 1"]
    );
}

#[test]
fn a_restored_store_has_nothing_discarded_and_keeps_what_it_knows() {
    let mut rig = Rig::new();
    rig.hello("a1", 2);
    let (job, _) = rig.submit(spec(), 1);
    let first = attempt(job, 0, 1);
    rig.start("a1", first);
    rig.handle(Event::Restored(Restored::SafeMode(SafeMode::Restored {
        backup: None,
        at: at(1),
        fence: AttemptNo(0),
    })));
    let unknown = attempt(crate::ids::JobId(uuid::Uuid::from_u128(99)), 0, 1);
    let over = attempt(job, 0, 0);
    let effects = returns_with(&mut rig, "a1", &[first, over, unknown]);
    assert_eq!(told(&effects), ["a1: adopt 1"]);
    assert_eq!(told(&rig.tick_until(at(2_000))), [""; 0]);
    let ticket = rig.ticket();
    let effects = rig.handle(Event::Adopted {
        ticket,
        without_agents: false,
    });
    assert_eq!(told(&effects), [""; 0]);
    assert_eq!(rig.fleet.job(job).unwrap().progress.counts.running, 1);
    let discarded: BTreeSet<String> = told(&rig.tick_until(at(2_100))).into_iter().collect();
    let expected = ["a1: discard 0", "a1: discard 1"].map(String::from);
    assert_eq!(discarded, expected.into());
}
