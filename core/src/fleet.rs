//! The fleet: everything live, and what every piece of news means for it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::agent::Agent;
use crate::channel::{Channel, ChannelId};
use crate::effect::{Effects, Notice, Record};
use crate::event::Event;
use crate::ids::{AgentId, JobId, TaskId, TeamName};
use crate::image::Image;
use crate::job::{Job, LiveJob};
use crate::spec::{ImageSource, Pin};
use crate::task::Task;
use crate::time::{Millis, Timestamp};

mod attempts;
mod cut_off;
mod explain;
mod invariants;
mod jobs;
mod on_adopted;
mod on_agent_admin;
mod on_agent_gone;
mod on_agent_hello;
mod on_cancel;
mod on_channel;
mod on_quarantine;
mod on_report;
mod on_restored;
mod on_submit;
mod on_tick;
mod orphans;
mod pace;
mod place;
mod pulls;
mod queue;
mod rollouts;
mod rows;
mod safe;
mod silence;
mod specs;
mod take_over;
mod tally;
mod timers;
mod trouble;

pub use explain::{Blocker, Explanation, OutOfSight, Waiting};
pub use invariants::{Broken, Cursor, Stuck};
pub use silence::Suspicion;
pub(crate) use tally::Standing;
pub use tally::Tally;

use jobs::Jobs;
use orphans::Orphans;
use pace::Paces;
use place::Look;
use pulls::Pulls;
use queue::Queue;
use rollouts::Rollouts;
use safe::Safe;
use silence::Silence;
use specs::Specs;
use timers::{Timer, Timers};
use trouble::Trouble;

/// Durations and rates that a policy sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long an agent may be silent before its attempts are given up.
    pub lost_after: Millis,
    /// How long after its start a coordinator gives nobody up, and after it doubted itself.
    pub failover_grace: Millis,
    /// Between two agents that are given up with attempts.
    pub loss_interval: Millis,
    /// How long an offer may stay unanswered before it is made again.
    pub offer_patience: Millis,
    /// How long after its own limit an attempt is stopped by the coordinator.
    pub timeout_backstop: Millis,
    /// How long a container without a journal is left alone if nobody here knows its attempt.
    pub orphan_grace: Millis,
    /// Retries of one team that go each minute whatever else the team does; at least 1.
    pub retries_per_minute: u32,
}

impl Default for Limits {
    /// 10 minutes, 80 seconds, 10 seconds, 15 seconds, 1 minute, 10 minutes, 10 retries.
    fn default() -> Self {
        Self {
            lost_after: Millis::from_secs(600),
            failover_grace: Millis::from_secs(80),
            loss_interval: Millis::from_secs(10),
            offer_patience: Millis::from_secs(15),
            timeout_backstop: Millis::from_secs(60),
            orphan_grace: Millis::from_secs(600),
            retries_per_minute: 10,
        }
    }
}

impl Limits {
    /// When the coordinator stops a run of this job that its agent should have stopped.
    fn backstop(&self, job: &Job, started: Timestamp) -> Timestamp {
        started + job.spec.run_timeout + self.timeout_backstop
    }
}

/// Every job that has not ended, every agent and every channel. The driver owns the only one.
#[derive(Debug, Default)]
pub struct Fleet {
    limits: Limits,
    jobs: Jobs,
    tally: Tally,
    specs: Specs,
    /// Keys of the jobs in `jobs`; the store has the rest.
    keys: BTreeMap<(TeamName, String), JobId>,
    agents: BTreeMap<AgentId, Agent>,
    channels: BTreeMap<ChannelId, Channel>,
    rollouts: Rollouts,
    queue: Queue,
    look: Look,
    timers: Timers,
    paces: Paces,
    silence: Silence,
    trouble: BTreeMap<AgentId, Trouble>,
    pulls: Pulls,
    orphans: Orphans,
    /// Live attempts of each team, for fair shares.
    team_live: BTreeMap<TeamName, u32>,
    /// Live attempts that carry a concurrency key.
    key_live: BTreeMap<(TeamName, String), u32>,
    next_seq: u64,
    /// Jobs whose progress differs from its row.
    dirty: BTreeSet<JobId>,
    /// Something happened that could let a waiting task run.
    placeable: bool,
    /// The store is an older copy of itself, and nobody has taken it over yet.
    safe: Option<Safe>,
}

impl Fleet {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Takes one piece of news. Every event is legal at every moment; what is wrong with it comes
    /// out as an effect. This function only routes.
    #[expect(
        clippy::too_many_lines,
        reason = "one arm for each event, and each is a call"
    )]
    pub fn handle(&mut self, now: Timestamp, event: Event, out: &mut Effects) {
        match event {
            Event::Restored(row) => self.on_restored(now, row),
            Event::Submitted { ticket, jobs } => self.on_submit(ticket, jobs, out),
            Event::CancelRequested {
                ticket,
                job,
                tasks,
                reason,
                now: at_once,
            } => {
                let wish = on_cancel::Wish {
                    tasks,
                    reason,
                    at_once,
                };
                self.on_cancel(now, ticket, job, wish, out);
            }
            Event::AgentHello(hello) => self.on_agent_hello(now, hello, out),
            Event::AgentGone { agent, session } => self.on_agent_gone(now, &agent, session, out),
            Event::AgentBeat {
                agent,
                session,
                held,
            } => {
                self.on_agent_beat(now, &agent, session, held);
            }
            Event::AgentFetches { agent, fetches } => self.on_fetches(now, &agent, fetches, out),
            Event::Reported(report) => self.on_report(now, report, out),
            Event::AgentCordoned {
                ticket,
                agent,
                reason,
            } => {
                self.on_agent_cordoned(ticket, &agent, reason, out);
            }
            Event::AgentUncordoned { ticket, agent } => {
                self.on_agent_uncordoned(ticket, &agent, out);
            }
            Event::AgentDrained {
                ticket,
                agent,
                reason,
                deadline,
            } => {
                self.on_agent_drained(ticket, &agent, reason, deadline, out);
            }
            Event::LossesConfirmed { ticket } => self.on_losses_confirmed(now, ticket, out),
            Event::ChannelSet {
                ticket,
                channel,
                tag,
                candidate,
            } => self.on_channel_set(now, ticket, &channel, tag, *candidate, out),
            Event::ImageResolved {
                channel,
                tag,
                candidate,
            } => self.on_image_resolved(now, &channel, &tag, *candidate, out),
            Event::RolloutAsked {
                ticket,
                channel,
                candidate,
            } => self.on_rollout_asked(now, ticket, &channel, *candidate, out),
            Event::RolloutTold {
                ticket,
                channel,
                command,
                by,
            } => self.on_rollout_told(now, ticket, &channel, command, &by, out),
            Event::PolicySet {
                ticket,
                channel,
                policy,
            } => self.on_policy_set(ticket, &channel, *policy, out),
            Event::FollowingSet {
                ticket,
                channel,
                following,
            } => self.on_following_set(ticket, &channel, following, out),
            Event::WarmSet {
                ticket,
                channel,
                warm,
            } => self.on_warm_set(ticket, &channel, warm, out),
            Event::RolledBack {
                ticket,
                channel,
                to,
                reason,
                by,
            } => {
                let wish = on_channel::Rollback { to, reason, by };
                self.on_rolled_back(now, ticket, &channel, wish, out);
            }
            Event::Requeued { ticket, team, task } => {
                self.on_requeued(now, ticket, &team, task, out);
            }
            Event::Dropped { ticket, task } => self.on_dropped(now, ticket, task, out),
            Event::TermSeen { agent, seen } => self.on_term_seen(now, agent, seen, out),
            Event::Adopted {
                ticket,
                without_agents,
            } => self.on_adopted(now, ticket, without_agents, out),
            Event::Tick => self.on_tick(now, out),
        }
    }

    /// Ends a batch of events: places what can be placed, and writes each changed job once.
    ///
    /// The effects of the batch may be carried out when all their records are stored. Jobs that
    /// ended in the batch are forgotten here: from the commit on, the store has them.
    pub fn settle(&mut self, now: Timestamp, out: &mut Effects) {
        if self.safe.is_none() {
            self.drive_rollouts(now, out);
            if std::mem::take(&mut self.placeable) {
                self.place(now, out);
            }
            self.record_rollouts(out);
        }
        for id in std::mem::take(&mut self.dirty) {
            let Some(live) = self.jobs.get_mut(id) else {
                continue;
            };
            self.tally.note(live);
            let progress = live.progress.clone();
            let ended = progress.ended.is_some();
            out.record(Record::JobProgress { job: id, progress });
            out.notify(Notice::JobChanged { job: id });
            if ended {
                self.forget(id);
                out.notify(Notice::JobEnded { job: id });
            } else {
                self.jobs.rest(id);
            }
        }
    }

    /// When `Tick` is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.timers.first()
    }

    /// Agents, in order of id.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.agents.values()
    }

    /// Channels, in order of team and name.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.values()
    }

    #[must_use]
    pub fn channel(&self, id: &ChannelId) -> Option<&Channel> {
        self.channels.get(id)
    }

    /// A job that has not ended.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<Cow<'_, LiveJob>> {
        self.jobs.get(id)
    }

    /// Jobs that have not ended, in order of id.
    pub fn jobs(&self) -> impl Iterator<Item = Cow<'_, LiveJob>> {
        self.jobs.iter()
    }

    /// The ids of those, in order.
    pub fn job_ids(&self) -> impl Iterator<Item = JobId> {
        self.jobs.ids()
    }

    /// Tasks that were assigned at least once and have not ended, in order of id.
    pub fn tasks(&self) -> impl Iterator<Item = (TaskId, &Task)> {
        self.jobs.all_begun().flat_map(|live| {
            let id = |index: &u32| TaskId {
                job: live.job.id,
                index: *index,
            };
            live.tasks
                .iter()
                .map(move |(index, task)| (id(index), task))
        })
    }

    /// A task of a job that has not ended; `None` if it was never assigned or has ended.
    #[must_use]
    pub fn task(&self, id: TaskId) -> Option<&Task> {
        self.jobs.begun(id.job)?.tasks.get(&id.index)
    }

    /// How many of their tasks stand where. Costs nothing, however many there are.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// Whether a live job has this key; the store knows about those that ended.
    #[must_use]
    pub fn has_key(&self, team: &TeamName, key: &str) -> bool {
        self.keys.contains_key(&(team.clone(), key.to_owned()))
    }

    fn forget(&mut self, id: JobId) {
        if let Some(live) = self.jobs.remove(id) {
            self.queue.remove(&live);
            self.specs.leave(&live.job);
            if let Some(timeout) = live.job.spec.queue_timeout {
                let due = live.job.created + timeout;
                self.timers.clear(due, Timer::QueueTimeout(id));
            }
            if let Some(key) = &live.job.key {
                self.keys.remove(&(live.job.team.clone(), key.key.clone()));
            }
        }
    }

    /// The image of an attempt that is made now, and the release that gave it.
    fn image_of(&self, job: &Job) -> Option<(Image, Option<u64>)> {
        if let Some(image) = &job.pinned {
            return Some((image.clone(), job.release));
        }
        match &job.spec.image {
            ImageSource::Channel {
                name,
                pin: Pin::Task | Pin::Run,
            } => {
                let id = ChannelId {
                    team: job.team.clone(),
                    name: name.clone(),
                };
                let current = &self.channels.get(&id)?.current;
                Some((current.image(), Some(current.number)))
            }
            // A reference is pinned when it is submitted.
            ImageSource::Reference { .. } => None,
        }
    }
}

/// Jobs of one team that ask for the same wait in one class.
type ClassKey = (TeamName, Arc<crate::spec::Requirements>);

#[cfg(test)]
mod tests;
