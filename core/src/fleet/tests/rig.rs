//! A fleet with short names for its parts, that checks the invariants after every event.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::agent::{Capacity, HeldImage, Hello, Profile};
use crate::channel::{Candidate, Cause, ChannelId};
use crate::effect::{Answer, Effect, Effects, Order, Record};
use crate::event::{AttemptEnd, Event, NewJob, News, Report};
use crate::fleet::{Fleet, Limits};
use crate::ids::{AgentId, AttemptId, AttemptNo, ChannelName, JobId, JobName, PoolName};
use crate::ids::{SessionNo, TaskId, TeamName, Term, Ticket};
use crate::image::{Digest, Image, Tag};
use crate::job::Job;
use crate::outcome::{End, EndReason, Outcome, Usage};
use crate::rollout::Facts;
use crate::spec::{
    Backoff, BackoffKind, Delivery, ImageSource, Network, OnDisconnect, Pin, Pull, Requirements,
    Resources, RetryPolicy, Spec,
};
use crate::time::{Millis, Timestamp};

pub(in crate::fleet) struct Rig {
    pub(in crate::fleet) fleet: Fleet,
    pub(in crate::fleet) now: Timestamp,
    tickets: u64,
    pub(in crate::fleet) sessions: BTreeMap<String, SessionNo>,
    jobs: u128,
}

/// Seconds since the rig began.
pub(in crate::fleet) const fn at(seconds: u64) -> Timestamp {
    Timestamp(1_000_000 + seconds * 1000)
}

pub(in crate::fleet) fn agent(name: &str) -> AgentId {
    AgentId::parse(name).unwrap()
}

pub(in crate::fleet) fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

pub(in crate::fleet) fn team() -> TeamName {
    TeamName::parse("default").unwrap()
}

pub(in crate::fleet) fn channel(name: &str) -> ChannelId {
    ChannelId {
        team: team(),
        name: ChannelName::parse(name).unwrap(),
    }
}

pub(in crate::fleet) fn candidate(byte: u8, cause: Cause) -> Candidate {
    Candidate {
        repository: "registry.example/analytics".parse().unwrap(),
        digest: digest(byte),
        facts: Facts::default(),
        cause,
        reason: String::new(),
        by: String::new(),
    }
}

pub(in crate::fleet) fn spec() -> Spec {
    let resources = Resources {
        cpu_millis: 1_000,
        memory_bytes: 1 << 20,
        ..Resources::default()
    };
    let backoff = Backoff {
        kind: BackoffKind::Fixed,
        jitter: false,
        ..Backoff::default()
    };
    Spec {
        name: JobName::parse("load").unwrap(),
        image: ImageSource::Reference {
            text: "registry.example/etl:1".into(),
        },
        pull: Pull::Missing,
        entrypoint: None,
        command: vec!["load.py".into()],
        env: BTreeMap::new(),
        labels: BTreeMap::new(),
        workdir: None,
        user: None,
        requirements: Arc::new(Requirements {
            pool: PoolName::parse("default").unwrap(),
            labels: BTreeMap::new(),
            agent: None,
            resources,
            held: None,
            concurrency: BTreeMap::new(),
            lease: false,
        }),
        priority: 0,
        queue_timeout: None,
        run_timeout: Millis::from_secs(3600),
        kill_grace: Millis::from_secs(10),
        retry: RetryPolicy {
            user: 1,
            infra: 1,
            backoff,
            rules: Vec::new(),
        },
        success_codes: vec![],
        delivery: Delivery::AtLeastOnce,
        on_disconnect: OnDisconnect::Finish,
        network: Network::Bridge,
        writable_root: false,
    }
}

/// A spec that follows the channel `analytics`.
pub(in crate::fleet) fn on_channel(pin: Pin) -> Spec {
    let name = ChannelName::parse("analytics").unwrap();
    Spec {
        image: ImageSource::Channel { name, pin },
        ..spec()
    }
}

impl Rig {
    pub(in crate::fleet) fn new() -> Self {
        let fleet = Fleet::new(Limits::default());
        Self {
            fleet,
            now: at(0),
            tickets: 0,
            sessions: BTreeMap::new(),
            jobs: 0,
        }
    }

    /// One event as a batch of its own.
    pub(in crate::fleet) fn handle(&mut self, event: Event) -> Vec<Effect> {
        let mut out = Effects::default();
        self.fleet.handle(self.now, event, &mut out);
        self.fleet.settle(self.now, &mut out);
        assert_eq!(self.fleet.broken_invariants(), []);
        out.drain()
    }

    pub(in crate::fleet) fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// Moves the clock to the fleet's own deadlines up to `until`, ticking at each.
    pub(in crate::fleet) fn tick_until(&mut self, until: Timestamp) -> Vec<Effect> {
        let mut all = Vec::new();
        while let Some(due) = self.fleet.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            all.extend(self.handle(Event::Tick));
        }
        self.now = until;
        all
    }

    pub(in crate::fleet) fn hello(&mut self, name: &str, places: u32) -> Vec<Effect> {
        self.hello_with(name, places, BTreeSet::new())
    }

    pub(in crate::fleet) fn hello_with(
        &mut self,
        name: &str,
        places: u32,
        attempts: BTreeSet<AttemptId>,
    ) -> Vec<Effect> {
        let session = self
            .sessions
            .values()
            .max()
            .map_or(1, |newest| newest.0 + 1);
        let session = SessionNo(session);
        self.sessions.insert(name.to_owned(), session);
        self.handle(Event::AgentHello(hello(name, session, places, attempts)))
    }

    pub(in crate::fleet) fn gone(&mut self, name: &str) -> Vec<Effect> {
        let session = self.sessions[name];
        self.handle(Event::AgentGone {
            agent: agent(name),
            session,
        })
    }

    pub(in crate::fleet) fn job(&mut self, spec: Spec, array: u32) -> Job {
        self.jobs += 1;
        let digest = digest(1);
        let repository = "registry.example/etl".parse().unwrap();
        let pinned = match &spec.image {
            ImageSource::Reference { .. } => Some(Image::Remote { repository, digest }),
            ImageSource::Channel { .. } => None,
        };
        Job {
            id: JobId(Uuid::from_u128(self.jobs)),
            team: team(),
            spec: Arc::new(spec),
            array,
            key: None,
            pinned,
            release: None,
            created: self.now,
            traceparent: None,
        }
    }

    /// The agent holds the image.
    pub(in crate::fleet) fn hold(&mut self, name: &str, byte: u8) -> Vec<Effect> {
        let session: SessionNo = self.sessions[name];
        self.handle(Event::AgentBeat {
            agent: agent(name),
            session,
            held: Some(vec![held(byte)]),
        })
    }

    /// The agent opens another stream, and holds the image now.
    pub(in crate::fleet) fn hello_holding(
        &mut self,
        name: &str,
        places: u32,
        byte: u8,
    ) -> Vec<Effect> {
        let newest = self.sessions.values().max().map_or(0, |newest| newest.0);
        let session = SessionNo(newest + 1);
        self.sessions.insert(name.to_owned(), session);
        self.handle(Event::AgentHello(Hello {
            held: vec![held(byte)],
            ..hello(name, session, places, BTreeSet::new())
        }))
    }

    pub(in crate::fleet) fn submit_job(&mut self, job: Job) -> Vec<Effect> {
        let ticket = self.ticket();
        let jobs = vec![NewJob {
            job: Arc::new(job),
            prior: None,
        }];
        self.handle(Event::Submitted { ticket, jobs })
    }

    pub(in crate::fleet) fn submit(&mut self, spec: Spec, array: u32) -> (JobId, Vec<Effect>) {
        let job = self.job(spec, array);
        let id = job.id;
        (id, self.submit_job(job))
    }

    pub(in crate::fleet) fn report(
        &mut self,
        name: &str,
        attempt: AttemptId,
        news: News,
    ) -> Vec<Effect> {
        let session = self.sessions[name];
        self.handle(Event::Reported(Report {
            agent: agent(name),
            session,
            attempt,
            seq: 1,
            news,
        }))
    }

    pub(in crate::fleet) fn start(&mut self, name: &str, attempt: AttemptId) {
        self.report(name, attempt, News::Accepted);
        let at = self.now;
        self.report(name, attempt, News::Started { at });
    }

    pub(in crate::fleet) fn end(
        &mut self,
        name: &str,
        attempt: AttemptId,
        end: End,
    ) -> Vec<Effect> {
        let ended = self.now;
        let usage = Usage::default();
        let end = AttemptEnd {
            end,
            started: None,
            ended,
            usage,
            metrics: None,
        };
        self.report(name, attempt, News::Ended(Box::new(end)))
    }

    /// Points the channel `analytics` at a digest, as its first release or as a wish.
    pub(in crate::fleet) fn set_channel(&mut self, byte: u8) -> Vec<Effect> {
        let ticket = self.ticket();
        self.handle(Event::ChannelSet {
            ticket,
            channel: channel("analytics"),
            tag: Tag::parse("latest").unwrap(),
            candidate: Box::new(candidate(byte, Cause::Set)),
        })
    }

    /// The tag of the channel `analytics` means another digest.
    pub(in crate::fleet) fn push(&mut self, byte: u8) -> Vec<Effect> {
        self.push_with(byte, Facts::default())
    }

    pub(in crate::fleet) fn push_with(&mut self, byte: u8, facts: Facts) -> Vec<Effect> {
        let candidate = Candidate {
            facts,
            ..candidate(byte, Cause::Webhook)
        };
        self.handle(Event::ImageResolved {
            channel: channel("analytics"),
            tag: Tag::parse("latest").unwrap(),
            candidate: Box::new(candidate),
        })
    }

    pub(in crate::fleet) fn cancel(&mut self, job: JobId, tasks: Option<&str>) -> Vec<Effect> {
        let ticket = self.ticket();
        let tasks = tasks.map(|text| text.parse().unwrap());
        let reason = "not needed".to_owned();
        self.handle(Event::CancelRequested {
            ticket,
            job,
            tasks,
            reason,
            now: false,
        })
    }
}

fn held(byte: u8) -> HeldImage {
    let image = Image::Remote {
        repository: "registry.example/analytics".parse().unwrap(),
        digest: digest(byte),
    };
    HeldImage {
        id: digest(100 + byte),
        images: vec![image],
        tags: vec![],
    }
}

/// What an agent with room for `places` tasks of any size says of itself.
pub(in crate::fleet) fn hello(
    name: &str,
    session: SessionNo,
    places: u32,
    attempts: BTreeSet<AttemptId>,
) -> Hello {
    let resources = Resources {
        cpu_millis: 64_000,
        memory_bytes: 1 << 40,
        ..Resources::default()
    };
    Hello {
        agent: agent(name),
        session,
        profile: Profile {
            pool: PoolName::parse("default").unwrap(),
            labels: BTreeMap::new(),
            capacity: Capacity { resources, places },
            version: "0.1.0".into(),
            engine: "20.10".into(),
            boot_id: "b".into(),
            leases: true,
            platform: "linux/amd64".to_owned(),
        },
        term: Term(1),
        attempts,
        details: BTreeMap::new(),
        orphans: BTreeSet::new(),
        held: vec![],
    }
}

pub(in crate::fleet) const fn attempt(job: JobId, index: u32, number: u32) -> AttemptId {
    AttemptId {
        task: TaskId { job, index },
        number: AttemptNo(number),
    }
}

pub(in crate::fleet) fn failed(code: i32) -> End {
    End {
        exit_code: Some(code),
        ..End::of(Outcome::Failed, EndReason::Exited)
    }
}

pub(in crate::fleet) fn succeeded() -> End {
    End {
        exit_code: Some(0),
        ..End::of(Outcome::Succeeded, EndReason::Exited)
    }
}

/// Which attempts were offered to whom, with which digest.
pub(in crate::fleet) fn offers(effects: &[Effect]) -> Vec<(String, AttemptId, Digest)> {
    let offer = |effect: &Effect| match effect {
        Effect::Order {
            agent,
            order: Order::Offer(offer),
        } => Some((agent.to_string(), offer.attempt, offer.image.digest())),
        _ => None,
    };
    effects.iter().filter_map(offer).collect()
}

pub(in crate::fleet) fn stops(effects: &[Effect]) -> Vec<AttemptId> {
    let stop = |effect: &Effect| match effect {
        Effect::Order {
            order: Order::Stop { attempt, .. },
            ..
        } => Some(*attempt),
        _ => None,
    };
    effects.iter().filter_map(stop).collect()
}

pub(in crate::fleet) fn answers(effects: &[Effect]) -> Vec<&Answer> {
    let mut found = Vec::new();
    for effect in effects {
        if let Effect::Answer { answer, .. } = effect {
            found.push(answer);
        }
    }
    found
}

/// How the tasks ended, from their rows.
pub(in crate::fleet) fn ends(effects: &[Effect]) -> Vec<(u32, String)> {
    let end = |effect: &Effect| match effect {
        Effect::Record(Record::Task { task, row }) => match &row.state {
            crate::task::RowState::Ended { end, .. } => Some((task.index, end.to_string())),
            _ => None,
        },
        _ => None,
    };
    effects.iter().filter_map(end).collect()
}
