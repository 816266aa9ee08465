//! An image brings its channel's policy along.

use super::{GOOD, Rig};

/// Succeeds when it validates, and says which image it is otherwise.
const TRIED: &str = "[ \"$1\" = validate ] || cat /word";
/// The same, but for the validation.
const UNTRIED: &str = "[ \"$1\" != validate ] && cat /word";

#[test]
fn a_policy_in_the_image_comes_and_goes_with_its_release() {
    if !crate::fleet::enabled() {
        return;
    }
    let mut rig = Rig::start();
    let policy = "kind: Image\npolicy:\n  validate: {}\n";
    let policy_from =
        |rig: &Rig| rig.fleet.json(&["channel", "get", "analytics"])["policy_from"].clone();
    rig.registry.push_carrying("two", TRIED, policy);
    let (how, rollout) = rig.conclusion("2");
    assert_eq!(how, "promoted", "{rollout}");
    assert_eq!(rollout["to"]["carries_policy"], true, "{rollout}");
    assert_eq!(policy_from(&rig), "image");

    // It is the release's, and not only in memory.
    rig.fleet.coordinator().kill();
    rig.fleet.start_coordinator();
    rig.registry.push_carrying("three", UNTRIED, "");
    let (how, rollout) = rig.conclusion("3");
    assert_eq!(how, "rolled_back", "{rollout}");
    assert!(rollout["validation"].is_object(), "{rollout}");
    let current = rig.fleet.json(&["channel", "get", "analytics"])["current"].clone();
    assert_eq!(current["number"], 2, "{current}");

    rig.registry
        .push_carrying("four", TRIED, "kind: Image\npolicy:\n  bake: {last: 1h}\n");
    let (how, rollout) = rig.conclusion("4");
    assert_eq!(how, "rolled_back", "{rollout}");
    let reason = rollout["end"]["reason"].as_str().unwrap();
    let expected =
        "what the image carries is wrong: /app/muster.yaml:3:10: policy.bake.\"last\" is no field";
    assert!(reason.starts_with(expected), "{reason}");
    assert_eq!(policy_from(&rig), "image");

    rig.fleet.ok(&["rollback", "analytics"]);
    assert!(
        policy_from(&rig).is_null(),
        "the first release carries none"
    );
    rig.registry.push_script("five", GOOD);
    let (how, rollout) = rig.conclusion("6");
    assert_eq!(how, "promoted", "{rollout}");
    assert!(rollout["validation"].is_null(), "{rollout}");
}
