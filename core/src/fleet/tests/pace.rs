//! A storm of retries, and what is left of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::rig::*;
use crate::effect::{Effect, Effects, Record};
use crate::event::{AttemptEnd, Event, News, Report, Restored};
use crate::fleet::{Blocker, Fleet, Limits};
use crate::ids::{AttemptId, JobId};
use crate::outcome::{End, Usage};
use crate::spec::{Requirements, Spec};
use crate::task::TaskRow;

/// One of so many that all fit on one agent.
fn small() -> Spec {
    let mut requirements = Requirements::clone(&spec().requirements);
    requirements.resources.cpu_millis = 1;
    Spec {
        requirements: Arc::new(requirements),
        ..spec()
    }
}

/// Many events in one batch, and the invariants once.
fn batch(rig: &mut Rig, events: Vec<Event>) -> Vec<Effect> {
    let mut out = Effects::default();
    for event in events {
        rig.fleet.handle(rig.now, event, &mut out);
    }
    rig.fleet.settle(rig.now, &mut out);
    out.drain()
}

fn end_all(rig: &mut Rig, attempts: &[AttemptId], end: &End) -> Vec<Effect> {
    let ended = |attempt: &AttemptId| {
        Event::Reported(Report {
            agent: agent("a1"),
            session: rig.sessions["a1"],
            attempt: *attempt,
            seq: 1,
            news: News::Ended(Box::new(AttemptEnd {
                end: end.clone(),
                started: None,
                ended: rig.now,
                usage: Usage::default(),
                metrics: None,
            })),
        })
    };
    let events = attempts.iter().map(ended).collect();
    batch(rig, events)
}

fn offered(effects: &[Effect]) -> Vec<AttemptId> {
    let offers = offers(effects).into_iter();
    offers.map(|(_, attempt, _)| attempt).collect()
}

fn rows(effects: &[Effect]) -> BTreeMap<u32, TaskRow> {
    let row = |effect: &Effect| match effect {
        Effect::Record(Record::Task { task, row }) => Some((task.index, row.clone())),
        _ => None,
    };
    effects.iter().filter_map(row).collect()
}

/// A job of which every task has failed once, and its rows.
fn all_fail(rig: &mut Rig, tasks: u32) -> (JobId, BTreeMap<u32, TaskRow>) {
    rig.hello("a1", tasks);
    let (job, effects) = rig.submit(small(), tasks);
    let first = offered(&effects);
    assert_eq!(first.len(), tasks as usize);
    let effects = end_all(rig, &first, &failed(1));
    assert_eq!(offered(&effects), []);
    (job, rows(&effects))
}

#[test]
fn five_thousand_that_fail_at_once_come_back_at_a_pace() {
    let mut rig = Rig::new();
    let (job, _) = all_fail(&mut rig, 5_000);
    let mut by_minute: BTreeMap<u64, usize> = BTreeMap::new();
    let (mut tried, mut ended) = (BTreeSet::new(), 0);
    while let Some(due) = rig.fleet.next_deadline() {
        rig.now = rig.now.max(due);
        let mut effects = batch(&mut rig, vec![Event::Tick]);
        // What a success earns may be another retry at once.
        loop {
            let offers = offered(&effects);
            if offers.is_empty() {
                break;
            }
            *by_minute
                .entry(rig.now.since(at(0)).0 / 60_000)
                .or_default() += offers.len();
            for attempt in &offers {
                assert_eq!(attempt.number.0, 2);
                assert!(tried.insert(attempt.task.index), "{attempt} twice");
            }
            effects = end_all(&mut rig, &offers, &succeeded());
            for row in rows(&effects).values() {
                if row.last.0 == 2 && matches!(row.state, crate::task::RowState::Ended { .. }) {
                    assert_eq!((row.spent.user, row.spent.infra, row.spent.free), (1, 0, 0));
                    ended += 1;
                }
            }
        }
        if tried.len() == 200 {
            assert_eq!(rig.fleet.broken_invariants(), []);
        }
    }
    assert_eq!((tried.len(), ended), (5_000, 5_000));
    assert!(rig.fleet.job(job).is_none(), "the job has ended");
    // 100 were saved, 9 or 10 came with the minute, and each ten that succeeded let one more go.
    let first = by_minute.remove(&0).unwrap();
    assert!((110..=125).contains(&first), "{first} in the first minute");
    let most = by_minute.values().max().copied();
    assert!(most <= Some(13), "{most:?} in a later minute");
    assert_eq!(
        rig.fleet.paced().map(|(_, waiting)| waiting).sum::<usize>(),
        0
    );
}

#[test]
fn why_says_how_many_retries_go_first_and_a_cancel_leaves_the_line() {
    let mut rig = Rig::new();
    let (job, _) = all_fail(&mut rig, 104);
    let effects = rig.tick_until(at(11));
    assert_eq!(offered(&effects).len(), 100);
    let reason = |rig: &Rig, index| {
        let explanation = rig.fleet.explain(rig.now, job, index).unwrap();
        explanation.waiting.unwrap().blockers
    };
    let paced = |ahead| {
        let per_minute = 10;
        vec![Blocker::RetriesPaced { ahead, per_minute }]
    };
    assert_eq!(reason(&rig, Some(103)), paced(3));
    assert_eq!(reason(&rig, None), paced(0));
    rig.cancel(job, Some("100-101"));
    assert_eq!(reason(&rig, Some(103)), paced(1));
    let patience = crate::time::Millis(0);
    let waits =
        |stuck: &crate::fleet::Stuck| matches!(stuck, crate::fleet::Stuck::RetryOverdue { .. });
    assert!(!rig.fleet.stuck(at(3_600), patience, 10).iter().any(waits));
    // The offers to the others are made again.
    let later = offered(&rig.tick_until(at(30)));
    let new = later.iter().filter(|attempt| attempt.task.index >= 100);
    assert_eq!(new.count(), 2);
}

#[test]
fn what_is_nobodys_failure_does_not_wait_in_line() {
    use crate::outcome::{EndReason, Outcome};
    let mut rig = Rig::new();
    rig.hello("a1", 150);
    let (_, effects) = rig.submit(small(), 150);
    let preempted = End::of(Outcome::Preempted, EndReason::Drained);
    end_all(&mut rig, &offered(&effects), &preempted);
    assert_eq!(offered(&rig.tick_until(at(1))).len(), 150);
}

#[test]
fn a_restart_loses_no_retry_that_waits_in_line() {
    let mut rig = Rig::new();
    let (id, tasks) = all_fail(&mut rig, 150);
    let live = rig.fleet.job(id).unwrap();
    let job = Restored::Job {
        job: live.job.clone(),
        progress: live.progress.clone(),
        tasks: tasks.into_iter().collect(),
    };
    rig.tick_until(at(11)); // 50 are in line, and no row says so
    rig.fleet = Fleet::new(Limits::default());
    rig.handle(Event::Restored(job));
    rig.hello("a1", 150);
    let soon: BTreeSet<AttemptId> = offered(&rig.tick_until(at(12))).into_iter().collect();
    let later = offered(&rig.tick_until(at(12 + 301))).into_iter();
    let later: BTreeSet<AttemptId> = later.filter(|attempt| !soon.contains(attempt)).collect();
    assert_eq!((soon.len(), later.len()), (100, 50));
}
