//! Everything the world can tell the fleet. Closed: for a new variant the compiler lists the work.

use std::sync::Arc;

use crate::agent::{Agent, HeldImage, Hello};
use crate::channel::{Candidate, Channel, ChannelId, Following, Release, Warm};
use crate::ids::{
    AgentId, AttemptId, AttemptNo, JobId, JobName, SessionNo, TaskId, TeamName, Term, Ticket,
};
use crate::image::{Image, Tag};
use crate::job::{Job, JobProgress};
use crate::outcome::{End, Usage};
use crate::ranges::Ranges;
use crate::rollout::gate::Ran;
use crate::rollout::policy::Policy;
use crate::rollout::{Command, Rollout};
use crate::safe_mode::SafeMode;
use crate::task::TaskRow;
use crate::time::Timestamp;

#[derive(Debug, Clone)]
pub enum Event {
    /// A row of the store, at the start: channels and agents first, then jobs in order of submission.
    Restored(Restored),
    /// Jobs of one submission: all are taken or none.
    Submitted {
        ticket: Ticket,
        jobs: Vec<NewJob>,
    },
    CancelRequested {
        ticket: Ticket,
        job: JobId,
        tasks: Option<Ranges>,
        reason: String,
        now: bool,
    },
    /// An agent opened its stream and listed what it holds.
    AgentHello(Hello),
    /// An agent's stream closed, or was silent for too long.
    AgentGone {
        agent: AgentId,
        session: SessionNo,
    },
    /// An agent is alive, and perhaps holds other images than before.
    AgentBeat {
        agent: AgentId,
        session: SessionNo,
        held: Option<Vec<HeldImage>>,
    },
    /// How far an agent is with images that were ordered ahead of their tasks.
    AgentFetches {
        agent: AgentId,
        fetches: Vec<Fetch>,
    },
    /// An agent says how an attempt stands.
    Reported(Report),
    AgentCordoned {
        ticket: Ticket,
        agent: AgentId,
        reason: String,
    },
    AgentUncordoned {
        ticket: Ticket,
        agent: AgentId,
    },
    AgentDrained {
        ticket: Ticket,
        agent: AgentId,
        reason: String,
        deadline: Option<Timestamp>,
    },
    /// An operator says that all agents out of sight are gone for good.
    LossesConfirmed {
        ticket: Ticket,
    },
    /// Somebody named a channel's repository and tag, and the registry said what the tag means.
    ChannelSet {
        ticket: Ticket,
        channel: ChannelId,
        tag: Tag,
        candidate: Box<Candidate>,
    },
    /// A followed tag was resolved at the registry. A webhook is only a reason to look. It counts only
    /// while the channel still follows that tag.
    ImageResolved {
        channel: ChannelId,
        tag: Tag,
        candidate: Box<Candidate>,
    },
    /// Somebody wants a channel moved to a digest, whatever its tag means.
    RolloutAsked {
        ticket: Ticket,
        channel: ChannelId,
        candidate: Box<Candidate>,
    },
    /// Somebody tells the channel's rollout what to do.
    RolloutTold {
        ticket: Ticket,
        channel: ChannelId,
        command: Command,
        by: String,
    },
    /// Somebody changes what the channel's next rollouts have to pass.
    PolicySet {
        ticket: Ticket,
        channel: ChannelId,
        policy: Box<Policy>,
    },
    /// Somebody changes how many containers wait for the channel's tasks.
    WarmSet {
        ticket: Ticket,
        channel: ChannelId,
        warm: Warm,
    },
    /// Somebody changes how the channel's tag is looked at.
    FollowingSet {
        ticket: Ticket,
        channel: ChannelId,
        following: Following,
    },
    /// Somebody wants an earlier release back.
    RolledBack {
        ticket: Ticket,
        channel: ChannelId,
        to: RollbackTo,
        reason: String,
        by: String,
    },
    /// Somebody lets tasks out of quarantine: one, or all of the team.
    Requeued {
        ticket: Ticket,
        team: TeamName,
        task: Option<TaskId>,
    },
    /// Somebody gives a task up that is in quarantine.
    Dropped {
        ticket: Ticket,
        task: TaskId,
    },
    /// An agent was refused that has obeyed a later term of this cluster: the store is an old copy.
    TermSeen {
        agent: AgentId,
        seen: Term,
    },
    /// Somebody takes a restored store over as it is.
    Adopted {
        ticket: Ticket,
        /// Also if agents that the store knows have not called since the restore.
        without_agents: bool,
    },
    /// The moment that `Fleet::next_deadline` named has come.
    Tick,
}

/// An image on its way to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    pub image: Image,
    /// Of the layers that the engine has begun to fetch.
    pub done_bytes: u64,
    pub total_bytes: u64,
    /// Why it failed; empty: it is under way.
    pub problem: String,
}

#[derive(Debug, Clone)]
pub enum Restored {
    Channel(Box<Channel>),
    /// One that is under way; after its channel, before the jobs.
    Rollout(Box<Rollout>),
    /// An attempt of a job that followed a channel; oldest first.
    Ran {
        team: TeamName,
        name: JobName,
        ran: Ran,
    },
    /// Its link is `Unreachable` and nothing is live on it yet.
    Agent(Agent),
    Job {
        job: Arc<Job>,
        progress: JobProgress,
        tasks: Vec<(u32, TaskRow)>,
    },
    /// Attempts of that job up to this number may exist although the store does not know them: it
    /// was once restored from a backup.
    Fence {
        job: JobId,
        number: AttemptNo,
    },
    SafeMode(SafeMode),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    pub job: Arc<Job>,
    /// What the store has under the job's idempotency key.
    pub prior: Option<Prior>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prior {
    pub id: JobId,
    pub body: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollbackTo {
    /// The release before the current one.
    Previous,
    /// As the store has it.
    Release(Box<Release>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub agent: AgentId,
    pub session: SessionNo,
    pub attempt: AttemptId,
    /// Grows with every report about the attempt; acknowledged by number.
    pub seq: u64,
    pub news: News,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    Accepted,
    /// It never ran and never will.
    Refused {
        /// It is the host's state that is in the way, not the task.
        unfit: bool,
        message: String,
    },
    Started {
        at: Timestamp,
    },
    Ended(Box<AttemptEnd>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptEnd {
    pub end: End,
    pub started: Option<Timestamp>,
    pub ended: Timestamp,
    pub usage: Usage,
    /// What the task measured; the core hands it on, once, with the notice of the end.
    pub metrics: Option<Arc<[u8]>>,
}
