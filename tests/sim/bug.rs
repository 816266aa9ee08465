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
    /// How many canaries there were is forgotten at a restart.
    ForgetTally,
    /// The channel's row is not stored when a rollout is taken back.
    ForgetRollback,
    /// After a restart nobody knows what the release in force carries.
    ForgetCarried,
    /// Rollouts that are under way are not loaded at a restart.
    ForgetRollouts,
    /// A task pays for what goes wrong on a release that is on trial.
    ChargeTrials,
    /// Releases that were never promoted are forgotten at a restart, and their numbers with them.
    ForgetUnpromoted,
    /// An agent that lost its journals says nothing of the containers that it has all the same.
    ForgetOrphans,
    /// An agent that lost its journals stops what runs without one.
    KillOrphans,
    /// A lease is not renewed.
    ForgetRenewal,
    /// A lease is renewed from when the answer was read, not from when the message that it answers was sent.
    RenewAtAnswer,
    /// Nothing but the agent stops a task when its lease is over.
    IgnoreLease,
    /// What was asked for long ago is started all the same.
    IgnoreStartDeadline,
    /// A silence that is over counts for nothing, nor does that of a host that was down.
    ForgetGap,
    /// A heartbeat is answered, and the fleet does not hear of it.
    ForgetBeats,
    /// After a restart nobody knows what a task's attempts have cost.
    ForgetSpent,
    /// A task pays for its host's failures.
    ChargeHostFailures,
    /// After a restart the last rule that matches decides.
    LastRuleWins,
    /// After a restart a task asks for as much memory as at first.
    ForgetGrowth,
    /// After a restart a team's retries go at once.
    ForgetPace,
    /// After a restart agents that were out of service are in service.
    ForgetCordon,
    /// A container that waited for a task is given to a second one.
    ShareParked,
    /// After a restart, or without an answer, a parked container is told once more of its task.
    TellAgain,
    /// The agent gives up on the start of a task in a parked container, and does not take it back.
    ForgetWithdraw,
    /// Containers of an image that the channel left go on waiting, and are given to its tasks.
    KeepParked,
}

impl Bug {
    pub(crate) const ALL: [Self; 47] = [
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
        Self::ForgetTally,
        Self::ForgetRollback,
        Self::ForgetCarried,
        Self::ForgetRollouts,
        Self::ChargeTrials,
        Self::ForgetUnpromoted,
        Self::ForgetOrphans,
        Self::KillOrphans,
        Self::ForgetRenewal,
        Self::RenewAtAnswer,
        Self::IgnoreLease,
        Self::IgnoreStartDeadline,
        Self::ForgetGap,
        Self::ForgetBeats,
        Self::ForgetSpent,
        Self::ChargeHostFailures,
        Self::LastRuleWins,
        Self::ForgetGrowth,
        Self::ForgetPace,
        Self::ForgetCordon,
        Self::ShareParked,
        Self::TellAgain,
        Self::ForgetWithdraw,
        Self::KeepParked,
    ];
}
