use super::rig::*;
use crate::effect::{Answer, Because, Effect, Record, Refusal, Submitted};
use crate::event::{Event, NewJob, News, Prior, Restored};
use crate::fleet::{Blocker, Fleet, Limits};
use crate::job::{IdempotencyKey, JobProgress};
use crate::outcome::{End, EndReason, Outcome};
use crate::spec::{Delivery, Requirements, Spec};
use crate::task::TaskRow;
use std::collections::BTreeMap;
use std::sync::Arc;

#[test]
fn a_job_is_recorded_before_it_is_answered_and_offered() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, effects) = rig.submit(spec(), 1);

    let kinds: Vec<&str> = effects
        .iter()
        .map(|effect| match effect {
            Effect::Record(Record::JobSubmitted(_)) => "job",
            Effect::Record(Record::AttemptMade {
                because: Because::First,
                ..
            }) => "attempt",
            Effect::Record(Record::Task { .. }) => "task",
            Effect::Record(Record::JobProgress { .. }) => "progress",
            Effect::Record(_) => "other record",
            Effect::Answer { .. } => "answer",
            Effect::Order { .. } => "offer",
            Effect::Notify(_) => "notice",
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "job", "answer", "attempt", "task", "offer", "notice", "progress", "notice"
        ]
    );
    assert_eq!(
        offers(&effects),
        [("a1".into(), attempt(job, 0, 1), digest(1))]
    );
}

#[test]
fn a_million_tasks_are_one_record_and_only_places_are_filled() {
    let mut rig = Rig::new();
    rig.hello("a1", 3);
    let (job, effects) = rig.submit(spec(), 1_000_000);
    assert_eq!(offers(&effects).len(), 3);
    let live = rig.fleet.job(job).unwrap();
    assert_eq!(live.progress.unstarted.to_string(), "3-999999");
    assert_eq!(live.tasks.len(), 3);
}

#[test]
fn canceling_a_million_tasks_is_one_range() {
    let mut rig = Rig::new();
    let (job, _) = rig.submit(spec(), 1_000_000);
    let effects = rig.cancel(job, None);
    assert_eq!(
        answers(&effects),
        [&Answer::CancelRequested { tasks: 1_000_000 }]
    );
    assert!(effects.len() < 6, "{effects:?}");
    assert!(
        rig.fleet.job(job).is_none(),
        "an ended job is only in the store"
    );
}

#[test]
fn the_end_frees_the_place_for_the_next_task() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, _) = rig.submit(spec(), 2);
    rig.start("a1", attempt(job, 0, 1));
    let effects = rig.end("a1", attempt(job, 0, 1), succeeded());
    assert_eq!(ends(&effects), [(0, "succeeded".into())]);
    assert_eq!(
        offers(&effects),
        [("a1".into(), attempt(job, 1, 1), digest(1))]
    );
}

#[test]
fn nothing_is_left_to_look_at_when_a_task_has_ended() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, _) = rig.submit(spec(), 1);
    rig.start("a1", attempt(job, 0, 1));
    rig.end("a1", attempt(job, 0, 1), succeeded());
    // What is due soon may stay until then, but not the limit of a run, which may be days.
    rig.tick_until(at(60));
    assert_eq!(rig.fleet.next_deadline(), None);
}

#[test]
fn a_job_that_has_ended_leaves_no_limit_of_waiting_behind() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let mut spec = spec();
    spec.queue_timeout = Some(crate::time::Millis::from_secs(86_400));
    let (job, _) = rig.submit(spec.clone(), 1);
    // Submitted a moment before the fleet hears of it.
    let mut early = rig.job(spec, 1);
    early.created = at(0);
    rig.now = at(1);
    let second = early.id;
    rig.submit_job(early);
    for job in [job, second] {
        rig.start("a1", attempt(job, 0, 1));
        rig.end("a1", attempt(job, 0, 1), succeeded());
    }
    rig.tick_until(at(60));
    assert_eq!(rig.fleet.next_deadline(), None);
}

#[test]
fn a_report_told_twice_changes_nothing_the_second_time() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, _) = rig.submit(spec(), 2);
    rig.start("a1", attempt(job, 0, 1));
    rig.end("a1", attempt(job, 0, 1), succeeded());
    let before = rig.fleet.job(job).unwrap().progress.clone();

    let effects = rig.end("a1", attempt(job, 0, 1), failed(9));

    assert_eq!(rig.fleet.job(job).unwrap().progress, before);
    let recorded: Vec<&Effect> = effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Record(_)))
        .collect();
    assert!(
        matches!(recorded[..], [Effect::Record(Record::LateReport { .. })]),
        "{recorded:?}"
    );
}

#[test]
fn a_failure_is_retried_within_its_budget_after_the_delay() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, _) = rig.submit(spec(), 1);
    rig.start("a1", attempt(job, 0, 1));
    let effects = rig.end("a1", attempt(job, 0, 1), failed(2));
    assert_eq!(offers(&effects), []);
    let effects = rig.tick_until(at(9));
    assert_eq!(offers(&effects), []);
    let effects = rig.tick_until(at(10));
    assert_eq!(
        offers(&effects),
        [("a1".into(), attempt(job, 0, 2), digest(1))]
    );

    rig.start("a1", attempt(job, 0, 2));
    let effects = rig.end("a1", attempt(job, 0, 2), failed(2));
    assert_eq!(ends(&effects), [(0, "failed(2)".into())]);
}

#[test]
fn a_late_report_of_an_older_attempt_is_evidence_only() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, _) = rig.submit(spec(), 1);
    rig.start("a1", attempt(job, 0, 1));
    rig.end("a1", attempt(job, 0, 1), failed(2));
    rig.tick_until(at(10));

    let effects = rig.end("a1", attempt(job, 0, 1), succeeded());

    assert_eq!(ends(&effects), []);
    assert_eq!(rig.fleet.job(job).unwrap().progress.counts.preparing, 1);
}

#[test]
fn a_refusal_costs_no_budget() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, _) = rig.submit(spec(), 1);
    for number in 1..=5 {
        rig.report(
            "a1",
            attempt(job, 0, number),
            News::Refused {
                unfit: false,
                message: "policy".into(),
            },
        );
        let effects = rig.tick_until(at(u64::from(number) * 20));
        assert_eq!(
            offers(&effects),
            [("a1".into(), attempt(job, 0, number + 1), digest(1))]
        );
    }
}

#[test]
fn a_canceled_task_is_over_only_when_the_agent_says_so() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, _) = rig.submit(spec(), 1);
    rig.start("a1", attempt(job, 0, 1));

    let effects = rig.cancel(job, None);
    assert_eq!(stops(&effects), [attempt(job, 0, 1)]);
    assert_eq!(ends(&effects), []);

    let end = End::of(Outcome::Canceled, EndReason::CanceledByUser);
    let effects = rig.end("a1", attempt(job, 0, 1), end);
    assert_eq!(ends(&effects), [(0, "canceled (canceled_by_user)".into())]);
}

#[test]
fn after_a_cancel_no_attempt_is_made() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, _) = rig.submit(spec(), 1);
    rig.start("a1", attempt(job, 0, 1));
    rig.cancel(job, None);
    let lost = End::of(Outcome::Lost, EndReason::EngineLost);
    let effects = rig.end("a1", attempt(job, 0, 1), lost);
    assert_eq!(ends(&effects), [(0, "canceled (canceled_by_user)".into())]);
    assert_eq!(offers(&rig.tick_until(at(10_000))), []);
}

#[test]
fn some_tasks_of_a_job_can_be_canceled() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, _) = rig.submit(spec(), 10);
    rig.cancel(job, Some("2-5,7"));
    let live = rig.fleet.job(job).unwrap();
    assert_eq!(live.progress.unstarted.to_string(), "1,6,8-9");
    assert_eq!(live.progress.counts.canceled, 5);
}

#[test]
fn a_task_that_never_started_times_out_in_the_queue() {
    let mut rig = Rig::new();
    let queue_timeout = Some(crate::time::Millis::from_secs(30));
    let (job, _) = rig.submit(
        Spec {
            queue_timeout,
            ..spec()
        },
        3,
    );
    rig.tick_until(at(29));
    assert!(rig.fleet.job(job).is_some());
    rig.tick_until(at(30));
    assert!(rig.fleet.job(job).is_none());
}

fn keyed(rig: &mut Rig, key: &str, body: u8) -> NewJob {
    let mut job = rig.job(spec(), 1);
    job.key = Some(Box::new(IdempotencyKey {
        key: key.into(),
        body: [body; 32],
    }));
    NewJob {
        job: Arc::new(job),
        prior: None,
    }
}

#[test]
fn the_same_key_and_body_is_the_same_job_and_another_body_is_refused() {
    let mut rig = Rig::new();
    let first = keyed(&mut rig, "k", 1);
    let id = first.job.id;
    let ticket = rig.ticket();
    rig.handle(Event::Submitted {
        ticket,
        jobs: vec![first],
    });

    let jobs = vec![keyed(&mut rig, "k", 1)];
    let effects = rig.handle(Event::Submitted { ticket, jobs });
    let again = Submitted {
        id,
        existed: true,
        nobody_fits: false,
    };
    assert_eq!(answers(&effects), [&Answer::Submitted(vec![again])]);

    let jobs = vec![keyed(&mut rig, "new", 1), keyed(&mut rig, "k", 2)];
    let effects = rig.handle(Event::Submitted { ticket, jobs });
    let refusal = Refusal::KeyInUse {
        key: "k".into(),
        existing: id,
    };
    assert_eq!(answers(&effects), [&Answer::Refused(refusal)]);
    assert!(
        !rig.fleet.has_key(&team(), "new"),
        "all of a request is taken, or none"
    );
}

#[test]
fn a_key_of_a_job_that_ended_is_known_from_the_store() {
    let mut rig = Rig::new();
    let mut new = keyed(&mut rig, "k", 1);
    let ended = rig.job(spec(), 1).id;
    new.prior = Some(Prior {
        id: ended,
        body: [1; 32],
    });
    let ticket = rig.ticket();
    let effects = rig.handle(Event::Submitted {
        ticket,
        jobs: vec![new],
    });
    let again = Submitted {
        id: ended,
        existed: true,
        nobody_fits: false,
    };
    assert_eq!(answers(&effects), [&Answer::Submitted(vec![again])]);
}

#[test]
fn of_two_limits_for_one_key_the_smaller_holds_and_why_says_so() {
    let mut rig = Rig::new();
    rig.hello("a1", 9);
    let with = |limit| {
        let concurrency = [("db".to_owned(), limit)].into();
        let needs = spec().requirements.as_ref().clone();
        let requirements = Arc::new(Requirements {
            concurrency,
            ..needs
        });
        Spec {
            requirements,
            ..spec()
        }
    };
    rig.submit(with(1), 2);
    let (generous, effects) = rig.submit(with(5), 1);
    assert_eq!(offers(&effects), []);
    let explained = rig.fleet.explain(rig.now, generous, Some(0)).unwrap();
    let blocker = Blocker::ConcurrencyKey {
        key: "db".into(),
        live: 1,
        limit: 1,
    };
    assert_eq!(explained.waiting.unwrap().blockers, [blocker]);
}

#[test]
fn concurrency_keys_are_counted_from_live_attempts() {
    let mut rig = Rig::new();
    rig.hello("a1", 9);
    let requirements = Requirements {
        concurrency: [("db".to_owned(), 2)].into(),
        ..spec().requirements.as_ref().clone()
    };
    let keyed = Spec {
        requirements: Arc::new(requirements),
        ..spec()
    };
    let (first, effects) = rig.submit(keyed.clone(), 5);
    assert_eq!(offers(&effects).len(), 2);
    let (second, effects) = rig.submit(keyed, 1);
    assert_eq!(offers(&effects), []);
    let waiting = rig
        .fleet
        .explain(rig.now, second, Some(0))
        .unwrap()
        .waiting
        .unwrap();
    assert_eq!(
        waiting.blockers,
        [Blocker::ConcurrencyKey {
            key: "db".into(),
            live: 2,
            limit: 2
        }]
    );
    rig.start("a1", attempt(first, 0, 1));
    let effects = rig.end("a1", attempt(first, 0, 1), succeeded());
    assert_eq!(offers(&effects).len(), 1);
}

/// The rows that a store would hold.
#[derive(Default)]
struct Rows {
    jobs: BTreeMap<crate::ids::JobId, (Arc<crate::job::Job>, Option<JobProgress>)>,
    tasks: BTreeMap<crate::ids::TaskId, TaskRow>,
    agents: BTreeMap<crate::ids::AgentId, crate::agent::Agent>,
}

impl Rows {
    fn keep(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Record(Record::JobSubmitted(job)) => {
                    self.jobs.insert(job.id, (job, None));
                }
                Effect::Record(Record::JobProgress { job, progress }) => {
                    self.jobs.get_mut(&job).unwrap().1 = Some(progress);
                }
                Effect::Record(Record::Task { task, row }) => {
                    self.tasks.insert(task, row);
                }
                Effect::Record(Record::Agent(agent)) => {
                    self.agents.insert(agent.id.clone(), *agent);
                }
                _ => {}
            }
        }
    }

    fn restored(self) -> Vec<Restored> {
        let agents = self.agents.into_values().map(Restored::Agent);
        let tasks = self.tasks;
        let jobs = self.jobs.into_values().map(move |(job, progress)| {
            let rows = tasks.iter().filter(|(id, _)| id.job == job.id);
            let tasks = rows.map(|(id, row)| (id.index, row.clone())).collect();
            Restored::Job {
                progress: progress.unwrap(),
                tasks,
                job,
            }
        });
        agents.chain(jobs).collect()
    }
}

#[test]
fn a_restarted_coordinator_finds_every_job_as_it_was() {
    let mut rig = Rig::new();
    let mut rows = Rows::default();
    rows.keep(rig.hello("a1", 4));
    let (job, effects) = rig.submit(spec(), 10);
    rows.keep(effects);
    let at = rig.now;
    for (index, news) in [(0, News::Accepted), (1, News::Started { at })] {
        rows.keep(rig.report("a1", attempt(job, index, 1), news));
    }
    rows.keep(rig.end("a1", attempt(job, 2, 1), failed(1)));
    rows.keep(rig.end("a1", attempt(job, 3, 1), succeeded()));
    let before = rig.fleet.job(job).unwrap().into_owned();

    rig.fleet = Fleet::new(Limits::default());
    for row in rows.restored() {
        let effects = rig.handle(Event::Restored(row));
        assert_eq!(effects, [], "nothing is sent or recorded");
    }

    let after = rig.fleet.job(job).unwrap();
    assert_eq!(after.progress, before.progress);
    assert_eq!(after.tasks, before.tasks);
    let all = (0..6).filter(|index| before.tasks.contains_key(index));
    let held = all.map(|index| attempt(job, index, 1)).collect();
    let effects = rig.hello_with("a1", 4, held);
    assert_eq!(offers(&effects), [], "what runs is not offered again");
}

#[test]
fn at_most_once_ends_lost_and_waits_for_a_person() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, _) = rig.submit(
        Spec {
            delivery: Delivery::AtMostOnce,
            ..spec()
        },
        1,
    );
    rig.start("a1", attempt(job, 0, 1));
    let lost = End::of(Outcome::Lost, EndReason::HostRebooted);
    let effects = rig.end("a1", attempt(job, 0, 1), lost);
    assert_eq!(ends(&effects), [(0, "lost (host_rebooted)".into())]);
}
