//! A fleet with names for its parts, and what each command does to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_core::agent::{Hello, Link};
use muster_core::channel::{Cause, ChannelId};
use muster_core::effect::{Answer, Because, Effect, Effects, Order, Record};
use muster_core::event::{AttemptEnd, Event, NewJob, News, Report, RollbackTo};
use muster_core::fleet::{Fleet, Limits};
use muster_core::ids::{
    AgentId, AttemptId, AttemptNo, ChannelName, JobId, PoolName, SessionNo, TaskId, Term, Ticket,
};
use muster_core::image::{Digest, Tag};
use muster_core::job::{Job, JobProgress};
use muster_core::outcome::{End, Usage};
use muster_core::ranges::Ranges;
use muster_core::spec::{ImageSource, Pin};
use muster_core::task::{Phase, TaskRow, TaskState};
use muster_core::time::{Millis, Timestamp};
use muster_tests::sample;

use crate::command::{Command, span, target};
use crate::show;
use crate::words::{digest, digest_name, end_of, spec};

mod rollouts;
mod why;

pub(crate) struct Stage {
    fleet: Fleet,
    now: Timestamp,
    tickets: u64,
    sessions: u64,
    agents: BTreeMap<AgentId, Agent>,
    jobs: BTreeMap<String, Known>,
    tasks: BTreeMap<TaskId, TaskRow>,
    attempts: BTreeMap<AttemptId, Attempt>,
}

/// A job as scripts know it.
pub(crate) struct Known {
    pub(crate) id: JobId,
    pub(crate) array: u32,
    pub(crate) progress: Option<JobProgress>,
}

struct Agent {
    pool: PoolName,
    places: u32,
    session: SessionNo,
    /// What it would say it holds.
    held: BTreeSet<AttemptId>,
}

struct Attempt {
    agent: AgentId,
    image: Digest,
    because: Because,
    end: Option<End>,
    late: Option<End>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self {
            fleet: Fleet::new(Limits::default()),
            now: Timestamp(1_700_000_000_000),
            tickets: 0,
            sessions: 0,
            agents: BTreeMap::new(),
            jobs: BTreeMap::new(),
            tasks: BTreeMap::new(),
            attempts: BTreeMap::new(),
        }
    }

    /// What the command shows.
    pub(crate) fn perform(&mut self, command: &Command<'_>) -> Vec<String> {
        match command.verb {
            "agent" => self.agent(command),
            "cancel" => self.cancel(command),
            "channel" => self.channel(command),
            "cordon" | "drain" | "uncordon" => self.service(command),
            "end" => self.end(command),
            "gone" => self.gone(command),
            "hello" => self.hello(command),
            "holds" => self.holds(command),
            "image" => self.image(command),
            "job" => self.job(command),
            "drop" | "requeue" => self.quarantine(command),
            "policy" => self.policy(command),
            "rollback" => self.rollback(command),
            "rollout" => self.rollout(command),
            "settle" => self.settle(),
            "tick" => self.tick(command),
            "why" => self.why(command),
            other => panic!("{other} is no command"),
        }
    }

    fn handle(&mut self, event: Event) -> Vec<String> {
        let mut out = Effects::default();
        self.fleet.handle(self.now, event, &mut out);
        if self
            .fleet
            .next_deadline()
            .is_some_and(|due| due <= self.now)
        {
            self.fleet.handle(self.now, Event::Tick, &mut out);
        }
        self.fleet.settle(self.now, &mut out);
        assert_eq!(self.fleet.broken_invariants(), []);
        let effects = out.drain();
        effects
            .into_iter()
            .filter_map(|effect| self.take(effect))
            .collect()
    }

    /// Keeps what a store would, and says what people and agents would hear of.
    fn take(&mut self, effect: Effect) -> Option<String> {
        match effect {
            Effect::Record(record) => self.keep(record),
            Effect::Order { agent, order } => match order {
                Order::Offer(offer) | Order::Adopt(offer) => {
                    self.agents.get_mut(&agent)?.held.insert(offer.attempt);
                    None
                }
                Order::Stop { attempt, stop } => {
                    let (name, reason) = (self.name(attempt), format!("{:?}", stop.reason));
                    Some(format!("{agent}: stop {name} ({})", reason.to_lowercase()))
                }
                Order::Prefetch { image, .. } => {
                    Some(format!("{agent}: fetch {}", digest_name(image.digest())))
                }
                Order::Ack { .. } | Order::Keep { .. } | Order::Discard { .. } => None,
            },
            Effect::Answer { answer, .. } => match answer {
                Answer::Refused(refusal) => Some(format!("refused: {refusal}")),
                Answer::Released { tasks } => Some(format!("{tasks} tasks left the quarantine")),
                Answer::CancelRequested { tasks } => Some(format!("{tasks} tasks had not ended")),
                Answer::LossesConfirmed { agents } => {
                    Some(format!("{} agents are gone", agents.len()))
                }
                Answer::Submitted(_)
                | Answer::Agent(_)
                | Answer::Adopted(_)
                | Answer::Channel(_) => None,
            },
            Effect::Notify(notice) => show::heard(notice),
        }
    }

    fn keep(&mut self, record: Record) -> Option<String> {
        match record {
            Record::JobProgress { job, progress } => {
                let known = self.jobs.values_mut().find(|known| known.id == job)?;
                known.progress = Some(progress);
            }
            Record::Task { task, row } => {
                self.tasks.insert(task, row);
            }
            Record::AttemptMade {
                attempt,
                agent,
                image,
                because,
                at: _,
            } => {
                let made = Attempt {
                    agent,
                    image: image.digest(),
                    because,
                    end: None,
                    late: None,
                };
                self.attempts.insert(attempt, made);
            }
            Record::AttemptEnded { attempt, end, .. } => {
                self.attempts.get_mut(&attempt)?.end = Some(end);
            }
            Record::LateReport { attempt, end, .. } => {
                let text = format!("{} came late: {end}; kept, not applied", self.name(attempt));
                self.attempts.get_mut(&attempt)?.late = Some(end);
                return Some(text);
            }
            Record::JobSubmitted(job) => {
                // A rollout submits its validation by itself.
                let is_known = self.jobs.values().any(|known| known.id == job.id);
                if !is_known {
                    let known = Known {
                        id: job.id,
                        array: job.array,
                        progress: None,
                    };
                    self.jobs.insert(job.spec.name.to_string(), known);
                }
            }
            Record::AttemptStarted { .. }
            | Record::Agent(_)
            | Record::AgentLink { .. }
            | Record::AgentSchedulable { .. }
            | Record::SafeMode(_)
            | Record::Released { .. }
            | Record::Rollout(_)
            | Record::Channel(_) => {}
        }
        None
    }

    fn name(&self, attempt: AttemptId) -> String {
        let job = self
            .jobs
            .iter()
            .find(|(_, known)| known.id == attempt.task.job);
        let job = job.map_or("?", |(name, _)| name);
        format!("{job}.{}#{}", attempt.task.index, attempt.number)
    }

    const fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn agent(&mut self, command: &Command<'_>) -> Vec<String> {
        let id = AgentId::parse(command.word(0)).unwrap();
        let agent = Agent {
            pool: PoolName::parse(command.option("pool").unwrap_or("default")).unwrap(),
            places: command.number("places", 1),
            session: SessionNo(0),
            held: BTreeSet::new(),
        };
        self.agents.insert(id, agent);
        self.hello(command)
    }

    fn hello(&mut self, command: &Command<'_>) -> Vec<String> {
        self.sessions += 1;
        let id = AgentId::parse(command.word(0)).unwrap();
        let agent = self.agents.get_mut(&id).expect("it was introduced");
        agent.session = SessionNo(self.sessions);
        if command.maybe_word(1) == Some("empty-handed") {
            agent.held.clear();
        }
        let mut profile = sample::profile(agent.places);
        profile.pool = agent.pool.clone();
        let hello = Hello {
            agent: id,
            session: agent.session,
            profile,
            term: Term(1),
            attempts: agent.held.clone(),
            details: BTreeMap::new(),
            orphans: BTreeSet::new(),
            held: vec![],
        };
        self.handle(Event::AgentHello(hello))
    }

    fn gone(&mut self, command: &Command<'_>) -> Vec<String> {
        let id = AgentId::parse(command.word(0)).unwrap();
        let session = self.agents[&id].session;
        self.handle(Event::AgentGone { agent: id, session })
    }

    fn service(&mut self, command: &Command<'_>) -> Vec<String> {
        let ticket = self.ticket();
        let agent = AgentId::parse(command.word(0)).unwrap();
        let reason = "maintenance".to_owned();
        let deadline = command
            .option("deadline")
            .map(|text| self.now + Millis(span(text)));
        self.handle(match command.verb {
            "cordon" => Event::AgentCordoned {
                ticket,
                agent,
                reason,
            },
            "uncordon" => Event::AgentUncordoned { ticket, agent },
            _ => Event::AgentDrained {
                ticket,
                agent,
                reason,
                deadline,
            },
        })
    }

    fn channel_id(name: &str) -> ChannelId {
        ChannelId {
            team: sample::team(),
            name: ChannelName::parse(name).unwrap(),
        }
    }

    fn channel(&mut self, command: &Command<'_>) -> Vec<String> {
        let ticket = self.ticket();
        self.handle(Event::ChannelSet {
            ticket,
            channel: Self::channel_id(command.word(0)),
            tag: Tag::parse("latest").unwrap(),
            candidate: Box::new(sample::candidate(
                digest(command.option("digest").expect("digest=d1")),
                Cause::Set,
            )),
        })
    }

    fn image(&mut self, command: &Command<'_>) -> Vec<String> {
        self.handle(Event::ImageResolved {
            channel: Self::channel_id(command.word(0)),
            tag: Tag::parse("latest").unwrap(),
            candidate: Box::new(sample::candidate(digest(command.word(1)), Cause::Webhook)),
        })
    }

    fn rollback(&mut self, command: &Command<'_>) -> Vec<String> {
        let ticket = self.ticket();
        self.handle(Event::RolledBack {
            ticket,
            channel: Self::channel_id(command.word(0)),
            to: RollbackTo::Previous,
            reason: "bad numbers".into(),
            by: String::new(),
        })
    }

    fn job(&mut self, command: &Command<'_>) -> Vec<String> {
        let name = command.word(0);
        let spec = spec(command);
        let pinned = match &spec.image {
            ImageSource::Reference { .. } => Some(sample::image(0)),
            ImageSource::Channel { name, pin } => {
                let channel = self.fleet.channel(&Self::channel_id(name.as_str()));
                let current = channel.map(|channel| channel.current.image());
                current.filter(|_| *pin == Pin::Run)
            }
        };
        let id = JobId(uuid::Uuid::from_u128(
            u128::try_from(self.jobs.len() + 1).expect("a few jobs"),
        ));
        let array = command.number("array", 1);
        let job = Arc::new(Job {
            id,
            team: sample::team(),
            spec: Arc::new(spec),
            array,
            key: None,
            pinned,
            release: None,
            created: self.now,
            traceparent: None,
        });
        let known = Known {
            id,
            array,
            progress: None,
        };
        self.jobs.insert(name.to_owned(), known);
        let ticket = self.ticket();
        let jobs = vec![NewJob { job, prior: None }];
        self.handle(Event::Submitted { ticket, jobs })
    }

    fn report(&mut self, attempt: AttemptId, news: News) -> Vec<String> {
        let agent = self.attempts[&attempt].agent.clone();
        let session = self.agents[&agent].session;
        self.handle(Event::Reported(Report {
            agent,
            session,
            attempt,
            seq: 1,
            news,
        }))
    }

    /// Ends the newest attempts of tasks, or the one that is named.
    fn end(&mut self, command: &Command<'_>) -> Vec<String> {
        let (job, indexes, number) = target(command.word(0));
        let end = end_of(command.word(1));
        let (id, array) = (self.jobs[job].id, self.jobs[job].array);
        let indexes: Ranges =
            indexes.map_or_else(|| Ranges::up_to(array), |text| text.parse().unwrap());
        let mut shown = Vec::new();
        for index in indexes.iter().flatten() {
            let task = TaskId { job: id, index };
            let number = number.map_or_else(|| self.tasks[&task].last, AttemptNo);
            let attempt = AttemptId { task, number };
            let ended = AttemptEnd {
                end: end.clone(),
                started: Some(self.now),
                ended: self.now,
                usage: Usage::default(),
                metrics: None,
            };
            for agent in self.agents.values_mut() {
                agent.held.remove(&attempt);
            }
            shown.extend(self.report(attempt, News::Ended(Box::new(ended))));
        }
        shown
    }

    fn cancel(&mut self, command: &Command<'_>) -> Vec<String> {
        let (job, indexes, _) = target(command.word(0));
        let ticket = self.ticket();
        let event = Event::CancelRequested {
            ticket,
            job: self.jobs[job].id,
            tasks: indexes.map(|text| text.parse().unwrap()),
            reason: "not needed".into(),
            now: false,
        };
        self.handle(event)
    }

    /// `requeue JOB.INDEX`, `requeue all` or `drop JOB.INDEX`.
    fn quarantine(&mut self, command: &Command<'_>) -> Vec<String> {
        let ticket = self.ticket();
        let task = (command.word(0) != "all").then(|| {
            let (job, index, _) = target(command.word(0));
            let index = index.expect("JOB.INDEX").parse().expect("one index");
            let job = self.jobs[job].id;
            TaskId { job, index }
        });
        self.handle(match (command.verb, task) {
            ("drop", task) => Event::Dropped {
                ticket,
                task: task.expect("one task is dropped at a time"),
            },
            (_, task) => Event::Requeued {
                ticket,
                team: sample::team(),
                task,
            },
        })
    }

    fn tick(&mut self, command: &Command<'_>) -> Vec<String> {
        let until = self.now + Millis(span(command.word(0)));
        let mut shown = Vec::new();
        while let Some(due) = self.fleet.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            shown.extend(self.handle(Event::Tick));
        }
        self.now = until;
        shown
    }

    /// Agents in touch start what they were offered; then everything is shown.
    fn settle(&mut self) -> Vec<String> {
        let offered: Vec<AttemptId> = self
            .fleet
            .tasks()
            .filter_map(|(id, task)| match &task.state {
                TaskState::Held { place, phase }
                    if *phase < (Phase::Running { started: self.now }) =>
                {
                    let attempt = AttemptId {
                        task: id,
                        number: place.number,
                    };
                    self.is_online(&place.agent).then_some(attempt)
                }
                TaskState::Held { .. } | TaskState::Pending { .. } => None,
            })
            .collect();
        let mut shown = Vec::new();
        for attempt in offered {
            shown.extend(self.report(attempt, News::Started { at: self.now }));
        }
        for agent in self.fleet.agents() {
            match agent.link {
                Link::Online { .. } => {}
                Link::Unreachable { .. } => shown.push(format!("{} is unreachable", agent.id)),
                Link::Lost { .. } => shown.push(format!("{} is lost", agent.id)),
            }
        }
        for (name, known) in &self.jobs {
            shown.extend(show::job(&self.fleet, self.now, name, known, &self.tasks));
        }
        shown
    }

    fn is_online(&self, id: &AgentId) -> bool {
        let agent = self.fleet.agents().find(|agent| agent.id == *id);
        agent.is_some_and(|agent| matches!(agent.link, Link::Online { .. }))
    }
}
