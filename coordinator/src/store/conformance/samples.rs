//! Values to store, with every field set to something.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_core::agent::{Agent, Capacity, HeldImage, Link, Profile, Schedulable};
use muster_core::channel::{Cause, Channel, ChannelId, Following, PollInterval, Release, Warm};
use muster_core::effect::{Because, Record};
use muster_core::ids::{
    AgentId, AttemptId, AttemptNo, ChannelName, CredentialsName, JobId, JobName, PoolName,
    SessionNo, TaskId, TeamName,
};
use muster_core::image::{Digest, Image, Repository, Tag};
use muster_core::job::{IdempotencyKey, Job, JobProgress, LiveJob};
use muster_core::outcome::{End, EndReason, Outcome, Usage};
use muster_core::retry::Spent;
use muster_core::rollout::gate::Tally;
use muster_core::rollout::plan::plan;
use muster_core::rollout::policy::{Bake, Policy};
use muster_core::rollout::{Conclusion, Facts, Rollout, State};
use muster_core::spec::{
    Backoff, BackoffKind, Delivery, Growth, ImageSource, Network, OnDisconnect, Pin, Pull,
    Requirements, Resources, RetryAction, RetryPolicy, RetryRule, Spec,
};
use muster_core::task::{RowState, TaskRow};
use muster_core::time::{Millis, Timestamp};
use uuid::Uuid;

use crate::store::TaskQuery;

pub(in crate::store) fn team(name: &str) -> TeamName {
    TeamName::parse(name).unwrap()
}

fn digest(seed: u8) -> Digest {
    Digest::from_bytes([seed; 32])
}

fn repository() -> Repository {
    "registry.example:5000/etl/analytics".parse().unwrap()
}

pub(in crate::store) fn image(seed: u8) -> Image {
    Image::Remote {
        repository: repository(),
        digest: digest(seed),
    }
}

fn map<V>(entries: impl IntoIterator<Item = (&'static str, V)>) -> BTreeMap<String, V> {
    entries
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn spec() -> Spec {
    Spec {
        name: JobName::parse("load").unwrap(),
        image: ImageSource::Channel {
            name: ChannelName::parse("analytics").unwrap(),
            pin: Pin::Run,
        },
        pull: Pull::Never,
        entrypoint: Some(vec!["/bin/env".to_owned()]),
        command: vec![
            "python3".to_owned(),
            "-c".to_owned(),
            "print('ü')".to_owned(),
        ],
        env: map([("MODE", "full \"load\"".to_owned())]),
        labels: map([("owner", "data".to_owned())]),
        workdir: Some("/work".to_owned()),
        user: Some("1000:1000".to_owned()),
        requirements: Arc::new(Requirements {
            pool: PoolName::parse("etl").unwrap(),
            labels: map([("disk", "ssd".to_owned())]),
            agent: Some(AgentId::parse("etl-1").unwrap()),
            resources: resources(),
            held: Some(image(3)),
            concurrency: map([("crm", 4)]),
            lease: true,
        }),
        priority: -7,
        queue_timeout: Some(Millis(90_000)),
        run_timeout: Millis(3_600_500),
        kill_grace: Millis(0),
        retry: RetryPolicy {
            user: 2,
            infra: 3,
            backoff: Backoff {
                kind: BackoffKind::Fixed,
                initial: Millis(1_500),
                cap: Millis(60_000),
                jitter: false,
            },
            rules: vec![
                RetryRule {
                    outcomes: BTreeSet::from([Outcome::Failed, Outcome::ImageError]),
                    exit_codes: vec![2..=2, 64..=78],
                    action: RetryAction::Fail,
                },
                RetryRule {
                    outcomes: BTreeSet::from([Outcome::Oom]),
                    exit_codes: Vec::new(),
                    action: RetryAction::Grow(Growth {
                        percent: 150,
                        most: 1 << 40,
                    }),
                },
            ],
        },
        success_codes: vec![3, 99],
        delivery: Delivery::AtMostOnce,
        on_disconnect: OnDisconnect::StopAfter(Millis(90_500)),
        network: Network::None,
        writable_root: true,
    }
}

fn resources() -> Resources {
    Resources {
        cpu_millis: 1_500,
        memory_bytes: 3 << 30,
        pids: 200,
        gpus: 1,
        custom: map([("licence", 2)]),
    }
}

/// The job with this number; larger numbers have larger ids.
pub(in crate::store) fn job(number: u32) -> Arc<Job> {
    Arc::new(Job {
        id: JobId(Uuid::from_u128(
            (1 << 90) + (u128::from(number) << 64) + u128::from(number),
        )),
        team: team("default"),
        spec: Arc::new(spec()),
        array: 10,
        key: None,
        pinned: Some(image(3)),
        release: Some(41),
        created: Timestamp(1_700_000_000_000 + u64::from(number)),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
    })
}

pub(in crate::store) fn with_id(job: Arc<Job>, id: JobId) -> Arc<Job> {
    Arc::new(Job {
        id,
        ..Arc::unwrap_or_clone(job)
    })
}

pub(in crate::store) fn with_team(job: Arc<Job>, name: &str) -> Arc<Job> {
    Arc::new(Job {
        team: team(name),
        ..Arc::unwrap_or_clone(job)
    })
}

pub(in crate::store) fn with_key(job: Arc<Job>, key: &str) -> Arc<Job> {
    let key = Some(Box::new(IdempotencyKey {
        key: key.to_owned(),
        body: [9; 32],
    }));
    Arc::new(Job {
        key,
        ..Arc::unwrap_or_clone(job)
    })
}

pub(in crate::store) fn with_label(job: Arc<Job>, label: &str, value: &str) -> Arc<Job> {
    let mut spec = Spec::clone(&job.spec);
    spec.labels.insert(label.to_owned(), value.to_owned());
    Arc::new(Job {
        spec: Arc::new(spec),
        ..Arc::unwrap_or_clone(job)
    })
}

pub(in crate::store) fn progress(job: &Arc<Job>) -> JobProgress {
    LiveJob::new(job.clone(), 0).progress
}

fn attempt(job: &Job, index: u32, number: u32) -> AttemptId {
    AttemptId {
        task: TaskId { job: job.id, index },
        number: AttemptNo(number),
    }
}

pub(in crate::store) fn attempt_made(
    job: &Job,
    index: u32,
    number: u32,
    because: Because,
) -> Record {
    attempt_on(image(3), job, index, number, because)
}

pub(in crate::store) fn attempt_on(
    image: Image,
    job: &Job,
    index: u32,
    number: u32,
    because: Because,
) -> Record {
    Record::AttemptMade {
        attempt: attempt(job, index, number),
        agent: AgentId::parse("etl-1").unwrap(),
        image,
        at: Timestamp(10),
        because,
    }
}

pub(in crate::store) fn attempt_ended(job: &Job, index: u32, number: u32, end: End) -> Record {
    Record::AttemptEnded {
        attempt: attempt(job, index, number),
        started: None,
        at: Timestamp(50),
        end,
        usage: usage(),
    }
}

pub(in crate::store) fn usage() -> Usage {
    Usage {
        peak_memory_bytes: Some(7 << 20),
        cpu_micros: None,
        pull: Some(Millis(0)),
        start: Some(Millis(212)),
        run: None,
    }
}

pub(in crate::store) fn late_report(job: &Job, index: u32, number: u32) -> Record {
    let succeeded = End {
        exit_code: Some(0),
        message: "came back".to_owned(),
        ..End::of(Outcome::Succeeded, EndReason::Exited)
    };
    late_end(job, index, number, succeeded)
}

pub(in crate::store) fn late_end(job: &Job, index: u32, number: u32, end: End) -> Record {
    Record::LateReport {
        attempt: attempt(job, index, number),
        at: Timestamp(70),
        end,
    }
}

pub(in crate::store) fn task_row(number: u32, state: RowState) -> TaskRow {
    TaskRow {
        state,
        last: AttemptNo(number),
        spent: Spent {
            user: 0,
            infra: number - 1,
            free: 2,
            deaths: number,
            memory: 3 << 30,
        },
        agent: AgentId::parse("etl-1").unwrap(),
        image: image(3),
        release: Some(41),
        assigned: Timestamp(10),
        started: None,
    }
}

pub(in crate::store) fn row(job: &Job, index: u32, number: u32, state: RowState) -> Record {
    let task = TaskId { job: job.id, index };
    Record::Task {
        task,
        row: task_row(number, state),
    }
}

pub(in crate::store) fn all_tasks(job: &Job) -> TaskQuery {
    TaskQuery {
        job: job.id,
        states: Vec::new(),
        outcomes: Vec::new(),
        after: None,
        limit: 1_000,
    }
}

pub(in crate::store) fn agent(name: &str) -> Agent {
    let held = HeldImage {
        id: digest(8),
        images: vec![image(3), image(4)],
        tags: vec!["registry.example:5000/etl/analytics:latest".to_owned()],
    };
    Agent {
        id: AgentId::parse(name).unwrap(),
        profile: Profile {
            pool: PoolName::parse("etl").unwrap(),
            labels: map([("disk", "ssd".to_owned())]),
            capacity: Capacity {
                resources: resources(),
                places: 12,
            },
            version: "0.1.0".to_owned(),
            engine: "20.10.24".to_owned(),
            boot_id: "b1".to_owned(),
            leases: false,
            platform: String::new(),
        },
        link: Link::Online {
            session: SessionNo(3),
        },
        schedulable: Schedulable::Cordoned {
            reason: "new disk".to_owned(),
            until: Some(Timestamp(90)),
        },
        last_contact: Timestamp(60),
        live: BTreeSet::new(),
        reserved: Capacity::default(),
        held: vec![held],
        digests: BTreeSet::from([digest(8), digest(3), digest(4)]),
    }
}

pub(in crate::store) fn release(number: u64, cause: Cause) -> Release {
    Release {
        number,
        repository: repository(),
        digest: digest(u8::try_from(number).unwrap()),
        at: Timestamp(100 + number),
        cause,
        reason: "because".to_owned(),
        by: "ann@laptop".to_owned(),
        revision: "8f2c1aa".to_owned(),
        created: "2026-11-20T10:00:00Z".to_owned(),
        policy: (number % 2 == 1).then(|| {
            Box::new(Policy {
                bake: Some(Bake {
                    lasts: Millis(number),
                }),
                ..Policy::default()
            })
        }),
    }
}

pub(in crate::store) fn channel(
    name: &str,
    current: Release,
    previous: Option<Release>,
) -> Channel {
    Channel {
        id: ChannelId {
            team: team("default"),
            name: ChannelName::parse(name).unwrap(),
        },
        repository: repository(),
        tag: Tag::parse("latest").unwrap(),
        current,
        held_back: previous.as_ref().map(|release| release.digest),
        passed_over: previous.as_ref().map(|_| digest(7)),
        previous,
        policy: Policy {
            bake: Some(Bake {
                lasts: Millis::from_secs(60),
            }),
            ..Policy::default()
        },
        unpromoted: vec![3, 5],
        warm: Warm::new(1, 4).unwrap(),
        following: Following {
            poll: Some(PollInterval::new(Millis::from_secs(90)).unwrap()),
            credentials: Some(CredentialsName::parse("acme").unwrap()),
        },
    }
}

pub(in crate::store) fn rollout(from: &Release, to: &Release, how: Option<Conclusion>) -> Rollout {
    let state = match how {
        None => State::Active {
            step: 0,
            since: Timestamp(7),
            paused: None,
        },
        Some(how) => State::Ended {
            how,
            at: Timestamp(9),
            reason: "because".to_owned(),
        },
    };
    let known = channel("analytics", from.clone(), None);
    Rollout {
        channel: known.id,
        from: from.clone(),
        to: to.clone(),
        plan: plan(&known.policy, &Facts::default(), &BTreeSet::new()).unwrap(),
        policy: known.policy,
        state,
        began: Timestamp(5),
        validation: None,
        tally: Tally::default(),
        timeline: Vec::new(),
    }
}
