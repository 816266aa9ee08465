use std::collections::{BTreeMap, BTreeSet};

use muster_core::channel::{Cause, ChannelId, Release};
use muster_core::ids::{AgentId, ChannelName, JobId, JobName, PoolName, TeamName};
use muster_core::image::Digest;
use muster_core::rollout::gate::{Past, Ran, Tally};
use muster_core::rollout::plan::plan;
use muster_core::rollout::policy::{
    AfterPatience, Bake, Canary, Gates, Newer, Policy, Prefetch, Restart, Share, Validate,
};
use muster_core::rollout::{Conclusion, Facts, Moment, Phase, Rollout, State, Validation};
use muster_core::time::{Millis, Timestamp};
use muster_proto::v1 as pb;

use super::*;

fn everything() -> Policy {
    Policy {
        prefetch: Some(Prefetch {
            enough_percent: 70,
            at_a_time: 3,
            patience: Millis(1_500),
        }),
        validate: Some(Validate {
            command: vec!["smoke.py".into(), "--fast".into()],
            timeout: Millis::from_secs(90),
            exit_code: 3,
            pool: PoolName::parse("etl").unwrap(),
        }),
        canary: Some(Canary {
            share: Share::Percent(10),
            jobs: BTreeSet::from([JobName::parse("load").unwrap()]),
            sample: 20,
            patience: Millis::from_secs(600),
            after_patience: AfterPatience::RollBack,
        }),
        restart: Some(Restart {
            jobs: BTreeSet::from([JobName::parse("stream").unwrap()]),
            healthy_after: Millis::from_secs(5),
            patience: Millis::from_secs(60),
        }),
        bake: Some(Bake {
            lasts: Millis::from_secs(300),
        }),
        gates: Gates {
            failures: 2,
            failure_points: 0,
            duration_percent: None,
            memory_percent: Some(120),
        },
        newer: Newer::Queue,
    }
}

fn release(number: u64) -> Release {
    Release {
        number,
        repository: "registry.example/analytics".parse().unwrap(),
        digest: Digest::from_bytes([7; 32]),
        at: Timestamp(1_234_567),
        cause: Cause::Start,
        reason: "new tax table".into(),
        by: "ann@laptop".into(),
        revision: "8f2c1aa".into(),
        created: "2026-11-20T10:00:00Z".into(),
        policy: Some(Box::new(Policy {
            newer: Newer::Queue,
            ..Policy::default()
        })),
    }
}

fn rollout(state: State) -> Rollout {
    let name = JobName::parse("load").unwrap();
    let mut tally = Tally {
        made: 3,
        forgiven: 1,
        names: BTreeMap::new(),
    };
    tally.expect(&name, || Past {
        attempts: 50,
        failed: 1,
        run: Some(Millis(40_000)),
        peak_memory: None,
    });
    let ran = Ran {
        good: false,
        run: Millis(12),
        peak_memory: Some(1 << 20),
    };
    tally.add(&name, ran);
    let agents = BTreeSet::from([AgentId::parse("a1").unwrap()]);
    Rollout {
        channel: ChannelId {
            team: TeamName::parse("default").unwrap(),
            name: ChannelName::parse("analytics").unwrap(),
        },
        from: release(41),
        to: release(42),
        policy: everything(),
        plan: plan(&everything(), &Facts::default(), &agents).unwrap(),
        state,
        began: Timestamp(5_000),
        validation: Some(Validation {
            job: JobId::derived(Timestamp(5_000), "x"),
            passed: Some(true),
            how: "succeeded".into(),
        }),
        tally,
        timeline: vec![Moment {
            at: Timestamp(5_000),
            phase: Phase::Resolve,
            what: "webhook".into(),
        }],
    }
}

#[test]
fn a_rollout_comes_back_from_the_store_as_it_was() {
    for state in [
        State::Active {
            step: 2,
            since: Timestamp(6_000),
            paused: Some(Timestamp(7_000)),
        },
        State::Ended {
            how: Conclusion::RolledBack,
            at: Timestamp(8_000),
            reason: "it failed".into(),
        },
    ] {
        let rollout = rollout(state);
        let again = rollout_from_wire(rollout_to_wire(&rollout));
        assert_eq!(again, Some(rollout));
    }
}

#[test]
fn a_policy_comes_back_as_it_was_and_an_empty_one_is_the_default() {
    let again = policy_from_wire(&policy_to_wire(&everything()));
    assert_eq!(again, Ok(everything()));
    let empty = policy_from_wire(&pb::RolloutPolicy::default());
    assert_eq!(empty, Ok(Policy::default()));
}

#[test]
fn everything_that_is_wrong_with_a_policy_is_named() {
    let wire = pb::RolloutPolicy {
        prefetch: Some(pb::PrefetchPolicy {
            enough_percent: 101,
            ..Default::default()
        }),
        validate: Some(pb::ValidatePolicy {
            exit_code: 256,
            pool: "No".into(),
            ..Default::default()
        }),
        canary: Some(pb::CanaryPolicy::default()),
        bake: Some(pb::BakePolicy {
            lasts: Some(prost_types::Duration {
                seconds: 8 * 86_400,
                nanos: 0,
            }),
        }),
        gates: Some(pb::GatePolicy {
            duration_percent: Some(50),
            ..Default::default()
        }),
        newer: 9,
        ..Default::default()
    };
    let bad = policy_from_wire(&wire).unwrap_err();
    let fields: Vec<&str> = bad.iter().map(|bad| bad.field.as_str()).collect();
    let expected = [
        "prefetch.enough_percent",
        "validate.exit_code",
        "validate.pool",
        "canary",
        "bake.lasts",
        "gates.duration_percent",
        "newer",
    ];
    assert_eq!(fields, expected);
}
