//! An agent that is killed every few seconds, with real containers under it: each of them is found
//! again, and none runs twice.

use std::time::{Duration, Instant};

use muster_tests::engine::PrivateEngine;
use muster_tests::fleet::{Fleet, IMAGE, enabled};
use muster_tests::history::{Expected, History};
use muster_tests::ledger::{Moment, SAY};
use muster_tests::processes::eventually;
use muster_tests::random::Rng;

/// So many containers.
fn tasks() -> u32 {
    if crate::crash_points::long() { 500 } else { 60 }
}

/// Between two kills.
fn pause(random: &mut Rng) -> Duration {
    let (from, to) = if crate::crash_points::long() {
        (3_000, 10_000)
    } else {
        (1_500, 4_000)
    };
    Duration::from_millis(random.between(from, to))
}

#[test]
fn an_agent_that_is_killed_all_the_time_loses_no_container() {
    if !enabled() {
        return;
    }
    let engine = PrivateEngine::start(true);
    let host = engine.host();
    let mut fleet = Fleet::start_in(1, &["--heartbeat", "1s"], &[("DOCKER_HOST", &host)]);
    let script = format!(
        "{SAY}say start; echo begin; sleep $((1 + MUSTER_TASK_INDEX % 5)); echo finish; say end"
    );
    let array = tasks().to_string();
    let job = fleet.submit(&["--array", &array], &["sh", "-c", &script]);

    let mut random = Rng::new(5, "kills");
    let begin = Instant::now();
    let mut kills = 0;
    loop {
        std::thread::park_timeout(pause(&mut random));
        let counts = fleet.json(&["job", "get", &job])["counts"].clone();
        if counts["succeeded"] == tasks() {
            break;
        }
        assert!(
            begin.elapsed() < Duration::from_secs(120 + u64::from(tasks()) * 3),
            "the tasks don't get done: {counts}"
        );
        fleet.agent("a1").kill();
        fleet.start_agent("a1");
        kills += 1;
    }
    fleet.wait_for_no_containers();
    fleet.wait_for_no_attempts("a1");

    let mut history = History::default();
    history.add(&fleet, engine.ledger(), &job, Expected::NoRerun);
    for index in 0..tasks() {
        let log = fleet.ok(&["logs", &format!("{job}.{index}")]);
        if log != "begin\nfinish" {
            history
                .violations
                .push(format!("{job}.{index} said {log:?}"));
        }
    }
    println!(
        "{kills} kills in {:.0} s over {} containers of {IMAGE}",
        begin.elapsed().as_secs_f64(),
        tasks()
    );
    history.judge("agent killed under load");
}

/// Nobody but the container's init process is left to stop it.
#[test]
fn a_task_whose_agent_was_killed_has_stopped_before_it_runs_again() {
    if !enabled() {
        return;
    }
    let engine = PrivateEngine::start(true);
    let host = engine.host();
    let mut fleet = Fleet::start_in(2, &["--heartbeat", "1s"], &[("DOCKER_HOST", &host)]);
    let script =
        format!("{SAY}trap 'say end; exit 0' TERM; say start; while :; do sleep 0.05; done");
    let flags = [
        "--on-disconnect",
        "stop-after=4s",
        "--kill-grace",
        "1s",
        "--retries",
        "infra=1",
    ];
    let job = fleet.submit(&flags, &["sh", "-c", &script]);
    fleet.wait_for_running(&job, 1);
    let task = |fleet: &Fleet| fleet.json(&["ps", &job])["tasks"][0].clone();
    let agent = task(&fleet)["agent"].as_str().unwrap().to_owned();
    let killed = Instant::now();
    fleet.agent(&agent).kill();
    eventually("the second attempt running", || {
        let task = task(&fleet);
        (task["attempt"] == 2 && task["state"] == "running").then_some(())
    });
    let took = killed.elapsed();
    let said = |attempt: u32, moment: Moment| {
        eventually("the ledger's entry", || {
            let entries = engine.ledger().of_job(&job);
            let mut found = entries
                .iter()
                .filter(|entry| entry.attempt == attempt && entry.moment == moment);
            found.next().map(|entry| entry.at)
        })
    };
    let (stopped, again) = (said(1, Moment::End), said(2, Moment::Start));
    println!(
        "stopped {:.1} s before it ran again, {:.1} s after the kill",
        again - stopped,
        took.as_secs_f64()
    );
    assert!(stopped < again, "{stopped} {again}");
    fleet.ok(&["cancel", &job]);
    assert_eq!(fleet.muster(&["wait", &job]).status.code(), Some(12));
}
