//! Which release an attempt may run, and what the rows say about rollouts.

use std::collections::BTreeMap;

use muster_core::channel::{Cause, Channel, ChannelId, Release};
use muster_core::ids::{AttemptId, TaskId};
use muster_core::image::{Digest, Image};
use muster_core::job::Job;
use muster_core::outcome::Outcome;
use muster_core::retry::Budget;
use muster_core::rollout::plan::Step;
use muster_core::rollout::policy::Share;
use muster_core::rollout::{Conclusion, Rollout, State};
use muster_core::spec::{Delivery, ImageSource, Pin};
use muster_core::task::{RowState, TaskRow};

use super::{Check, Store, violated};
use crate::fault::{BACK_BY, GOES_BY};
use crate::release::{carries, in_force};

/// What was ever seen of releases.
#[derive(Debug, Default)]
pub(super) struct Releases {
    digests: BTreeMap<(ChannelId, u64), Digest>,
    /// Attempts on a release before its promotion.
    canaries: BTreeMap<(ChannelId, u64), u32>,
    /// The channels as each commit found and wrote them: a rollout that it begins goes by one of these.
    lately: Vec<Channel>,
}

/// What a release carries counts from its promotion until another one is in force, and is its image's.
pub(crate) const CARRIED: &str = "what an image carries counts while it is in force";

impl Releases {
    fn note(&mut self, channel: &ChannelId, release: &Release) -> Check {
        let key = (channel.clone(), release.number);
        if release.policy != carries(release.digest) {
            let what = format!("{key:?} carries {:?}", release.policy);
            return violated(CARRIED, what);
        }
        let known = *self.digests.entry(key).or_insert(release.digest);
        if known == release.digest {
            return Ok(());
        }
        let (number, other) = (release.number, release.digest);
        let what = format!("release {number} was {known}, now {other}");
        violated("a release's number is used once", what)
    }
}

impl Store {
    pub(super) fn channel_written(&mut self, channel: Channel) -> Check {
        self.releases.note(&channel.id, &channel.current)?;
        if let Some(previous) = &channel.previous {
            self.releases.note(&channel.id, previous)?;
        }
        self.releases.lately.push(channel.clone());
        self.channels.insert(channel.id.clone(), channel);
        Ok(())
    }

    /// What the channels are before a commit.
    pub(super) fn begin_releases(&mut self) {
        self.releases.lately = self.channels.values().cloned().collect();
    }

    /// A rollout goes by the policy that was in force when it began.
    fn check_policy(&self, rollout: &Rollout) -> Check {
        let (id, from) = (&rollout.channel, rollout.from.number);
        let lately = self.releases.lately.iter();
        let mut found =
            lately.filter(|channel| channel.id == *id && channel.current.number == from);
        if found.any(|channel| in_force(channel) == rollout.policy) {
            return Ok(());
        }
        let (to, policy) = (rollout.to.number, &rollout.policy);
        let what = format!("the rollout from {from} to {to} goes by {policy:?}");
        violated(CARRIED, what)
    }

    pub(super) fn rollout_written(&mut self, rollout: Rollout) -> Check {
        self.releases.note(&rollout.channel, &rollout.from)?;
        self.releases.note(&rollout.channel, &rollout.to)?;
        let id = (rollout.channel.clone(), rollout.to.number);
        let old = self.rollouts.get(&id).map(|old| &old.state);
        if matches!(old, Some(State::Ended { .. })) && old != Some(&rollout.state) {
            let what = format!("{id:?} had ended: {old:?}, now {:?}", rollout.state);
            return violated("an ended rollout stays ended", what);
        }
        if old.is_none() {
            self.check_policy(&rollout)?;
            if carries(rollout.from.digest).is_some_and(|policy| *policy == rollout.policy) {
                let back = rollout.from.cause == Cause::Rollback;
                self.steps.insert(if back { BACK_BY } else { GOES_BY });
            }
        }
        self.rollouts.insert(id, rollout);
        Ok(())
    }

    fn active(&self, channel: &ChannelId) -> Option<&Rollout> {
        self.rollouts
            .range((channel.clone(), 0)..)
            .take_while(|((id, _), _)| id == channel)
            .map(|(_, rollout)| rollout)
            .find(|rollout| matches!(rollout.state, State::Active { .. }))
    }

    /// The images that the attempt may be made with, before its task's row says so.
    pub(super) fn allowed_images(&self, job: &Job, task: TaskId) -> Vec<Image> {
        let Some(id) = followed(job) else {
            return job.pinned.iter().cloned().collect();
        };
        let Some(channel) = self.channels.get(&id) else {
            return Vec::new();
        };
        let current = channel.current.image();
        match self.tasks.get(&task) {
            Some(TaskRow {
                state:
                    RowState::Pending {
                        budget: Budget::Trial,
                        ..
                    },
                release,
                ..
            }) if *release == Some(channel.current.number) => {
                let previous = channel.previous.as_ref().map(Release::image);
                vec![previous.unwrap_or(current)]
            }
            Some(_) => vec![current],
            None => {
                let trial = self.active(&id).filter(|rollout| may_try(rollout, job));
                let trial = trial.map(|rollout| rollout.to.image());
                trial.into_iter().chain([current]).collect()
            }
        }
    }

    /// Counts an attempt that was made on a release before its promotion.
    pub(super) fn count_canary(&mut self, job: &Job, image: &Image, id: AttemptId) -> Check {
        let Some(channel) = followed(job) else {
            return Ok(());
        };
        let Some(rollout) = self.active(&channel) else {
            return Ok(());
        };
        if rollout.is_promoted() || rollout.to.image() != *image {
            return Ok(());
        }
        let share = rollout.policy.canary.as_ref().map(|canary| canary.share);
        let number = rollout.to.number;
        let made = self.releases.canaries.entry((channel, number)).or_default();
        *made += 1;
        match share {
            Some(Share::First(asked)) if *made <= asked => Ok(()),
            Some(Share::Percent(_)) => Ok(()),
            Some(Share::First(_)) | None => {
                let what = format!("{id} is canary {made} of release {number}, asked: {share:?}");
                violated("no more canaries than asked", what)
            }
        }
    }

    /// What goes wrong on a release that is on trial is not put down to the task.
    pub(super) fn check_trial(&self, id: TaskId, old: &TaskRow, new: &TaskRow) -> Check {
        let Some(row) = self.jobs.get(&id.job) else {
            return Ok(());
        };
        let Some((channel, number)) = followed(&row.job).zip(old.release) else {
            return Ok(());
        };
        let rollout = self.active(&channel);
        let on_trial = rollout.is_some_and(|rollout| rollout.to.number == number);
        if !on_trial || row.job.spec.delivery == Delivery::AtMostOnce {
            return Ok(());
        }
        let failed = matches!(&new.state, RowState::Ended { end, .. }
            if matches!(end.outcome, Outcome::Failed | Outcome::Oom));
        if failed || new.spent.user > old.spent.user {
            let what = format!("{id} paid for release {number}: {new:?}");
            return violated("a trial costs the user nothing", what);
        }
        Ok(())
    }

    /// Channels and their rollouts agree after every commit.
    pub(super) fn check_rollouts(&self) -> Check {
        let mut active = BTreeMap::new();
        for ((id, number), rollout) in &self.rollouts {
            let Some(channel) = self.channels.get(id) else {
                return violated(
                    "persist, then speak",
                    format!("{id:?} has a rollout, and no row"),
                );
            };
            let is_current = channel.current.number == *number;
            match &rollout.state {
                State::Active { .. } => {
                    if let Some(other) = active.insert(id, number) {
                        let what = format!("{other} and {number} are both under way");
                        return violated("one rollout per channel", what);
                    }
                }
                State::Ended {
                    how: Conclusion::RolledBack | Conclusion::Aborted,
                    ..
                } if is_current => {
                    let what = format!("release {number} was taken back, and is current");
                    return violated("a rollback sticks", what);
                }
                State::Ended { .. } => {}
            }
        }
        Ok(())
    }

    pub(crate) fn rollout_under_way(&self) -> Option<String> {
        let active = |rollout: &&Rollout| matches!(rollout.state, State::Active { .. });
        let rollout = self.rollouts.values().find(active)?;
        let (number, phase) = (rollout.to.number, rollout.phase());
        Some(format!("release {number} is in phase {}", phase.as_str()))
    }
}

fn may_try(rollout: &Rollout, job: &Job) -> bool {
    let Some(Step::Canary { jobs, .. }) = rollout.step() else {
        return false;
    };
    job.spec.delivery == Delivery::AtLeastOnce
        && (jobs.is_empty() || jobs.contains(&job.spec.name))
        && !rollout.is_paused()
}

/// The channel whose newest release each attempt of the job runs.
fn followed(job: &Job) -> Option<ChannelId> {
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
