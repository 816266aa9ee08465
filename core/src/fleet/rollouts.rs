//! The rollouts that are under way, and what is remembered of attempts for their gates.

use std::collections::{BTreeMap, BTreeSet};

use super::Fleet;
use super::on_channel::with_name;
use super::timers::Timer;
use crate::agent::Link;
use crate::channel::{Candidate, Cause, ChannelId, PolicyFrom, Release};
use crate::effect::{Effects, Notice, Record, Refusal};
use crate::event::Fetch;
use crate::ids::{AgentId, AttemptId, JobId, JobName, TeamName};
use crate::image::Digest;
use crate::rollout::gate::Memory;
use crate::rollout::plan::{Plan, Step, plan};
use crate::rollout::{Command, Conclusion, Moment, Phase, Rollout, State};
use crate::time::Timestamp;

mod back;
mod steps;
mod trial;
mod validation;

/// Job names whose attempts are remembered; names beyond that have no past.
const NAMES_MAX: usize = 10_000;

/// At most one rollout for each channel.
#[derive(Debug, Default)]
pub(super) struct Rollouts {
    pub(super) active: BTreeMap<ChannelId, Running>,
    /// The jobs that validate.
    validations: BTreeMap<JobId, ChannelId>,
    memory: BTreeMap<(TeamName, JobName), Memory>,
    /// Something happened that may let them go on.
    moved: BTreeSet<ChannelId>,
}

/// A rollout, and what only matters while it is under way.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) rollout: Rollout,
    /// Agents that were told to fetch the image, and when.
    asked: BTreeMap<AgentId, Asked>,
    /// What agents said last of that.
    fetches: BTreeMap<AgentId, Fetch>,
    /// Attempts that hold their task on the release.
    trials: BTreeMap<AttemptId, Trial>,
    /// Agents were told to keep the image.
    kept: bool,
    /// What comes after it.
    pub(super) next: Option<Candidate>,
    changed: bool,
}

/// An agent was told to fetch the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    /// The last time.
    at: Timestamp,
    times: u32,
}

/// An attempt on the release that a rollout is about.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trial {
    name: JobName,
    started: Option<Timestamp>,
}

impl Running {
    fn new(rollout: Rollout) -> Self {
        Self {
            rollout,
            asked: BTreeMap::new(),
            fetches: BTreeMap::new(),
            trials: BTreeMap::new(),
            kept: false,
            next: None,
            changed: true,
        }
    }

    /// The digest that the channel's tag led to, unless somebody asked for it.
    pub(super) fn followed(&self) -> Option<Digest> {
        let to = &self.rollout.to;
        let next = self.next.as_ref().map(|next| (next.cause, next.digest));
        let (cause, digest) = next.unwrap_or((to.cause, to.digest));
        let asked = matches!(cause, Cause::Start | Cause::Rollback);
        (!asked).then_some(digest)
    }

    fn note(&mut self, at: Timestamp, phase: Phase, what: String, out: &mut Effects) {
        self.changed = true;
        self.rollout.note(at, phase, what.clone());
        out.notify(Notice::RolloutMoved {
            channel: self.rollout.channel.clone(),
            release: self.rollout.to.number,
            moment: Moment { at, phase, what },
            ended: match self.rollout.state {
                State::Active { .. } => None,
                State::Ended { .. } => Some(Box::new(self.rollout.clone())),
            },
        });
    }

    /// Stores it if it changed since the last time.
    fn record(&mut self, out: &mut Effects) {
        if std::mem::take(&mut self.changed) {
            out.record(Record::Rollout(Box::new(self.rollout.clone())));
        }
    }

    fn end(&mut self, at: Timestamp, how: Conclusion, reason: String, out: &mut Effects) {
        let words = match how {
            Conclusion::Promoted => format!("release {} is current", self.rollout.to.number),
            Conclusion::RolledBack => format!("rolled back: {reason}"),
            Conclusion::Aborted => format!("aborted: {reason}"),
            Conclusion::Superseded => format!("superseded: {reason}"),
        };
        self.rollout.state = State::Ended { how, at, reason };
        self.note(at, Phase::Ended, words, out);
    }
}

impl Running {
    /// Does what it is told as far as only the rollout changes.
    pub(super) fn obey(
        &mut self,
        now: Timestamp,
        command: &Command,
        by: &str,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        let phase = self.rollout.phase();
        let steps = &self.rollout.plan.steps;
        let promotion = steps.iter().position(|step| *step == Step::Promote);
        let channel = self.rollout.channel.clone();
        let State::Active {
            step,
            since,
            paused,
        } = &mut self.rollout.state
        else {
            return Err(Refusal::NoRollout { channel });
        };
        let what = match (command, *paused) {
            (Command::Pause, Some(_)) => return Err(Refusal::AlreadyPaused { channel }),
            (Command::Pause, None) => {
                *paused = Some(now);
                "paused".to_owned()
            }
            (Command::Resume, None) => return Err(Refusal::NotPaused { channel }),
            (Command::Resume, Some(at)) => {
                *paused = None;
                *since = *since + now.since(at);
                "resumed".to_owned()
            }
            (Command::Promote { now: at_once }, _) => {
                let Some(promote) = promotion.filter(|promote| *step <= *promote) else {
                    return Err(Refusal::AlreadyPromoted { channel });
                };
                (*step, *since, *paused) = (promote, now, None);
                if *at_once {
                    self.rollout.plan.steps.truncate(promote + 1);
                }
                "promoted without waiting for the rest".to_owned()
            }
            (Command::Abort { .. }, _) => "told to stop".to_owned(),
        };
        self.note(now, phase, with_name(&what, by), out);
        Ok(())
    }
}

impl Fleet {
    /// The rollout of the channel that is under way.
    #[must_use]
    pub fn rollout(&self, channel: &ChannelId) -> Option<&Rollout> {
        Some(&self.rollouts.active.get(channel)?.rollout)
    }

    /// How far agents are that fetch the image of the channel's rollout.
    pub fn fetches(&self, channel: &ChannelId) -> impl Iterator<Item = (&AgentId, &Fetch)> {
        let running = self.rollouts.active.get(channel);
        running.into_iter().flat_map(|running| &running.fetches)
    }

    /// All that are under way, in order of channel.
    pub fn rollouts(&self) -> impl Iterator<Item = &Rollout> {
        self.rollouts
            .active
            .values()
            .map(|running| &running.rollout)
    }

    /// Begins a rollout of an existing channel, and takes it as far as it can go now. It takes the place of what is
    /// under way, unless it has to end at once: then it tells why.
    pub(super) fn begin_rollout(
        &mut self,
        now: Timestamp,
        id: &ChannelId,
        candidate: Candidate,
        out: &mut Effects,
    ) -> Option<String> {
        let channel = &self.channels[id];
        let under_way = self.rollout(id).map_or(0, |rollout| rollout.to.number);
        let newest = channel.newest().max(under_way);
        let newer = format!("{} is newer", candidate.digest.short());
        let (policy, set) = channel.policy_in_effect();
        let (policy, set) = (policy.clone(), set == PolicyFrom::Set);
        let to = candidate.release(newest + 1, now);
        let came = arrival(&to);
        let mut facts = candidate.facts;
        facts.objection = facts.objection_on(&self.platforms());
        let planned = plan(&policy, &facts, &self.agents_in_service());
        let (steps, problem) = match planned {
            Ok(Plan { steps }) => (steps, None),
            Err(problem) => (Vec::new(), Some(problem.to_string())),
        };
        let mut running = Running::new(Rollout {
            channel: id.clone(),
            from: channel.current.clone(),
            to: to.clone(),
            policy,
            plan: Plan { steps },
            state: State::Active {
                step: 0,
                since: now,
                paused: None,
            },
            began: now,
            validation: None,
            tally: crate::rollout::gate::Tally::default(),
            timeline: Vec::new(),
        });
        out.record(Record::Released {
            channel: id.clone(),
            release: to,
        });
        running.note(now, Phase::Resolve, came, out);
        if running.rollout.to.policy.is_some() {
            let what = if set {
                "the image carries a policy, which does not count: somebody set the channel's"
            } else {
                "the image carries a policy, which counts after it is promoted"
            };
            running.note(now, Phase::Resolve, what.to_owned(), out);
        }
        if let Some(objection) = &facts.objection {
            running.note(now, Phase::Verify, format!("refused: {objection}"), out);
        } else if !facts.accepted.is_empty() {
            let what = format!("accepted: {}", facts.accepted);
            running.note(now, Phase::Verify, what, out);
        }
        if let Some(problem) = problem {
            let why = Some(problem.clone());
            self.take_back(now, running, Conclusion::RolledBack, problem, out);
            return why;
        }
        self.supersede(now, id, &newer, out);
        self.drive(now, running, out);
        None
    }

    /// Takes each rollout that something happened to as far as it can go.
    pub(super) fn drive_rollouts(&mut self, now: Timestamp, out: &mut Effects) {
        for id in std::mem::take(&mut self.rollouts.moved) {
            if let Some(running) = self.rollouts.active.remove(&id) {
                self.drive(now, running, out);
            }
        }
    }

    /// Stores what changed about rollouts since they were driven.
    pub(super) fn record_rollouts(&mut self, out: &mut Effects) {
        for running in self.rollouts.active.values_mut() {
            running.record(out);
        }
    }

    /// A timer of the rollout has come.
    pub(super) fn rollout_due(&mut self, id: ChannelId) {
        self.rollouts.moved.insert(id);
    }

    /// An agent holds other images than before.
    pub(super) fn images_changed(&mut self) {
        let fetching = |running: &Running| running.rollout.phase() == Phase::Prefetch;
        for (id, running) in &self.rollouts.active {
            if fetching(running) {
                self.rollouts.moved.insert(id.clone());
            }
        }
    }

    /// An agent came; it may never have got what an earlier stream told it.
    pub(super) fn fetches_anew(&mut self, agent: &AgentId) {
        for running in self.rollouts.active.values_mut() {
            running.asked.remove(agent);
            running.fetches.remove(agent);
        }
        self.images_changed();
    }

    /// An agent tells how far it is with what it was told to fetch. One that fails makes room for another,
    /// and is told again later. The same failure is noted once.
    pub(super) fn on_fetches(
        &mut self,
        now: Timestamp,
        agent: &AgentId,
        fetches: Vec<Fetch>,
        out: &mut Effects,
    ) {
        for fetch in fetches {
            for (id, running) in &mut self.rollouts.active {
                let fetching = running.rollout.phase() == Phase::Prefetch;
                if !fetching || running.rollout.to.image() != fetch.image {
                    continue;
                }
                let before = running.fetches.insert(agent.clone(), fetch.clone());
                let failed = |fetch: &Fetch| !fetch.problem.is_empty();
                if failed(&fetch) && !before.as_ref().is_some_and(failed) {
                    let what = format!("{agent} cannot fetch it: {}", fetch.problem);
                    let timeline = &running.rollout.timeline;
                    if timeline.iter().all(|moment| moment.what != what) {
                        running.note(now, Phase::Prefetch, what, out);
                    }
                    self.rollouts.moved.insert(id.clone());
                }
            }
        }
    }

    /// Puts a rollout back that is under way still, and stores it if it changed.
    pub(super) fn keep(&mut self, mut running: Running, out: &mut Effects) {
        running.record(out);
        let id = running.rollout.channel.clone();
        let is_new = !std::mem::replace(&mut running.kept, true);
        self.rollouts.active.insert(id.clone(), running);
        if is_new {
            self.keep_images(&id, out);
        }
    }

    /// Stores a rollout that ended, and begins what waited for that.
    fn let_go(&mut self, now: Timestamp, running: Running, out: &mut Effects) {
        let Running {
            rollout,
            asked: _,
            fetches: _,
            trials: _,
            kept: _,
            next,
            changed: _,
        } = running;
        let id = rollout.channel.clone();
        if let Some(validation) = &rollout.validation {
            self.rollouts.validations.remove(&validation.job);
        }
        out.record(Record::Rollout(Box::new(rollout)));
        self.placeable = true;
        self.keep_images(&id, out);
        if let Some(next) = next
            && !self.channels[&id].is_at(&next)
        {
            self.begin_rollout(now, &id, next, out);
        }
    }

    pub(super) fn restore_rollout(&mut self, now: Timestamp, rollout: Rollout) {
        let id = rollout.channel.clone();
        if let Some(validation) = &rollout.validation {
            self.rollouts.validations.insert(validation.job, id.clone());
        }
        self.timers.set(now, Timer::Rollout(id.clone()));
        let running = Running {
            changed: false,
            ..Running::new(rollout)
        };
        self.rollouts.active.insert(id, running);
    }

    /// Of the agents that are online; an empty one is not known.
    pub(super) fn platforms(&self) -> BTreeSet<String> {
        let online = self.agents.values();
        let online = online.filter(|agent| matches!(agent.link, Link::Online { .. }));
        online.map(|agent| agent.profile.platform.clone()).collect()
    }

    fn agents_in_service(&self) -> BTreeSet<AgentId> {
        let open = self.agents.values().filter(|agent| self.takes_work(agent));
        open.map(|agent| agent.id.clone()).collect()
    }
}

fn arrival(release: &Release) -> String {
    let Release {
        number: _,
        repository,
        digest,
        at: _,
        cause,
        reason,
        by,
        revision,
        created: _,
        policy: _,
    } = release;
    let mut text = format!("{}: {repository} is {}", cause.as_str(), digest.short());
    for (word, value) in [("revision", revision), ("by", by), ("because", reason)] {
        if !value.is_empty() {
            text.push_str(&format!(", {word} {value}"));
        }
    }
    text
}
