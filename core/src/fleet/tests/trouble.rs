//! Agents where nothing gets going.

use std::sync::Arc;

use super::rig::{Rig, agent, at, attempt, offers, spec};
use crate::agent::Schedulable;
use crate::effect::{Effect, Notice};
use crate::event::{Event, News};
use crate::fleet::Blocker;
use crate::ids::{AttemptId, JobId};
use crate::outcome::{End, EndReason, Outcome};
use crate::spec::{Requirements, RetryPolicy, Spec};
use crate::time::Millis;

fn patient() -> Spec {
    Spec {
        retry: RetryPolicy {
            infra: 100,
            ..spec().retry
        },
        ..spec()
    }
}

fn never_started() -> End {
    End {
        message: "no space left".to_owned(),
        ..End::of(Outcome::InfraError, EndReason::NeverStarted)
    }
}

/// The offers to that agent, each answered by an end before the start, until it gets no more.
fn fail_all(rig: &mut Rig, name: &str, mut effects: Vec<Effect>) -> (u32, Vec<Effect>) {
    let mut failed = 0;
    let mut all = Vec::new();
    let mut turn = 0;
    while failed < 50 && turn < 100 {
        for (to, attempt, _) in offers(&effects) {
            if to == name {
                failed += 1;
                all.extend(rig.end(name, attempt, never_started()));
            } else {
                rig.start(&to, attempt);
            }
        }
        turn += 1;
        // All turns together are over before a cordon is.
        effects = rig.tick_until(at(turn * 5));
        all.extend(effects.iter().cloned());
    }
    (failed, all)
}

/// The same while the other agents prepare what they are offered; returns how much was offered.
fn fail_all_and_start_none(rig: &mut Rig, name: &str, mut effects: Vec<Effect>) -> u32 {
    let mut failed = 0;
    for turn in 1..20 {
        for (to, attempt, _) in offers(&effects) {
            rig.report(&to, attempt, News::Accepted);
            if to == name {
                failed += 1;
                rig.end(&to, attempt, never_started());
            }
        }
        effects = rig.tick_until(at(turn * 20));
    }
    failed
}

fn told(effects: &[Effect]) -> Vec<(u32, bool)> {
    let told = effects.iter().filter_map(|effect| match effect {
        Effect::Notify(Notice::NothingStarts {
            agent: _,
            failures,
            cordoned,
        }) => Some((*failures, *cordoned)),
        _ => None,
    });
    told.collect()
}

#[test]
fn an_agent_where_nothing_starts_is_taken_out_of_service() {
    let mut rig = Rig::new();
    for name in ["good", "hole"] {
        rig.hello(name, 4);
    }
    let (_, effects) = rig.submit(patient(), 8);
    let (failed, all) = fail_all(&mut rig, "hole", effects);
    assert!((5..=8).contains(&failed), "{failed} attempts were offered");
    assert_eq!(told(&all), [(5, true)]);
    let Schedulable::Cordoned { reason, .. } = &rig.fleet.agents[&agent("hole")].schedulable else {
        panic!("it is in service");
    };
    let wanted = "5 attempts in a row did not start here, the last one: no space left";
    assert_eq!(reason, wanted);

    let ticket = rig.ticket();
    let effects = rig.handle(Event::AgentUncordoned {
        ticket,
        agent: agent("hole"),
    });
    assert!(told(&effects).is_empty());
    assert_eq!(
        rig.fleet.agents[&agent("hole")].schedulable,
        Schedulable::Yes
    );
}

/// As after a push: where all is well the image is still being pulled while the broken host has failed.
#[test]
fn an_agent_where_nothing_starts_gets_no_more_of_a_job_that_may_start_elsewhere() {
    let mut rig = Rig::new();
    for name in ["good", "hole"] {
        rig.hello(name, 4);
    }
    let (job, effects) = rig.submit(patient(), 20);
    let failed = fail_all_and_start_none(&mut rig, "hole", effects);
    assert!((5..=8).contains(&failed), "{failed} attempts were offered");
    let explained = rig.fleet.explain(rig.now, job, None).unwrap();
    let waiting = explained.waiting.expect("it waits");
    assert_eq!(
        waiting.blockers,
        [Blocker::StartsInDoubt { preparing: 4 }],
        "{waiting:?}"
    );

    let started = News::Started { at: rig.now };
    let effects = rig.report("good", attempt(job, 0, 1), started);
    assert_eq!(told(&effects), [(failed, true)]);
    let schedulable = &rig.fleet.agents[&agent("hole")].schedulable;
    assert!(matches!(schedulable, Schedulable::Cordoned { .. }));
    assert_eq!(offers(&effects), [], "the other one is full");
}

#[test]
fn a_job_waits_for_no_start_on_an_agent_that_is_out_of_sight() {
    let mut rig = Rig::new();
    for name in ["good", "hole"] {
        rig.hello(name, 4);
    }
    let (_, effects) = rig.submit(patient(), 20);
    let failed = fail_all_and_start_none(&mut rig, "hole", effects);
    assert!((5..=8).contains(&failed), "{failed} attempts were offered");
    let effects = rig.gone("good");
    assert_eq!(offers(&effects).len(), 4, "it is the only one left");
}

/// Its tasks end by their budgets, and the last one is not kept waiting by anything.
#[test]
fn a_job_that_starts_nowhere_ends() {
    let mut rig = Rig::new();
    for name in ["a1", "a2"] {
        rig.hello(name, 4);
    }
    let (job, mut effects) = rig.submit(spec(), 40);
    for turn in 1..200 {
        for (to, attempt, _) in offers(&effects) {
            rig.end(&to, attempt, never_started());
        }
        effects = rig.tick_until(at(turn * 20));
    }
    assert!(!rig.fleet.jobs.contains(job));
}

#[test]
fn the_last_half_of_a_pool_stays_in_service() {
    let mut rig = Rig::new();
    rig.hello("hole", 4);
    let (_, effects) = rig.submit(patient(), 8);
    let (failed, all) = fail_all(&mut rig, "hole", effects);
    assert!(failed >= 50, "{failed}");
    assert!(told(&all).iter().all(|(_, cordoned)| !cordoned));
    assert_eq!(told(&all)[0], (5, false));
    assert_eq!(
        rig.fleet.agents[&agent("hole")].schedulable,
        Schedulable::Yes
    );
}

#[test]
fn one_task_alone_takes_no_agent_out_of_service() {
    let mut rig = Rig::new();
    for name in ["good", "hole"] {
        rig.hello(name, 1);
    }
    let mut pinned = patient();
    pinned.requirements = Arc::new(Requirements {
        agent: Some(agent("hole")),
        ..(*pinned.requirements).clone()
    });
    let (_, effects) = rig.submit(pinned, 1);
    let (failed, all) = fail_all(&mut rig, "hole", effects);
    assert!(failed > 10, "{failed}");
    assert_eq!(told(&all), []);
}

#[test]
fn a_start_begins_a_new_count() {
    let mut rig = Rig::new();
    rig.hello("a1", 2);
    let (job, effects) = rig.submit(patient(), 2);
    for (to, attempt, _) in offers(&effects) {
        rig.end(&to, attempt, never_started());
    }
    assert!(rig.fleet.trouble.contains_key(&agent("a1")));
    rig.tick_until(at(20));
    rig.start("a1", attempt(job, 0, 2));
    assert!(!rig.fleet.trouble.contains_key(&agent("a1")));
}

#[test]
fn an_agent_that_refuses_because_of_its_own_state_rests_longer_each_time() {
    let mut rig = Rig::new();
    rig.hello("full", 4);
    let (_, mut effects) = rig.submit(patient(), 1);
    let mut offered = Vec::new();
    for second in 0..=130 {
        for (to, attempt, _) in offers(&effects) {
            offered.push(second);
            let news = News::Refused {
                unfit: true,
                message: "disk_full: 1 GiB".to_owned(),
            };
            effects = rig.report(&to, attempt, news);
            assert_eq!(offers(&effects), [], "it was asked again at once");
        }
        effects = rig.tick_until(at(second + 1));
    }
    assert!(offered.len() <= 9, "{offered:?}");
    assert!(offered.len() >= 6, "{offered:?}");
}

#[test]
fn an_outage_of_the_registry_takes_nobody_out_of_service() {
    let mut rig = Rig::new();
    let names = ["h1", "h2", "h3", "h4"];
    for name in names {
        rig.hello(name, 4);
    }
    let (_, mut effects) = rig.submit(patient(), 40);
    for turn in 1..60 {
        for (to, attempt, _) in offers(&effects) {
            let end = End::of(Outcome::ImageError, EndReason::PullFailed);
            rig.end(&to, attempt, end);
        }
        effects = rig.tick_until(at(turn * 20));
    }
    for name in names {
        let agent = &rig.fleet.agents[&agent(name)];
        assert_eq!(agent.schedulable, Schedulable::Yes, "{name}");
    }
}

#[test]
fn an_agent_that_is_out_of_sight_is_not_one_to_fall_back_on() {
    let mut rig = Rig::new();
    for name in ["away", "hole"] {
        rig.hello(name, 4);
    }
    rig.gone("away");
    let (_, effects) = rig.submit(patient(), 8);
    let (failed, all) = fail_all(&mut rig, "hole", effects);
    assert!(failed >= 5, "{failed}");
    assert!(told(&all).iter().all(|(_, cordoned)| !cordoned));
}

#[test]
fn a_start_of_an_older_attempt_ends_the_rest_and_what_waits_is_placed() {
    let mut rig = Rig::new();
    rig.hello("full", 4);
    let (_, first) = rig.submit(patient(), 1);
    let older = offers(&first)[0].1;
    let (_, second) = rig.submit(patient(), 1);
    let refused = News::Refused {
        unfit: true,
        message: "disk_full: 1 GiB".to_owned(),
    };
    rig.report("full", offers(&second)[0].1, refused);
    let (third, effects) = rig.submit(patient(), 1);
    assert_eq!(offers(&effects), [], "it rests");
    let started = News::Started { at: rig.now };
    let effects = rig.report("full", older, started);
    let offered: Vec<_> = offers(&effects)
        .into_iter()
        .map(|(_, attempt, _)| attempt.task.job)
        .collect();
    assert_eq!(offered, [third]);
}

#[test]
fn a_task_stays_away_from_every_agent_that_failed_it_while_there_is_another() {
    let mut rig = Rig::new();
    let names = ["a1", "a2", "a3", "a4"];
    // The fewer places, the later it would be chosen.
    for (name, places) in names.into_iter().zip([8, 6, 4, 2]) {
        rig.hello(name, places);
    }
    let (_, mut effects) = rig.submit(patient(), 1);
    let mut order = Vec::new();
    for turn in 1..=6 {
        let offered = offers(&effects);
        let (to, attempt, _) = &offered[0];
        order.push(to.clone());
        rig.end(to, *attempt, never_started());
        effects = rig.tick_until(at(turn * 20));
    }
    assert_eq!(order[..4], names);
    assert_eq!(order[4..], ["a1", "a2"], "any is better than none");
}

#[test]
fn a_job_that_starts_nowhere_takes_no_agent_out_of_service() {
    let mut rig = Rig::new();
    for name in ["a1", "a2", "a3"] {
        rig.hello(name, 4);
    }
    let (_, mut effects) = rig.submit(patient(), 40);
    let mut all = Vec::new();
    for turn in 0..20 {
        for (to, attempt, _) in offers(&effects) {
            all.extend(rig.end(&to, attempt, never_started()));
        }
        effects = rig.tick_until(at(turn * 20));
    }
    assert!(!told(&all).is_empty(), "it is told");
    assert!(told(&all).iter().all(|(_, cordoned)| !cordoned));
}

#[test]
fn jobs_of_one_task_each_take_an_agent_out_of_service() {
    let mut rig = Rig::new();
    rig.hello("hole", 8);
    let mut offered = Vec::new();
    for _ in 0..5 {
        offered.extend(offers(&rig.submit(patient(), 1).1));
    }
    rig.hello("good", 8);
    for (_, attempt, _) in offered {
        rig.end("hole", attempt, never_started());
    }
    let Schedulable::Cordoned { until: Some(_), .. } = state_of(&rig, "hole") else {
        panic!("it is in service");
    };
}

/// Five agents, one of which fails every start at once, and tasks that can't afford more than three retries.
fn black_hole() -> (Rig, JobId, u32) {
    let mut rig = Rig::new();
    for name in ["g1", "g2", "g3", "g4", "hole"] {
        rig.hello(name, 4);
    }
    let mut frugal = spec();
    frugal.retry.infra = 3;
    let (job, effects) = rig.submit(frugal, 40);
    let (failed, all) = fail_all(&mut rig, "hole", effects);
    assert_eq!(told(&all), [(5, true)]);
    (rig, job, failed)
}

/// Submits one more task, and returns the attempts that are offered to the black hole.
fn tried(rig: &mut Rig) -> Vec<AttemptId> {
    let (_, effects) = rig.submit(spec(), 3);
    let offered = offers(&effects).into_iter();
    offered
        .filter(|(to, _, _)| to == "hole")
        .map(|(_, attempt, _)| attempt)
        .collect()
}

fn state_of(rig: &Rig, name: &str) -> Schedulable {
    rig.fleet.agents[&agent(name)].schedulable.clone()
}

#[test]
fn a_black_hole_costs_few_attempts_and_no_task() {
    let (rig, job, failed) = black_hole();
    assert!(failed <= 10, "{failed} attempts failed");
    let counts = rig.fleet.job(job).unwrap().progress.counts;
    assert_eq!(counts.live(), 40, "no task ended");
    assert!(counts.retries <= 10);
}

#[test]
fn a_black_hole_is_tried_again_with_one_attempt_and_comes_back_with_a_start() {
    let (mut rig, _, _) = black_hole();
    assert_eq!(tried(&mut rig), [], "it cools down");
    let start = rig.now;
    let Schedulable::Cordoned {
        until: Some(until), ..
    } = state_of(&rig, "hole")
    else {
        panic!("it is in service");
    };
    assert!(until <= start + Millis::from_secs(600));
    let mut wait = Millis::from_secs(1200);
    let mut due = until;
    for _ in 0..3 {
        let effects = rig.tick_until(due);
        let mut offered: Vec<_> = offers(&effects)
            .into_iter()
            .filter(|(to, _, _)| to == "hole")
            .map(|(_, attempt, _)| attempt)
            .collect();
        offered.extend(tried(&mut rig));
        let [only] = offered[..] else {
            panic!("one attempt at a time, not {offered:?}");
        };
        rig.end("hole", only, never_started());
        let Schedulable::Cordoned {
            until: Some(next), ..
        } = state_of(&rig, "hole")
        else {
            panic!("it is in service");
        };
        assert_eq!(next, due + wait, "the wait doubles");
        (due, wait) = (next, Millis(wait.0 * 2));
    }
    let effects = rig.tick_until(due);
    let offered = offers(&effects).into_iter().find(|(to, _, _)| to == "hole");
    rig.start("hole", offered.expect("it is tried again").1);
    assert_eq!(state_of(&rig, "hole"), Schedulable::Yes);
}

#[test]
fn what_a_person_cordoned_is_not_tried_again() {
    let (mut rig, _, _) = black_hole();
    let ticket = rig.ticket();
    rig.handle(Event::AgentCordoned {
        ticket,
        agent: agent("hole"),
        reason: "bad disk".to_owned(),
    });
    let effects = rig.tick_until(at(100_000));
    assert!(offers(&effects).iter().all(|(to, _, _)| to != "hole"));
    assert_eq!(tried(&mut rig), []);
    let Schedulable::Cordoned { until: None, .. } = state_of(&rig, "hole") else {
        panic!("the cordon was undone");
    };
}

#[test]
fn a_pull_that_fails_on_trial_keeps_the_agent_out_and_the_task_pays() {
    let (mut rig, _, _) = black_hole();
    let Schedulable::Cordoned {
        until: Some(until), ..
    } = state_of(&rig, "hole")
    else {
        panic!("it is in service");
    };
    let effects = rig.tick_until(until);
    let offered = offers(&effects).into_iter().find(|(to, _, _)| to == "hole");
    let attempt = offered.expect("it is tried again").1;
    let spent = |rig: &Rig| rig.fleet.task(attempt.task).unwrap().spent;
    let before = spent(&rig);
    let pull = End::of(Outcome::ImageError, EndReason::PullFailed);
    rig.end("hole", attempt, pull);
    let Schedulable::Cordoned { until: Some(_), .. } = state_of(&rig, "hole") else {
        panic!("it is in service");
    };
    let after = spent(&rig);
    assert_eq!((after.infra, after.free), (before.infra + 1, before.free));
}
