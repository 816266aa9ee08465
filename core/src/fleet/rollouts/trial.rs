//! Attempts on a release that is on trial: who makes them, how they are judged, who pays.

use std::collections::BTreeSet;

use super::{NAMES_MAX, Running, Trial};
use crate::channel::{ChannelId, Release};
use crate::effect::Effects;
use crate::event::AttemptEnd;
use crate::fleet::Fleet;
use crate::hash;
use crate::ids::{AttemptId, JobName, TaskId, TeamName};
use crate::image::Image;
use crate::job::Job;
use crate::retry::Budget;
use crate::rollout::gate::{Judgement, Past, Ran, judge};
use crate::rollout::plan::Step;
use crate::rollout::policy::Share;
use crate::rollout::{Phase, Rollout};
use crate::spec::{Delivery, ImageSource, Pin};
use crate::task::{Place, Task, TaskState};
use crate::time::Timestamp;

impl Running {
    /// When the attempt will have run for longer than the gates allow.
    pub(super) fn limit(&self, attempt: AttemptId) -> Option<Timestamp> {
        let Trial { name, started } = self.trials.get(&attempt)?;
        let gates = &self.rollout.policy.gates;
        Some((*started)? + self.rollout.tally.run_limit(name, gates)?)
    }

    /// Attempts that still run and have taken too long.
    pub(super) fn overdue(&self, now: Timestamp) -> Vec<AttemptId> {
        let is_late = |id: &AttemptId| self.limit(*id).is_some_and(|limit| limit <= now);
        self.trials.keys().copied().filter(is_late).collect()
    }
}

impl Fleet {
    /// The image of the task's next attempt, and the release that gave it.
    pub(in crate::fleet) fn image_for(
        &self,
        job: &Job,
        id: TaskId,
        before: Option<&Task>,
    ) -> Option<(Image, Option<u64>)> {
        let Some(channel) = followed(job) else {
            return self.image_of(job);
        };
        let release = match before.map(|task| &task.state) {
            Some(TaskState::Pending {
                budget: Budget::Trial,
                previous,
                ..
            }) => self.release_before(&channel, previous.release),
            Some(TaskState::Pending { .. } | TaskState::Held { .. }) => None,
            None => self.canary_for(&channel, job, id),
        };
        match release {
            Some(release) => Some((release.image(), Some(release.number))),
            None => self.image_of(job),
        }
    }

    /// What a task runs next that failed on a release that was on trial.
    fn release_before(&self, channel: &ChannelId, failed: Option<u64>) -> Option<&Release> {
        let channel = self.channels.get(channel)?;
        let was_promoted = failed == Some(channel.current.number);
        was_promoted.then_some(channel.previous.as_ref()).flatten()
    }

    /// The release that is on trial, if the task is one of those that try it.
    fn canary_for(&self, channel: &ChannelId, job: &Job, id: TaskId) -> Option<&Release> {
        let rollout = &self.rollouts.active.get(channel)?.rollout;
        let Some(Step::Canary { share, jobs, .. }) = rollout.step() else {
            return None;
        };
        let willing = job.spec.delivery == Delivery::AtLeastOnce
            && (jobs.is_empty() || jobs.contains(&job.spec.name));
        let chosen = match *share {
            Share::First(count) => rollout.tally.made < count,
            Share::Percent(percent) => lot(rollout, id) < u64::from(percent),
        };
        (willing && chosen && !rollout.is_paused()).then_some(&rollout.to)
    }

    /// An attempt was made.
    pub(in crate::fleet) fn note_trial(
        &mut self,
        job: &Job,
        attempt: AttemptId,
        release: Option<u64>,
    ) {
        let Some((channel, number)) = followed(job).zip(release) else {
            return;
        };
        let past = self.past(job);
        let Some(running) = self.rollouts.active.get_mut(&channel) else {
            return;
        };
        if running.rollout.to.number != number {
            return;
        }
        let name = job.spec.name.clone();
        running.rollout.tally.expect(&name, || past);
        running.rollout.tally.made += u32::from(running.rollout.phase() == Phase::Canary);
        running.changed = true;
        let started = None;
        running.trials.insert(attempt, Trial { name, started });
        self.rollouts.moved.insert(channel);
    }

    /// Where the rollout is that leads to the release of an attempt of the job.
    pub(in crate::fleet) fn trial_phase(&self, job: &Job, release: Option<u64>) -> Option<Phase> {
        let (channel, number) = followed(job).zip(release)?;
        let rollout = self.rollout(&channel)?;
        (rollout.to.number == number).then(|| rollout.phase())
    }

    /// An attempt holds its task after a restart of the coordinator.
    pub(in crate::fleet) fn restore_trial(
        &mut self,
        job: &Job,
        attempt: AttemptId,
        place: &Place,
        started: Option<Timestamp>,
    ) {
        let Some((channel, number)) = followed(job).zip(place.release) else {
            return;
        };
        let Some(running) = self.rollouts.active.get_mut(&channel) else {
            return;
        };
        if running.rollout.to.number == number {
            let name = job.spec.name.clone();
            running.trials.insert(attempt, Trial { name, started });
        }
    }

    pub(in crate::fleet) fn note_trial_started(
        &mut self,
        job: &Job,
        attempt: AttemptId,
        at: Timestamp,
    ) {
        let Some(channel) = followed(job) else {
            return;
        };
        let Some(running) = self.rollouts.active.get_mut(&channel) else {
            return;
        };
        if let Some(trial) = running.trials.get_mut(&attempt) {
            trial.started = Some(at);
            self.rollouts.moved.insert(channel);
        }
    }

    /// An attempt ended: remembers how, and says whether its release has to answer for that instead of
    /// the task.
    pub(in crate::fleet) fn judge_attempt(
        &mut self,
        job: &Job,
        attempt: AttemptId,
        place: &Place,
        ended: &AttemptEnd,
    ) -> bool {
        let Some((channel, number)) = followed(job).zip(place.release) else {
            return false;
        };
        let judgement = judge(&ended.end);
        let ran = Ran {
            good: judgement == Judgement::Good,
            run: ended.usage.run.unwrap_or_default(),
            peak_memory: ended.usage.peak_memory_bytes,
        };
        let counts = judgement != Judgement::Nothing;
        let forgives = self.forgives(&channel, job, number, place);
        if let Some(running) = self.rollouts.active.get_mut(&channel)
            && running.trials.remove(&attempt).is_some()
        {
            if counts {
                running.rollout.tally.add(&job.spec.name, ran);
            }
            if forgives && !ran.good && counts {
                running.rollout.tally.forgiven += 1;
            }
            running.changed = true;
            self.rollouts.moved.insert(channel);
        } else if counts && !forgives {
            self.remember(job.team.clone(), job.spec.name.clone(), ran);
        } else if self
            .rollouts
            .active
            .get(&channel)
            .is_some_and(|running| running.rollout.phase() == Phase::Restart)
        {
            self.rollouts.moved.insert(channel);
        }
        forgives && judgement == Judgement::Bad
    }

    /// Whether what goes wrong with the attempt is put down to its release: it is on trial, or was and
    /// did not pass.
    fn forgives(&self, id: &ChannelId, job: &Job, number: u64, place: &Place) -> bool {
        if job.spec.delivery == Delivery::AtMostOnce {
            return false;
        }
        let on_trial = |running: &Running| running.rollout.to.number == number;
        let Some(channel) = self.channels.get(id) else {
            return false;
        };
        self.rollouts.active.get(id).is_some_and(on_trial)
            || channel.unpromoted.contains(&number)
            || (channel.current.number != number && channel.held_back == Some(place.image.digest()))
    }

    pub(in crate::fleet) fn remember(&mut self, team: TeamName, name: JobName, ran: Ran) {
        let key = (team, name);
        let memory = &mut self.rollouts.memory;
        if memory.len() < NAMES_MAX || memory.contains_key(&key) {
            memory.entry(key).or_default().add(ran);
        }
    }

    fn past(&self, job: &Job) -> Past {
        let key = (job.team.clone(), job.spec.name.clone());
        let memory = self.rollouts.memory.get(&key);
        memory.map_or_else(Past::default, |memory| memory.past())
    }

    /// Attempts of the channel's followers that hold their task on any other release.
    pub(super) fn attempts_on_other_releases(
        &self,
        channel: &ChannelId,
        number: u64,
        jobs: &BTreeSet<JobName>,
    ) -> Vec<AttemptId> {
        let mut found = Vec::new();
        for live in self.jobs.all_begun() {
            let job = &live.job;
            let concerned = jobs.is_empty() || jobs.contains(&job.spec.name);
            if !concerned || followed(job).as_ref() != Some(channel) {
                continue;
            }
            for (index, task) in &live.tasks {
                if let TaskState::Held { place, .. } = &task.state
                    && place.release != Some(number)
                {
                    let task = TaskId {
                        job: job.id,
                        index: *index,
                    };
                    found.push(AttemptId {
                        task,
                        number: place.number,
                    });
                }
            }
        }
        found
    }

    /// Whether a task that was stopped for the restart has no new attempt yet.
    pub(super) fn waits_after_restart(
        &self,
        channel: &ChannelId,
        jobs: &BTreeSet<JobName>,
    ) -> bool {
        self.jobs.all_begun().any(|live| {
            let concerned = jobs.is_empty() || jobs.contains(&live.job.spec.name);
            let waits = |task: &Task| {
                matches!(
                    task.state,
                    TaskState::Pending {
                        budget: Budget::Free,
                        ..
                    }
                )
            };
            concerned
                && followed(&live.job).as_ref() == Some(channel)
                && live.tasks.values().any(waits)
        })
    }

    /// Moves the channel to the rollout's release.
    pub(super) fn promote(&mut self, running: &Running, out: &mut Effects) {
        let Rollout {
            channel: id, to, ..
        } = &running.rollout;
        let channel = self
            .channels
            .get_mut(id)
            .expect("a rollout's channel exists");
        channel.previous = Some(std::mem::replace(&mut channel.current, to.clone()));
        self.publish(id, out);
    }
}

/// The channel whose newest release each attempt of the job runs.
pub(in crate::fleet) fn followed(job: &Job) -> Option<ChannelId> {
    match &job.spec.image {
        ImageSource::Channel {
            name,
            pin: Pin::Task,
        } if job.pinned.is_none() => Some(ChannelId {
            team: job.team.clone(),
            name: name.clone(),
        }),
        ImageSource::Channel { .. } | ImageSource::Reference { .. } => None,
    }
}

/// A number below 100 that is the same each time for the task in this rollout.
fn lot(rollout: &Rollout, id: TaskId) -> u64 {
    let salt = hash::mix(rollout.to.number);
    hash::mix(id.job.entropy() ^ (u64::from(id.index) << 20) ^ salt) % 100
}
