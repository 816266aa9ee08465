//! The modelled store: rows that change only in a commit, and the checks of every commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_core::agent::Agent;
use muster_core::channel::{Channel, ChannelId};
use muster_core::effect::Record;
use muster_core::event::{Prior, Restored};
use muster_core::ids::{AgentId, AttemptId, JobId, TaskId};
use muster_core::image::Image;
use muster_core::job::{Job, JobProgress};
use muster_core::outcome::{End, EndReason, Outcome};
use muster_core::ranges::Ranges;
use muster_core::rollout::{Rollout, State};
use muster_core::task::{RowState, TaskRow};

use crate::fault::Step;
use crate::ledger::{Ledger, Who};
use crate::trace::Violation;

mod checks;
mod releases;
mod retries;
mod service;

#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) jobs: BTreeMap<JobId, JobRow>,
    pub(crate) tasks: BTreeMap<TaskId, TaskRow>,
    pub(crate) attempts: BTreeMap<AttemptId, AttemptRow>,
    pub(crate) agents: BTreeMap<AgentId, Agent>,
    pub(crate) channels: BTreeMap<ChannelId, Channel>,
    /// By channel and the release that they lead to.
    pub(crate) rollouts: BTreeMap<(ChannelId, u64), Rollout>,
    releases: releases::Releases,
    pub(crate) pace: Pace,
    /// How many attempts in a row did not start on an agent.
    failures: BTreeMap<AgentId, u32>,
    /// The steps that tasks took, and what rollouts went by.
    pub(crate) steps: BTreeSet<Step>,
    /// Tasks whose cancel is committed, or was confirmed to a client.
    canceled: BTreeMap<JobId, BTreeSet<u32>>,
}

#[derive(Debug)]
pub(crate) struct JobRow {
    pub(crate) job: Arc<Job>,
    pub(crate) progress: Option<JobProgress>,
    order: usize,
}

#[derive(Debug)]
pub(crate) struct AttemptRow {
    pub(crate) agent: AgentId,
    pub(crate) image: Image,
    pub(crate) end: Option<End>,
}

/// What one transaction holds: the records, and the wishes to cancel that it makes true.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) cancels: Vec<Canceled>,
    pub(crate) records: Vec<Record>,
}

#[derive(Debug, Clone)]
pub(crate) struct Canceled {
    pub(crate) job: JobId,
    pub(crate) tasks: Option<Ranges>,
}

/// Those that are told to have never run may be made again whatever the job's delivery is.
pub(crate) const NEVER_RAN: &str = "what never ran never did";

pub(crate) use releases::CARRIED;
pub(crate) use retries::Pace;

type Check = Result<(), Violation>;

fn violated(invariant: &'static str, what: String) -> Check {
    Err(Violation { invariant, what })
}

impl Store {
    /// Makes a batch durable, and checks it against everything that was durable before.
    pub(crate) fn commit(&mut self, batch: Batch, ledger: &Ledger) -> Check {
        for cancel in &batch.cancels {
            self.note_cancel(cancel);
        }
        self.begin_releases();
        for record in batch.records {
            self.apply(record, ledger)?;
        }
        self.check_rollouts()
    }

    pub(crate) fn note_cancel(&mut self, cancel: &Canceled) {
        let Some(row) = self.jobs.get(&cancel.job) else {
            return;
        };
        let all = Ranges::up_to(row.job.array);
        let asked = cancel.tasks.as_ref().unwrap_or(&all);
        let tasks = asked
            .iter()
            .flatten()
            .filter(|index| *index < row.job.array);
        self.canceled.entry(cancel.job).or_default().extend(tasks);
    }

    fn is_canceled(&self, task: TaskId) -> bool {
        let tasks = self.canceled.get(&task.job);
        tasks.is_some_and(|tasks| tasks.contains(&task.index))
    }

    fn apply(&mut self, record: Record, ledger: &Ledger) -> Check {
        match record {
            Record::JobSubmitted(job) => self.submitted(job),
            Record::JobProgress { job, progress } => self.progressed(job, progress),
            Record::Task { task, row } => self.task_written(task, row),
            Record::AttemptMade {
                attempt,
                agent,
                image,
                at,
                because,
            } => {
                self.pace.check(attempt, at, because)?;
                self.check_in_service(attempt, at, &agent)?;
                self.attempt_made(attempt, agent, image)
            }
            Record::AttemptStarted { attempt, at: _ } => {
                self.note_start_on_agent(attempt);
                self.exists(attempt)
            }
            Record::AttemptEnded {
                attempt,
                started: _,
                at: _,
                end,
                usage: _,
            } => self.attempt_ended(attempt, end, ledger),
            Record::LateReport {
                attempt,
                at: _,
                end: _,
            } => self.exists(attempt),
            Record::Agent(agent) => self.agent_written(*agent),
            Record::AgentLink {
                agent,
                link,
                last_contact,
            } => self.with_agent(&agent, |row| {
                row.link = link;
                row.last_contact = last_contact;
            }),
            Record::AgentSchedulable { agent, schedulable } => {
                self.schedulable_written(&agent, schedulable)
            }
            Record::Channel(channel) => self.channel_written(*channel),
            Record::Rollout(rollout) => self.rollout_written(*rollout),
            // No simulated store is restored.
            Record::Released { .. } | Record::SafeMode(_) => Ok(()),
        }
    }

    fn submitted(&mut self, job: Arc<Job>) -> Check {
        let key = job.key.as_ref().map(|key| key.key.as_str());
        if let Some(other) = key.and_then(|key| self.find_key(key)) {
            let what = format!("key {key:?} of job {} is taken by job {}", job.id, other.id);
            return violated("I2 submit idempotent", what);
        }
        let order = self.jobs.len();
        let row = JobRow {
            job: Arc::clone(&job),
            progress: None,
            order,
        };
        self.jobs.insert(job.id, row);
        Ok(())
    }

    fn progressed(&mut self, id: JobId, progress: JobProgress) -> Check {
        let Some(row) = self.jobs.get_mut(&id) else {
            return violated("I1 no lost submit", format!("progress of unknown job {id}"));
        };
        if row.progress.as_ref().is_some_and(|old| old.ended.is_some()) {
            let what = format!("job {id} had ended, and goes on");
            return violated("I9 completed stays completed", what);
        }
        row.progress = Some(progress);
        Ok(())
    }

    fn task_written(&mut self, id: TaskId, row: TaskRow) -> Check {
        let attempt = AttemptId {
            task: id,
            number: row.last,
        };
        self.exists(attempt)?;
        if self.attempts[&attempt].image != row.image {
            let what = format!(
                "{attempt} was made with {}, now {}",
                self.attempts[&attempt].image, row.image
            );
            return violated("I14 immutable attempt", what);
        }
        if let Some(old) = self.tasks.get(&id) {
            if let RowState::Ended { end, .. } = &old.state {
                let what = format!("{id} ended {end}, then became {:?}", row.state);
                return violated("I3 one counted outcome", what);
            }
            if old.last > row.last {
                let what = format!("{id} went from attempt {} to {}", old.last, row.last);
                return violated("I6 fences grow", what);
            }
            self.check_trial(id, old, &row)?;
            self.check_retry(id, old, &row)?;
        }
        self.pace.earn(&row);
        let was = self.tasks.get(&id).map_or("-", |old| name(&old.state));
        self.steps.insert((was, name(&row.state)));
        self.tasks.insert(id, row);
        Ok(())
    }

    fn attempt_made(&mut self, id: AttemptId, agent: AgentId, image: Image) -> Check {
        if self.is_canceled(id.task) {
            return violated("I11 cancel sticks", format!("{id} was made after a cancel"));
        }
        if let Some(row) = self.tasks.get(&id.task) {
            if matches!(row.state, RowState::Ended { .. }) {
                return violated("I9 completed stays completed", format!("{id} was made"));
            }
            if id.number <= row.last {
                return violated("I6 fences grow", format!("{id} after {}", row.last));
            }
            let before = AttemptId {
                number: row.last,
                ..id
            };
            if self.attempts[&before].end.is_none() {
                let what = format!("{id} was made while {before} had not ended");
                return violated("I8 bounded overlap", what);
            }
        }
        let Some(row) = self.jobs.get(&id.task.job) else {
            return violated("I1 no lost submit", format!("{id} of an unknown job"));
        };
        let job = Arc::clone(&row.job);
        let allowed = self.allowed_images(&job, id.task);
        if !allowed.contains(&image) {
            let what = format!("{id} was made with {image}, not one of {allowed:?}");
            return violated("I14 immutable attempt", what);
        }
        self.count_canary(&job, &image, id)?;
        let row = AttemptRow {
            agent,
            image,
            end: None,
        };
        self.attempts.insert(id, row);
        self.check_room(&self.attempts[&id].agent)
    }

    fn attempt_ended(&mut self, id: AttemptId, end: End, ledger: &Ledger) -> Check {
        self.exists(id)?;
        let row = self.attempts.get_mut(&id).expect("it was looked up");
        if let Some(old) = &row.end {
            return violated(
                "I3 one counted outcome",
                format!("{id} ended {old}, then {end}"),
            );
        }
        row.end = Some(end.clone());
        self.note_end_on_agent(id, &end);
        if end.reason == EndReason::ContainerGone && ledger.runs(id) {
            return violated("what is gone is gone", format!("{id} {end}, and it runs"));
        }
        if self.counts_as_stopped(id) && ledger.runs(id) {
            let what = format!("{id} counts as stopped, and it runs");
            return violated("I8 bounded overlap", what);
        }
        if ledger.is_excused(id) {
            return Ok(());
        }
        self.compare(id, &end, ledger)
    }

    /// What is recorded with what really happened.
    fn compare(&self, id: AttemptId, end: &End, ledger: &Ledger) -> Check {
        let truth = ledger.end_of(id);
        let declared = &self.jobs[&id.task.job].job.spec.success_codes;
        let is_success =
            |code: i32| code == 0 || declared.iter().any(|other| i32::from(*other) == code);
        match end.outcome {
            Outcome::Succeeded if !matches!(truth, Some((code, Who::Itself)) if is_success(code)) => {
                violated("I4 no false success", format!("{id}: in truth {truth:?}"))
            }
            Outcome::Failed | Outcome::Oom if !matches!(truth, Some((code, Who::Itself)) if !is_success(code)) => {
                violated(
                    "I5 no false user failure",
                    format!("{id} {end}: in truth {truth:?}"),
                )
            }
            Outcome::Timeout
                if end.reason == EndReason::RunTimeout
                    && !matches!(truth, Some((_, Who::Agent))) =>
            {
                violated(
                    "I5 no false user failure",
                    format!("{id} {end}: in truth {truth:?}"),
                )
            }
            Outcome::InfraError
                if matches!(end.reason, EndReason::Refused | EndReason::NeverStarted)
                    && ledger.ran(id) =>
            {
                violated(NEVER_RAN, format!("{id} {end}, and it ran"))
            }
            Outcome::InfraError | Outcome::Lost
                if !matches!(end.reason, EndReason::AgentLost | EndReason::Disconnected)
                    && matches!(truth, Some((_, Who::Agent))) =>
            {
                violated(
                    "the agent knows its own signals",
                    format!("{id} {end}: in truth {truth:?}"),
                )
            }
            Outcome::Lost
                if end.reason == EndReason::Disconnected
                    && !matches!(truth, Some((_, Who::Agent | Who::Lease))) =>
            {
                let what = format!("{id} {end}: in truth {truth:?}");
                violated("only silence stops a task", what)
            }
            Outcome::Canceled if end.reason == EndReason::Superseded => violated(
                "I9 completed stays completed",
                format!("{id} was stopped as superseded, and nothing came after it"),
            ),
            Outcome::Succeeded
            | Outcome::Failed
            | Outcome::Oom
            | Outcome::Timeout
            | Outcome::Canceled
            | Outcome::Lost
            | Outcome::Preempted
            | Outcome::ImageError
            | Outcome::InfraError => Ok(()),
        }
    }

    fn exists(&self, id: AttemptId) -> Check {
        if self.attempts.contains_key(&id) {
            return Ok(());
        }
        violated(
            "persist, then speak",
            format!("news of {id}, which is not stored"),
        )
    }

    /// Whether it is stored as refused.
    pub(crate) fn is_refused(&self, id: AttemptId) -> bool {
        let end = self.attempts.get(&id).and_then(|row| row.end.as_ref());
        end.is_some_and(|end| end.reason == EndReason::Refused)
    }

    /// Whether its end is still to be stored.
    pub(crate) fn is_open(&self, id: AttemptId) -> bool {
        self.attempts.get(&id).is_some_and(|row| row.end.is_none())
    }

    fn with_agent(&mut self, id: &AgentId, change: impl FnOnce(&mut Agent)) -> Check {
        match self.agents.get_mut(id) {
            Some(row) => {
                change(row);
                Ok(())
            }
            None => violated("persist, then speak", format!("agent {id} is not stored")),
        }
    }

    pub(crate) fn find_key(&self, key: &str) -> Option<Prior> {
        self.jobs.values().find_map(|row| {
            let known = row.job.key.as_ref()?;
            (known.key == key).then_some(Prior {
                id: row.job.id,
                body: known.body,
            })
        })
    }

    /// What a starting coordinator reads, in its order.
    pub(crate) fn load(&self) -> Result<Vec<Restored>, Violation> {
        if let Some(row) = self.jobs.values().find(|row| row.progress.is_none()) {
            return Err(Violation {
                invariant: "I1 no lost submit",
                what: format!("job {} has no progress", row.job.id),
            });
        }
        let channels = self.channels.values().cloned().map(Box::new);
        let channels = channels.map(Restored::Channel);
        let active = |rollout: &&Rollout| matches!(rollout.state, State::Active { .. });
        let rollouts = self.rollouts.values().filter(active).cloned();
        let rollouts = rollouts.map(|rollout| Restored::Rollout(Box::new(rollout)));
        let agents = self.agents.values().cloned().map(Restored::Agent);
        let mut live: Vec<&JobRow> = self.jobs.values().filter(|row| !row.is_ended()).collect();
        live.sort_by_key(|row| row.order);
        let jobs = live.into_iter().map(|row| {
            let first = TaskId {
                job: row.job.id,
                index: 0,
            };
            let tasks = self
                .tasks
                .range(first..)
                .take_while(|(id, _)| id.job == row.job.id);
            let tasks = tasks
                .filter(|(_, task)| !matches!(task.state, RowState::Ended { .. }))
                .map(|(id, task)| (id.index, task.clone()))
                .collect();
            let progress = row.progress.clone();
            Restored::Job {
                job: Arc::clone(&row.job),
                progress: progress.expect("all have one"),
                tasks,
            }
        });
        Ok(channels.chain(rollouts).chain(agents).chain(jobs).collect())
    }
}

const fn name(state: &RowState) -> &'static str {
    match state {
        RowState::Pending {
            quarantined: true, ..
        } => "quarantined",
        RowState::Pending { .. } => "pending",
        RowState::Assigned => "assigned",
        RowState::Preparing => "preparing",
        RowState::Running => "running",
        RowState::Ended { end, .. } => match end.outcome {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Oom => "oom",
            Outcome::Timeout => "timeout",
            Outcome::Canceled => "canceled",
            Outcome::Lost => "lost",
            Outcome::Preempted => "preempted",
            Outcome::ImageError => "image_error",
            Outcome::InfraError => "infra_error",
        },
    }
}

impl JobRow {
    pub(crate) fn is_ended(&self) -> bool {
        self.progress
            .as_ref()
            .is_some_and(|progress| progress.ended.is_some())
    }
}
