//! A host where every start fails at once, among four that are well: it takes few attempts and ends no task.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use muster_tests::engine::PrivateEngine;
use muster_tests::fleet::{Fleet, enabled};
use muster_tests::processes::{eventually, output_of};
use serde_json::Value;

use crate::crash_points::long;

/// More than the five agents have places for.
const TASKS: u64 = 48;
/// The cool-down of an agent that was cordoned for its failures.
const COOL_DOWN: Duration = Duration::from_secs(600);

/// The agent that can't start anything, as the coordinator sees it.
fn hole(fleet: &Fleet) -> Value {
    let list = fleet.json(&["agent", "list"]);
    let agents = list["agents"].as_array().expect("a list of agents");
    let found = agents.iter().find(|agent| agent["id"] == "hole");
    found.expect("the agent is known").clone()
}

/// The tasks of every attempt that was made there.
fn touched(fleet: &Fleet, job: &str) -> Vec<u64> {
    let list = fleet.json(&["task", "list", job, "--limit", "1000"]);
    let tasks = list["tasks"].as_array().expect("a list of tasks").clone();
    let mut touched = Vec::new();
    for task in tasks {
        let id = task["id"].as_str().expect("an id");
        let whole = fleet.json(&["task", "get", id]);
        let attempts = whole["attempts"].as_array().expect("a list of attempts");
        for attempt in attempts.iter().filter(|one| one["agent"] == "hole") {
            assert_eq!(attempt["end"]["reason"], "never_started", "{whole}");
            touched.push(task["index"].as_u64().expect("an index"));
        }
    }
    touched
}

fn cordons(fleet: &Fleet) -> Option<u64> {
    let url = format!("http://{}/metrics", fleet.http);
    let text = output_of(Command::new("curl").args(["--silent", "--fail", &url]));
    let line = text
        .lines()
        .find(|line| line.starts_with("muster_agents_cordoned_total "))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Tasks for every place of the five agents, all of which run at last.
fn every_place_works(fleet: &Fleet) {
    let job = fleet.submit(&["--array", "20"], &["sleep", "600"]);
    fleet.wait_for_running(&job, 20);
    fleet.ok(&["cancel", &job, "-y"]);
}

/// One attempt is tried there when the cool-down is over, and puts it back.
fn it_comes_back_by_itself(fleet: &Fleet) {
    let deadline = Instant::now() + COOL_DOWN + Duration::from_secs(60);
    while hole(fleet)["schedulable"] != "schedulable" {
        assert!(Instant::now() < deadline, "{}", hole(fleet));
        let job = fleet.submit(&[], &["true"]);
        fleet.ok(&["wait", &job]);
        std::thread::park_timeout(Duration::from_secs(5));
    }
}

#[test]
fn a_host_where_nothing_starts_is_cordoned_and_fails_no_task() {
    if !enabled() {
        return;
    }
    let broken = PrivateEngine::start(false);
    let mut fleet = Fleet::start(4);
    fleet.start_agent_in("hole", &[("DOCKER_HOST", &broken.host())]);
    fleet.wait_for_agents(5);
    broken.break_runtime();
    let flags = ["--array", &TASKS.to_string(), "--retry-delay", "200ms"];
    let job = fleet.submit(&flags, &["sleep", "1"]);
    eventually("the host being cordoned", || {
        (hole(&fleet)["schedulable"] == "cordoned").then_some(())
    });
    let reason = hole(&fleet)["reason"].to_string();
    assert!(
        reason.contains("attempts in a row did not start here") && reason.contains("tried again"),
        "{reason}"
    );
    fleet.ok(&["wait", &job]);
    assert_eq!(
        fleet.json(&["job", "get", &job])["counts"]["succeeded"],
        TASKS
    );
    let touched = touched(&fleet, &job);
    let tasks: BTreeSet<u64> = touched.iter().copied().collect();
    eprintln!(
        "{} attempts of {} tasks failed there",
        touched.len(),
        tasks.len()
    );
    assert!((5..=10).contains(&touched.len()), "{touched:?}");
    assert_eq!(cordons(&fleet), Some(1));

    broken.mend_runtime();
    if long() {
        it_comes_back_by_itself(&fleet);
    } else {
        fleet.ok(&["agent", "uncordon", "hole"]);
    }
    every_place_works(&fleet);
    fleet.wait_for_no_containers();
}
