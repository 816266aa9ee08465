//! Everything the fleet can want. Records are stored first; the rest goes out after the commit.

use std::sync::Arc;

use crate::agent::{Agent, Link, Schedulable};
use crate::channel::{Channel, ChannelId, Release, Warm};
use crate::ids::{AgentId, AttemptId, AttemptNo, JobId, TaskId, Ticket};
use crate::image::Image;
use crate::job::{Job, JobProgress};
use crate::outcome::{End, Usage};
use crate::rollout::{Moment, Phase, Rollout};
use crate::safe_mode::{Adoption, SafeMode};
use crate::task::{Stop, TaskRow};
use crate::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Record(Record),
    /// For an agent; dropped if its stream is gone, because a new Hello brings it up again.
    Order {
        agent: AgentId,
        order: Order,
    },
    Answer {
        ticket: Ticket,
        answer: Answer,
    },
    Notify(Notice),
}

/// What must be durable before anybody hears of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    JobSubmitted(Arc<Job>),
    JobProgress {
        job: JobId,
        progress: JobProgress,
    },
    Task {
        task: TaskId,
        row: TaskRow,
    },
    AttemptMade {
        attempt: AttemptId,
        agent: AgentId,
        image: Image,
        at: Timestamp,
        because: Because,
    },
    AttemptStarted {
        attempt: AttemptId,
        at: Timestamp,
    },
    AttemptEnded {
        attempt: AttemptId,
        started: Option<Timestamp>,
        at: Timestamp,
        end: End,
        usage: Usage,
    },
    /// Evidence from an attempt that no longer counts; changes nothing else.
    LateReport {
        attempt: AttemptId,
        at: Timestamp,
        end: End,
    },
    Agent(Box<Agent>),
    AgentLink {
        agent: AgentId,
        link: Link,
        last_contact: Timestamp,
    },
    AgentSchedulable {
        agent: AgentId,
        schedulable: Schedulable,
    },
    Channel(Box<Channel>),
    Released {
        channel: ChannelId,
        release: Release,
    },
    Rollout(Box<Rollout>),
    /// `None`: the store was taken over as it is.
    SafeMode(Option<SafeMode>),
}

/// Why an attempt exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    First,
    UserRetry {
        number: u32,
        allowed: u32,
    },
    InfraRetry {
        number: u32,
        allowed: u32,
    },
    /// The one before was refused or preempted.
    FreeRetry,
    /// The one before failed on a release that was on trial.
    Forgiven,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    Offer(Box<Offer>),
    Stop {
        attempt: AttemptId,
        stop: Stop,
    },
    Ack {
        attempt: AttemptId,
        seq: u64,
    },
    Prefetch {
        image: Image,
        /// Few are asked at a time; otherwise each waits for a moment of its own, so that a fleet does not ask
        /// a registry all at once.
        at_once: bool,
    },
    /// Follow the container of this attempt, which the agent has without a journal. Starts nothing.
    Adopt(Box<Offer>),
    /// Stop and remove the container of this attempt, which the agent has without a journal.
    Discard {
        attempt: AttemptId,
    },
    /// What tasks of the channel may run next: not to be removed, whatever the disk is like. Takes the
    /// place of what was said of the channel before.
    Keep {
        channel: ChannelId,
        images: Vec<Image>,
        warm: Option<WarmOrder>,
    },
}

/// Containers that wait for a channel's tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarmOrder {
    pub image: Image,
    pub warm: Warm,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub attempt: AttemptId,
    pub job: Arc<Job>,
    pub image: Image,
    pub release: Option<u64>,
    /// Of the rollout that leads to the release; `None`: none does now.
    pub phase: Option<Phase>,
    /// What the container may have, in bytes: what the job asks for, or what the task has grown to.
    pub memory: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Submitted(Vec<Submitted>),
    /// How many tasks had not ended.
    CancelRequested {
        tasks: u32,
    },
    /// How many tasks left the quarantine.
    Released {
        tasks: u32,
    },
    Agent(Box<Agent>),
    /// These agents count as gone now.
    LossesConfirmed {
        agents: Vec<AgentId>,
    },
    Channel(Box<Channel>),
    Adopted(Box<Adoption>),
    Refused(Refusal),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    pub id: JobId,
    /// The key was known: this is the earlier job.
    pub existed: bool,
    /// No agent that is known would take it, even idle.
    pub nobody_fits: bool,
}

/// Why a request can't be carried out. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("idempotency key {key:?} belongs to job {existing}, whose body is different")]
    KeyInUse { key: String, existing: JobId },
    #[error("job {job} has ended")]
    JobEnded { job: JobId },
    #[error("task {task} is not in quarantine")]
    NotQuarantined { task: TaskId },
    #[error("no agent {agent}")]
    NoSuchAgent { agent: AgentId },
    #[error("no channel {}", channel.name)]
    NoSuchChannel { channel: ChannelId },
    #[error("channel {} has no release before the current one", channel.name)]
    NoPreviousRelease { channel: ChannelId },
    #[error("channel {} can't move to that image: {objection}", channel.name)]
    Objection {
        channel: ChannelId,
        objection: String,
    },
    #[error("channel {} is at that release already", channel.name)]
    AlreadyThere { channel: ChannelId },
    #[error("channel {} has no rollout under way", channel.name)]
    NoRollout { channel: ChannelId },
    #[error("the rollout of channel {} is paused already", channel.name)]
    AlreadyPaused { channel: ChannelId },
    #[error("the rollout of channel {} is not paused", channel.name)]
    NotPaused { channel: ChannelId },
    #[error("the rollout of channel {} has promoted its release; `muster rollout rollback` takes it back", channel.name)]
    AlreadyPromoted { channel: ChannelId },
    #[error("the store was not restored from a backup: there is nothing to adopt")]
    NotRestored,
    #[error(
        "agent {agent} has seen term {seen}, which is later than this store: stop the coordinator and \
         use `muster coordinator restore` with the copy that is to be kept"
    )]
    StoreBehind { agent: AgentId, seen: u64 },
    #[error(
        "agents have not called since the restore: {}; wait for them, or go on without them",
        agents.join(", ")
    )]
    AgentsMissing { agents: Vec<String> },
}

/// For watchers, metrics and logs: nothing depends on its arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    JobChanged {
        job: JobId,
    },
    AttemptMade {
        attempt: AttemptId,
        waited: crate::time::Millis,
    },
    AttemptEnded {
        attempt: AttemptId,
        job: Arc<Job>,
        end: End,
        usage: Usage,
        metrics: Option<Arc<[u8]>>,
    },
    TaskRetried {
        task: TaskId,
        after: AttemptNo,
    },
    TaskQuarantined {
        task: TaskId,
    },
    JobEnded {
        job: JobId,
    },
    AgentChanged {
        agent: AgentId,
    },
    /// So many attempts in a row ended on an agent before they started.
    NothingStarts {
        agent: AgentId,
        failures: u32,
        /// It was taken out of service; otherwise less than half of its pool would be left.
        cordoned: bool,
    },
    /// The coordinator suspects that it is the one that is cut off.
    SuspicionBegan {
        missing: usize,
        known: usize,
    },
    SuspicionEnded,
    Released {
        channel: ChannelId,
        release: Release,
    },
    /// A rollout began, went a step further or ended.
    RolloutMoved {
        channel: ChannelId,
        release: u64,
        moment: Moment,
        /// As it ended.
        ended: Option<Box<Rollout>>,
    },
    /// Nothing is started or stopped from now on.
    SafeModeEntered(SafeMode),
    /// The fleet took over an attempt that its store did not know.
    AttemptTakenOver {
        attempt: AttemptId,
        agent: AgentId,
    },
    SafeModeLeft,
}

/// Collects effects in order. The core adds; the shell can only drain.
#[derive(Debug, Default)]
pub struct Effects(Vec<Effect>);

impl Effects {
    pub(crate) fn record(&mut self, record: Record) {
        self.0.push(Effect::Record(record));
    }

    pub(crate) fn order(&mut self, agent: &AgentId, order: Order) {
        self.0.push(Effect::Order {
            agent: agent.clone(),
            order,
        });
    }

    pub(crate) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.0.push(Effect::Answer { ticket, answer });
    }

    pub(crate) fn notify(&mut self, notice: Notice) {
        self.0.push(Effect::Notify(notice));
    }

    /// Everything so far, in order.
    #[must_use]
    pub fn drain(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.0)
    }
}
