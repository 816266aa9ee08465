use super::rig::*;
use crate::agent::{Link, Schedulable};
use crate::effect::{Answer, Effect, Order, Refusal};
use crate::event::Event;
use crate::fleet::Blocker;
use crate::outcome::{End, EndReason, Outcome};
use crate::spec::{Requirements, Spec};
use std::collections::BTreeSet;
use std::sync::Arc;

#[test]
fn a_silent_agent_keeps_its_tasks_until_it_counts_as_lost() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, _) = rig.submit(spec(), 1);
    rig.start("a1", attempt(job, 0, 1));
    rig.hello("a2", 1);
    rig.gone("a1");

    assert_eq!(offers(&rig.tick_until(at(599))), []);
    assert_eq!(rig.fleet.job(job).unwrap().progress.counts.running, 1);

    let effects = rig.tick_until(at(610));
    assert_eq!(
        offers(&effects),
        [("a2".into(), attempt(job, 0, 2), digest(1))]
    );
}

#[test]
fn the_end_of_an_older_stream_does_not_matter() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    rig.hello("a1", 1);
    let session = crate::ids::SessionNo(1);
    assert_eq!(
        rig.handle(Event::AgentGone {
            agent: agent("a1"),
            session
        }),
        []
    );
}

#[test]
fn an_agent_that_comes_back_in_time_keeps_its_attempt() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, _) = rig.submit(spec(), 1);
    rig.start("a1", attempt(job, 0, 1));
    rig.gone("a1");
    rig.tick_until(at(500));
    let effects = rig.hello_with("a1", 1, [attempt(job, 0, 1)].into());
    assert_eq!((offers(&effects), stops(&effects)), (vec![], vec![]));
    rig.tick_until(at(5000));
    assert_eq!(rig.fleet.job(job).unwrap().progress.counts.running, 1);
}

#[test]
fn an_agent_that_comes_back_too_late_is_told_to_stop() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, _) = rig.submit(spec(), 1);
    rig.start("a1", attempt(job, 0, 1));
    rig.gone("a1");
    rig.tick_until(at(700));
    let effects = rig.hello_with("a1", 1, [attempt(job, 0, 1)].into());
    assert_eq!(stops(&effects), [attempt(job, 0, 1)]);
    assert_eq!(
        offers(&effects),
        [("a1".into(), attempt(job, 0, 2), digest(1))]
    );
}

#[test]
fn when_most_agents_vanish_nothing_is_run_again() {
    let mut rig = Rig::new();
    for name in ["a1", "a2", "a3"] {
        rig.hello(name, 1);
    }
    let (job, _) = rig.submit(spec(), 3);
    for name in ["a1", "a2", "a3"] {
        rig.gone(name);
    }
    let effects = rig.tick_until(at(3000));
    assert_eq!(offers(&effects), []);
    assert_eq!(rig.fleet.job(job).unwrap().progress.counts.preparing, 3);
    assert!(
        rig.fleet
            .agents()
            .all(|agent| matches!(agent.link, Link::Unreachable { .. }))
    );
}

#[test]
fn an_unanswered_offer_is_the_same_offer_again() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, _) = rig.submit(spec(), 1);
    let effects = rig.tick_until(at(15));
    assert_eq!(
        offers(&effects),
        [("a1".into(), attempt(job, 0, 1), digest(1))]
    );
}

#[test]
fn what_an_agent_lost_ends_lost_and_is_tried_again() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, _) = rig.submit(spec(), 1);
    rig.start("a1", attempt(job, 0, 1));
    rig.hello("a1", 1);
    let effects = rig.tick_until(at(10));
    assert_eq!(
        offers(&effects),
        [("a1".into(), attempt(job, 0, 2), digest(1))]
    );
}

#[test]
fn a_cordoned_agent_finishes_and_takes_nothing_new() {
    let mut rig = Rig::new();
    rig.hello("a1", 2);
    let (job, _) = rig.submit(spec(), 1);
    let ticket = rig.ticket();
    let reason = "disk swap".to_owned();
    rig.handle(Event::AgentCordoned {
        ticket,
        agent: agent("a1"),
        reason,
    });
    let (second, effects) = rig.submit(spec(), 1);
    assert_eq!(offers(&effects), []);
    let waiting = rig
        .fleet
        .explain(rig.now, second, None)
        .unwrap()
        .waiting
        .unwrap();
    let blocker = Blocker::NobodyInService {
        agents: 1,
        unreachable: 0,
        cordoned: 1,
        resting: 0,
    };
    assert_eq!(waiting.blockers, [blocker]);
    rig.start("a1", attempt(job, 0, 1));
    let effects = rig.handle(Event::AgentUncordoned {
        ticket,
        agent: agent("a1"),
    });
    assert_eq!(offers(&effects).len(), 1);
}

#[test]
fn a_cordon_survives_the_agents_next_hello() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let ticket = rig.ticket();
    let reason = "disk swap".to_owned();
    rig.handle(Event::AgentCordoned {
        ticket,
        agent: agent("a1"),
        reason: reason.clone(),
    });
    rig.hello("a1", 1);
    let agent = rig.fleet.agents().next().unwrap();
    assert_eq!(
        agent.schedulable,
        Schedulable::Cordoned {
            reason,
            until: None
        }
    );
}

#[test]
fn a_drain_preempts_at_its_deadline_and_that_is_free() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, _) = rig.submit(spec(), 1);
    rig.start("a1", attempt(job, 0, 1));
    let (ticket, deadline) = (rig.ticket(), Some(at(60)));
    let drain = Event::AgentDrained {
        ticket,
        agent: agent("a1"),
        reason: String::new(),
        deadline,
    };
    assert_eq!(stops(&rig.handle(drain)), []);
    assert_eq!(stops(&rig.tick_until(at(60))), [attempt(job, 0, 1)]);
    rig.hello("a2", 1);
    let end = End::of(Outcome::Preempted, EndReason::Drained);
    rig.end("a1", attempt(job, 0, 1), end);
    let effects = rig.tick_until(at(60));
    assert_eq!(
        offers(&effects),
        [("a2".into(), attempt(job, 0, 2), digest(1))]
    );
    let spent = rig.fleet.job(job).unwrap().tasks[&0].spent;
    assert_eq!((spent.user, spent.infra), (0, 0));
}

#[test]
fn an_unknown_agent_is_named() {
    let mut rig = Rig::new();
    let ticket = rig.ticket();
    let effects = rig.handle(Event::AgentUncordoned {
        ticket,
        agent: agent("nobody"),
    });
    let refusal = Refusal::NoSuchAgent {
        agent: agent("nobody"),
    };
    assert_eq!(answers(&effects), [&Answer::Refused(refusal)]);
}

#[test]
fn a_hello_that_a_newer_stream_overtook_changes_nothing() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let old = rig.sessions["a1"];
    rig.hello("a1", 1);
    let newer = rig.sessions["a1"];
    let late = hello("a1", old, 1, BTreeSet::new());
    assert_eq!(rig.handle(Event::AgentHello(late)), []);
    rig.handle(Event::AgentGone {
        agent: agent("a1"),
        session: old,
    });
    let link = rig.fleet.agents().next().unwrap().link;
    assert_eq!(link, Link::Online { session: newer });
}

#[test]
fn why_names_the_first_thing_that_stands_in_the_way() {
    let mut rig = Rig::new();
    let with = |change: fn(&mut Requirements)| {
        let mut needs = spec().requirements.as_ref().clone();
        change(&mut needs);
        Spec {
            requirements: Arc::new(needs),
            ..spec()
        }
    };
    let why = |rig: &mut Rig, spec: Spec| {
        let (job, _) = rig.submit(spec, 1);
        let explained = rig.fleet.explain(rig.now, job, None).unwrap();
        explained.waiting.unwrap().blockers[0].to_string()
    };
    assert_eq!(
        why(&mut rig, spec()),
        "no agent is in pool default (0 of 0 agents)"
    );
    let pinned = with(|needs| needs.agent = Some(agent("b9")));
    assert_eq!(why(&mut rig, pinned), "agent b9 has never called");
    rig.hello("a1", 1);
    let labeled = with(|needs| {
        needs.labels = [("disk".to_owned(), "ssd".to_owned())].into();
    });
    assert_eq!(
        why(&mut rig, labeled),
        "no agent in pool default has disk=ssd (0 of 1 agents)"
    );
    let large = with(|needs| needs.resources.memory_bytes = 1 << 41);
    assert!(why(&mut rig, large).contains("bytes of memory; the largest of the 1 agents"));
    let full = why(&mut rig, spec());
    assert_eq!(
        full,
        "pool default is full: 1 of 1 places on 1 agents are taken"
    );
}

#[test]
fn each_report_is_acknowledged_by_its_number() {
    let mut rig = Rig::new();
    rig.hello("a1", 1);
    let (job, _) = rig.submit(spec(), 1);
    let effects = rig.end("a1", attempt(job, 0, 1), succeeded());
    let acked = effects.iter().any(|effect| {
        matches!(effect, Effect::Order { order: Order::Ack { attempt: of, seq: 1 }, .. }
            if *of == attempt(job, 0, 1))
    });
    assert!(acked, "{effects:?}");
}
