//! The task that tries a new image out before anybody else does.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Running;
use super::steps::Verdict;
use crate::effect::Effects;
use crate::event::NewJob;
use crate::fleet::Fleet;
use crate::ids::{JobId, JobName, NAME_MAX, PoolName};
use crate::job::Job;
use crate::outcome::{End, Outcome};
use crate::rollout::plan::Step;
use crate::rollout::{Rollout, Validation};
use crate::spec::{
    Backoff, Delivery, ImageSource, Network, OnDisconnect, Pin, Pull, Requirements, Resources,
    RetryPolicy, Spec, limits,
};
use crate::time::{Millis, Timestamp};

/// Amounts of the validation task.
const CPU_MILLIS: u32 = 1_000;
const MEMORY_BYTES: u64 = 1 << 30;
const PIDS: u32 = 4_096;
/// Attempts that the fleet may lose, a minute apart at most: a registry may be down for a while.
const INFRA_RETRIES: u32 = 20;
const RETRY_CAP: Millis = Millis::from_secs(60);

impl Fleet {
    pub(super) fn validate_step(
        &mut self,
        now: Timestamp,
        step: &Step,
        running: &mut Running,
        out: &mut Effects,
    ) -> Verdict {
        match &running.rollout.validation {
            Some(Validation {
                passed: Some(true),
                how,
                ..
            }) => Verdict::Pass(format!("the validation {how}")),
            Some(Validation {
                passed: Some(false),
                how,
                job,
            }) => Verdict::Fail(format!("the validation {how}: muster logs {}", job.short())),
            // It ends by itself: it has a limit for its wait and one for its run.
            Some(Validation { job, .. }) if self.jobs.contains(*job) => Verdict::Wait(None),
            Some(_) | None => {
                self.submit_validation(now, step, running, out);
                Verdict::Wait(None)
            }
        }
    }

    fn submit_validation(
        &mut self,
        now: Timestamp,
        step: &Step,
        running: &mut Running,
        out: &mut Effects,
    ) {
        let Some(job) = validation_job(now, step, &running.rollout) else {
            return;
        };
        let (id, name) = (job.id, job.spec.name.clone());
        let new = NewJob {
            job: Arc::new(job),
            prior: None,
        };
        self.take(new, out);
        let channel = running.rollout.channel.clone();
        self.rollouts.validations.insert(id, channel);
        running.rollout.validation = Some(Validation {
            job: id,
            passed: None,
            how: String::new(),
        });
        let what = format!("job {} ({name}) tries it out", id.short());
        running.note(now, step.phase(), what, out);
    }

    /// The only task of a job has ended, in any way.
    pub(in crate::fleet) fn note_validation(&mut self, job: JobId, end: &End) {
        let Some(channel) = self.rollouts.validations.get(&job).cloned() else {
            return;
        };
        let Some(running) = self.rollouts.active.get_mut(&channel) else {
            return;
        };
        let wanted = running
            .rollout
            .plan
            .steps
            .iter()
            .find_map(|step| match step {
                Step::Validate { exit_code, .. } => Some(i32::from(*exit_code)),
                Step::Prefetch { .. }
                | Step::Canary { .. }
                | Step::Promote
                | Step::Restart { .. }
                | Step::Bake { .. } => None,
            });
        let passed = end.outcome == Outcome::Succeeded && end.exit_code == wanted;
        running.rollout.validation = Some(Validation {
            job,
            passed: Some(passed),
            how: end.to_string(),
        });
        running.changed = true;
        self.rollouts.moved.insert(channel);
    }
}

fn validation_job(now: Timestamp, step: &Step, rollout: &Rollout) -> Option<Job> {
    let Step::Validate {
        command,
        timeout,
        exit_code,
        pool,
    } = step
    else {
        return None;
    };
    let Rollout { channel, to, .. } = rollout;
    let mut name = format!("validate-{}", channel.name);
    name.truncate(NAME_MAX);
    let labels = [
        ("muster.rollout", channel.name.to_string()),
        ("muster.release", to.number.to_string()),
    ];
    let labels = labels.map(|(name, value)| (name.to_owned(), value));
    let spec = Spec {
        name: JobName::parse(&name).expect("a prefix of a valid name is one"),
        image: ImageSource::Channel {
            name: channel.name.clone(),
            pin: Pin::Run,
        },
        pull: Pull::Missing,
        entrypoint: None,
        command: command.clone(),
        env: BTreeMap::new(),
        labels: labels.into(),
        workdir: None,
        user: None,
        requirements: Arc::new(requirements(pool)),
        priority: limits::PRIORITY,
        queue_timeout: Some(*timeout),
        run_timeout: *timeout,
        kill_grace: Millis::from_secs(10),
        retry: RetryPolicy {
            user: 0,
            infra: INFRA_RETRIES,
            backoff: Backoff {
                cap: RETRY_CAP,
                ..Backoff::default()
            },
            rules: Vec::new(),
        },
        success_codes: vec![*exit_code],
        delivery: Delivery::AtLeastOnce,
        on_disconnect: OnDisconnect::Finish,
        network: Network::Bridge,
        writable_root: false,
    };
    let of = format!("{}/{}/{}", channel.team, channel.name, to.number);
    Some(Job {
        id: JobId::derived(now, &of),
        team: channel.team.clone(),
        spec: Arc::new(spec),
        array: 1,
        key: None,
        pinned: Some(to.image()),
        release: Some(to.number),
        created: now,
        traceparent: None,
    })
}

fn requirements(pool: &PoolName) -> Requirements {
    let resources = Resources {
        cpu_millis: CPU_MILLIS,
        memory_bytes: MEMORY_BYTES,
        pids: PIDS,
        ..Resources::default()
    };
    Requirements {
        pool: pool.clone(),
        labels: BTreeMap::new(),
        agent: None,
        resources,
        held: None,
        concurrency: BTreeMap::new(),
        lease: false,
    }
}
