//! Disks that don't take what is written to them: an fsync that failed once may say that all is well the
//! next time, with the data gone.

use std::path::Path;
use std::process::Command;

use muster_tests::engine::PrivateEngine;
use muster_tests::fleet::{Fleet, enabled};
use muster_tests::processes::{Daemon, eventually};

/// Has every fsync of the process fail from now on; with `files`, only those of these.
pub(crate) fn break_fsync(of: &Daemon, place: &Path, files: &[&Path]) -> Daemon {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null"]);
    command.args(["-e", "trace=fsync,fdatasync"]);
    command.args(["-e", "inject=fsync,fdatasync:error=EIO"]);
    for file in files {
        command.arg("-P").arg(file);
    }
    command.args(["-p", &of.pid().to_string()]);
    let mut strace = Daemon::start("strace", place, &mut command);
    let threads = format!("/proc/{}/task", of.pid());
    eventually("strace watching every thread", || {
        assert!(strace.is_running(), "strace ended: {}", strace.tail());
        let mut threads = std::fs::read_dir(&threads).expect("it runs");
        let all = threads.all(|thread| {
            let status = thread.expect("it runs").path().join("status");
            let status = std::fs::read_to_string(status).unwrap_or_default();
            !status.contains("TracerPid:\t0\n")
        });
        all.then_some(())
    });
    strace
}

/// Until the coordinator ended because of a log, which the next one then has.
fn judge(fleet: &mut Fleet, strace: Daemon, job: &str, output: &str) {
    eventually("the coordinator ending by itself", || {
        (!fleet.coordinator().is_running()).then_some(())
    });
    let last = fleet.coordinator().tail();
    assert!(
        last.contains("output could not be synced to disk"),
        "{last}"
    );
    drop(strace);
    fleet.start_coordinator();
    assert_eq!(fleet.ok(&["logs", "-f", job]), output);
}

#[test]
fn a_small_log_whose_fsync_failed_is_kept_by_the_next_coordinator() {
    if !enabled() {
        return;
    }
    let engine = PrivateEngine::start(true);
    let host = engine.host();
    let mut fleet = Fleet::start_in(1, &[], &[("DOCKER_HOST", &host)]);
    let place = fleet.directory.path().to_owned();
    let file = place.join("coordinator/logs/small.db-wal");
    let strace = break_fsync(fleet.coordinator(), &place, &[&file]);
    let job = fleet.submit(&[], &["echo", "precious"]);
    judge(&mut fleet, strace, &job, "precious");
}

#[test]
fn a_large_log_whose_fsync_failed_is_kept_by_the_next_coordinator() {
    const SCRIPT: &str = "trap 'exit 0' TERM; seq 1 20000; while :; do sleep 0.1; done";
    if !enabled() {
        return;
    }
    let engine = PrivateEngine::start(true);
    let host = engine.host();
    let mut fleet = Fleet::start_in(1, &[], &[("DOCKER_HOST", &host)]);
    let place = fleet.directory.path().to_owned();
    let job = fleet.submit(&[], &["sh", "-c", SCRIPT]);
    let lines: Vec<String> = (1..=20_000).map(|number| number.to_string()).collect();
    let output = lines.join("\n");
    eventually("all of the output at the coordinator", || {
        (fleet.ok(&["logs", &job]) == output).then_some(())
    });
    let file = place.join(format!("coordinator/logs/{job}/0-1.part"));
    let strace = break_fsync(fleet.coordinator(), &place, &[&file]);
    fleet.ok(&["cancel", &job, "-y"]);
    judge(&mut fleet, strace, &job, &output);
}
