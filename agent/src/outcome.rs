//! How an attempt ended, from evidence. An exit code alone is not an outcome. Pure.

use muster_core::outcome::{End, EndReason, Outcome};
use muster_core::time::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// What the engine shows of a container that isn't running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// `None`: it never started.
    pub started: Option<Timestamp>,
    pub finished: Option<Timestamp>,
    pub code: i32,
    pub oom_killed: bool,
    /// Why the engine could not start it; empty otherwise.
    pub error: String,
}

/// Why the agent sent a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KillReason {
    Canceled,
    Preempted,
    Superseded,
    RunTimeout,
    /// It heard nothing of the coordinator for as long as the job allows.
    Disconnected,
}

/// One line of the agent's own kill log, written before the signal was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// Milliseconds since the Unix epoch, by the host's clock, which is the engine's too.
    pub at: u64,
    pub signal: i32,
    pub reason: KillReason,
}

/// What became of the engine while the attempt ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EngineHistory {
    pub live_restore: bool,
    /// The host went down and came back.
    pub rebooted: bool,
    pub restart: Option<Restart>,
}

/// The engine that shows the end is not the one that ran the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// When the old one was last known to work.
    pub last_contact: Timestamp,
    /// When the new one started, if that can be told.
    pub started: Option<Timestamp>,
}

/// What muster's own init process has to say of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitWord {
    /// The container has the engine's init process, which says nothing.
    Absent,
    /// It left no record: it was killed, or the disk or the task was in the way.
    Silent {
        /// It did use the one start.
        ran: bool,
    },
    /// What shows that a record is genuine was lost with the attempt's first journal.
    Unproven {
        /// It stops the task when its lease is over, and exits with the task's code then.
        leased: bool,
    },
    Record(Run),
}

/// A record of the init process, which was on the disk before the engine knew of the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub started: Timestamp,
    pub ended: Timestamp,
    pub end: RunEnd,
    /// The first signal that was sent from outside the container, by whomever.
    pub signal: Option<i32>,
    /// The task was stopped because nobody renewed its lease.
    pub lease_ended: bool,
    /// The kernel killed a process of the container for memory.
    pub oom_killed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunEnd {
    Exited(i32),
    Signaled(i32),
    /// The program can't be executed: the system's error number.
    NoProgram(i32),
}

impl Run {
    /// As the engine would show it, had it missed nothing.
    fn exit(&self, shown: &Exit) -> Exit {
        Exit {
            started: Some(shown.started.unwrap_or(self.started)),
            finished: Some(self.ended),
            code: match self.end {
                RunEnd::Exited(code) => code,
                RunEnd::Signaled(signal) => 128 + signal,
                RunEnd::NoProgram(ENOENT) => 127,
                RunEnd::NoProgram(_) => 126,
            },
            oom_killed: shown.oom_killed || self.oom_killed,
            error: String::new(),
        }
    }
}

const ENOENT: i32 = 2;
/// Exit codes of the init process itself. A task's own come with a record.
const SECOND_START: i32 = 123;
const INIT_UNUSABLE: i32 = 122;

/// Everything the verdict rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence<'a> {
    pub exit: Exit,
    pub kills: &'a [Kill],
    /// A deadly signal that the engine was asked to send by somebody else.
    pub foreign_kill: Option<Timestamp>,
    pub engine: EngineHistory,
    /// The host's clock was set while it ran, or the host went down: times of before and after can't be
    /// compared.
    pub clock_set: bool,
    pub init: InitWord,
    /// What the container's init process said when it could not execute the task's program.
    pub init_failure: Option<String>,
    /// Besides 0.
    pub success_codes: &'a [u8],
}

/// How far the engine's clock readings around its own start may be apart.
const START_SLACK: Millis = Millis::from_secs(5);
/// An engine that stops signals its containers and can be spoken to until the last of them is gone, at
/// most for twice the 15 s that Docker gives them.
const STOP_SLACK: Millis = Millis::from_secs(30);
const MESSAGE_MAX: usize = 1024;

/// The verdict.
#[must_use]
pub fn classify(evidence: &Evidence<'_>) -> End {
    if let InitWord::Record(run) = &evidence.init {
        // What the engine lost or made up since does not count.
        let exit = run.exit(&evidence.exit);
        let told = Evidence {
            exit,
            ..evidence.clone()
        };
        return by_record(&told, run);
    }
    let exit = &evidence.exit;
    if let Some(kill) = first_own_kill(evidence) {
        return by_own_hand(kill);
    }
    if let InitWord::Silent { ran } = evidence.init
        && let Some(end) = by_silence(exit, ran)
    {
        return end;
    }
    if exit.started.is_none() {
        return never_started(exit);
    }
    if let InitWord::Unproven { leased } = evidence.init
        && (leased || matches!(exit.code, SECOND_START | INIT_UNUSABLE))
    {
        return End {
            message: "its journal was lost, and with it what would tell who ended it".to_owned(),
            ..End::of(Outcome::Lost, EndReason::ContainerGone)
        };
    }
    if exit.code == 255 && ended_with_the_host(evidence) {
        let reason = if evidence.engine.rebooted {
            EndReason::HostRebooted
        } else {
            EndReason::EngineLost
        };
        return End::of(Outcome::Lost, reason);
    }
    if exit.code == 137 && exit.oom_killed {
        return out_of_memory(exit);
    }
    if let Some(message) = &evidence.init_failure {
        return End {
            message: cut(message),
            ..no_program(exit.code)
        };
    }
    if let Some(reason) = foreign_hand(evidence) {
        return End::of(Outcome::InfraError, reason);
    }
    by_itself(evidence)
}

fn by_record(evidence: &Evidence<'_>, run: &Run) -> End {
    let exit = &evidence.exit;
    // One that came after the end was not heard.
    if run.signal.is_some()
        && let Some(kill) = first_own_kill(evidence)
    {
        return by_own_hand(kill);
    }
    if run.lease_ended {
        return disconnected();
    }
    if let RunEnd::NoProgram(errno) = run.end {
        return End {
            message: std::io::Error::from_raw_os_error(errno).to_string(),
            ..no_program(exit.code)
        };
    }
    if exit.code == 137 && exit.oom_killed {
        return out_of_memory(exit);
    }
    if run.signal.is_some() {
        return End::of(Outcome::InfraError, signaled_by_others(evidence));
    }
    if exit.code == 137 {
        return End::of(Outcome::InfraError, EndReason::KilledExternally);
    }
    by_itself(evidence)
}

/// What can be told from an init process that left no record.
fn by_silence(exit: &Exit, ran: bool) -> Option<End> {
    let lost = |message: &str| End {
        message: message.to_owned(),
        ..End::of(Outcome::Lost, EndReason::EngineLost)
    };
    match exit.code {
        _ if exit.started.is_none() && ran => {
            Some(lost("it ran, and the engine does not know of it"))
        }
        SECOND_START => Some(lost(
            "it was started a second time, which ran nothing, and the first left no record",
        )),
        INIT_UNUSABLE => Some(End {
            message: "the container's init process could not do its work".to_owned(),
            ..End::of(Outcome::InfraError, EndReason::NeverStarted)
        }),
        _ => None,
    }
}

fn out_of_memory(exit: &Exit) -> End {
    End {
        exit_code: Some(exit.code),
        ..End::of(Outcome::Oom, EndReason::MemoryLimit)
    }
}

/// The first signal of ours, unless the container had already ended when it was sent. If that can't be
/// told, it counts: an end that was asked for is no success of its own.
fn first_own_kill(evidence: &Evidence<'_>) -> Option<Kill> {
    let first = evidence.kills.first().copied()?;
    let before = !evidence.clock_set
        && evidence.exit.started.is_some()
        && evidence
            .exit
            .finished
            .is_some_and(|finished| finished < Timestamp(first.at));
    (!before).then_some(first)
}

fn by_own_hand(kill: Kill) -> End {
    match kill.reason {
        KillReason::Canceled => End::of(Outcome::Canceled, EndReason::CanceledByUser),
        KillReason::Preempted => End::of(Outcome::Preempted, EndReason::Drained),
        KillReason::Superseded => End::of(Outcome::Canceled, EndReason::Superseded),
        KillReason::RunTimeout => End::of(Outcome::Timeout, EndReason::RunTimeout),
        KillReason::Disconnected => disconnected(),
    }
}

/// Its host stopped it because nobody had heard of the coordinator for so long.
pub(crate) fn disconnected() -> End {
    End {
        message: "its host heard nothing of the coordinator for so long that it stopped the task"
            .to_owned(),
        ..End::of(Outcome::Lost, EndReason::Disconnected)
    }
}

/// What the engine says of a start that the task's own settings or its image make impossible, in lower case.
const OF_THE_TASK: [&str; 7] = [
    "unable to find user",
    "unable to find group",
    "chdir to cwd",
    "not a directory",
    "exec: \"",
    "exec format error",
    "memory limit too low",
];
/// What it says if its own parts do not work, whatever else the text tells.
const OF_THE_HOST: [&str; 3] = [
    "unable to retrieve oci runtime error",
    "failed to start shim",
    "containerd-shim",
];

/// The exit code does not tell whose fault it is: a runtime that does not work gives 127, too.
fn never_started(exit: &Exit) -> End {
    let error = exit.error.to_ascii_lowercase();
    let says = |word: &&str| error.contains(*word);
    let of_the_task = OF_THE_TASK.iter().any(says) && !OF_THE_HOST.iter().any(says);
    let end = if of_the_task {
        no_program(exit.code)
    } else {
        End::of(Outcome::InfraError, EndReason::NeverStarted)
    };
    End {
        message: cut(&exit.error),
        ..end
    }
}

/// 127: there is no such program; others: it can't be executed.
fn no_program(code: i32) -> End {
    let reason = match code {
        127 => EndReason::NoSuchEntrypoint,
        _ => EndReason::Rejected,
    };
    End::of(Outcome::ImageError, reason)
}

/// 255 is what the engine writes when it comes back and finds the container gone.
fn ended_with_the_host(evidence: &Evidence<'_>) -> bool {
    let after_start = |restart: Restart| {
        let (Some(finished), Some(started)) = (evidence.exit.finished, restart.started) else {
            return true; // no times to compare: don't blame the task
        };
        evidence.clock_set || finished + START_SLACK >= started
    };
    evidence.engine.rebooted || evidence.engine.restart.is_some_and(after_start)
}

/// Why a task ended that was sent a deadly signal by neither itself nor the agent.
fn signaled_by_others(evidence: &Evidence<'_>) -> EndReason {
    if stopping(evidence, STOP_SLACK) {
        EndReason::Interrupted
    } else {
        EndReason::KilledExternally
    }
}

/// Whether it ended while the engine was stopping or down and may have signalled it: at most `slack`
/// before the last contact.
fn stopping(evidence: &Evidence<'_>, slack: Millis) -> bool {
    let Evidence { exit, engine, .. } = evidence;
    match engine.restart {
        // A live-restoring engine signals nobody when it stops; a host that goes down does.
        Some(_) if engine.live_restore && !engine.rebooted => false,
        Some(restart) => exit
            .finished
            .is_none_or(|finished| evidence.clock_set || finished + slack > restart.last_contact),
        None => engine.rebooted,
    }
}

/// Whether something other than the task or the agent had a hand in the end.
fn foreign_hand(evidence: &Evidence<'_>) -> Option<EndReason> {
    let exit = &evidence.exit;
    let stopping = stopping(evidence, Millis(0));
    let is_success = succeeded(evidence);
    if evidence.foreign_kill.is_some() {
        return Some(signaled_by_others(evidence));
    }
    match exit.code {
        143 if stopping => Some(EndReason::Interrupted),
        137 if stopping => Some(EndReason::Interrupted),
        137 => Some(EndReason::KilledExternally),
        _ if is_success && stopping => Some(EndReason::Interrupted),
        _ if stopped_by_the_next(evidence) => Some(EndReason::Interrupted),
        _ => None,
    }
}

/// Whether it was still there when the next engine started, which without live-restore stops whatever it
/// finds, and tells of the signal before anybody can listen. Ends from before have their own time.
fn stopped_by_the_next(evidence: &Evidence<'_>) -> bool {
    let Evidence { exit, engine, .. } = evidence;
    let next = engine.restart.and_then(|restart| restart.started);
    let (Some(finished), Some(next)) = (exit.finished, next) else {
        return false;
    };
    !engine.live_restore && !evidence.clock_set && finished >= next
}

fn succeeded(evidence: &Evidence<'_>) -> bool {
    let code = evidence.exit.code;
    code == 0 || u8::try_from(code).is_ok_and(|code| evidence.success_codes.contains(&code))
}

fn by_itself(evidence: &Evidence<'_>) -> End {
    let exit = &evidence.exit;
    let child = "a child process was killed for memory";
    let (outcome, reason, message) = if succeeded(evidence) {
        let note = if exit.oom_killed { child } else { "" };
        (Outcome::Succeeded, EndReason::Exited, note.to_owned())
    } else if exit.oom_killed {
        (Outcome::Failed, EndReason::ChildOom, child.to_owned())
    } else if (129..=159).contains(&exit.code) {
        let signal = exit.code - 128;
        let message = format!("ended by signal {signal} from inside the container");
        (Outcome::Failed, EndReason::Signaled, message)
    } else {
        (Outcome::Failed, EndReason::Exited, String::new())
    };
    End {
        outcome,
        exit_code: Some(exit.code),
        reason,
        message,
    }
}

/// The first KiB of a text for people.
#[must_use]
pub(crate) fn cut(text: &str) -> String {
    let mut end = text.len().min(MESSAGE_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests;
