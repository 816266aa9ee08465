//! What a user sees of how tasks end.

use serde_json::Value;

use crate::fleet::{Fleet, IMAGE, enabled, stderr, stdout};
use crate::processes::{docker, eventually};

const NEVER: [&str; 4] = ["--pull", "never", "--network", "none"];

fn run<'a>(flags: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
    [&["run"], &NEVER[..], flags, &[IMAGE], command].concat()
}

#[test]
fn run_is_docker_run_with_one_word_changed() {
    if !enabled() {
        return;
    }
    let fleet = Fleet::start(1);
    // The last line has no end on purpose: it must not be lost.
    let script = "echo out; echo err >&2; printf 'no newline'; exit 3";
    let output = fleet.muster(&run(&[], &["sh", "-c", script]));
    assert_eq!(stdout(&output), "out\nno newline");
    assert!(
        stderr(&output).lines().any(|line| line == "err"),
        "{}",
        stderr(&output)
    );
    assert_eq!(output.status.code(), Some(3));
    fleet.wait_for_no_containers();
}

#[test]
fn ends_are_what_they_are() {
    if !enabled() {
        return;
    }
    let fleet = Fleet::start(1);
    for (flags, command, code, end) in [
        (&[][..], &["true"][..], 0, "succeeded"),
        (&[], &["sh", "-c", "exit 7"], 7, "failed"),
        (
            &["--success-code", "7"],
            &["sh", "-c", "exit 7"],
            7,
            "succeeded",
        ),
        (
            &["--timeout", "1s", "--kill-grace", "1s"],
            &["sleep", "600"],
            124,
            "timeout",
        ),
        (&["--memory", "16m"], &["tail", "/dev/zero"], 137, "oom"),
        (&[], &["/no/such/program"], 127, "image_error"),
    ] {
        let output = fleet.muster(&run(flags, command));
        let said = format!("{command:?}: {}{}", stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(code), "{said}");
        let jobs = fleet.json(&["ps", "-a"]);
        assert_eq!(jobs["jobs"][0]["outcome"], end, "{said}");
    }
    fleet.wait_for_no_containers();
}

#[test]
fn cancel_asks_first_and_is_over_only_when_the_container_is_gone() {
    if !enabled() {
        return;
    }
    let fleet = Fleet::start(1);
    let script = "trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    let job = fleet.submit(&[], &["sh", "-c", script]);
    eventually("the task being ready", || {
        fleet.ok(&["logs", &job]).contains("ready").then_some(())
    });
    fleet.ok(&["cancel", &job, "--reason", "enough", "-y"]);
    let output = fleet.muster(&["wait", &job]);
    assert_eq!(output.status.code(), Some(12), "{}", stderr(&output));
    assert!(fleet.ok(&["logs", &job]).contains("asked"));
    assert_eq!(fleet.json(&["job", "get", &job])["cancel_reason"], "enough");
    fleet.wait_for_no_containers();
}

#[test]
fn failures_are_retried_within_their_budget_and_why_tells_the_story() {
    if !enabled() {
        return;
    }
    let fleet = Fleet::start(1);
    let flags = [
        "--retries",
        "user=2",
        "--retry-delay",
        "10ms",
        "--backoff",
        "fixed",
    ];
    let job = fleet.submit(&flags, &["sh", "-c", "echo try $MUSTER_ATTEMPT; exit 4"]);
    assert_eq!(fleet.muster(&["wait", &job]).status.code(), Some(10));
    let why = fleet.ok(&["why", &job]);
    for part in [
        "failed(4)",
        "user retry 2 of 2",
        "2 of 2 user retries were used",
    ] {
        assert!(why.contains(part), "{part} is not in\n{why}");
    }
    assert!(
        fleet
            .ok(&["logs", &job, "--attempt", "2"])
            .contains("try 2")
    );
}

#[test]
fn containers_are_hardened_labelled_and_limited() {
    if !enabled() {
        return;
    }
    let fleet = Fleet::start(1);
    let job = fleet.submit(&["-m", "64m", "--cpus", "0.5"], &["sleep", "600"]);
    fleet.wait_for_running(&job, 1);
    let containers = fleet.containers();
    let inspected: Value = serde_json::from_str(&docker(&["inspect", &containers[0]])).unwrap();
    let container = &inspected[0];
    let host = &container["HostConfig"];
    let name = container["Name"].as_str().unwrap();
    let id = fleet.json(&["job", "get", &job])["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        name.starts_with("/mu-") && name.ends_with(&format!("{id}.0-1")),
        "{name}"
    );
    assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]));
    assert_eq!(host["ReadonlyRootfs"], true);
    assert_eq!(host["Privileged"], false);
    assert_eq!(host["AutoRemove"], false);
    assert_eq!(host["RestartPolicy"]["Name"], "no");
    assert_eq!(host["Memory"], 64 << 20);
    assert_eq!(host["MemorySwap"], 64 << 20);
    assert_eq!(host["NanoCpus"], 500_000_000);
    assert_eq!(host["PidsLimit"], 256);
    assert_eq!(host["NetworkMode"], "none");
    let options = host["SecurityOpt"].as_array().unwrap();
    assert!(
        options
            .iter()
            .any(|option| option.as_str().unwrap().starts_with("no-new-privileges"))
    );
    assert_eq!(container["Config"]["User"], "65532:65532");
    let labels = &container["Config"]["Labels"];
    assert_eq!(labels["muster.task"], format!("{id}.0"));
    assert_eq!(labels["muster.attempt"], "1");
    assert_eq!(labels["muster.agent"], "a1");
    fleet.ok(&["cancel", &job, "--now", "-y"]);
    fleet.wait_for_no_containers();
}

#[test]
fn a_task_finds_its_own_story_in_its_environment() {
    if !enabled() {
        return;
    }
    let fleet = Fleet::start(1);
    let output = fleet.muster(&run(&["--name", "story", "-e", "GREETING=hello"], &["env"]));
    let text = stdout(&output);
    let job = fleet.json(&["ps", "-a"])["jobs"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for line in [
        format!("MUSTER_JOB_ID={job}"),
        "MUSTER_JOB_NAME=story".into(),
        format!("MUSTER_TASK_ID={job}.0"),
        "MUSTER_TASK_INDEX=0".into(),
        "MUSTER_TASK_COUNT=1".into(),
        format!("MUSTER_IDEMPOTENCY_KEY={job}.0"),
        "MUSTER_ATTEMPT=1".into(),
        "MUSTER_FENCE=1".into(),
        "MUSTER_TEAM=default".into(),
        "MUSTER_POOL=default".into(),
        "MUSTER_AGENT=a1".into(),
        "GREETING=hello".into(),
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is not in\n{text}"
        );
    }
    assert!(text.contains("MUSTER_IMAGE_DIGEST=sha256:"), "{text}");
}

#[test]
fn bad_input_is_refused_at_the_edge_with_the_field_and_the_value() {
    if !enabled() {
        return;
    }
    let fleet = Fleet::start(1);
    for (arguments, code, part) in [
        (
            vec!["run", "-d", "analytics", "true"],
            2,
            "\"analytics\" is no channel",
        ),
        (
            vec!["run", "-d", "--pull", "never", "nobody/has:this"],
            2,
            "no agent holds",
        ),
        (
            vec!["run", "-d", "-m", "1m", "--pull", "never", IMAGE],
            2,
            "memory",
        ),
        (vec!["run", "--privileged", IMAGE], 2, "--privileged"),
        (vec!["logs", "zzzzzzzz"], 3, "zzzzzzzz"),
        (vec!["agent", "cordon", "nobody"], 3, "nobody"),
    ] {
        let output = fleet.muster(&arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
    assert_eq!(
        fleet.json(&["ps", "-a"])["jobs"],
        serde_json::json!([]),
        "nothing was stored"
    );
}

#[test]
fn what_was_used_is_recorded() {
    if !enabled() {
        return;
    }
    let fleet = Fleet::start(1);
    // 40 MB in memory and some work, in a fraction of a second.
    let script = "x=$(head -c 40000000 /dev/zero | tr '\\0' x); echo ${#x}";
    let output = fleet.muster(&run(&["-m", "256m"], &["sh", "-c", script]));
    assert_eq!(stdout(&output), "40000000\n", "{}", stderr(&output));
    let jobs = fleet.json(&["ps", "-a"]);
    let job = jobs["jobs"][0]["id"].as_str().unwrap();
    let task = fleet.json(&["task", "get", &format!("{job}.0")]);
    let usage = &task["attempts"][0]["usage"];
    let peak = usage["peak_memory_bytes"].as_u64().unwrap_or_default();
    assert!((40_000_000..=256 << 20).contains(&peak), "{task}");
    assert!(
        usage["cpu_seconds"].as_f64().is_some_and(|cpu| cpu > 0.01),
        "{task}"
    );
}
