//! Policies of the channel, what images carry for it, what people tell its rollouts, and images that are bad.

use muster_core::channel::{Candidate, Cause, Channel};
use muster_core::event::Event;
use muster_core::fleet::Fleet;
use muster_core::image::Digest;
use muster_core::rollout::Command;
use muster_core::rollout::policy::{
    AfterPatience, Bake, Canary, Gates, Newer, Policy, Prefetch, Restart, Share, Validate,
};
use muster_core::time::Millis;
use muster_tests::random::Rng;
use muster_tests::sample;

use crate::client::channel;
use crate::store::CARRIED;
use crate::trace::Violation;
use crate::world::World;

/// What is wrong with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    Fails,
    Hangs,
}

/// Every fourth image fails, and every tenth hangs.
pub(crate) fn flaw(digest: Digest) -> Option<Flaw> {
    let byte = number(digest)?;
    match byte {
        _ if byte % 4 == 0 => Some(Flaw::Fails),
        _ if byte % 10 == 3 => Some(Flaw::Hangs),
        _ => None,
    }
}

fn number(digest: Digest) -> Option<u8> {
    (0..=u8::MAX).find(|byte| sample::digest(*byte) == digest)
}

/// The policy that an image carries for its channel: each another one, and every third none.
pub(crate) fn carries(digest: Digest) -> Option<Box<Policy>> {
    let byte = number(digest).filter(|byte| byte % 3 != 0)?;
    let policy = draw_policy(&mut Rng::new(byte.into(), "carried"));
    Some(Box::new(policy))
}

/// What the next rollout has to pass, by what was promised: what somebody set, else what the image in force carries.
pub(crate) fn in_force(channel: &Channel) -> Policy {
    if channel.policy != Policy::default() {
        return channel.policy.clone();
    }
    carries(channel.current.digest).map_or_else(Policy::default, |policy| *policy)
}

/// A digest with what the coordinator read in its image.
pub(crate) fn candidate(digest: Digest, cause: Cause) -> Candidate {
    let mut candidate = sample::candidate(digest, cause);
    candidate.facts.policy = carries(digest);
    candidate
}

impl World {
    /// Or takes back what was set, so that it is up to the images.
    pub(crate) fn set_policy(&mut self, draw: u64) {
        let policy = if Rng::new(draw, "taken back").chance(40) {
            Policy::default()
        } else {
            draw_policy(&mut Rng::new(draw, "policy"))
        };
        let event = Event::PolicySet {
            ticket: self.client.ticket(),
            channel: channel(),
            policy: Box::new(policy),
        };
        self.soon(event);
    }

    /// The fleet would begin a rollout by no other policy than what is in force.
    pub(crate) fn check_in_force(&mut self, fleet: &Fleet) {
        for channel in fleet.channels() {
            let (policy, _) = channel.policy_in_effect();
            if *policy != in_force(channel) {
                let current = &channel.current;
                let what = format!("{} at {current:?} goes by {policy:?}", channel.id.name);
                self.trace.violate(Violation {
                    invariant: CARRIED,
                    what,
                });
            }
        }
    }

    pub(crate) fn tell_rollout(&mut self, draw: u64) {
        let commands = [
            (3, 0), // pause
            (3, 1),
            (1, 2),
            (1, 3),
            (2, 4),
        ];
        let command = match Rng::new(draw, "command").weighted(&commands) {
            0 => Command::Pause,
            1 => Command::Resume,
            2 => Command::Promote { now: false },
            3 => Command::Promote { now: true },
            _ => Command::Abort {
                reason: "it looks odd".into(),
            },
        };
        let event = self.told(command);
        self.soon(event);
    }

    pub(crate) fn told(&mut self, command: Command) -> Event {
        Event::RolloutTold {
            ticket: self.client.ticket(),
            channel: channel(),
            command,
            by: "ada".into(),
        }
    }
}

/// Each phase in some policies, and never for long.
fn draw_policy(rng: &mut Rng) -> Policy {
    let few = |rng: &mut Rng| u32::try_from(rng.between(1, 5)).expect("a handful");
    let wait = |rng: &mut Rng| Millis(rng.between(1_000, 300_000));
    let prefetch = rng.chance(30).then(|| Prefetch {
        enough_percent: 20 * few(rng),
        at_a_time: few(rng),
        patience: wait(rng),
    });
    let validate = rng.chance(20).then(|| Validate {
        command: vec!["./check".into()],
        timeout: wait(rng),
        exit_code: 0,
        pool: sample::spec("load").requirements.pool.clone(),
    });
    let canary = rng.chance(85).then(|| Canary {
        share: if rng.chance(70) {
            Share::First(few(rng))
        } else {
            Share::Percent(20 * few(rng))
        },
        jobs: [].into(),
        sample: 2 * few(rng),
        patience: Millis(rng.between(10_000, 900_000)),
        after_patience: if rng.chance(50) {
            AfterPatience::Promote
        } else {
            AfterPatience::RollBack
        },
    });
    let restart = rng.chance(20).then(|| Restart {
        jobs: [].into(),
        healthy_after: Millis(rng.between(100, 20_000)),
        patience: wait(rng),
    });
    Policy {
        prefetch,
        validate,
        canary,
        restart,
        bake: rng.chance(50).then(|| Bake { lasts: wait(rng) }),
        gates: Gates {
            failures: few(rng),
            ..Gates::default()
        },
        newer: if rng.chance(50) {
            Newer::Supersede
        } else {
            Newer::Queue
        },
    }
}
