use muster_core::outcome::{End, EndReason, Outcome};
use muster_core::time::Timestamp;

use super::*;

/// Ran from 100 s to 200 s.
fn exited(code: i32) -> Evidence<'static> {
    Evidence {
        exit: Exit {
            started: Some(Timestamp(100_000)),
            finished: Some(Timestamp(200_000)),
            code,
            oom_killed: false,
            error: String::new(),
        },
        kills: &[],
        foreign_kill: None,
        init: InitWord::Absent,
        init_failure: None,
        engine: EngineHistory::default(),
        clock_set: false,
        success_codes: &[],
    }
}

fn oom(code: i32) -> Evidence<'static> {
    let mut evidence = exited(code);
    evidence.exit.oom_killed = true;
    evidence
}

/// The engine was last seen at `last_contact` seconds and came back at `started`.
fn restarted(code: i32, last_contact: u64, started: u64) -> Evidence<'static> {
    let mut evidence = exited(code);
    evidence.engine.restart = Some(Restart {
        last_contact: Timestamp(last_contact * 1000),
        started: Some(Timestamp(started * 1000)),
    });
    evidence
}

/// It ended under the second of two engines that leave containers alone.
fn outlived(code: i32) -> Evidence<'static> {
    let mut evidence = restarted(code, 150, 190);
    evidence.engine.live_restore = true;
    evidence
}

fn live_restored(code: i32) -> Evidence<'static> {
    let mut evidence = restarted(code, 150, 250);
    evidence.engine.live_restore = true;
    evidence
}

fn rebooted(code: i32) -> Evidence<'static> {
    let mut evidence = restarted(code, 150, 200);
    evidence.engine.rebooted = true;
    evidence
}

fn foreign(code: i32) -> Evidence<'static> {
    heard(exited(code))
}

fn heard(mut evidence: Evidence<'static>) -> Evidence<'static> {
    evidence.foreign_kill = Some(Timestamp(199_000));
    evidence
}

/// With Docker 20.10.24 and a runtime that exits with 1 at once.
const BROKEN_RUNTIME: &str = "failed to create shim task: OCI runtime create failed: unable to retrieve OCI \
     runtime error (open log.json: no such file or directory): runc did not terminate successfully: exit \
     status 1: unknown";
const NO_SHIM: &str = "failed to start shim: exec: \"containerd-shim-runc-v2\": executable file not found in \
     $PATH: unknown";

fn never(code: i32, error: &str) -> Evidence<'static> {
    let mut evidence = exited(code);
    evidence.exit.started = None;
    evidence.exit.finished = None;
    evidence.exit.error = error.to_owned();
    evidence
}

fn killed(code: i32, reason: KillReason) -> Evidence<'static> {
    let kill = Kill {
        at: 199_999,
        signal: 15,
        reason,
    };
    Evidence {
        kills: Vec::leak(vec![kill]),
        ..exited(code)
    }
}

fn no_program(code: i32) -> Evidence<'static> {
    let mut evidence = exited(code);
    evidence.init_failure = Some("exec /no/such failed".to_owned());
    evidence
}

/// muster's init process wrote this down, whatever the engine shows.
fn recorded(shown: Evidence<'static>, end: RunEnd) -> Evidence<'static> {
    let run = Run {
        started: Timestamp(100_000),
        ended: Timestamp(190_000),
        end,
        signal: None,
        lease_ended: false,
        oom_killed: false,
    };
    Evidence {
        init: InitWord::Record(run),
        ..shown
    }
}

fn with(mut evidence: Evidence<'static>, change: impl FnOnce(&mut Run)) -> Evidence<'static> {
    let InitWord::Record(run) = &mut evidence.init else {
        panic!("there is a record");
    };
    change(run);
    evidence
}

fn signaled(evidence: Evidence<'static>) -> Evidence<'static> {
    with(evidence, |run| run.signal = Some(15))
}

fn silent(shown: Evidence<'static>, ran: bool) -> Evidence<'static> {
    Evidence {
        init: InitWord::Silent { ran },
        ..shown
    }
}

fn unproven(shown: Evidence<'static>, leased: bool) -> Evidence<'static> {
    Evidence {
        init: InitWord::Unproven { leased },
        ..shown
    }
}

fn brief(evidence: &Evidence<'_>) -> (Outcome, EndReason, Option<i32>) {
    let End {
        outcome,
        exit_code,
        reason,
        ..
    } = classify(evidence);
    (outcome, reason, exit_code)
}

#[test]
fn whether_a_lease_ended_it_can_not_be_told_without_the_first_journal() {
    let lost = (Outcome::Lost, EndReason::ContainerGone, None);
    for code in [0, 1, 122, 137, 143] {
        assert_eq!(brief(&unproven(exited(code), true)), lost, "{code}");
    }
    // Of others its exit tells, but for what may be the init process's own.
    let succeeded = (Outcome::Succeeded, EndReason::Exited, Some(0));
    assert_eq!(brief(&unproven(exited(0), false)), succeeded);
    let failed = (Outcome::Failed, EndReason::Exited, Some(1));
    assert_eq!(brief(&unproven(exited(1), false)), failed);
    for code in [122, 123] {
        assert_eq!(brief(&unproven(exited(code), false)), lost, "{code}");
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn each_row_of_the_table() {
    use EndReason::*;
    use Outcome::*;
    let declared = Evidence {
        success_codes: &[3],
        ..exited(3)
    };
    let rows = [
        // Our own signals, whatever the code.
        (
            killed(143, KillReason::Canceled),
            (Canceled, CanceledByUser, None),
        ),
        (
            killed(0, KillReason::Canceled),
            (Canceled, CanceledByUser, None),
        ),
        (
            killed(137, KillReason::RunTimeout),
            (Timeout, RunTimeout, None),
        ),
        (
            killed(143, KillReason::Preempted),
            (Preempted, Drained, None),
        ),
        (
            killed(143, KillReason::Superseded),
            (Canceled, Superseded, None),
        ),
        // Success.
        (exited(0), (Succeeded, Exited, Some(0))),
        (declared, (Succeeded, Exited, Some(3))),
        (live_restored(0), (Succeeded, Exited, Some(0))),
        (oom(0), (Succeeded, Exited, Some(0))),
        // It ended while the old engine was known to work.
        (restarted(0, 201, 250), (Succeeded, Exited, Some(0))),
        // The false success: the engine was stopping or down.
        (restarted(0, 150, 250), (InfraError, Interrupted, None)),
        (restarted(143, 150, 250), (InfraError, Interrupted, None)),
        (foreign(0), (InfraError, KilledExternally, None)),
        (foreign(143), (InfraError, KilledExternally, None)),
        (foreign(1), (InfraError, KilledExternally, None)),
        (rebooted(0), (InfraError, Interrupted, None)),
        // A stopping engine is there until its containers are gone; then it was its signal.
        (
            heard(restarted(0, 215, 250)),
            (InfraError, Interrupted, None),
        ),
        (
            heard(restarted(7, 215, 250)),
            (InfraError, Interrupted, None),
        ),
        (
            heard(restarted(0, 231, 250)),
            (InfraError, KilledExternally, None),
        ),
        (
            heard(live_restored(0)),
            (InfraError, KilledExternally, None),
        ),
        // Memory.
        (oom(137), (Oom, MemoryLimit, Some(137))),
        (oom(1), (Failed, ChildOom, Some(1))),
        // 137.
        (restarted(137, 150, 200), (InfraError, Interrupted, None)),
        (exited(137), (InfraError, KilledExternally, None)),
        // 255.
        (restarted(255, 150, 204), (Lost, EngineLost, None)),
        (rebooted(255), (Lost, HostRebooted, None)),
        (restarted(255, 150, 250), (Failed, Exited, Some(255))),
        (exited(255), (Failed, Exited, Some(255))),
        // Never started.
        (
            never(127, "exec: \"/x\": stat /x: no such file or directory"),
            (ImageError, NoSuchEntrypoint, None),
        ),
        (
            never(126, "chdir to cwd (\"/root\") set in config.json failed"),
            (ImageError, Rejected, None),
        ),
        (
            never(128, "Unable to find user nosuch: no matching entries"),
            (ImageError, Rejected, None),
        ),
        (never(127, BROKEN_RUNTIME), (InfraError, NeverStarted, None)),
        (never(127, NO_SHIM), (InfraError, NeverStarted, None)),
        (
            never(128, "cannot join network of a non running container: x"),
            (InfraError, NeverStarted, None),
        ),
        (
            never(128, "No such container: x"),
            (InfraError, NeverStarted, None),
        ),
        (
            never(128, "no space left on device"),
            (InfraError, NeverStarted, None),
        ),
        (never(0, ""), (InfraError, NeverStarted, None)),
        // Started by an init process that found no program.
        (no_program(127), (ImageError, NoSuchEntrypoint, None)),
        (no_program(126), (ImageError, Rejected, None)),
        // The task's own.
        (exited(143), (Failed, Signaled, Some(143))),
        (exited(139), (Failed, Signaled, Some(139))),
        (exited(128), (Failed, Exited, Some(128))),
        (exited(1), (Failed, Exited, Some(1))),
        (exited(127), (Failed, Exited, Some(127))),
        (restarted(7, 150, 250), (Failed, Exited, Some(7))),
        (restarted(7, 150, 201), (Failed, Exited, Some(7))),
        (outlived(7), (Failed, Exited, Some(7))),
        // Whatever runs when an engine without live-restore starts, that engine stops.
        (restarted(7, 150, 200), (InfraError, Interrupted, None)),
        (restarted(7, 150, 190), (InfraError, Interrupted, None)),
    ];
    for (evidence, wanted) in rows {
        assert_eq!(brief(&evidence), wanted, "{evidence:?}");
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
#[test]
fn each_row_with_a_record() {
    use EndReason::*;
    use Outcome::*;
    use RunEnd::{NoProgram, Signaled as Died};
    let ended = RunEnd::Exited;
    let declared = Evidence {
        success_codes: &[3],
        ..recorded(restarted(255, 150, 200), ended(3))
    };
    let lost_oom = with(recorded(restarted(137, 150, 250), Died(9)), |run| {
        run.oom_killed = true;
    });
    let unleased = with(recorded(exited(0), ended(0)), |run| run.lease_ended = true);
    let rows = [
        // The engine lost the end or made one up (E7, E8, E11): the record has it.
        (
            recorded(restarted(255, 150, 200), ended(0)),
            (Succeeded, Exited, Some(0)),
        ),
        (
            recorded(rebooted(255), ended(0)),
            (Succeeded, Exited, Some(0)),
        ),
        (
            recorded(restarted(137, 150, 200), ended(0)),
            (Succeeded, Exited, Some(0)),
        ),
        (recorded(rebooted(255), ended(7)), (Failed, Exited, Some(7))),
        (
            recorded(restarted(255, 150, 204), ended(255)),
            (Failed, Exited, Some(255)),
        ),
        (
            recorded(never(0, ""), ended(0)),
            (Succeeded, Exited, Some(0)),
        ),
        (declared, (Succeeded, Exited, Some(3))),
        // It ended while the engine was away, and nobody signalled it (E5).
        (
            recorded(restarted(0, 150, 250), ended(0)),
            (Succeeded, Exited, Some(0)),
        ),
        (
            recorded(restarted(143, 150, 250), ended(143)),
            (Failed, Signaled, Some(143)),
        ),
        // The false success (E6): the engine that stopped had told it to end.
        (
            signaled(recorded(restarted(0, 150, 250), ended(0))),
            (InfraError, Interrupted, None),
        ),
        (
            signaled(recorded(restarted(7, 150, 250), ended(7))),
            (InfraError, Interrupted, None),
        ),
        (
            signaled(recorded(restarted(0, 215, 250), ended(0))),
            (InfraError, Interrupted, None),
        ),
        (
            signaled(recorded(rebooted(0), ended(0))),
            (InfraError, Interrupted, None),
        ),
        (
            signaled(recorded(exited(0), ended(0))),
            (InfraError, KilledExternally, None),
        ),
        (
            signaled(recorded(live_restored(0), ended(0))),
            (InfraError, KilledExternally, None),
        ),
        // Our own signals, if they came in time.
        (
            signaled(recorded(killed(0, KillReason::Canceled), ended(0))),
            (InfraError, KilledExternally, None),
        ),
        (
            recorded(killed(0, KillReason::Canceled), ended(0)),
            (Succeeded, Exited, Some(0)),
        ),
        // Memory, also where the engine was not there to see it.
        (lost_oom, (Oom, MemoryLimit, Some(137))),
        (recorded(oom(137), Died(9)), (Oom, MemoryLimit, Some(137))),
        (recorded(oom(1), ended(1)), (Failed, ChildOom, Some(1))),
        // KILL to the task alone is not what an engine does.
        (
            recorded(restarted(137, 150, 250), Died(9)),
            (InfraError, KilledExternally, None),
        ),
        (
            recorded(exited(139), Died(11)),
            (Failed, Signaled, Some(139)),
        ),
        (
            recorded(exited(127), NoProgram(2)),
            (ImageError, NoSuchEntrypoint, None),
        ),
        (
            recorded(exited(126), NoProgram(13)),
            (ImageError, Rejected, None),
        ),
        (
            recorded(exited(127), ended(127)),
            (Failed, Exited, Some(127)),
        ),
        (unleased, (Lost, Disconnected, None)),
    ];
    for (evidence, wanted) in rows {
        assert_eq!(brief(&evidence), wanted, "{evidence:?}");
    }
}

#[test]
fn our_own_signal_counts_if_it_was_heard() {
    let evidence = signaled(recorded(killed(0, KillReason::Canceled), RunEnd::Exited(0)));
    let heard = with(evidence, |run| run.ended = Timestamp(200_000));
    assert_eq!(brief(&heard).0, Outcome::Canceled);
}

#[test]
fn without_a_record_the_engines_word_has_to_do() {
    use EndReason::*;
    use Outcome::*;
    let rows = [
        (silent(exited(0), true), (Succeeded, Exited, Some(0))),
        (
            silent(restarted(137, 150, 200), true),
            (InfraError, Interrupted, None),
        ),
        (silent(rebooted(255), true), (Lost, HostRebooted, None)),
        (
            silent(killed(137, KillReason::RunTimeout), true),
            (Timeout, RunTimeout, None),
        ),
        (
            silent(never(128, "unable to find group nosuch"), false),
            (ImageError, Rejected, None),
        ),
        // The init process itself.
        (silent(never(0, ""), true), (Lost, EngineLost, None)),
        (silent(exited(123), true), (Lost, EngineLost, None)),
        (silent(exited(122), false), (InfraError, NeverStarted, None)),
    ];
    for (evidence, wanted) in rows {
        assert_eq!(brief(&evidence), wanted, "{evidence:?}");
    }
}

#[test]
fn a_signal_sent_after_the_end_changes_nothing() {
    let kill = Kill {
        at: 200_001,
        signal: 15,
        reason: KillReason::Canceled,
    };
    let evidence = Evidence {
        kills: &[kill],
        ..exited(0)
    };
    assert_eq!(brief(&evidence).0, Outcome::Succeeded);
}

#[test]
fn an_end_that_seems_to_lie_before_our_signal_is_ours_if_the_clock_was_set() {
    let kill = Kill {
        at: 3_700_000,
        signal: 15,
        reason: KillReason::Canceled,
    };
    let kills = [kill];
    let mut evidence = exited(0);
    evidence.kills = &kills;
    assert_eq!(classify(&evidence).outcome, Outcome::Succeeded);
    evidence.clock_set = true;
    assert_eq!(classify(&evidence).outcome, Outcome::Canceled);
}

#[test]
fn an_end_that_seems_to_lie_before_the_engines_is_not_if_the_clock_was_set() {
    let mut evidence = restarted(0, 3_700, 3_710);
    assert_eq!(classify(&evidence).outcome, Outcome::Succeeded);
    evidence.clock_set = true;
    assert_eq!(classify(&evidence).reason, EndReason::Interrupted);

    let mut evidence = restarted(255, 3_700, 3_710);
    assert_eq!(classify(&evidence).outcome, Outcome::Failed);
    evidence.clock_set = true;
    assert_eq!(classify(&evidence).outcome, Outcome::Lost);
}

#[test]
fn a_message_is_cut_between_characters() {
    let text = "é".repeat(1000);
    assert_eq!(cut(&text).len(), 1024);
    assert_eq!(cut(&"éa".repeat(600)).len(), 1023);
}
