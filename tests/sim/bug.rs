//! Mistakes that the model can make on purpose, to prove that the invariants would notice.

/// One mistake, made wherever there is an occasion for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Orders and answers go out before their records are stored.
    SpeakBeforeCommit,
    /// A commit that is cut off by a crash keeps its first half.
    TornCommit,
    /// A report of a superseded attempt is taken for one of the newest.
    OlderFence,
    /// After a restart attempts are numbered again from the one that was running.
    ReuseAttemptNumbers,
    /// A cancel is answered and forgotten.
    ForgetCancel,
    /// After a restart no timer fires.
    LoseTimers,
    /// A restarted agent takes a written intent for permission to start.
    StartTwice,
    /// Exit code 0 is success, whoever stopped the container.
    TrustExitCode,
    /// An agent runs the newest image it has instead of the one it was told to.
    RunNewestImage,
    /// Acknowledgements are lost.
    NeverAcknowledge,
    /// A key is only looked up among live jobs.
    ForgetEndedKeys,
    /// A lost agent's attempts are not given up.
    NeverLose,
    /// A commit that failed is taken for stored, and spoken of.
    TrustFailedCommit,
    /// Containers are removed by the engine when they end.
    AutoRemove,
    /// An agent that comes back kills what runs, for it did not start it in this life.
    KillUnknownOnRejoin,
    /// The memory flag decides, whatever the exit code says.
    TrustMemoryFlag,
    /// A failed start call counts as not started, and the attempt is ended as such.
    TrustStartError,
    /// An end is reported once, and forgotten when its stream breaks.
    ForgetReport,
    /// A signal's reason is not on the disk before the signal is sent.
    KillUnsynced,
    /// The break of the engine's stream that was noticed last is taken for the last contact.
    TrustNewestBreak,
    /// Times are compared although the clock was set between them.
    TrustClock,
    /// An agent obeys a coordinator of a smaller term.
    SkipTermCheck,
    /// An offer that was refused is accepted when it comes again, before the refusal is acknowledged.
    AcceptAfterRefusal,
}

impl Bug {
    pub(crate) const ALL: [Self; 23] = [
        Self::SpeakBeforeCommit,
        Self::TornCommit,
        Self::OlderFence,
        Self::ReuseAttemptNumbers,
        Self::ForgetCancel,
        Self::LoseTimers,
        Self::StartTwice,
        Self::TrustExitCode,
        Self::RunNewestImage,
        Self::NeverAcknowledge,
        Self::ForgetEndedKeys,
        Self::NeverLose,
        Self::TrustFailedCommit,
        Self::AutoRemove,
        Self::KillUnknownOnRejoin,
        Self::TrustMemoryFlag,
        Self::TrustStartError,
        Self::ForgetReport,
        Self::KillUnsynced,
        Self::TrustNewestBreak,
        Self::TrustClock,
        Self::SkipTermCheck,
        Self::AcceptAfterRefusal,
    ];
}
