//! Tasks whose hosts stop them when they are cut off: run again when they have stopped, not before.

use std::sync::Arc;

use super::rig::*;
use crate::agent::Link;
use crate::effect::{Answer, Effect};
use crate::event::{Event, Restored};
use crate::fleet::{Blocker, Fleet, Limits};
use crate::ids::JobId;
use crate::outcome::{End, EndReason, Outcome};
use crate::spec::{Delivery, OnDisconnect, Requirements, Spec};
use crate::time::{Millis, Timestamp};

fn stopping(seconds: u64) -> Spec {
    let requirements = Requirements {
        lease: true,
        ..Requirements::clone(&spec().requirements)
    };
    let mut spec = Spec {
        on_disconnect: OnDisconnect::StopAfter(Millis::from_secs(seconds)),
        requirements: Arc::new(requirements),
        ..spec()
    };
    spec.retry.backoff.initial = Millis(0);
    spec
}

/// An agent `a` that runs the only task of a job, and one to run it again.
fn running(spec: Spec) -> (Rig, JobId) {
    let mut rig = Rig::new();
    rig.hello("a", 1);
    let (job, _) = rig.submit(spec, 1);
    rig.start("a", attempt(job, 0, 1));
    rig.hello("b", 1);
    (rig, job)
}

/// In seconds of the rig, when the second attempt is offered.
fn again(rig: &mut Rig, until: Timestamp) -> Option<f64> {
    while rig.now < until {
        let due = rig.fleet.next_deadline().filter(|due| *due <= until);
        let due = due.unwrap_or(until);
        if !offers(&rig.tick_until(due)).is_empty() {
            let passed = u32::try_from(rig.now.since(at(0)).0).unwrap();
            return Some(f64::from(passed) / 1000.0);
        }
    }
    None
}

#[test]
fn it_is_run_again_when_its_host_has_stopped_it_sooner_or_later_than_a_lost_agent_s() {
    // Seconds: the limit, the grace, and when there is another attempt after a contact at 100.
    let table = [
        (40, 10, 100.0 + 55.0 + 5.0),
        (40, 0, 100.0 + 44.0 + 5.0),
        (300, 60, 100.0 + 396.0 + 5.0),
        (1_000, 10, 100.0 + 1_111.0 + 5.0),
    ];
    for (limit, grace, expected) in table {
        let mut spec = stopping(limit);
        spec.kill_grace = Millis::from_secs(grace);
        let (mut rig, job) = running(spec);
        rig.tick_until(at(100));
        beat(&mut rig, "a");
        // The stream is found dead later than the agent was heard for the last time.
        rig.tick_until(at(130));
        rig.gone("a");
        assert_eq!(
            again(&mut rig, at(3_000)),
            Some(expected),
            "{limit} {grace}"
        );
        let progress = &rig.fleet.job(job).unwrap().progress;
        assert_eq!(progress.counts.retries, 1);
    }
}

fn beat(rig: &mut Rig, name: &str) {
    let session = rig.sessions[name];
    rig.handle(Event::AgentBeat {
        agent: agent(name),
        session,
        held: None,
    });
}

#[test]
fn an_agent_that_is_back_in_time_keeps_it_and_counts_anew() {
    let (mut rig, job) = running(stopping(60));
    rig.gone("a");
    rig.tick_until(at(70));
    rig.hello_with("a", 1, [attempt(job, 0, 1)].into());
    assert_eq!(offers(&rig.tick_until(at(500))), []);
    rig.gone("a");
    let contact = 70.0;
    assert_eq!(again(&mut rig, at(900)), Some(contact + 77.0 + 5.0));
}

#[test]
fn neither_the_guard_nor_a_short_patience_changes_the_moment() {
    let mut rig = Rig::new();
    for name in ["a", "b", "c", "d"] {
        rig.hello(name, 1);
    }
    let (job, effects) = rig.submit(stopping(60), 3);
    for (name, attempt, _) in offers(&effects) {
        rig.start(&name, attempt);
    }
    for name in ["a", "b", "c"] {
        rig.gone(name);
    }
    assert!(rig.fleet.suspicion().is_some());
    assert_eq!(again(&mut rig, at(1_000)), Some(82.0));
    let progress = &rig.fleet.job(job).unwrap().progress;
    assert_eq!(progress.counts.running, 0);
}

#[test]
fn a_lost_agent_s_other_tasks_do_not_wait_for_it() {
    let mut rig = Rig::new();
    rig.hello("a", 2);
    let (stops, _) = rig.submit(stopping(3_000), 1);
    let (finishes, _) = rig.submit(spec(), 1);
    for job in [stops, finishes] {
        rig.start("a", attempt(job, 0, 1));
    }
    rig.gone("a");
    let lost = |rig: &Rig| {
        let mut agents = rig.fleet.agents();
        agents.any(|agent| matches!(agent.link, Link::Lost { .. }))
    };
    let runs = |rig: &Rig, job| rig.fleet.job(job).unwrap().progress.counts.running;
    rig.tick_until(at(700));
    assert_eq!((runs(&rig, stops), runs(&rig, finishes)), (1, 0));
    assert!(!lost(&rig));
    rig.tick_until(at(3_310));
    assert_eq!(runs(&rig, stops), 1);
    rig.tick_until(at(3_400));
    assert_eq!(runs(&rig, stops), 0);
    assert!(lost(&rig));
}

#[test]
fn an_operator_s_word_that_the_agent_is_gone_goes_first() {
    let (mut rig, _) = running(stopping(3_000));
    rig.gone("a");
    rig.tick_until(at(601));
    let ticket = rig.ticket();
    let effects = rig.handle(Event::LossesConfirmed { ticket });
    let agents = vec![agent("a")];
    assert_eq!(answers(&effects), [&Answer::LossesConfirmed { agents }]);
    assert_eq!(again(&mut rig, at(700)), Some(601.0));
}

#[test]
fn a_restarted_coordinator_counts_from_its_start() {
    let (mut before, job) = running(stopping(60));
    before.tick_until(at(30));
    before.gone("a");
    before.gone("b");
    let live = before.fleet.job(job).unwrap();
    let (spec, progress) = (Arc::clone(&live.job), live.progress.clone());
    let row = before.fleet.task_row(attempt(job, 0, 1).task).unwrap();
    let mut rig = Rig::new();
    rig.fleet = Fleet::new(Limits::default());
    rig.now = at(500);
    for known in before.fleet.agents() {
        rig.handle(Event::Restored(Restored::Agent(known.clone())));
    }
    rig.handle(Event::Restored(Restored::Job {
        job: spec,
        progress,
        tasks: vec![(0, row)],
    }));
    rig.hello("b", 1);
    assert_eq!(again(&mut rig, at(900)), Some(582.0));
}

#[test]
fn at_most_once_ends_it_as_lost() {
    let (mut rig, job) = running(Spec {
        delivery: Delivery::AtMostOnce,
        ..stopping(60)
    });
    rig.gone("a");
    assert_eq!(again(&mut rig, at(900)), None);
    assert!(rig.fleet.job(job).is_none());

    let (mut rig, job) = running(Spec {
        delivery: Delivery::AtMostOnce,
        ..stopping(60)
    });
    let stopped = End::of(Outcome::Lost, EndReason::Disconnected);
    rig.end("a", attempt(job, 0, 1), stopped);
    assert!(rig.fleet.job(job).is_none());
}

#[test]
fn its_host_s_own_stop_costs_the_infra_budget_and_is_no_death() {
    let (mut rig, job) = running(stopping(60));
    let stopped = End::of(Outcome::Lost, EndReason::Disconnected);
    rig.end("a", attempt(job, 0, 1), stopped);
    assert_eq!(again(&mut rig, at(900)), Some(0.0));
    let spent = rig.fleet.job(job).unwrap().tasks[&0].spent;
    assert_eq!((spent.infra, spent.user, spent.deaths), (1, 0, 0));
}

#[test]
fn only_agents_that_can_stop_it_get_it() {
    let mut rig = Rig::new();
    let mut old = hello("old", crate::ids::SessionNo(1), 1, [].into());
    old.profile.leases = false;
    rig.handle(Event::AgentHello(old));
    let (job, effects) = rig.submit(stopping(60), 1);
    assert_eq!(offers(&effects), []);
    let explained = rig.fleet.explain(rig.now, job, Some(0)).unwrap();
    let blockers = explained.waiting.unwrap().blockers;
    assert_eq!(blockers, [Blocker::NoLease { agents: 1 }]);
    let offered: Vec<Effect> = rig.hello("new", 1);
    assert_eq!(offers(&offered).len(), 1);
}

#[test]
fn it_can_be_told_when_it_counts_as_stopped() {
    let (mut rig, job) = running(stopping(60));
    rig.gone("a");
    rig.tick_until(at(20));
    let explained = rig.fleet.explain(rig.now, job, Some(0)).unwrap();
    let silent = explained.out_of_sight.unwrap();
    assert_eq!(silent.stops_in, Some(Millis::from_secs(62)));
}
