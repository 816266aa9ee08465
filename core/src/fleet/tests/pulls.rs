//! Registries that are down.

use std::sync::Arc;

use super::rig::{Rig, at, offers, spec, succeeded};
use crate::effect::Effect;
use crate::event::{Event, NewJob};
use crate::fleet::Blocker;
use crate::ids::JobId;
use crate::job::Job;
use crate::outcome::{End, EndReason, Outcome};
use crate::spec::{Requirements, Resources, RetryPolicy, Spec};
use crate::time::Millis;

const AGENTS: [&str; 4] = ["a1", "a2", "a3", "a4"];
const PLACES: u32 = 8;
const OTHER: &str = "registry.example/other@sha256:0909090909090909090909090909090909090909090909090909090909090909";

fn patient() -> Spec {
    Spec {
        retry: RetryPolicy {
            infra: 3,
            ..spec().retry
        },
        ..spec()
    }
}

fn pull_failed() -> End {
    End {
        message: "connection refused".to_owned(),
        ..End::of(Outcome::ImageError, EndReason::PullFailed)
    }
}

fn fleet() -> Rig {
    let mut rig = Rig::new();
    for name in AGENTS {
        rig.hello(name, PLACES);
    }
    rig
}

/// Nothing can be pulled from now on until then. Returns how many attempts that cost.
fn outage(rig: &mut Rig, mut effects: Vec<Effect>, seconds: std::ops::Range<u64>) -> usize {
    let mut cost = 0;
    for second in seconds {
        let turn = offers(&effects);
        cost += turn.len();
        effects.clear();
        for (to, attempt, _) in turn {
            effects.extend(rig.end(&to, attempt, pull_failed()));
        }
        effects.extend(rig.tick_until(at(second)));
    }
    cost
}

#[test]
fn an_outage_of_the_registry_costs_few_of_many_tasks_an_attempt() {
    let mut rig = fleet();
    let (job, effects) = rig.submit(patient(), 5_000);
    let cost = outage(&mut rig, effects, 1..600);
    // What was under way when the first pull failed, and about one a minute since.
    assert!((32..=32 + 16).contains(&cost), "{cost} attempts failed");
    let waiting = rig.fleet.explain(rig.now, job, None).unwrap().waiting;
    let reason = waiting.unwrap().blockers[0].clone();
    assert!(matches!(reason, Blocker::PullFails { .. }), "{reason}");
    assert!(reason.to_string().contains("connection refused"));

    let mut done = 0;
    let mut effects = rig.tick_until(at(660));
    while done < 5_000 {
        let turn = offers(&effects);
        effects.clear();
        for (to, attempt, _) in turn {
            rig.start(&to, attempt);
            rig.hold(&to, 1);
            effects.extend(rig.end(&to, attempt, succeeded()));
            done += 1;
        }
        // Those that were tried in the outage go at the pace of retries.
        if offers(&effects).is_empty() {
            assert!(rig.now < at(1_800), "{done} are done and nothing goes on");
            let later = rig.fleet.next_deadline().expect("there is more to do");
            effects.extend(rig.tick_until(later));
        }
    }
    assert!(!rig.fleet.jobs.contains(job));
}

#[test]
fn tasks_of_an_image_that_is_never_to_be_had_end() {
    let mut rig = fleet();
    let (job, effects) = rig.submit(patient(), 200);
    outage(&mut rig, effects, 1..1_700);
    assert!(rig.fleet.jobs.contains(job), "it may be an outage");
    let effects = rig.tick_until(at(1_801));
    outage(&mut rig, effects, 1_802..7_200);
    assert!(!rig.fleet.jobs.contains(job));
}

#[test]
fn agents_that_hold_the_image_get_its_tasks_all_the_while() {
    let mut rig = fleet();
    rig.hold("a2", 1);
    let (_, mut effects) = rig.submit(patient(), 100);
    let (mut at_a2, mut failed) = (0, 0);
    for second in 1..100 {
        let turn = offers(&effects);
        effects.clear();
        for (to, attempt, _) in turn {
            let end = if to == "a2" {
                at_a2 += 1;
                rig.start(&to, attempt);
                succeeded()
            } else {
                failed += 1;
                pull_failed()
            };
            effects.extend(rig.end(&to, attempt, end));
        }
        effects.extend(rig.tick_until(at(second)));
    }
    assert!((24..=24 + 10).contains(&failed), "{failed}");
    assert!(at_a2 >= 60, "{at_a2}");
}

#[test]
fn an_image_that_can_not_be_pulled_keeps_no_other_waiting() {
    let mut rig = fleet();
    let (_, effects) = rig.submit(patient(), 1_000);
    outage(&mut rig, effects, 1..5);
    let (other, effects) = {
        let spec = patient();
        let mut job = rig.job(spec, 32);
        job.pinned = Some(OTHER.parse().unwrap());
        let id = job.id;
        (id, rig.submit_job(job))
    };
    let offered = offers(&effects);
    let of_other = offered
        .iter()
        .filter(|(_, attempt, _)| attempt.task.job == other);
    assert_eq!(of_other.count(), 32, "{offered:?}");
}

#[test]
fn an_image_that_some_agent_got_by_other_means_is_pulled_by_all_again() {
    let mut rig = fleet();
    let (_, effects) = rig.submit(patient(), 1_000);
    outage(&mut rig, effects, 1..30);
    let effects = rig.hold("a3", 1);
    assert_eq!(offers(&effects).len(), 32);
}

#[test]
fn an_image_that_an_agent_got_while_it_was_away_is_pulled_by_all_again() {
    let mut rig = fleet();
    let (_, effects) = rig.submit(patient(), 1_000);
    outage(&mut rig, effects, 1..30);
    rig.gone("a3");
    let effects = rig.hello_holding("a3", PLACES, 1);
    assert_eq!(offers(&effects).len(), 32);
}

#[test]
fn an_agent_that_held_the_image_all_the_while_says_nothing_of_the_registry() {
    let mut rig = fleet();
    rig.hold("a3", 1);
    let (_, effects) = rig.submit(patient(), 1_000);
    outage(&mut rig, effects, 1..30);
    rig.gone("a3");
    // It has its own tasks still to offer; a new agent came with the image, and did not pull it now.
    let effects = rig.hello_holding("a3", PLACES, 1);
    let elsewhere = |effects: &[Effect]| {
        let offered = offers(effects).into_iter();
        offered.filter(|(to, ..)| to != "a3" && to != "a5").count()
    };
    assert_eq!(elsewhere(&effects), 0);
    let effects = rig.hello_holding("a5", PLACES, 1);
    assert_eq!(offers(&effects).len(), 8);
    assert_eq!(elsewhere(&effects), 0);
}

/// In one request.
fn submit_all(rig: &mut Rig, jobs: Vec<Job>) -> Vec<Effect> {
    let ticket = rig.ticket();
    let jobs = jobs.into_iter().map(|job| NewJob {
        job: Arc::new(job),
        prior: None,
    });
    let jobs = jobs.collect();
    rig.handle(Event::Submitted { ticket, jobs })
}

/// Jobs of one class that wait for an image that can't be pulled, more than one placement looks at; and behind them,
/// one of another image. Returns this one.
fn crowd(rig: &mut Rig, waiting: u32) -> JobId {
    let (_, effects) = rig.submit(patient(), 1);
    outage(rig, effects, 1..4);
    let mut jobs: Vec<Job> = (0..waiting).map(|_| rig.job(patient(), 1)).collect();
    let mut other = rig.job(patient(), 1);
    other.pinned = Some(OTHER.parse().unwrap());
    let id = other.id;
    jobs.push(other);
    let effects = submit_all(rig, jobs);
    assert_eq!(of(id, &effects), 0, "there are more than a pass looks at");
    id
}

fn of(job: JobId, effects: &[Effect]) -> usize {
    let offered = offers(effects).into_iter();
    offered
        .filter(|(_, attempt, _)| attempt.task.job == job)
        .count()
}

#[test]
fn a_job_behind_very_many_that_can_not_be_pulled_is_reached_within_seconds() {
    let mut rig = fleet();
    let other = crowd(&mut rig, 35_000);
    let until = rig.now + Millis::from_secs(3);
    let effects = rig.tick_until(until);
    assert_eq!(of(other, &effects), 1);
}

#[test]
fn more_jobs_than_are_looked_at_at_once_all_start_while_there_is_room() {
    let mut rig = Rig::new();
    rig.hello("a1", 50_000);
    let small = Spec {
        requirements: Arc::new(Requirements {
            resources: Resources::default(),
            ..(*spec().requirements).clone()
        }),
        ..spec()
    };
    let jobs = (0..35_000).map(|_| rig.job(small.clone(), 1)).collect();
    let mut effects = submit_all(&mut rig, jobs);
    let until = rig.now + Millis::from_secs(3);
    effects.extend(rig.tick_until(until));
    assert_eq!(offers(&effects).len(), 35_000);
}
