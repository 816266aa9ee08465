//! What a registry tells may be lost, come twice, or come too late.

use muster_proto::v1;
use serde_json::{Value, json};

use super::{GOOD, Rig};
use crate::fleet::enabled;
use crate::processes::eventually;

impl Rig {
    /// Tells the coordinator of a push, as a registry would.
    pub(super) fn tell(&self, digest: &Value) {
        let url = format!("http://{}/webhook/generic", self.fleet.http);
        let image = format!("{}/acme/analytics:latest", self.registry.address);
        let body = json!({ "image": image, "digest": digest });
        let sent = async {
            let request = reqwest::Client::new().post(url).json(&body);
            request.send().await.unwrap().status()
        };
        let status = tokio::runtime::Runtime::new().unwrap().block_on(sent);
        assert!(status.is_success(), "{status}");
    }

    fn current(&self) -> Value {
        self.fleet.json(&["channel", "get", "analytics"])["current"].clone()
    }

    /// The release of that number once it is current.
    fn wait_for_release(&self, number: u64) -> Value {
        eventually(&format!("release {number} being current"), || {
            let current = self.current();
            (current["number"] == number).then_some(current)
        })
    }
}

#[test]
fn hints_that_are_lost_doubled_late_or_about_a_tag_that_moved_back_lead_to_the_truth() {
    if !enabled() {
        return;
    }
    let mut rig = Rig::start_deaf();
    let one = rig.current()["digest"].clone();

    rig.registry.push_script("two", GOOD);
    rig.tell(&Value::Null);
    let two = rig.wait_for_release(2)["digest"].clone();
    rig.registry.push_script("three", GOOD);
    for digest in [&Value::Null, &Value::Null, &two, &one] {
        rig.tell(digest);
    }
    let three = rig.wait_for_release(3);
    assert_eq!(three["cause"], "webhook");

    // From here on nobody tells of pushes.
    rig.fleet.coordinator().kill();
    rig.fleet
        .launch_coordinator(&[("MUSTER_COORDINATOR_REGISTRY_POLL", "1s")]);
    rig.fleet.wait_for_coordinator();
    rig.fleet.wait_for_agents(2);
    rig.registry.push_script("four", GOOD);
    let four = rig.wait_for_release(4);
    assert_eq!(four["cause"], "poll");

    rig.policy(v1::RolloutPolicy {
        canary: Some(v1::CanaryPolicy {
            share: Some(v1::canary_policy::Share::First(4)),
            ..Default::default()
        }),
        ..Default::default()
    });
    rig.registry.push_script("five", GOOD);
    rig.wait_for_canary("5");
    rig.registry.push_script("four", GOOD);
    let (how, rollout) = rig.conclusion("5");
    assert_eq!(how, "superseded", "{rollout:#}");
    assert_eq!(rig.current(), four);
    let job = rig.array("4", "user=0");
    assert_eq!(rig.fleet.muster(&["wait", &job]).status.code(), Some(0));
    assert_eq!(rig.fleet.ok(&["logs", &format!("{job}.0")]), "four");

    let history = rig
        .fleet
        .json(&["rollout", "history", "analytics", "--limit", "20"]);
    let numbers: Vec<&Value> = history["releases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|release| &release["number"])
        .collect();
    assert_eq!(numbers, [5, 4, 3, 2, 1], "one release for each push");
}
