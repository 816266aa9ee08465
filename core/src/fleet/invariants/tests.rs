//! Each invariant in a fleet that keeps it, and in one that was made to break it.

use super::super::tests::rig::{Rig, agent, at, attempt, failed, spec, team};
use super::{Cursor, Stuck};
use crate::agent::Link;
use crate::effect::Effects;
use crate::event::Event;
use crate::ids::{AttemptNo, JobId};
use crate::job::{CancelRequest, IdempotencyKey, LiveJob, Withdrawn};
use crate::outcome::{End, EndReason, Outcome};
use crate::ranges::Ranges;
use crate::task::TaskState;
use crate::time::Millis;

const PATIENCE: Millis = Millis::from_secs(60);

/// Agent a runs task 0 of a job of three; task 1 waits for a retry, task 2 is offered.
fn busy() -> (Rig, JobId) {
    let mut rig = Rig::new();
    rig.hello("a", 2);
    let (job, _) = rig.submit(spec(), 3);
    rig.start("a", attempt(job, 0, 1));
    rig.start("a", attempt(job, 1, 1));
    rig.end("a", attempt(job, 1, 1), failed(1));
    (rig, job)
}

fn job_mut(rig: &mut Rig, job: JobId) -> &mut LiveJob {
    rig.fleet.jobs.get_mut(job).unwrap()
}

fn broken(rig: &Rig) -> Vec<&'static str> {
    let broken = rig.fleet.broken_invariants();
    let mut words: Vec<_> = broken.into_iter().map(|broken| broken.invariant).collect();
    words.dedup();
    words
}

/// What breaks when the fleet is changed behind its back.
fn after(damage: impl FnOnce(&mut Rig, JobId)) -> Vec<&'static str> {
    let (mut rig, job) = busy();
    assert_eq!(broken(&rig), [] as [&str; 0]);
    damage(&mut rig, job);
    broken(&rig)
}

#[test]
fn places_are_those_of_live_attempts() {
    let leaked = after(|rig, _| {
        rig.fleet
            .agents
            .get_mut(&agent("a"))
            .unwrap()
            .reserved
            .places = 0
    });
    assert_eq!(leaked, ["places"]);
    let gone = after(|rig, job| {
        let known = rig.fleet.agents.get_mut(&agent("a")).unwrap();
        known.live.insert(attempt(job, 2, 2));
    });
    assert_eq!(gone, ["places"]);
}

#[test]
fn shares_are_counted_from_live_attempts() {
    assert_eq!(after(|rig, _| rig.fleet.team_live.clear()), ["shares"]);
    let leaked = after(|rig, _| {
        rig.fleet.key_live.insert((team(), "db".to_owned()), 1);
    });
    assert_eq!(leaked, ["shares"]);
}

#[test]
fn an_agent_that_came_back_smaller_is_told_apart_from_a_bug() {
    let (mut rig, _) = busy();
    let known = rig.fleet.agents.get_mut(&agent("a")).unwrap();
    known.profile.capacity.places = 0;
    let found = rig.fleet.broken_invariants();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].invariant, found[0].bends), ("capacity", true));
}

#[test]
fn every_task_is_counted_once() {
    let counts = after(|rig, job| job_mut(rig, job).progress.counts.succeeded += 1);
    assert_eq!(counts, ["counts"]);
    let queue = after(|rig, job| {
        job_mut(rig, job).ready.insert(0, 1);
    });
    assert_eq!(queue, ["queue"]);
}

#[test]
fn one_attempt_holds_a_task_and_it_is_the_newest() {
    let fence = after(|rig, job| {
        job_mut(rig, job).tasks.get_mut(&0).unwrap().last = AttemptNo(2);
    });
    assert_eq!(fence, ["one_attempt"]);
    let elsewhere = after(|rig, job| {
        let task = job_mut(rig, job).tasks.get_mut(&0).unwrap();
        if let TaskState::Held { place, .. } = &mut task.state {
            place.agent = agent("b");
        }
    });
    assert_eq!(elsewhere, ["places", "one_attempt"]);
}

#[test]
fn what_has_ended_has_no_live_attempt() {
    let both = after(|rig, job| {
        let end = End::of(Outcome::Canceled, EndReason::CanceledByUser);
        let (tasks, at) = (Ranges::from_ranges([0..=0]), at(0));
        job_mut(rig, job)
            .progress
            .withdrawn
            .push(Withdrawn { tasks, end, at });
    });
    assert_eq!(both, ["ended_stays"]);
    let live = after(|rig, job| job_mut(rig, job).progress.ended = Some(at(1)));
    assert_eq!(live, ["ended_stays"]);
}

#[test]
fn a_cancel_leaves_nothing_that_waits_or_runs_on() {
    let (mut rig, job) = busy();
    rig.cancel(job, None);
    assert_eq!(broken(&rig), [] as [&str; 0], "a real cancel keeps it");
    let forgotten = after(|rig, job| {
        job_mut(rig, job).progress.cancel = Some(CancelRequest {
            reason: String::new(),
            at: at(1),
        });
    });
    assert_eq!(forgotten, ["cancel_sticks"]);
}

#[test]
fn a_task_that_waits_for_a_person_is_not_ready() {
    let found = after(|rig, job| {
        let live = job_mut(rig, job);
        live.ready.insert(0, 1);
        let task = live.tasks.get_mut(&1).unwrap();
        if let TaskState::Pending { quarantined, .. } = &mut task.state {
            *quarantined = true;
        }
    });
    assert_eq!(found, ["queue", "waiting"]);
}

#[test]
fn an_agent_that_was_given_up_has_nothing() {
    let found = after(|rig, _| {
        rig.fleet.agents.get_mut(&agent("a")).unwrap().link = Link::Lost { since: at(1) };
    });
    assert_eq!(found, ["lost_agent"]);
}

#[test]
fn keys_are_those_of_live_jobs() {
    let mut rig = Rig::new();
    let mut job = rig.job(spec(), 1);
    job.key = Some(Box::new(IdempotencyKey {
        key: "k".to_owned(),
        body: [0; 32],
    }));
    rig.submit_job(job);
    assert_eq!(broken(&rig), [] as [&str; 0]);
    rig.fleet.keys.clear();
    assert_eq!(broken(&rig), ["keys"]);
}

#[test]
fn parts_of_any_size_find_what_the_whole_finds() {
    let (mut rig, job) = busy();
    for name in ["b", "c", "d"] {
        rig.hello(name, 1);
    }
    let (other, _) = rig.submit(spec(), 2);
    for id in [job, other] {
        job_mut(&mut rig, id).progress.counts.oom += 1;
    }
    rig.fleet
        .agents
        .get_mut(&agent("c"))
        .unwrap()
        .reserved
        .places += 1;
    let whole = rig.fleet.broken_invariants();
    assert_eq!(whole.len(), 4, "{whole:?}");
    for budget in 1..6 {
        let (mut found, mut parts, mut next) = (Vec::new(), 0, Some(Cursor::START));
        while let Some(cursor) = next {
            let (some, after) = rig.fleet.check_part(&cursor, budget);
            found.extend(some);
            next = after;
            parts += 1;
        }
        assert_eq!(found, whole);
        assert!(parts > 1);
    }
}

#[test]
fn what_does_not_move_is_found_only_when_it_should_have() {
    let mut rig = Rig::new();
    rig.hello("a", 1);
    let (job, _) = rig.submit(spec(), 2);
    let offered = attempt(job, 0, 1);
    let since = at(0);
    assert_eq!(rig.fleet.stuck(at(60), PATIENCE, 10), []);
    let unanswered = Stuck::OfferUnanswered {
        attempt: offered,
        agent: agent("a"),
        since,
    };
    assert_eq!(rig.fleet.stuck(at(61), PATIENCE, 10), [unanswered]);
    rig.start("a", offered);
    assert_eq!(
        rig.fleet.stuck(at(61), PATIENCE, 10),
        [],
        "task 1 waits because the pool is full"
    );
    let overdue = rig.fleet.stuck(at(3600 + 60 + 10 + 61), PATIENCE, 10);
    assert!(
        matches!(overdue[..], [Stuck::Overdue { .. }]),
        "{overdue:?}"
    );
    rig.gone("a");
    assert_eq!(
        rig.fleet.stuck(at(9999), PATIENCE, 10),
        [],
        "out of sight is a reason"
    );
}

#[test]
fn a_job_that_nothing_keeps_is_found() {
    let mut rig = Rig::new();
    let (job, _) = rig.submit(spec(), 1);
    assert_eq!(
        rig.fleet.stuck(at(99), PATIENCE, 10),
        [],
        "there is no agent"
    );
    rig.hello("a", 1);
    rig.start("a", attempt(job, 0, 1));
    rig.end("a", attempt(job, 0, 1), failed(1));
    let retry = rig.fleet.stuck(at(900), PATIENCE, 10);
    assert!(
        matches!(retry[..], [Stuck::RetryOverdue { .. }]),
        "{retry:?}"
    );
    // The timer fires, and nobody places what it made ready.
    rig.fleet
        .handle(at(900), Event::Tick, &mut Effects::default());
    assert_eq!(
        rig.fleet.stuck(at(900), PATIENCE, 10),
        [Stuck::NotAssigned { job }]
    );
    assert_eq!(
        rig.fleet.stuck(at(900), PATIENCE, 0),
        [],
        "the limit is kept"
    );
}
