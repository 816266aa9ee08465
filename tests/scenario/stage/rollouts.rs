//! Policies of channels, their rollouts, and the images that agents hold.

use std::collections::BTreeSet;

use muster_core::agent::HeldImage;
use muster_core::channel::Cause;
use muster_core::event::Event;
use muster_core::ids::AgentId;
use muster_core::rollout;
use muster_core::rollout::policy::{
    AfterPatience, Bake, Canary, Newer, Policy, Prefetch, Share, Validate,
};
use muster_core::time::Millis;
use muster_tests::sample;

use super::Stage;
use crate::command::{Command, span};
use crate::words::digest;

impl Stage {
    /// `policy CHANNEL prefetch=ENOUGH_PERCENT:AT_A_TIME validate=COMMAND canary=FIRST failures=N bake=SPAN
    /// patience=SPAN newer=queue`; a phase that isn't named is left out.
    pub(super) fn policy(&mut self, command: &Command<'_>) -> Vec<String> {
        let patience = Millis(span(command.option("patience").unwrap_or("10m")));
        let mut policy = Policy {
            prefetch: command.option("prefetch").map(|text| {
                let (enough, at_a_time) = text.split_once(':').expect("ENOUGH_PERCENT:AT_A_TIME");
                Prefetch {
                    enough_percent: enough.parse().expect("a percentage"),
                    at_a_time: at_a_time.parse().expect("a number"),
                    patience,
                }
            }),
            validate: command.option("validate").map(|program| Validate {
                command: vec![program.to_owned()],
                timeout: patience,
                exit_code: 0,
                pool: sample::spec("any").requirements.pool.clone(),
            }),
            canary: command.option("canary").map(|first| Canary {
                share: Share::First(first.parse().expect("a number")),
                jobs: BTreeSet::new(),
                sample: first.parse().expect("a number"),
                patience,
                after_patience: AfterPatience::default(),
            }),
            bake: command.option("bake").map(|text| Bake {
                lasts: Millis(span(text)),
            }),
            ..Policy::default()
        };
        policy.gates.failures = command.number("failures", policy.gates.failures);
        if command.option("newer") == Some("queue") {
            policy.newer = Newer::Queue;
        }
        let event = Event::PolicySet {
            ticket: self.ticket(),
            channel: Self::channel_id(command.word(0)),
            policy: Box::new(policy),
        };
        self.handle(event)
    }

    /// `holds AGENT d1 d2`: the images that the agent has now.
    pub(super) fn holds(&mut self, command: &Command<'_>) -> Vec<String> {
        let agent = AgentId::parse(command.word(0)).unwrap();
        let held = (1..).map_while(|place| command.maybe_word(place));
        let held = held.map(digest).map(|digest| HeldImage {
            id: digest,
            images: vec![
                sample::candidate(digest, Cause::Set)
                    .release(0, self.now)
                    .image(),
            ],
            tags: Vec::new(),
        });
        let event = Event::AgentBeat {
            session: self.agents[&agent].session,
            held: Some(held.collect()),
            agent,
        };
        self.handle(event)
    }

    /// `rollout CHANNEL pause`, `resume`, `promote` or `abort`.
    pub(super) fn rollout(&mut self, command: &Command<'_>) -> Vec<String> {
        let told = match command.word(1) {
            "pause" => rollout::Command::Pause,
            "resume" => rollout::Command::Resume,
            "promote" => rollout::Command::Promote { now: false },
            "abort" => rollout::Command::Abort {
                reason: "bad numbers".into(),
            },
            other => panic!("a rollout can't {other}"),
        };
        let event = Event::RolloutTold {
            ticket: self.ticket(),
            channel: Self::channel_id(command.word(0)),
            command: told,
            by: "ada".into(),
        };
        self.handle(event)
    }
}
