//! Clients: what they asked for, what they were told, and whether both stay true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_core::channel::ChannelId;
use muster_core::effect::{Answer, Refusal, Submitted};
use muster_core::event::{Event, NewJob};
use muster_core::ids::{ChannelName, JobId, Ticket};
use muster_core::job::{IdempotencyKey, Job};
use muster_core::outcome::Outcome;
use muster_core::ranges::Ranges;
use muster_core::spec::{
    BackoffKind, Delivery, Growth, ImageSource, OnDisconnect, Pin, Requirements, RetryAction,
    RetryRule, Spec,
};
use muster_core::time::Millis;
use muster_tests::random::Rng;
use muster_tests::sample;

use crate::store::Canceled;
use crate::world::{Happening, World};

#[derive(Debug, Default)]
pub(crate) struct Client {
    requests: BTreeMap<u64, Request>,
    last: u64,
    /// Jobs that a client was told are taken.
    acknowledged: BTreeSet<JobId>,
    /// All that were ever sent, in order.
    sent: Vec<Arc<Job>>,
    keys: BTreeMap<String, (JobId, [u8; 32])>,
}

#[derive(Debug, Clone)]
enum Request {
    Submit(Arc<Job>),
    Cancel {
        job: JobId,
        tasks: Option<Ranges>,
        now: bool,
    },
}

pub(crate) fn channel() -> ChannelId {
    ChannelId {
        team: sample::team(),
        name: ChannelName::parse("analytics").expect("it is a name"),
    }
}

impl Client {
    pub(crate) fn is_satisfied(&self) -> bool {
        self.requests.is_empty()
    }

    pub(crate) fn unanswered(&self) -> Option<String> {
        let (number, request) = self.requests.first_key_value()?;
        Some(format!("request {number}: {request:?}"))
    }

    pub(crate) const fn ticket(&mut self) -> Ticket {
        self.last += 1;
        Ticket(self.last)
    }
}

impl World {
    pub(crate) fn submit(&mut self, draw: u64) {
        let mut rng = Rng::new(draw, "spec");
        let mut spec = draw_spec(&mut rng);
        if self.leases && rng.chance(60) {
            draw_lease(&mut spec, &mut rng);
        }
        let array = if rng.chance(60) {
            1
        } else {
            rng.between(2, 12)
        };
        let key = rng.chance(70).then(|| {
            Box::new(IdempotencyKey {
                key: format!("key-{}", self.client.sent.len()),
                body: [1; 32],
            })
        });
        let array = u32::try_from(array).expect("a dozen").min(self.most_tasks);
        self.submit_job(spec, array, key);
    }

    fn submit_job(&mut self, spec: Spec, array: u32, key: Option<Box<IdempotencyKey>>) {
        let mut id = u128::try_from(self.client.sent.len()).expect("it is small") << 64;
        id |= u128::from(self.rng.client.draw());
        let channel = self.store.channels.get(&channel());
        let (pinned, release) = match &spec.image {
            ImageSource::Reference { .. } => (Some(sample::image(200)), None),
            ImageSource::Channel { pin: Pin::Task, .. } => (None, None),
            ImageSource::Channel { pin: Pin::Run, .. } => {
                let current = channel.map(|channel| &channel.current);
                let image = current.map(muster_core::channel::Release::image);
                (image, current.map(|release| release.number))
            }
        };
        let is_channel = matches!(spec.image, ImageSource::Channel { .. });
        if is_channel && channel.is_none() {
            return; // the API refuses it
        }
        let job = Arc::new(Job {
            id: JobId(uuid::Uuid::from_u128(id)),
            team: sample::team(),
            spec: Arc::new(spec),
            array,
            key,
            pinned,
            release,
            created: self.coordinator.clock(self.now),
            traceparent: None,
        });
        self.client.sent.push(Arc::clone(&job));
        self.ask(Request::Submit(job));
    }

    /// An earlier submission again, with its key and perhaps with another body.
    pub(crate) fn submit_again(&mut self, draw: u64, changed: bool) {
        let mut rng = Rng::new(draw, "again");
        let keyed: Vec<Arc<Job>> = self
            .client
            .sent
            .iter()
            .filter(|job| job.key.is_some())
            .cloned()
            .collect();
        if keyed.is_empty() {
            return;
        }
        let old = &keyed[rng.index(keyed.len())];
        let mut key = old.key.clone();
        if let Some(key) = &mut key
            && changed
        {
            key.body = [2; 32];
        }
        self.submit_job(Spec::clone(&old.spec), old.array, key);
    }

    pub(crate) fn cancel(&mut self, draw: u64, some_tasks: bool, now: bool) {
        let mut rng = Rng::new(draw, "cancel");
        if self.client.sent.is_empty() {
            return;
        }
        // Recent jobs are more likely to be there still.
        let newest = rng.index(self.client.sent.len().min(6));
        let job = &self.client.sent[self.client.sent.len() - 1 - newest];
        let first = u32::try_from(rng.below(job.array.into())).expect("below an array");
        let last = u32::try_from(rng.between(first.into(), u64::from(job.array) - 1));
        let last = last.expect("below an array");
        let request = Request::Cancel {
            job: job.id,
            tasks: some_tasks.then(|| Ranges::from_ranges([first..=last])),
            now,
        };
        self.ask(request);
    }

    fn ask(&mut self, request: Request) {
        let Ticket(number) = self.client.ticket();
        self.client.requests.insert(number, request);
        self.ask_again(number);
    }

    /// Sends a request, until there is an answer or it makes no sense to ask again.
    pub(crate) fn ask_again(&mut self, number: u64) {
        let Some(request) = self.client.requests.get(&number).cloned() else {
            return;
        };
        let ticket = Ticket(number);
        let event = match &request {
            Request::Submit(job) => {
                let new = NewJob {
                    job: Arc::clone(job),
                    prior: None,
                };
                Event::Submitted {
                    ticket,
                    jobs: vec![new],
                }
            }
            Request::Cancel { job, tasks, now } => Event::CancelRequested {
                ticket,
                job: *job,
                tasks: tasks.clone(),
                reason: "not needed".into(),
                now: *now,
            },
        };
        if matches!(&request, Request::Submit(job) if job.key.is_none()) {
            // Whether it is taken is unknown if no answer comes; asking again could make a second job.
            self.client.requests.remove(&number);
        } else {
            let patience = Millis(self.rng.client.between(5_000, 40_000));
            self.after(patience, Happening::AskAgain { request: number });
        }
        let arrives = self.now + Millis(self.rng.client.between(1, 50));
        self.tell(arrives, event);
    }

    /// An answer reaches its client, or gets lost.
    pub(crate) fn answered(&mut self, number: u64, answer: Answer) {
        if !self.calm && self.rng.client.chance(5) {
            return;
        }
        let request = self.client.requests.remove(&number);
        match answer {
            Answer::Submitted(jobs) => {
                for submitted in jobs {
                    self.check_submitted(request.as_ref(), &submitted);
                }
            }
            Answer::Refused(Refusal::KeyInUse { key, existing }) => {
                let known = self.client.keys.get(&key).copied();
                if let Some(Request::Submit(job)) = request
                    && known.is_some_and(|(_, body)| {
                        job.key.as_ref().is_some_and(|key| key.body == body)
                    })
                {
                    let what = format!("key {key} of job {existing} was refused to its own body");
                    self.violated("I2 submit idempotent", what);
                }
            }
            Answer::CancelRequested { .. } => {
                if let Some(Request::Cancel { job, tasks, .. }) = request {
                    self.store.note_cancel(&Canceled { job, tasks });
                }
            }
            Answer::Released { .. }
            | Answer::LossesConfirmed { .. }
            | Answer::Agent(_)
            | Answer::Adopted(_)
            | Answer::Channel(_)
            | Answer::Refused(_) => {}
        }
    }

    fn check_submitted(&mut self, request: Option<&Request>, submitted: &Submitted) {
        let id = submitted.id;
        if !self.store.jobs.contains_key(&id) {
            return self.violated(
                "I1 no lost submit",
                format!("job {id} was taken and is not stored"),
            );
        }
        self.client.acknowledged.insert(id);
        let Some(Request::Submit(job)) = request else {
            return;
        };
        let Some(key) = &job.key else { return };
        let (first, body) = *self
            .client
            .keys
            .entry(key.key.clone())
            .or_insert((id, key.body));
        if first != id || body != key.body {
            let what = format!("key {} gave job {first}, then {id}", key.key);
            self.violated("I2 submit idempotent", what);
        }
    }

    /// Everything that was ever acknowledged is stored.
    pub(crate) fn check_acknowledged(&mut self) {
        let lost = self
            .client
            .acknowledged
            .iter()
            .find(|id| !self.store.jobs.contains_key(id));
        if let Some(id) = lost {
            let what = format!("job {id} was taken and is not stored");
            self.violated("I1 no lost submit", what);
        }
    }
}

/// It stops when its host is cut off, and is run again at once.
fn draw_lease(spec: &mut Spec, rng: &mut Rng) {
    // Four heartbeats at least.
    spec.on_disconnect = OnDisconnect::StopAfter(Millis(rng.between(40_000, 150_000)));
    let mut requirements = Requirements::clone(&spec.requirements);
    requirements.lease = true;
    spec.requirements = Arc::new(requirements);
    spec.retry.infra += 2;
    spec.retry.backoff.initial = Millis(rng.between(0, 2_000));
    spec.delivery = Delivery::AtLeastOnce;
}

/// Rules as people write them; the first that matches an end decides.
fn draw_rules(rng: &mut Rng, asked: u64) -> Vec<RetryRule> {
    let outcomes: [&[Outcome]; 6] = [
        &[],
        &[Outcome::Failed],
        &[Outcome::Oom],
        &[Outcome::Oom, Outcome::Failed],
        &[Outcome::ImageError],
        &[Outcome::InfraError, Outcome::Lost],
    ];
    let codes = [1..=1, 3..=3, 130..=255, 0..=255];
    let mut rules = Vec::new();
    for _ in 0..rng.between(1, 4) {
        let outcomes = outcomes[rng.index(outcomes.len())];
        let few = rng
            .chance(50)
            .then(|| codes[rng.index(codes.len())].clone());
        let growth = Growth {
            percent: u32::try_from(rng.between(101, 300)).expect("a few hundred"),
            most: asked * rng.between(1, 6),
        };
        let action = rng.weighted(&[
            (2, RetryAction::Fail),
            (3, RetryAction::Retry),
            (4, RetryAction::Grow(growth)),
        ]);
        rules.push(RetryRule {
            outcomes: outcomes.iter().copied().collect(),
            exit_codes: few.into_iter().collect(),
            action,
        });
    }
    rules
}

fn draw_spec(rng: &mut Rng) -> Spec {
    let mut spec = sample::spec("load");
    let name = channel().name;
    spec.image = match rng.below(4) {
        0 => spec.image,
        1 => ImageSource::Channel {
            name,
            pin: Pin::Run,
        },
        _ => ImageSource::Channel {
            name,
            pin: Pin::Task,
        },
    };
    let few = |rng: &mut Rng, most| u32::try_from(rng.below(most)).expect("a handful");
    spec.retry.user = few(rng, 4);
    spec.retry.infra = few(rng, 6);
    spec.retry.backoff.jitter = rng.chance(50);
    if rng.chance(50) {
        spec.retry.backoff.kind = BackoffKind::Exponential;
    }
    if rng.chance(50) {
        spec.retry.rules = draw_rules(rng, spec.requirements.resources.memory_bytes);
    }
    if rng.chance(25) {
        spec.delivery = Delivery::AtMostOnce;
    }
    if rng.chance(25) {
        spec.success_codes = vec![3];
    }
    if rng.chance(15) {
        spec.queue_timeout = Some(Millis(rng.between(1_000, 400_000)));
    }
    if rng.chance(30) {
        spec.run_timeout = Millis(rng.between(1_000, 100_000));
    }
    spec.kill_grace = Millis(rng.between(0, 20_000));
    spec.priority = i32::try_from(rng.below(3)).expect("a handful");
    if rng.chance(15) {
        let mut requirements = Requirements::clone(&spec.requirements);
        let limit = few(rng, 3) + 1;
        requirements.concurrency.insert("warehouse".into(), limit);
        spec.requirements = Arc::new(requirements);
    }
    spec
}
