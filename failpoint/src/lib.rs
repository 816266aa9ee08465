//! Named places in the protocol where a test can kill or freeze the process.
//!
//! The daemons call [`hit`] at each of them. In a debug build the environment variable
//! `MUSTER_FAILPOINT=NAME=kill` (or `stop`) makes the process send itself KILL (or STOP) there, and
//! `NAME=kill:3` only the third time it comes by. Without the variable nothing happens, and a release
//! build has no code for any of it.
//!
//! `tests/faults` goes through [`Point::ALL`] and fails if one of them is never reached.

#[cfg(debug_assertions)]
mod armed;

use std::time::Duration;

/// Which daemon comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    Coordinator,
    Agent,
}

macro_rules! points {
    ($($(#[doc = $what:literal])+ $point:ident = $daemon:ident $name:literal),+ $(,)?) => {
        /// A place where everything may end.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point {
            $($(#[doc = $what])+ $point,)+
        }

        impl Point {
            pub const ALL: &[Self] = &[$(Self::$point),+];

            /// What `MUSTER_FAILPOINT` calls it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)+
                }
            }

            #[must_use]
            pub const fn daemon(self) -> Daemon {
                match self {
                    $(Self::$point => Daemon::$daemon,)+
                }
            }
        }
    };
}

points! {
    /// The term is raised and nobody is served yet.
    TermRaised = Coordinator "term.raised",
    /// The fleet is as the store says, and nobody is served yet.
    FleetRestored = Coordinator "fleet.restored",
    /// A job's row is written, in a transaction that is not committed.
    SubmitBeforeCommit = Coordinator "submit.before_commit",
    /// The job is stored and its client has no answer.
    SubmitAfterCommit = Coordinator "submit.after_commit",
    /// An attempt's row is written, in a transaction that is not committed.
    AssignBeforeCommit = Coordinator "assign.before_commit",
    /// The attempt is stored and not offered.
    AssignAfterCommit = Coordinator "assign.after_commit",
    /// The offer was handed to the agent's stream.
    AssignAfterSend = Coordinator "assign.after_send",
    /// An end was read from an agent's stream.
    ReportReceived = Coordinator "report.received",
    /// An end is written, in a transaction that is not committed.
    ReportBeforeCommit = Coordinator "report.before_commit",
    /// The end is stored and not acknowledged.
    ReportAfterCommit = Coordinator "report.after_commit",
    /// Acknowledgements are about to go to an agent's stream.
    ReportBeforeAck = Coordinator "report.before_ack",
    /// They were handed to it.
    ReportAfterAck = Coordinator "report.after_ack",
    /// Somebody's wish that a job stops is written and not committed.
    CancelBeforeCommit = Coordinator "cancel.before_commit",
    /// It is stored, and nobody was told.
    CancelAfterCommit = Coordinator "cancel.after_commit",
    /// Output is in its file and not acknowledged.
    LogStored = Coordinator "log.stored",
    /// All output is there and its file is not final.
    LogBeforeFinal = Coordinator "log.before_final",
    /// The file is final and the agent does not know.
    LogFinal = Coordinator "log.final",
    /// A registry said what a tag means.
    ReleaseResolved = Coordinator "release.resolved",
    /// A release is written and not committed.
    ReleaseBeforeCommit = Coordinator "release.before_commit",
    /// It is stored, and no agent was told.
    ReleaseStored = Coordinator "release.stored",

    /// A coordinator's term is stored, and none of its orders is obeyed yet.
    AgentTermStored = Agent "agent.term_stored",
    /// An offer is there and not journaled.
    AgentOffered = Agent "agent.offered",
    /// It is journaled and not reported.
    AgentAccepted = Agent "agent.accepted",
    /// The image is there, the container is not.
    AgentBeforeCreate = Agent "agent.before_create",
    /// The container is there.
    AgentAfterCreate = Agent "agent.after_create",
    /// The intent to start it is journaled.
    AgentAfterIntent = Agent "agent.after_intent",
    /// The engine answered the start.
    AgentAfterStartCall = Agent "agent.after_start_call",
    /// The start is journaled and not reported.
    AgentAfterStarted = Agent "agent.after_started",
    /// The container has ended and there is no verdict.
    AgentExitSeen = Agent "agent.exit_seen",
    /// The verdict is journaled and not reported.
    AgentVerdictJournaled = Agent "agent.verdict_journaled",
    /// An end is about to go to the stream.
    AgentBeforeReport = Agent "agent.before_report",
    /// It was handed to the stream.
    AgentAfterReport = Agent "agent.after_report",
    /// The end is acknowledged and everything is still there.
    AgentAfterAck = Agent "agent.after_ack",
    /// The container is gone, the journal is not.
    AgentAfterRemove = Agent "agent.after_remove",
    /// The journal no longer counts, and its directory is not gone.
    AgentAfterForget = Agent "agent.after_forget",
    /// Output is in the spool and not shipped.
    AgentLogSpooled = Agent "agent.log_spooled",
    /// A chunk of output was handed to the stream.
    AgentLogSent = Agent "agent.log_sent",
    /// The engine listed the containers with our labels.
    GcListed = Agent "gc.listed",
    /// A container without a journal was removed.
    GcRemoved = Agent "gc.removed",
}

/// The process is at this place.
#[cfg(debug_assertions)]
pub fn hit(point: Point) {
    armed::hit(point);
}

/// The process is at this place.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn hit(_: Point) {}

/// The process is at this place if `here` says so.
#[inline(always)]
pub fn hit_if(point: Point, here: impl FnOnce() -> bool) {
    soon(point, here).hit();
}

/// A place that comes after what decides about it is gone.
#[must_use]
#[derive(Debug, Clone, Copy)]
pub struct Soon(#[cfg(debug_assertions)] Option<Point>);

/// `here` says whether the process will be at this place when [`Soon::hit`] is called.
#[cfg(debug_assertions)]
pub fn soon(point: Point, here: impl FnOnce() -> bool) -> Soon {
    Soon((armed::is(point) && here()).then_some(point))
}

/// `here` says whether the process will be at this place when [`Soon::hit`] is called.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn soon(_: Point, _: impl FnOnce() -> bool) -> Soon {
    Soon()
}

impl Soon {
    /// The process is there.
    #[cfg(debug_assertions)]
    pub fn hit(self) {
        if let Some(point) = self.0 {
            hit(point);
        }
    }

    /// The process is there.
    #[cfg(not(debug_assertions))]
    #[inline(always)]
    pub const fn hit(self) {}
}

/// A wait that is too long for a test: a hundredth of it in a debug build with `MUSTER_FAILPOINT_HURRY`.
#[cfg(debug_assertions)]
#[must_use]
pub fn hurried(wait: Duration) -> Duration {
    match std::env::var_os(armed::HURRY) {
        Some(_) => wait / 100,
        None => wait,
    }
}

/// A wait that is too long for a test, as it is.
#[cfg(not(debug_assertions))]
#[inline(always)]
#[must_use]
pub const fn hurried(wait: Duration) -> Duration {
    wait
}

#[cfg(test)]
mod tests;
