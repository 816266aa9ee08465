//! The private engine does what the other tests of this tier rely on.

use muster_tests::engine::PrivateEngine;
use muster_tests::fleet::{IMAGE, enabled};
use muster_tests::processes::{eventually, output_of};

fn run(engine: &PrivateEngine, script: &str) -> String {
    let flags = ["run", "--detach", "--network", "none", IMAGE, "sh", "-c"];
    output_of(engine.docker().args(flags).arg(script))
}

/// Its state and exit code, as the engine tells them.
fn state(engine: &PrivateEngine, id: &str) -> String {
    let format = "{{.State.Status}} {{.State.ExitCode}}";
    output_of(engine.docker().args(["inspect", "--format", format, id]))
}

#[test]
fn containers_outlive_a_killed_dockerd_with_live_restore_and_nothing_outlives_a_crash() {
    if !enabled() {
        return;
    }
    let mut engine = PrivateEngine::start(true);
    let long = run(&engine, "sleep 600");
    engine.kill();
    engine.start_again();
    assert_eq!(state(&engine, &long), "running 0");

    engine.freeze();
    engine.thaw();
    engine.terminate();
    engine.start_again();
    assert_eq!(state(&engine, &long), "running 0");

    engine.crash();
    engine.start_again();
    assert_eq!(state(&engine, &long), "exited 255");
}

#[test]
fn without_live_restore_containers_end_with_dockerd() {
    if !enabled() {
        return;
    }
    let mut engine = PrivateEngine::start(false);
    let long = run(&engine, "trap 'exit 0' TERM; sleep 600 & wait");
    eventually("the task running", || {
        (state(&engine, &long) == "running 0").then_some(())
    });
    engine.kill();
    engine.start_again();
    // dockerd sent TERM to what it found at its start; the task made a success of it.
    assert_eq!(state(&engine, &long), "exited 0");
}
