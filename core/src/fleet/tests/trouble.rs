//! Agents where nothing gets going.

use std::sync::Arc;

use super::rig::{Rig, agent, at, attempt, offers, spec};
use crate::agent::Schedulable;
use crate::effect::{Effect, Notice};
use crate::event::{Event, News};
use crate::outcome::{End, EndReason, Outcome};
use crate::spec::{Requirements, RetryPolicy, Spec};

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
        effects = rig.tick_until(at(turn * 20));
        all.extend(effects.iter().cloned());
    }
    (failed, all)
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
    let Schedulable::Cordoned { reason } = &rig.fleet.agents[&agent("hole")].schedulable else {
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
