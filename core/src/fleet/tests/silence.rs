//! Silence kills nothing: who is given up, when, and when nobody is.

use super::rig::*;
use crate::agent::Link;
use crate::effect::{Answer, Effect, Notice};
use crate::event::{Event, Restored};
use crate::ids::JobId;
use std::collections::BTreeSet;

/// A fleet of `agents`, named `a00` and so on, each with one running attempt of a job.
fn busy(agents: u32) -> (Rig, JobId) {
    let mut rig = Rig::new();
    for index in 0..agents {
        rig.hello(&name(index), 1);
    }
    let (job, effects) = rig.submit(spec(), agents);
    for (agent, attempt, _) in offers(&effects) {
        rig.start(&agent, attempt);
    }
    (rig, job)
}

fn name(index: u32) -> String {
    format!("a{index:02}")
}

fn running(rig: &Rig, job: JobId) -> u32 {
    rig.fleet.job(job).unwrap().progress.counts.running
}

fn cut(rig: &mut Rig, agents: std::ops::Range<u32>) -> Vec<Effect> {
    agents.flat_map(|index| rig.gone(&name(index))).collect()
}

fn alarms(effects: &[Effect]) -> usize {
    let began = |effect: &&Effect| matches!(effect, Effect::Notify(Notice::SuspicionBegan { .. }));
    effects.iter().filter(began).count()
}

fn back(rig: &mut Rig, index: u32) {
    let id = agent(&name(index));
    let known = rig.fleet.agents().find(|known| known.id == id).unwrap();
    let live = known.live.clone();
    rig.hello_with(&name(index), 1, live);
}

#[test]
fn the_guard_holds_from_its_bounds_on_and_not_below() {
    // Agents, how many are cut off, seconds between two cuts, and what the coordinator makes of it.
    let table = [
        (2, 2, 0, false),
        (3, 2, 0, false),
        (3, 3, 0, true),
        (20, 11, 20, false),
        (20, 12, 20, true),
        (100, 10, 0, false),
        (100, 11, 0, true),
        (100, 11, 2, true),
        (100, 11, 4, false),
    ];
    for (agents, gone, apart, suspicious) in table {
        let (mut rig, _) = busy(agents);
        let mut effects = Vec::new();
        for index in 0..gone {
            effects.extend(rig.tick_until(at(u64::from(index) * apart)));
            effects.extend(rig.gone(&name(index)));
        }
        let case = format!("{gone} of {agents}, {apart} s apart");
        assert_eq!(rig.fleet.suspicion().is_some(), suspicious, "{case}");
        assert_eq!(alarms(&effects), usize::from(suspicious), "{case}");
    }
}

#[test]
fn nothing_is_run_again_until_half_are_back_and_the_rest_had_time_to_come() {
    let (mut rig, job) = busy(10);
    let effects = cut(&mut rig, 0..6);
    assert_eq!(alarms(&effects), 1);
    assert_eq!(offers(&rig.tick_until(at(7200))), []);

    back(&mut rig, 0);
    back(&mut rig, 1);
    assert!(rig.fleet.suspicion().is_some());
    back(&mut rig, 2);
    assert_eq!(rig.fleet.suspicion(), None);
    // `lost_after` has long passed for the other three: they have the grace of a new start.
    assert_eq!(offers(&rig.tick_until(at(7200 + 79))), []);
    for index in 3..6 {
        back(&mut rig, index);
    }
    assert_eq!(offers(&rig.tick_until(at(14_000))), []);
    assert_eq!(running(&rig, job), 10);
}

#[test]
fn an_operator_who_knows_better_ends_the_suspicion() {
    let (mut rig, job) = busy(4);
    rig.hello("spare", 8);
    cut(&mut rig, 0..4);
    assert_eq!(offers(&rig.tick_until(at(3600))), []);
    let ticket = rig.ticket();
    let effects = rig.handle(Event::LossesConfirmed { ticket });
    let agents = (0..4).map(|index| agent(&name(index))).collect();
    assert_eq!(answers(&effects), [&Answer::LossesConfirmed { agents }]);
    assert_eq!(rig.fleet.suspicion(), None);
    let again = offers(&rig.tick_until(at(3660)));
    let again: BTreeSet<_> = again.into_iter().map(|(_, attempt, _)| attempt).collect();
    assert_eq!(again, (0..4).map(|index| attempt(job, index, 2)).collect());

    // The same agents count again once they were back.
    for index in 0..4 {
        rig.hello(&name(index), 1);
    }
    assert_eq!(alarms(&cut(&mut rig, 0..4)), 1);
}

#[test]
fn lost_agents_are_given_up_one_after_the_other() {
    let (mut rig, _) = busy(9);
    rig.hello("idle", 1);
    rig.hello("spare", 9);
    cut(&mut rig, 0..4);
    rig.gone("idle");
    let mut lost = Vec::new();
    for seconds in 595..650 {
        rig.tick_until(at(seconds));
        let link = |agent: &&crate::agent::Agent| matches!(agent.link, Link::Lost { .. });
        lost.push((seconds, rig.fleet.agents().filter(link).count()));
    }
    lost.dedup_by_key(|(_, count)| *count);
    // An agent without attempts costs no rerun, so it does not wait.
    assert_eq!(lost, [(595, 0), (600, 2), (610, 3), (620, 4), (630, 5)]);
}

#[test]
fn a_new_coordinator_gives_nobody_up_before_its_grace_is_over() {
    let (mut before, _) = busy(2);
    before.gone("a00");
    let mut rig = Rig::new();
    let limits = crate::fleet::Limits {
        lost_after: crate::time::Millis::from_secs(5),
        ..Default::default()
    };
    rig.fleet = crate::fleet::Fleet::new(limits);
    for known in before.fleet.agents() {
        rig.handle(Event::Restored(Restored::Agent(known.clone())));
    }
    let lost = |rig: &Rig| {
        let link = |agent: &&crate::agent::Agent| matches!(agent.link, Link::Lost { .. });
        rig.fleet.agents().filter(link).count()
    };
    rig.tick_until(at(79));
    assert_eq!(lost(&rig), 0);
    rig.tick_until(at(80));
    assert_eq!(lost(&rig), 2);
}

#[test]
fn a_coordinator_that_nobody_calls_after_its_start_suspects_itself() {
    let (before, _) = busy(3);
    let mut rig = Rig::new();
    for known in before.fleet.agents() {
        rig.handle(Event::Restored(Restored::Agent(known.clone())));
    }
    assert_eq!(alarms(&rig.tick_until(at(79))), 0);
    assert_eq!(alarms(&rig.tick_until(at(80))), 1);
}
