//! Restarts, drains, several agents: containers are never touched by the life of a daemon.

use std::io::Read;
use std::process::Stdio;

use crate::fleet::{Fleet, IMAGE, enabled, stderr, stdout};
use crate::processes::{docker, eventually};

#[test]
fn an_agent_stops_and_starts_and_its_containers_run_on() {
    if !enabled() {
        return;
    }
    let mut fleet = Fleet::start(1);
    let script = "for i in $(seq 20); do echo line $i; sleep 0.5; done";
    let job = fleet.submit(&[], &["sh", "-c", script]);
    let short = fleet.submit(
        &[],
        &["sh", "-c", "sleep 5; echo while nobody looked; exit 5"],
    );
    fleet.wait_for_running(&job, 1);
    fleet.wait_for_running(&short, 1);
    let before = fleet.containers();

    assert_eq!(
        fleet.agent("a1").terminate(),
        Some(0),
        "SIGTERM is a normal end"
    );
    let task = format!("label=muster.task={job}.0");
    let running = docker(&["ps", "--quiet", "--no-trunc", "--filter", &task]);
    assert!(before.contains(&running), "{running:?} {before:?}");
    eventually("the short task ending on its own", || {
        let states = docker(
            &[
                &["inspect", "--format", "{{.State.Status}}"][..],
                &refs(&before),
            ]
            .concat(),
        );
        states.contains("exited").then_some(())
    });
    fleet.start_agent("a1");

    assert_eq!(fleet.muster(&["wait", &short]).status.code(), Some(10));
    assert_eq!(fleet.muster(&["wait", &job]).status.code(), Some(0));
    let lines: Vec<String> = (1..=20).map(|number| format!("line {number}")).collect();
    assert_eq!(
        fleet.ok(&["logs", &job]),
        lines.join("\n"),
        "no line is lost or doubled"
    );
    assert_eq!(fleet.ok(&["logs", &short]), "while nobody looked");
    for id in [&job, &short] {
        assert_eq!(fleet.json(&["job", "get", id])["counts"]["retries"], 0);
    }
    fleet.wait_for_no_containers();
}

fn refs(ids: &[String]) -> Vec<&str> {
    ids.iter().map(String::as_str).collect()
}

#[test]
fn a_killed_coordinator_finds_every_job_as_it_was() {
    if !enabled() {
        return;
    }
    let mut fleet = Fleet::start(1);
    let flags = [
        "run",
        "--wait",
        "--pull",
        "never",
        "--network",
        "none",
        "--array",
        "6",
        IMAGE,
    ];
    let script = ["sh", "-c", "sleep 2; echo $MUSTER_TASK_INDEX"];
    let waiting = fleet
        .command(&[&flags[..], &script].concat())
        .stderr(Stdio::piped())
        .spawn();
    let mut waiting = waiting.expect("muster can be run");
    let job = eventually("the job being there", || {
        let jobs = fleet.json(&["ps", "-a"]);
        Some(jobs["jobs"][0]["id"].as_str()?.to_owned())
    });
    fleet.wait_for_running(&job, 4);

    fleet.coordinator().kill();
    fleet.start_coordinator();

    let status = waiting.wait().expect("it can be waited for");
    let mut said = String::new();
    let errors = waiting
        .stderr
        .take()
        .map(|mut pipe| pipe.read_to_string(&mut said));
    assert!(errors.is_some_and(|read| read.is_ok()));
    assert_eq!(status.code(), Some(0), "a waiting client goes on: {said}");
    let counts = fleet.json(&["job", "get", &job])["counts"].clone();
    assert_eq!(
        (&counts["succeeded"], &counts["retries"]),
        (&6.into(), &0.into()),
        "{counts}"
    );
    fleet.wait_for_no_containers();
}

#[test]
fn an_array_runs_over_all_agents() {
    if !enabled() {
        return;
    }
    let fleet = Fleet::start(3);
    let output = fleet.muster(&[
        "run",
        "--pull",
        "never",
        "--network",
        "none",
        "--array",
        "24",
        "--name",
        "spread",
        IMAGE,
        "sh",
        "-c",
        "echo $MUSTER_TASK_INDEX on $MUSTER_AGENT; sleep 0.3",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let job = fleet.json(&["ps", "-a"])["jobs"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let tasks = fleet.json(&["ps", &job]);
    let tasks = tasks["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 24);
    for agent in ["a1", "a2", "a3"] {
        let share = tasks.iter().filter(|task| task["agent"] == agent).count();
        assert!(share >= 4, "{agent} ran {share} of 24");
    }
    fleet.wait_for_no_containers();
}

#[test]
fn a_drain_lets_tasks_finish_and_then_preempts() {
    if !enabled() {
        return;
    }
    let mut fleet = Fleet::start(1);
    let job = fleet.submit(&[], &["sleep", "600"]);
    fleet.wait_for_running(&job, 1);
    fleet.start_agent("a2");
    fleet.wait_for_agents(2);
    fleet.ok(&[
        "agent",
        "drain",
        "a1",
        "--reason",
        "disk swap",
        "--deadline",
        "1s",
    ]);
    eventually("the task running on the other agent", || {
        let tasks = fleet.json(&["ps", &job]);
        let task = &tasks["tasks"][0];
        (task["agent"] == "a2" && task["state"] == "running").then_some(())
    });
    let why = fleet.ok(&["why", &job]);
    assert!(why.contains("preempted"), "{why}");
    let agents = fleet.json(&["agent", "list"]);
    assert_eq!(agents["agents"][0]["schedulable"], "draining");
    assert_eq!(agents["agents"][0]["reason"], "disk swap");
    fleet.ok(&["cancel", &job, "--now", "-y"]);
    fleet.ok(&["agent", "uncordon", "a1"]);
    fleet.wait_for_no_containers();
}

#[test]
fn a_drain_waits_for_output_too() {
    if !enabled() {
        return;
    }
    const LINES: usize = 1_000_000;
    let mut fleet = Fleet::start_with(1, &["--heartbeat", "1s"]);
    // So much takes longer to arrive than the news of its end.
    let script = format!("yes output | head -n {LINES}; echo finish");
    let job = fleet.submit(&[], &["sh", "-c", &script]);
    assert_eq!(fleet.muster(&["wait", &job]).status.code(), Some(0));
    fleet.ok(&["agent", "drain", "a1", "--reason", "replace", "--wait"]);
    fleet.agent("a1").kill();
    let log = fleet.ok(&["logs", &job]);
    assert_eq!(log.lines().count(), LINES + 1);
    assert_eq!(log.lines().last(), Some("finish"));
}

#[test]
fn a_key_finds_the_same_job_again() {
    if !enabled() {
        return;
    }
    let fleet = Fleet::start(1);
    let first = fleet.submit(&["--key", "nightly"], &["true"]);
    assert_eq!(fleet.muster(&["wait", &first]).status.code(), Some(0));
    assert_eq!(
        fleet.submit(&["--key", "nightly"], &["true"]),
        first,
        "also after it ended"
    );
    let flags = [
        "run",
        "-d",
        "--pull",
        "never",
        "--network",
        "none",
        "--key",
        "nightly",
    ];
    let output = fleet.muster(&[&flags[..], &[IMAGE, "false"]].concat());
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
}

#[test]
fn nothing_listens_beyond_loopback() {
    if !enabled() {
        return;
    }
    let mut fleet = Fleet::start(1);
    let output = fleet.muster(&["coordinator", "--data-dir", "/tmp", "--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    assert!(
        stderr(&output).contains("--insecure-dev-network"),
        "{}",
        stderr(&output)
    );
    let pid = fleet.agent("a1").pid();
    assert_eq!(listening(pid), 0, "an agent listens nowhere");
}

/// TCP sockets of the process that listen.
fn listening(pid: u32) -> usize {
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("the agent runs")
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| {
            let text = link.to_string_lossy().into_owned();
            Some(text.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect();
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(std::fs::read_to_string);
    let lines = tables
        .into_iter()
        .flatten()
        .flat_map(|table| table.lines().skip(1).map(str::to_owned).collect::<Vec<_>>());
    lines
        .filter(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // State 0A is LISTEN; field 9 is the socket's inode.
            fields.get(3) == Some(&"0A")
                && fields
                    .get(9)
                    .is_some_and(|inode| sockets.iter().any(|socket| socket == inode))
        })
        .count()
}
