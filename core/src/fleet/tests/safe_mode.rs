//! A store that was restored from a backup does not know what happened after it.

use std::collections::{BTreeMap, BTreeSet};

use super::restart::Rows;
use super::rig::*;
use crate::agent::Held;
use crate::effect::{Answer, Effect, Order, Record, Refusal};
use crate::event::{Event, News, Restored};
use crate::ids::{AttemptId, AttemptNo, JobId, Term};
use crate::image::Image;
use crate::safe_mode::{Adoption, SafeMode};
use crate::spec::{Delivery, Pin, Spec};

const FENCE: AttemptNo = AttemptNo(1_000);

fn at_most_once() -> Spec {
    Spec {
        delivery: Delivery::AtMostOnce,
        ..spec()
    }
}

/// The fleet as it starts on a copy that was restored.
fn restore(rig: &mut Rig, backup: Rows, jobs: &[JobId]) {
    backup.restart(rig);
    for job in jobs {
        rig.handle(Event::Restored(Restored::Fence {
            job: *job,
            number: FENCE,
        }));
    }
    let why = SafeMode::Restored {
        backup: None,
        at: rig.now,
        fence: FENCE,
    };
    rig.handle(Event::Restored(Restored::SafeMode(why)));
}

fn adopt(rig: &mut Rig, without_agents: bool) -> Vec<Effect> {
    let ticket = rig.ticket();
    rig.handle(Event::Adopted {
        ticket,
        without_agents,
    })
}

fn adopted(effects: &[Effect]) -> Adoption {
    match answers(effects).as_slice() {
        [Answer::Adopted(adoption)] => *adoption.clone(),
        other => panic!("{other:?}"),
    }
}

fn acked(effects: &[Effect]) -> usize {
    let acks = effects.iter().filter(|effect| {
        matches!(
            effect,
            Effect::Order {
                order: Order::Ack { .. },
                ..
            }
        )
    });
    acks.count()
}

fn made(effects: &[Effect]) -> Vec<AttemptId> {
    let made = effects.iter().filter_map(|effect| match effect {
        Effect::Record(Record::AttemptMade { attempt, .. }) => Some(*attempt),
        _ => None,
    });
    made.collect()
}

/// One agent with two places; of five tasks, two ran when the backup was made. Then task 0 succeeded and
/// was acknowledged, task 1 failed and is tried again, and task 2 was started.
fn five_tasks() -> (Rig, Rows, JobId) {
    let mut rig = Rig::new();
    let mut rows = Rows::default();
    rows.keep(rig.hello("a1", 2));
    let (job, effects) = rig.submit(spec(), 5);
    rows.keep(effects);
    for index in [0, 1] {
        let at = rig.now;
        rows.keep(rig.report("a1", attempt(job, index, 1), News::Accepted));
        rows.keep(rig.report("a1", attempt(job, index, 1), News::Started { at }));
    }
    let backup = rows.clone();
    rig.end("a1", attempt(job, 0, 1), succeeded());
    rig.end("a1", attempt(job, 1, 1), failed(1));
    (rig, backup, job)
}

#[test]
fn nothing_is_killed_or_started_until_somebody_has_looked() {
    let (mut rig, backup, job) = five_tasks();
    restore(&mut rig, backup, &[job]);
    // Attempts that the copy never heard of, one of a job that it never heard of either.
    let stranger = attempt(JobId(uuid::Uuid::from_u128(99)), 3, 1);
    let held = [attempt(job, 1, 2), attempt(job, 2, 1), stranger];
    let effects = rig.hello_with("a1", 2, held.into());
    assert_eq!(stops(&effects), []);
    assert_eq!(offers(&effects), []);
    assert_eq!(made(&effects), [attempt(job, 1, 2), attempt(job, 2, 1)]);
    // Neither time nor a submission changes that.
    let later = at(100_000);
    let effects = rig.tick_until(later);
    assert_eq!(
        (stops(&effects), offers(&effects), ends(&effects)),
        (vec![], vec![], vec![])
    );
    let (_, effects) = rig.submit(spec(), 1);
    assert_eq!(offers(&effects), []);
    // What the unknown job's attempt says stays with the agent.
    assert_eq!(acked(&rig.end("a1", stranger, succeeded())), 0);
    // An attempt that was taken over ends as any other.
    let effects = rig.end("a1", attempt(job, 2, 1), succeeded());
    assert_eq!(ends(&effects), [(2, "succeeded".into())]);
    assert_eq!(acked(&effects), 1);
    assert_eq!(rig.fleet.job(job).unwrap().progress.counts.succeeded, 1);
}

#[test]
fn adopting_says_what_runs_again_and_no_number_is_used_twice() {
    let (mut rig, backup, job) = five_tasks();
    restore(&mut rig, backup, &[job]);
    let stranger = attempt(JobId(uuid::Uuid::from_u128(99)), 3, 1);
    let held = [attempt(job, 1, 2), attempt(job, 2, 1), stranger];
    rig.hello_with("a1", 2, held.into());
    let effects = adopt(&mut rig, false);
    let adoption = adopted(&effects);
    assert_eq!(adoption.taken_over, 2);
    assert_eq!(adoption.missing, []);
    // Task 0 had ended and nobody knows; 3 and 4 may have run on an agent that never calls again.
    let again: Vec<String> = adoption.again.iter().map(|t| t.tasks.to_string()).collect();
    assert_eq!(again, ["0,3-4"]);
    assert_eq!(adoption.strays.len(), 1);
    assert_eq!(stops(&effects), [stranger]);
    assert_eq!(offers(&effects), [], "both places are taken");

    rig.end("a1", attempt(job, 1, 2), succeeded());
    let mut offered = offers(&rig.end("a1", attempt(job, 2, 1), succeeded()));
    let until = at(100_000);
    offered.extend(offers(&rig.tick_until(until)));
    assert!(!offered.is_empty());
    assert!(offered.iter().all(|(_, attempt, _)| attempt.number > FENCE));
    assert_eq!(rig.fleet.safe_mode(), None);
}

#[test]
fn an_older_attempt_gives_way_to_a_newer_one_of_another_agent() {
    let mut rig = Rig::new();
    let mut rows = Rows::default();
    rows.keep(rig.hello("a1", 1));
    let (job, effects) = rig.submit(spec(), 1);
    rows.keep(effects);
    rows.keep(rig.hello("a2", 1));
    restore(&mut rig, rows, &[job]);
    rig.hello_with("a1", 1, [attempt(job, 0, 1)].into());
    // Lost with its agent, says the fleet that was; then the agent came back.
    let effects = rig.hello_with("a2", 1, [attempt(job, 0, 2)].into());
    assert_eq!(made(&effects), [attempt(job, 0, 2)]);
    assert_eq!(acked(&rig.end("a1", attempt(job, 0, 1), succeeded())), 0);
    let effects = adopt(&mut rig, false);
    assert_eq!(adopted(&effects).again, []);
    assert_eq!(acked(&effects), 1, "what came too late is evidence");
    let effects = rig.end("a2", attempt(job, 0, 2), succeeded());
    assert_eq!(ends(&effects), [(0, "succeeded".into())]);
}

#[test]
fn agents_that_have_not_called_are_waited_for() {
    let (mut rig, backup, job) = five_tasks();
    restore(&mut rig, backup, &[job]);
    let effects = adopt(&mut rig, false);
    let [Answer::Refused(Refusal::AgentsMissing { agents })] = answers(&effects)[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(agents, &["a1".to_owned()]);
    adopted(&adopt(&mut rig, true));
    // It calls after all, and holds a later attempt of a task that has no other yet.
    let effects = rig.hello_with("a1", 2, [attempt(job, 1, 2)].into());
    assert_eq!(stops(&effects), []);
    let number = |index: u32| rig.fleet.job(job).unwrap().tasks[&index].last;
    assert_eq!(number(1), AttemptNo(2));
    assert!(
        offers(&effects)
            .iter()
            .all(|(_, attempt, _)| attempt.number > FENCE)
    );
}

#[test]
fn an_offer_of_the_copy_is_not_made_again() {
    let mut rig = Rig::new();
    let mut rows = Rows::default();
    rows.keep(rig.hello("a1", 1));
    let (job, effects) = rig.submit(spec(), 1);
    rows.keep(effects);
    restore(&mut rig, rows, &[job]);
    // It was offered, ran, ended and was acknowledged.
    rig.hello("a1", 1);
    adopt(&mut rig, false);
    let until = at(100_000);
    let offered = offers(&rig.tick_until(until));
    let numbers: Vec<u32> = offered
        .iter()
        .map(|(_, attempt, _)| attempt.number.0)
        .collect();
    assert_eq!(numbers.first(), Some(&1_001));
}

#[test]
fn at_most_once_never_runs_on_a_guess() {
    let mut rig = Rig::new();
    let mut rows = Rows::default();
    rows.keep(rig.hello("a1", 2));
    let (job, effects) = rig.submit(at_most_once(), 4);
    rows.keep(effects);
    restore(&mut rig, rows, &[job]);
    // 0 goes on; 1 is gone; 2 was started after the backup; 3 may have been.
    rig.hello_with("a1", 2, [attempt(job, 0, 1), attempt(job, 2, 1)].into());
    let effects = adopt(&mut rig, false);
    let adoption = adopted(&effects);
    let lost: Vec<String> = adoption.lost.iter().map(|t| t.tasks.to_string()).collect();
    assert_eq!(lost, ["1,3"]);
    assert_eq!(offers(&effects), []);
    assert_eq!(rig.fleet.job(job).unwrap().progress.counts.lost, 2);
    rig.end("a1", attempt(job, 0, 1), succeeded());
    rig.end("a1", attempt(job, 2, 1), succeeded());
    assert!(rig.fleet.job(job).is_none(), "the job has ended");
}

#[test]
fn an_attempt_is_taken_over_with_the_image_that_it_runs() {
    let mut rig = Rig::new();
    let ticket = rig.ticket();
    let repository = "registry.example/etl"
        .parse::<crate::image::Repository>()
        .unwrap();
    rig.handle(Event::ChannelSet {
        ticket,
        channel: channel("analytics"),
        tag: crate::image::Tag::parse("1").unwrap(),
        candidate: Box::new(crate::channel::Candidate {
            repository: repository.clone(),
            ..candidate(1, crate::channel::Cause::Set)
        }),
    });
    let (job, effects) = rig.submit(on_channel(Pin::Task), 2);
    let mut rows = Rows::default();
    rows.keep(effects);
    restore(&mut rig, rows, &[job]);
    let (known, unknown) = (attempt(job, 0, 1), attempt(job, 1, 1));
    let image = Image::Remote {
        repository,
        digest: digest(7),
    };
    let held = Held {
        image: image.clone(),
        release: Some(9),
        started: Some(at(1)),
    };
    let session = crate::ids::SessionNo(1);
    let mut hello = hello("a1", session, 2, BTreeSet::from([known, unknown]));
    hello.details = BTreeMap::from([(known, held)]);
    let effects = rig.handle(Event::AgentHello(hello));
    let images = effects.iter().filter_map(|effect| match effect {
        Effect::Record(Record::AttemptMade { attempt, image, .. }) => Some((*attempt, image)),
        _ => None,
    });
    assert_eq!(images.collect::<Vec<_>>(), [(known, &image)]);
    assert_eq!(rig.fleet.job(job).unwrap().progress.counts.running, 1);
    let adoption = rig.fleet.adoption().unwrap();
    assert_eq!(
        adoption.strays.len(),
        1,
        "of the other nobody knows what it runs"
    );
}

#[test]
fn a_store_that_is_behind_starts_nothing_and_cannot_be_adopted() {
    let mut rig = Rig::new();
    let seen = Term(41);
    let effects = rig.handle(Event::TermSeen {
        agent: agent("a1"),
        seen,
    });
    assert!(matches!(
        effects[0],
        Effect::Record(Record::SafeMode(Some(SafeMode::Behind { .. })))
    ));
    rig.hello("a2", 1);
    let (job, effects) = rig.submit(spec(), 1);
    assert_eq!(offers(&effects), []);
    let waiting = rig.fleet.explain(rig.now, job, None).unwrap().waiting;
    assert_eq!(waiting.unwrap().blockers[0].code(), "safe_mode");
    let effects = adopt(&mut rig, true);
    assert!(matches!(
        answers(&effects)[..],
        [Answer::Refused(Refusal::StoreBehind { seen: 41, .. })]
    ));
    assert_eq!(
        rig.handle(Event::TermSeen {
            agent: agent("a1"),
            seen
        }),
        []
    );
}

#[test]
fn a_store_that_was_not_restored_is_not_adopted() {
    let mut rig = Rig::new();
    let effects = adopt(&mut rig, false);
    assert!(matches!(
        answers(&effects)[..],
        [Answer::Refused(Refusal::NotRestored)]
    ));
}
