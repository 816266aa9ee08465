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

/// Everything the verdict rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence<'a> {
    pub exit: Exit,
    pub kills: &'a [Kill],
    /// A deadly signal that the engine was asked to send by somebody else.
    pub foreign_kill: Option<Timestamp>,
    pub engine: EngineHistory,
    /// What the container's init process said when it could not execute the task's program.
    pub init_failure: Option<String>,
    /// Besides 0.
    pub success_codes: &'a [u8],
}

/// How far the engine's clock readings around its own start may be apart.
const START_SLACK: Millis = Millis::from_secs(5);
const MESSAGE_MAX: usize = 1024;

/// The verdict.
#[must_use]
pub fn classify(evidence: &Evidence<'_>) -> End {
    let exit = &evidence.exit;
    if let Some(kill) = first_own_kill(evidence) {
        return by_own_hand(kill);
    }
    if exit.started.is_none() {
        return never_started(exit);
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
        let mut end = End::of(Outcome::Oom, EndReason::MemoryLimit);
        end.exit_code = Some(exit.code);
        return end;
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

/// The first signal of ours, unless the container had already ended when it was sent.
fn first_own_kill(evidence: &Evidence<'_>) -> Option<Kill> {
    let first = evidence.kills.first().copied()?;
    let before = evidence.exit.started.is_some()
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
    }
}

fn never_started(exit: &Exit) -> End {
    let mut end = match exit.code {
        125..=127 => no_program(exit.code),
        _ if !exit.error.is_empty() => End::of(Outcome::ImageError, EndReason::Rejected),
        _ => End::of(Outcome::InfraError, EndReason::NeverStarted),
    };
    end.message = cut(&exit.error);
    end
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
        finished + START_SLACK >= started
    };
    evidence.engine.rebooted || evidence.engine.restart.is_some_and(after_start)
}

/// Whether something other than the task or the agent had a hand in the end.
fn foreign_hand(evidence: &Evidence<'_>) -> Option<EndReason> {
    let Evidence { exit, engine, .. } = evidence;
    let stopping = match engine.restart {
        // A live-restoring engine signals nobody when it stops; a host that goes down does.
        Some(_) if engine.live_restore && !engine.rebooted => false,
        Some(restart) => exit
            .finished
            .is_none_or(|finished| finished > restart.last_contact),
        None => engine.rebooted,
    };
    let is_success = succeeded(evidence);
    if evidence.foreign_kill.is_some() {
        return Some(if stopping {
            EndReason::Interrupted
        } else {
            EndReason::KilledExternally
        });
    }
    match exit.code {
        143 if stopping => Some(EndReason::Interrupted),
        137 if stopping => Some(EndReason::Interrupted),
        137 => Some(EndReason::KilledExternally),
        _ if is_success && stopping => Some(EndReason::Interrupted),
        _ => None,
    }
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
