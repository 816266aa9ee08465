//! The registry goes away in the middle of a rollout, and the coordinator dies in every phase of it.

use muster_proto::v1;
use serde_json::Value;

use super::{GOOD, Rig};
use crate::fleet::enabled;
use crate::processes::eventually;

/// Long enough to be seen, and for a coordinator to come back in.
const BAKE_SECONDS: i64 = 8;

impl Rig {
    /// Kills the coordinator in that phase of the rollout to release 2, and shows where the next one finds it.
    fn kill_in(&mut self, phase: &str) {
        let before = self.wait_for_phase("2", phase);
        self.fleet.coordinator().kill();
        self.fleet.start_coordinator();
        let after = self.rollout("2").unwrap();
        let place = |rollout: &Value| (rollout["step"].clone(), rollout["validation"].clone());
        assert_eq!(place(&before).0, place(&after).0, "{before:#} {after:#}");
    }
}

/// What the timeline says of a phase.
fn of_phase<'a>(rollout: &'a Value, phase: &str) -> Vec<&'a str> {
    let timeline = rollout["timeline"].as_array().unwrap();
    let found = timeline.iter().filter(|moment| moment["phase"] == phase);
    found.filter_map(|moment| moment["what"].as_str()).collect()
}

#[test]
fn a_rollout_survives_an_outage_of_its_registry_and_a_death_of_the_coordinator_in_every_phase() {
    if !enabled() {
        return;
    }
    let mut rig = Rig::start_deaf();
    rig.policy(v1::RolloutPolicy {
        prefetch: Some(v1::PrefetchPolicy {
            enough_percent: 100,
            ..Default::default()
        }),
        validate: Some(v1::ValidatePolicy {
            command: ["sleep", "4"].map(Into::into).to_vec(),
            ..Default::default()
        }),
        canary: Some(v1::CanaryPolicy {
            share: Some(v1::canary_policy::Share::First(4)),
            ..Default::default()
        }),
        bake: Some(v1::BakePolicy {
            lasts: Some(prost_types::Duration {
                seconds: BAKE_SECONDS,
                nanos: 0,
            }),
        }),
        ..Default::default()
    });
    rig.registry.push_script("two", GOOD);
    rig.registry.forget_images();
    for agent in ["a1", "a2"] {
        rig.fleet.agent(agent).freeze();
    }
    rig.tell(&Value::Null);
    rig.kill_in("prefetch");

    rig.registry.stop();
    for agent in ["a1", "a2"] {
        rig.fleet.agent(agent).thaw();
    }
    eventually("both agents finding no registry", || {
        let rollout = rig.rollout("2")?;
        (of_phase(&rollout, "prefetch").len() == 2).then_some(())
    });
    rig.registry.start_again();

    rig.kill_in("validate");
    rig.kill_in("canary");
    let job = rig.array("8", "user=0");
    rig.kill_in("bake");
    let (how, rollout) = rig.conclusion("2");

    assert_eq!(how, "promoted", "{rollout:#}");
    assert_eq!(rollout["canaries"], 4, "no more than asked: {rollout:#}");
    let validations = of_phase(&rollout, "validate");
    assert_eq!(validations.len(), 2, "one job, and its end: {rollout:#}");
    assert_eq!(of_phase(&rollout, "promote").len(), 1, "{rollout:#}");
    assert_eq!(rig.fleet.muster(&["wait", &job]).status.code(), Some(0));
    let attempts = rig.attempts(&job);
    assert_eq!(attempts.len(), 8, "nothing ran twice: {attempts:#?}");
    rig.fleet.wait_for_no_containers();
}
