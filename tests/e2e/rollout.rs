//! Rollouts with a real registry and a real engine: good images come through their canary, bad ones are taken
//! back, and no task pays for it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use muster_proto::v1;
use muster_tests::registry::Registry;
use serde_json::Value;

use crate::fleet::{Fleet, enabled};
use crate::processes::{eventually, free_address};

mod bad_images;
mod carried;
mod deaths;
mod hints;
mod verify;

/// A task that says which image it ran.
const GOOD: &str = "cat /word";

struct Rig {
    fleet: Fleet,
    registry: Registry,
}

impl Rig {
    /// Two agents, and the channel `analytics` at the image `one`.
    fn start() -> Self {
        let fleet = Fleet::start(2);
        let tells = Some(fleet.http);
        Self::with(fleet, tells)
    }

    /// The same with a registry that tells nobody of pushes.
    fn start_deaf() -> Self {
        Self::with(Fleet::start(2), None)
    }

    fn with(fleet: Fleet, tells: Option<SocketAddr>) -> Self {
        let registry = Registry::start(free_address(), tells, None);
        let repository = registry.push_script("one", GOOD);
        fleet.ok(&["channel", "set", "analytics", &repository]);
        Self { fleet, registry }
    }

    fn policy(&self, policy: v1::RolloutPolicy) {
        let address = format!("http://{}", self.fleet.grpc);
        let request = v1::SetPolicyRequest {
            team: String::new(),
            channel: "analytics".into(),
            policy: Some(policy),
        };
        let set = async {
            let mut client = v1::rollout_service_client::RolloutServiceClient::connect(address)
                .await
                .unwrap();
            client.set_policy(request).await.unwrap();
        };
        tokio::runtime::Runtime::new().unwrap().block_on(set);
    }

    fn array(&self, tasks: &str, retries: &str) -> String {
        let job = [
            "run",
            "-d",
            "--name",
            "load",
            "--network",
            "none",
            "--array",
            tasks,
        ];
        let retries = ["--retries", retries, "--timeout", "60s"];
        self.fleet
            .ok(&[&job[..], &retries, &["analytics"]].concat())
    }

    fn wait_for_canary(&self, release: &str) {
        self.wait_for_phase(release, "canary");
    }

    /// Waits until the rollout to that release is in that phase.
    fn wait_for_phase(&self, release: &str, phase: &str) -> Value {
        eventually(&format!("the phase {phase} beginning"), || {
            let last = self.rollout(release)?;
            let step = usize::try_from(last["step"].as_u64()?).ok()?;
            (last["steps"][step] == phase).then_some(last)
        })
    }

    /// The rollout to that release, if there is one.
    fn rollout(&self, release: &str) -> Option<Value> {
        let status = [
            "rollout",
            "status",
            "analytics",
            "--release",
            release,
            "-o",
            "json",
        ];
        serde_json::from_slice(&self.fleet.muster(&status).stdout).ok()
    }

    /// How the rollout to that release ended.
    fn conclusion(&self, release: &str) -> (String, Value) {
        eventually("the rollout ending", || {
            let rollout = self.rollout(release)?;
            let how = rollout["end"]["how"].as_str()?.to_owned();
            Some((how, rollout))
        })
    }

    /// Every attempt of the job: number, digest, end.
    fn attempts(&self, job: &str) -> Vec<Value> {
        let tasks = self.fleet.json(&["ps", job, "--limit", "1000"]);
        let mut all = Vec::new();
        for task in tasks["tasks"].as_array().unwrap() {
            let id = format!("{job}.{}", task["index"]);
            let explained = self.fleet.json(&["why", &id]);
            all.extend(explained["attempts"].as_array().unwrap().clone());
        }
        all
    }
}

fn canary() -> v1::RolloutPolicy {
    v1::RolloutPolicy {
        prefetch: Some(v1::PrefetchPolicy {
            enough_percent: 100,
            ..Default::default()
        }),
        validate: Some(v1::ValidatePolicy::default()),
        canary: Some(v1::CanaryPolicy {
            share: Some(v1::canary_policy::Share::First(8)),
            sample: 8,
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[test]
fn a_good_image_comes_through_its_canary_and_a_bad_one_costs_no_task_anything() {
    if !enabled() {
        return;
    }
    let rig = Rig::start();
    // So that the gates have a past.
    let before = rig.array("10", "user=0");
    assert_eq!(rig.fleet.muster(&["wait", &before]).status.code(), Some(0));

    rig.policy(canary());
    rig.registry.push_script("two", GOOD);
    rig.wait_for_canary("2");
    let job = rig.array("20", "user=0");
    let (how, rollout) = rig.conclusion("2");
    assert_eq!(how, "promoted", "{rollout:#}");
    assert_eq!(rollout["canaries"], 8, "{rollout:#}");
    assert_eq!(rollout["to"]["revision"], "two");
    assert_eq!(rig.fleet.muster(&["wait", &job]).status.code(), Some(0));

    // It passes its validation and crashes in earnest.
    rig.registry
        .push_script("three", "[ \"$1\" = validate ] || exit 3");
    rig.wait_for_canary("3");
    let began = Instant::now();
    let job = rig.array("20", "user=0");
    let (how, rollout) = rig.conclusion("3");
    assert_eq!(how, "rolled_back", "{rollout:#}");
    assert!(began.elapsed() < Duration::from_secs(60), "{rollout:#}");
    assert_eq!(
        rig.fleet.muster(&["wait", &job]).status.code(),
        Some(0),
        "no task has failed"
    );
    let attempts = rig.attempts(&job);
    let failed: Vec<&Value> = attempts
        .iter()
        .filter(|attempt| attempt["end"]["outcome"] == "failed")
        .collect();
    let current = rig.fleet.json(&["channel", "get", "analytics"])["current"].clone();
    assert_eq!(current["number"], 2);
    assert!((3..=8).contains(&failed.len()), "{failed:#?}");
    let on: BTreeSet<String> = attempts
        .iter()
        .filter(|attempt| attempt["end"]["outcome"] == "succeeded")
        .map(|attempt| attempt["image"].to_string())
        .collect();
    assert_eq!(on.len(), 1, "{on:?}");
    let tasks = rig.fleet.json(&["ps", &job]);
    for task in tasks["tasks"].as_array().unwrap() {
        assert_eq!(task["user_retries_used"], 0, "{task:#}");
        let id = format!("{job}.{}", task["index"]);
        assert_eq!(rig.fleet.ok(&["logs", &id]), "two");
    }
    let shown = rig.fleet.ok(&["rollout", "status", "analytics"]);
    assert!(
        shown.contains("rolled back: 100.0 % of the attempts failed"),
        "{shown}"
    );
    rig.fleet.wait_for_no_containers();
}

/// The coordinator is killed in the middle of the canary, too.
#[test]
fn an_image_that_hangs_is_taken_back_and_its_tasks_run_again_in_time() {
    if !enabled() {
        return;
    }
    let mut rig = Rig::start();
    let before = rig.array("10", "user=0");
    assert_eq!(rig.fleet.muster(&["wait", &before]).status.code(), Some(0));
    rig.policy(v1::RolloutPolicy {
        canary: Some(v1::CanaryPolicy {
            share: Some(v1::canary_policy::Share::First(4)),
            ..Default::default()
        }),
        ..Default::default()
    });
    rig.registry.push_script("two", "sleep 600");
    rig.wait_for_canary("2");
    let job = rig.array("12", "user=0");
    eventually("the canaries being made", || {
        (rig.rollout("2")?["canaries"] == 4).then_some(())
    });
    rig.fleet.coordinator().kill();
    rig.fleet.start_coordinator();

    let (how, rollout) = rig.conclusion("2");

    assert_eq!(how, "rolled_back", "{rollout:#}");
    assert_eq!(
        rollout["canaries"], 4,
        "no more than asked, over the restart too"
    );
    assert_eq!(rig.fleet.muster(&["wait", &job]).status.code(), Some(0));
    let attempts = rig.attempts(&job);
    let preempted = attempts
        .iter()
        .filter(|attempt| attempt["end"]["outcome"] == "preempted");
    assert_eq!(preempted.count(), 4, "{attempts:#?}");
    for index in 0..12 {
        assert_eq!(rig.fleet.ok(&["logs", &format!("{job}.{index}")]), "one");
    }
    rig.fleet.wait_for_no_containers();
}

/// Each task prints the word of the image that it ran: the ground truth for what its attempt says.
#[test]
fn twenty_pushes_under_load_and_every_attempt_ran_the_digest_it_names() {
    if !enabled() {
        return;
    }
    let rig = Rig::start();
    let mut words = std::collections::BTreeMap::new();
    let digest =
        || rig.fleet.json(&["channel", "get", "analytics"])["current"]["digest"].to_string();
    words.insert(digest(), "one".to_owned());
    let job = rig.array("120", "user=0");
    for number in 1..=20 {
        let (word, before) = (format!("push-{number}"), digest());
        rig.registry.push_script(&word, GOOD);
        let now = eventually("the channel moving", || {
            let now = digest();
            (now != before).then_some(now)
        });
        words.insert(now, word);
    }
    assert_eq!(words.len(), 21);
    let after = rig.array("4", "user=0");
    for job in [&job, &after] {
        assert_eq!(rig.fleet.muster(&["wait", job]).status.code(), Some(0));
    }
    let tasks = rig.fleet.json(&["ps", &job, "--limit", "1000"]);
    let mut seen = BTreeSet::new();
    for task in tasks["tasks"].as_array().unwrap() {
        let word = &words[&task["digest"].to_string()];
        let id = format!("{job}.{}", task["index"]);
        assert_eq!(rig.fleet.ok(&["logs", &id]), *word, "{task:#}");
        assert_eq!(task["attempt"], 1);
        seen.insert(word.clone());
    }
    assert!(seen.len() > 3, "the load ran over several images: {seen:?}");
    for index in 0..4 {
        assert_eq!(
            rig.fleet.ok(&["logs", &format!("{after}.{index}")]),
            "push-20"
        );
    }
    rig.fleet.wait_for_no_containers();
}
