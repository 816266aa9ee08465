//! Agents, engines and shims that are stopped without dying: nobody else waits for them.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use muster_tests::engine::PrivateEngine;
use muster_tests::fleet::{Fleet, IMAGE, binary, enabled};
use muster_tests::processes::{Daemon, PATIENCE, eventually, output_of};

/// An agent is unreachable after four of its heartbeats, and lost soon after.
const QUICK: [(&str, &str); 2] = [
    ("MUSTER_COORDINATOR_HEARTBEAT", "500ms"),
    ("MUSTER_COORDINATOR_LOST_AFTER", "3s"),
];
/// A coordinator that answers later than this was held up.
const PROMPT: Duration = Duration::from_secs(5);

/// The states of a task's attempts, the oldest first, with where they are.
fn attempts(fleet: &Fleet, job: &str) -> Vec<(String, String)> {
    let task = fleet.json(&["task", "get", &format!("{job}.0")]);
    let attempts = task["attempts"].as_array().expect("a list of attempts");
    let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    attempts
        .iter()
        .map(|attempt| (word(&attempt["end"]["outcome"]), word(&attempt["agent"])))
        .collect()
}

/// A coordinator that is asked answers at once, whatever is frozen.
fn answers_promptly(fleet: &Fleet) {
    let begin = Instant::now();
    fleet.json(&["ps", "-a"]);
    fleet.json(&["agent", "list"]);
    assert!(begin.elapsed() < PROMPT, "it took {:?}", begin.elapsed());
}

/// What the agents say of containers they can't get hold of.
fn wedged(fleet: &Fleet) -> bool {
    let url = format!("http://{}/metrics", fleet.http);
    let text = output_of(Command::new("curl").args(["--silent", "--fail", &url]));
    let counts = text
        .lines()
        .filter(|line| line.starts_with("muster_agent_attempts_wedged{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    counts.sum::<f64>() > 0.0
}

#[test]
fn a_frozen_agent_loses_its_task_and_lets_go_of_it_when_it_wakes_up() {
    if !enabled() {
        return;
    }
    let mut fleet = Fleet::start_in(2, &[], &QUICK);
    let job = fleet.submit(&["--retries", "user=0,infra=1"], &["sleep", "600"]);
    fleet.wait_for_running(&job, 1);
    let old = attempts(&fleet, &job)[0].1.clone();
    fleet.agent(&old).freeze();
    eventually("another attempt", || {
        answers_promptly(&fleet);
        let all = attempts(&fleet, &job);
        (all.len() == 2 && all[1].1 != old).then_some(())
    });
    fleet.wait_for_running(&job, 1);
    // Nobody could tell the old one to stop.
    assert_eq!(fleet.containers().len(), 2);
    fleet.agent(&old).thaw();
    eventually("the old container's end", || {
        (fleet.containers().len() == 1).then_some(())
    });
    // Its late end changed nothing.
    let ends: Vec<String> = attempts(&fleet, &job)
        .into_iter()
        .map(|(end, _)| end)
        .collect();
    assert_eq!(ends, ["lost", ""]);
    fleet.ok(&["cancel", &job, "-y"]);
    fleet.wait_for_no_containers();
}

#[test]
fn a_frozen_engine_holds_up_nothing_but_its_own_host() {
    if !enabled() {
        return;
    }
    let engine = PrivateEngine::start(true);
    let host = engine.host();
    let fleet = Fleet::start_in(1, &[], &[("DOCKER_HOST", &host), QUICK[0]]);
    // The second agent is on the host's engine, which is well.
    let mut well = Command::new(binary());
    let address = format!("http://{}", fleet.grpc);
    well.args([
        "agent",
        "--coordinator",
        &address,
        "--name",
        "well",
        "--data-dir",
    ]);
    well.arg(fleet.directory.path().join("well"));
    let well = Daemon::start("well", fleet.directory.path(), &mut well);
    fleet.wait_for_agents(2);
    let job = fleet.submit(&["--on", "a1"], &["sleep", "600"]);
    fleet.wait_for_running(&job, 1);

    engine.freeze();
    fleet.ok(&["cancel", &job, "-y"]);
    let other = fleet.submit(&["--on", "well"], &["true"]);
    assert!(fleet.muster(&["wait", &other]).status.success());
    eventually("the wedged attempt showing", || {
        answers_promptly(&fleet);
        wedged(&fleet).then_some(())
    });
    engine.thaw();
    let canceled = fleet.muster(&["wait", &job]).status.code();
    assert_eq!(canceled, Some(12));
    eventually("nothing being wedged", || (!wedged(&fleet)).then_some(()));
    fleet.wait_for_no_containers();
    // What the other agent had is on the host's engine.
    drop(well);
}

/// STOP for the process that stands between containerd and one container; CONT when this is dropped.
struct FrozenShim(String);

impl FrozenShim {
    fn of(container: &str) -> Self {
        let all = std::fs::read_dir("/proc").expect("this is Linux");
        let pid = all.filter_map(Result::ok).find_map(|entry| {
            let line = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
            let is_shim = line.contains("containerd-shim") && line.contains(container);
            is_shim.then(|| entry.file_name().to_string_lossy().into_owned())
        });
        let shim = Self(pid.expect("each running container has a shim"));
        shim.signal("-STOP");
        shim
    }

    fn signal(&self, signal: &str) {
        // It may be gone by the time it is woken up.
        let _ = Command::new("kill")
            .args([signal, &self.0])
            .stderr(Stdio::null())
            .status();
    }
}

impl Drop for FrozenShim {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}

#[test]
fn one_frozen_shim_wedges_its_own_attempt_and_no_other() {
    if !enabled() {
        return;
    }
    let engine = PrivateEngine::start(true);
    let host = engine.host();
    let fleet = Fleet::start_in(1, &[], &[("DOCKER_HOST", &host), QUICK[0]]);
    let job = fleet.submit(&[], &["sleep", "600"]);
    fleet.wait_for_running(&job, 1);
    let shim = FrozenShim::of(&fleet.containers()[0]);
    fleet.ok(&["cancel", &job, "-y"]);
    let run = ["run", "--pull", "never", "--network", "none", IMAGE, "true"];
    for _ in 0..3 {
        let begin = Instant::now();
        fleet.ok(&run);
        assert!(
            begin.elapsed() < PATIENCE / 4,
            "it took {:?}",
            begin.elapsed()
        );
    }
    eventually("the wedged attempt showing", || {
        answers_promptly(&fleet);
        wedged(&fleet).then_some(())
    });
    drop(shim);
    assert_eq!(fleet.muster(&["wait", &job]).status.code(), Some(12));
    eventually("nothing being wedged", || (!wedged(&fleet)).then_some(()));
    fleet.wait_for_no_containers();
}
