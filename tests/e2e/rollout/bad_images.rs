//! Images that work, and are worse than what was there before.

use std::time::{Duration, Instant};

use muster_proto::v1;
use serde_json::Value;

use super::{GOOD, Rig};
use crate::fleet::enabled;

/// From the first bad attempt on.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// Rolls the image out, with a load to try it on, and gives the rollout, which went back, and the load's job.
fn taken_back(rig: &Rig, word: &str, script: &str, release: &str) -> (Value, String) {
    rig.registry.push_script(word, script);
    rig.wait_for_canary(release);
    let began = Instant::now();
    let job = rig.array("12", "user=0");
    let (how, rollout) = rig.conclusion(release);
    assert_eq!(how, "rolled_back", "{rollout:#}");
    assert!(began.elapsed() < BACK_WITHIN, "{rollout:#}");
    assert_eq!(rig.fleet.muster(&["wait", &job]).status.code(), Some(0));
    let tasks = rig.fleet.json(&["ps", &job]);
    for task in tasks["tasks"].as_array().unwrap() {
        assert_eq!(task["user_retries_used"], 0, "{task:#}");
    }
    let current = rig.fleet.json(&["channel", "get", "analytics"])["current"].clone();
    assert_eq!(current["number"], 1);
    (rollout, job)
}

fn reason(rollout: &Value) -> &str {
    rollout["end"]["reason"].as_str().unwrap()
}

#[test]
fn a_slow_image_and_a_hungry_one_are_taken_back_and_running_tasks_notice_nothing() {
    if !enabled() {
        return;
    }
    let rig = Rig::start();
    let before = rig.array("10", "user=0");
    assert_eq!(rig.fleet.muster(&["wait", &before]).status.code(), Some(0));
    let bystander = rig.fleet.ok(&[
        "run",
        "-d",
        "--name",
        "bystander",
        "--network",
        "none",
        "analytics",
        "sleep",
        "600",
    ]);
    rig.fleet.wait_for_running(&bystander, 1);
    let container = rig.fleet.containers();
    rig.policy(v1::RolloutPolicy {
        canary: Some(v1::CanaryPolicy {
            share: Some(v1::canary_policy::Share::First(6)),
            ..Default::default()
        }),
        ..Default::default()
    });

    // Slower than before by more than the 5 s that count as noise.
    let slow = format!("sleep 20; {GOOD}");
    let (rollout, job) = taken_back(&rig, "slow", &slow, "2");
    assert!(
        reason(&rollout).contains("of the attempts failed"),
        "{rollout:#}"
    );
    for index in 0..12 {
        assert_eq!(rig.fleet.ok(&["logs", &format!("{job}.{index}")]), "one");
    }

    // Three times the noise; each attempt succeeds.
    let hungry = format!("dd if=/dev/zero of=/dev/null bs=96M count=1 2>/dev/null; {GOOD}");
    let (rollout, job) = taken_back(&rig, "hungry", &hungry, "3");
    assert!(reason(&rollout).contains("of load use"), "{rollout:#}");
    let attempts = rig.attempts(&job);
    assert_eq!(attempts.len(), 12, "nothing ran twice: {attempts:#?}");

    let seen = rig.attempts(&bystander);
    assert_eq!(seen.len(), 1, "{seen:#?}");
    assert!(seen[0]["end"].is_null(), "{seen:#?}");
    let left = rig.fleet.containers();
    assert!(container.iter().all(|id| left.contains(id)), "{left:?}");
    rig.fleet.ok(&["cancel", &bystander]);
    rig.fleet.wait_for_no_containers();
}
