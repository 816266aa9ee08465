use super::rig::*;
use crate::channel::Cause;
use crate::effect::{Answer, Effect, Notice, Order, Record, Refusal};
use crate::event::{AttemptEnd, Event, Fetch, News, Restored, RollbackTo};
use crate::ids::{AttemptId, JobId, JobName, PoolName};
use crate::image::Image;
use crate::outcome::{End, EndReason, Outcome, Usage};
use crate::rollout::policy::{
    AfterPatience, Bake, Canary, Newer, Policy, Prefetch, Restart, Share, Validate,
};
use crate::rollout::{Command, Conclusion, Facts, Phase, Rollout, State};
use crate::spec::{Delivery, Pin, Spec};
use crate::time::{Millis, Timestamp};
use std::collections::BTreeSet;

mod carried;
mod commands;
mod phases;

impl Rig {
    pub(super) fn policy(&mut self, policy: Policy) {
        let ticket = self.ticket();
        let channel = channel("analytics");
        self.handle(Event::PolicySet {
            ticket,
            channel,
            policy: Box::new(policy),
        });
    }

    pub(super) fn tell(&mut self, command: Command) -> Vec<Effect> {
        let ticket = self.ticket();
        let channel = channel("analytics");
        let by = "ann@laptop".to_owned();
        self.handle(Event::RolloutTold {
            ticket,
            channel,
            command,
            by,
        })
    }

    pub(super) fn phase(&self) -> Option<Phase> {
        Some(self.fleet.rollout(&channel("analytics"))?.phase())
    }

    /// Number and digest of the current release.
    pub(super) fn current(&self) -> (u64, u8) {
        let current = &self.fleet.channel(&channel("analytics")).unwrap().current;
        let byte = (1..=9)
            .find(|byte| digest(*byte) == current.digest)
            .unwrap();
        (current.number, byte)
    }

    /// Starts and ends an attempt that ran so long.
    pub(super) fn run(
        &mut self,
        agent: &str,
        attempt: AttemptId,
        end: End,
        run: Millis,
    ) -> Vec<Effect> {
        self.start(agent, attempt);
        let usage = Usage {
            run: Some(run),
            ..Usage::default()
        };
        let ended = self.now;
        let end = AttemptEnd {
            end,
            started: None,
            ended,
            usage,
            metrics: None,
        };
        self.report(agent, attempt, News::Ended(Box::new(end)))
    }

    /// The agent could not fetch the image.
    pub(super) fn fail_to_fetch(&mut self, name: &str, byte: u8) -> Vec<Effect> {
        let image = Image::Remote {
            repository: "registry.example/analytics".parse().unwrap(),
            digest: digest(byte),
        };
        let fetch = Fetch {
            image,
            done_bytes: 0,
            total_bytes: 0,
            problem: "connection refused".into(),
        };
        self.handle(Event::AgentFetches {
            agent: agent(name),
            fetches: vec![fetch],
        })
    }

    /// Runs ten attempts of 10 s on the current release, so that the gates have a past.
    pub(super) fn live_through_ten(&mut self) {
        let (job, _) = self.submit(follower(), 10);
        for index in 0..10 {
            self.run(
                "a1",
                attempt(job, index, 1),
                succeeded(),
                Millis::from_secs(10),
            );
        }
    }
}

pub(super) fn follower() -> Spec {
    on_channel(Pin::Task)
}

pub(super) fn canary(share: Share) -> Canary {
    Canary {
        share,
        jobs: BTreeSet::new(),
        sample: 5,
        patience: Millis::from_secs(600),
        after_patience: AfterPatience::Promote,
    }
}

pub(super) fn with_canary(share: Share) -> Policy {
    Policy {
        canary: Some(canary(share)),
        ..Policy::default()
    }
}

/// A rig with an agent of 20 places, the channel at digest 1, and that policy.
pub(super) fn rig(policy: Policy) -> Rig {
    let mut rig = Rig::new();
    rig.hello("a1", 20);
    rig.set_channel(1);
    rig.policy(policy);
    rig
}

/// The newest state of the rollout in the records.
pub(super) fn stored(effects: &[Effect]) -> Option<&Rollout> {
    let of = |effect| match effect {
        &Effect::Record(Record::Rollout(ref rollout)) => Some(&**rollout),
        _ => None,
    };
    effects.iter().rev().find_map(of)
}

pub(super) fn conclusion(effects: &[Effect]) -> Option<(Conclusion, String)> {
    match &stored(effects)?.state {
        State::Ended { how, reason, .. } => Some((*how, reason.clone())),
        State::Active { .. } => None,
    }
}

pub(super) fn digests(effects: &[Effect]) -> Vec<u8> {
    let byte = |found| (1..=9).find(|byte| digest(*byte) == found).unwrap();
    offers(effects)
        .into_iter()
        .map(|(_, _, found)| byte(found))
        .collect()
}

pub(super) fn fetches(effects: &[Effect]) -> Vec<String> {
    let prefetch = |effect: &Effect| match effect {
        Effect::Order {
            agent,
            order: Order::Prefetch { .. },
        } => Some(agent.to_string()),
        _ => None,
    };
    effects.iter().filter_map(prefetch).collect()
}

fn at_once(effects: &[Effect]) -> Vec<bool> {
    let prefetch = |effect: &Effect| match effect {
        Effect::Order {
            order: Order::Prefetch { at_once, .. },
            ..
        } => Some(*at_once),
        _ => None,
    };
    effects.iter().filter_map(prefetch).collect()
}

#[test]
fn a_push_without_a_policy_is_a_rollout_too() {
    let mut rig = rig(Policy::default());
    let effects = rig.push(2);
    let rollout = stored(&effects).unwrap();
    assert_eq!((rollout.from.number, rollout.to.number), (1, 2));
    assert_eq!(conclusion(&effects).unwrap().0, Conclusion::Promoted);
    assert_eq!(rig.current(), (2, 2));
}

#[test]
fn a_canary_is_so_many_attempts_and_no_more() {
    let mut rig = rig(with_canary(Share::First(5)));
    rig.push(2);
    let (_, effects) = rig.submit(follower(), 12);
    let on_new = digests(&effects).into_iter().filter(|byte| *byte == 2);
    assert_eq!(on_new.count(), 5);
    assert_eq!(rig.current(), (1, 1), "not promoted yet");
    for effect in &effects {
        if let Effect::Order {
            order: Order::Offer(offer),
            ..
        } = effect
        {
            let on_trial = offer.image.digest() == digest(2);
            assert_eq!(offer.phase, on_trial.then_some(Phase::Canary));
        }
    }
}

#[test]
fn a_share_of_the_tasks_is_the_same_tasks_each_time() {
    let mut rig = rig(with_canary(Share::Percent(30)));
    for agent in ["a2", "a3", "a4"] {
        rig.hello(agent, 60);
    }
    rig.push(2);
    let (_, effects) = rig.submit(follower(), 200);
    assert_eq!(digests(&effects).len(), 200);
    let on_new = digests(&effects)
        .into_iter()
        .filter(|byte| *byte == 2)
        .count();
    assert!((40..=80).contains(&on_new), "{on_new} of 200 at 30 %");
}

#[test]
fn good_canaries_promote_and_their_successors_run_the_new_digest() {
    let mut rig = rig(with_canary(Share::First(5)));
    rig.live_through_ten();
    rig.push(2);
    let (job, _) = rig.submit(follower(), 30);
    for index in 0..4 {
        rig.run(
            "a1",
            attempt(job, index, 1),
            succeeded(),
            Millis::from_secs(10),
        );
    }
    assert_eq!(rig.phase(), Some(Phase::Canary));
    let effects = rig.run("a1", attempt(job, 4, 1), succeeded(), Millis::from_secs(10));
    assert_eq!(conclusion(&effects).unwrap().0, Conclusion::Promoted);
    assert_eq!(rig.current(), (2, 2));
    assert_eq!(digests(&effects), [2]);
    let told = effects.iter().find_map(|effect| match effect {
        Effect::Notify(Notice::RolloutMoved { ended, .. }) => ended.as_deref(),
        _ => None,
    });
    assert_eq!(told, stored(&effects), "the whole of it, with its end");
}

#[test]
fn a_canary_that_fails_costs_the_task_nothing() {
    let mut rig = rig(with_canary(Share::First(5)));
    let spec = Spec {
        retry: crate::spec::RetryPolicy {
            user: 0,
            ..follower().retry
        },
        ..follower()
    };
    rig.push(2);
    let (job, _) = rig.submit(spec, 8);
    let effects = rig.run("a1", attempt(job, 0, 1), failed(1), Millis(5));
    assert_eq!(ends(&effects), []);
    let effects = rig.tick_until(rig.now);
    assert_eq!(
        offers(&effects),
        [("a1".into(), attempt(job, 0, 2), digest(1))]
    );
    let task = &rig.fleet.job(job).unwrap().tasks[&0];
    assert_eq!((task.spent.user, task.spent.infra), (0, 0));
    rig.start("a1", attempt(job, 0, 2));
    let effects = rig.end("a1", attempt(job, 0, 2), failed(1));
    assert_eq!(
        ends(&effects).len(),
        1,
        "on the old digest it is the task's own"
    );
}

#[test]
fn bad_canaries_roll_back_and_the_digest_is_not_tried_again() {
    let mut rig = rig(with_canary(Share::First(5)));
    rig.live_through_ten();
    rig.push(2);
    let (job, _) = rig.submit(follower(), 10);
    rig.run("a1", attempt(job, 0, 1), failed(1), Millis(5));
    rig.run("a1", attempt(job, 1, 1), failed(1), Millis(5));
    let effects = rig.run("a1", attempt(job, 2, 1), failed(1), Millis(5));
    let (how, why) = conclusion(&effects).unwrap();
    assert_eq!(how, Conclusion::RolledBack);
    assert_eq!(
        why,
        "100.0 % of the attempts failed, 0.0 % did before, and at most 5.0 % may"
    );
    assert_eq!(rig.current(), (1, 1));
    assert_eq!(rig.push(2), [], "the tag still means it");
    assert_eq!(stops(&effects), [], "what runs on it may finish");

    let effects = rig.run("a1", attempt(job, 3, 1), failed(1), Millis(5));
    assert_eq!(ends(&effects), [], "it was on trial when it began");
    rig.tick_until(rig.now);
    assert_eq!(rig.fleet.job(job).unwrap().tasks[&3].spent.user, 0);
    rig.push(3);
    assert_eq!(
        rig.fleet.rollout(&channel("analytics")).unwrap().to.number,
        3,
        "a number is never used twice"
    );
}

#[test]
fn canaries_that_hang_are_stopped_and_run_again_elsewhere_in_time() {
    let mut rig = rig(with_canary(Share::First(5)));
    rig.live_through_ten();
    rig.push(2);
    let (job, _) = rig.submit(follower(), 5);
    for index in 0..3 {
        rig.start("a1", attempt(job, index, 1));
    }
    // Ten seconds before, so twice that is the limit.
    let (begun, later) = (rig.now, rig.now + Millis::from_secs(5));
    rig.tick_until(later);
    rig.start("a1", attempt(job, 3, 1));
    let effects = rig.tick_until(begun + Millis::from_secs(21));
    assert_eq!(conclusion(&effects).unwrap().0, Conclusion::RolledBack);
    assert_eq!(stops(&effects).len(), 3);
    let effects = rig.tick_until(later + Millis::from_secs(21));
    assert_eq!(stops(&effects), [attempt(job, 3, 1)], "it began later");
    rig.end(
        "a1",
        attempt(job, 0, 1),
        End::of(Outcome::Preempted, EndReason::Drained),
    );
    let effects = rig.tick_until(rig.now);
    assert_eq!(digests(&effects), [1]);
}

#[test]
fn slow_canaries_roll_back() {
    let mut rig = rig(with_canary(Share::First(5)));
    rig.live_through_ten();
    rig.push(2);
    let (job, _) = rig.submit(follower(), 5);
    let mut last = Vec::new();
    for index in 0..5 {
        last = rig.run(
            "a1",
            attempt(job, index, 1),
            succeeded(),
            Millis::from_secs(30),
        );
    }
    let (how, why) = conclusion(&last).unwrap();
    assert_eq!(how, Conclusion::RolledBack);
    assert_eq!(
        why,
        "attempts of load take 30 s, 10 s before, and at most 20 s is allowed (95th percentile)"
    );
}

#[test]
fn who_cannot_bear_a_second_try_is_never_a_canary() {
    let mut rig = rig(with_canary(Share::Percent(100)));
    rig.push(2);
    let once = Spec {
        delivery: Delivery::AtMostOnce,
        ..follower()
    };
    let (_, effects) = rig.submit(once, 3);
    assert_eq!(digests(&effects), [1, 1, 1]);
    let (_, effects) = rig.submit(on_channel(Pin::Run), 1);
    assert_eq!(digests(&effects), [1], "pinned when it was submitted");
}

#[test]
fn only_jobs_that_are_named_try_it() {
    let policy = Policy {
        canary: Some(Canary {
            jobs: BTreeSet::from([JobName::parse("other").unwrap()]),
            ..canary(Share::Percent(100))
        }),
        ..Policy::default()
    };
    let mut rig = rig(policy);
    rig.push(2);
    let (_, effects) = rig.submit(follower(), 2);
    assert_eq!(digests(&effects), [1, 1]);
}

#[test]
fn a_sample_that_never_comes_does_not_block_for_ever() {
    for (after_patience, expected, release) in [
        (AfterPatience::Promote, Conclusion::Promoted, (2, 2)),
        (AfterPatience::RollBack, Conclusion::RolledBack, (1, 1)),
    ] {
        let policy = Policy {
            canary: Some(Canary {
                after_patience,
                ..canary(Share::First(5))
            }),
            ..Policy::default()
        };
        let mut rig = rig(policy);
        rig.push(2);
        let effects = rig.tick_until(rig.now + Millis::from_secs(601));
        assert_eq!(conclusion(&effects).unwrap().0, expected);
        assert_eq!(rig.current(), release);
    }
}
