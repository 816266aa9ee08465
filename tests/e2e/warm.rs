//! Warm containers with a real registry and a real engine: an agent that is killed at the one moment when a task
//! begins starts it once.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::DirEntry;

use muster_tests::registry::Registry;
use serde_json::Value;

use crate::fleet::{Fleet, enabled};
use crate::processes::{eventually, free_address};

const SIGKILL: i32 = 9;

struct Rig {
    fleet: Fleet,
    _registry: Registry,
}

impl Rig {
    /// The channel's tasks run this script.
    fn start(script: &str) -> Self {
        let fleet = Fleet::start(1);
        let registry = Registry::start(free_address(), None, None);
        let repository = registry.push_script("one", script);
        let warm = ["--warm-min", "1", "--warm-max", "2"];
        let set = ["channel", "set", "analytics", &repository];
        let said = fleet.ok(&[&set[..], &warm].concat());
        assert!(said.contains("1-2 containers wait on each agent"), "{said}");
        Self {
            fleet,
            _registry: registry,
        }
    }

    /// What the agent has, or had, parked.
    fn parked(&self) -> BTreeSet<OsString> {
        let dir = self.fleet.directory.path().join("a1/warm");
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let waits = |entry: &DirEntry| {
            let records = entry.path().join("records");
            records.join("armed").exists() && !records.join("socket").exists()
        };
        entries
            .filter(waits)
            .map(|entry| entry.file_name())
            .collect()
    }

    /// A container waits on the agent that was not there before.
    fn wait_for_parked(&self, before: &BTreeSet<OsString>) {
        eventually("a parked container", || {
            self.parked().difference(before).next().map(drop)
        });
    }

    /// Without the channel's wish nothing stays.
    fn end(self) {
        let channel = self.fleet.json(&["channel", "get", "analytics"]);
        let repository = channel["repository"].as_str().unwrap();
        let set = ["channel", "set", "analytics", repository];
        self.fleet.ok(&[&set[..], &["--warm-max", "0"]].concat());
        self.fleet.wait_for_no_containers();
    }

    fn submit(&self) -> String {
        self.fleet.ok(&["run", "-d", "analytics"])
    }

    /// The attempts of the only task, once it has succeeded.
    fn attempts(&self, job: &str) -> Vec<Value> {
        self.fleet.ok(&["wait", job]);
        let task = self.fleet.json(&["task", "get", &format!("{job}.0")]);
        task["attempts"].as_array().unwrap().clone()
    }

    /// The container that the journal of the first attempt names.
    fn warm_in_journal(&self, job: &str) -> bool {
        let journal = format!("a1/attempts/{job}.0-1/journal");
        let text = std::fs::read_to_string(self.fleet.directory.path().join(journal)).unwrap();
        text.contains("-warm-")
    }
}

#[test]
fn a_task_in_a_warm_container_starts_once_though_its_agent_is_killed() {
    if !enabled() {
        return;
    }
    let mut rig = Rig::start("echo began; sleep 1; cat /word");
    rig.fleet.agent("a1").kill();
    // After the message that has it begin, the task is taken up; before it, it never began.
    for (point, first) in [
        ("agent.after_start_call", "succeeded"),
        ("agent.after_intent", "infra_error"),
    ] {
        let armed = format!("{point}=kill");
        let before = rig.parked();
        rig.fleet
            .start_agent_in("a1", &[("MUSTER_FAILPOINT", &armed)]);
        rig.wait_for_parked(&before);
        let job = rig.submit();
        assert_eq!(rig.fleet.agent("a1").wait_for_signal(), Some(SIGKILL));
        assert!(rig.warm_in_journal(&job));
        rig.fleet.start_agent("a1");
        let attempts = rig.attempts(&job);
        assert_eq!(attempts[0]["end"]["outcome"], first, "{attempts:?}");
        for (number, attempt) in (1..).zip(&attempts) {
            let number = number.to_string();
            let task = format!("{job}.0");
            let log = rig.fleet.ok(&["logs", &task, "--attempt", &number]);
            let ran = usize::from(attempt["end"]["outcome"] == "succeeded");
            assert_eq!(log.matches("began").count(), ran, "{log}");
        }
        let many = usize::from(first != "succeeded") + 1;
        assert_eq!(attempts.len(), many, "{attempts:?}");
        rig.fleet.agent("a1").kill();
    }
    rig.fleet.start_agent("a1");
    rig.end();
}

#[test]
fn a_task_in_a_warm_container_is_taken_up_again_when_its_agents_disk_is_lost() {
    if !enabled() {
        return;
    }
    let mut rig = Rig::start("until test -e /tmp/go; do sleep 0.1; done; echo done");
    rig.wait_for_parked(&BTreeSet::new());
    let job = rig.submit();
    rig.fleet.wait_for_running(&job, 1);
    assert!(rig.warm_in_journal(&job));
    rig.fleet.agent("a1").kill();
    let directory = rig.fleet.directory.path().join("a1");
    std::fs::remove_dir_all(&directory).unwrap();
    // It removes soon what nobody knows, such as the container that waited.
    let hurry = [("MUSTER_FAILPOINT_HURRY", "1")];
    rig.fleet.start_agent_in("a1", &hurry);
    eventually("a journal of its own", || {
        let attempt = directory.join(format!("attempts/{job}.0-1"));
        attempt.join("journal").exists().then_some(())
    });
    let cluster = rig.fleet.cluster();
    let container = format!("mu-{}-{job}.0-1", &cluster[..8]);
    rig.fleet.docker(&["exec", &container, "touch", "/tmp/go"]);
    let attempts = rig.attempts(&job);
    assert_eq!(attempts.len(), 1, "{attempts:?}");
    assert_eq!(attempts[0]["end"]["outcome"], "succeeded", "{attempts:?}");
    rig.end();
}
