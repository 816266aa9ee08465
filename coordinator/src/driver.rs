//! The driver: the one task that owns the fleet.
//!
//! It takes everything that is queued as one batch, lets the fleet handle it, stores all records in one
//! transaction, and only then lets answers and orders out. The commit's duration is the batching window:
//! there is no timer to tune, and no delay when nothing else is going on.
//!
//! Submissions have a line of their own. A batch takes what agents say first, because that is what frees places, and
//! then some of the submissions: however many jobs come, the ones that run come to their end. A submission that
//! finds the line full is turned away before anything is done about it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use muster_core::effect::{Answer, Effect, Effects, Notice, Order, Record};
use muster_core::event::{Event, NewJob};
use muster_core::fleet::{Fleet, Limits};
use muster_core::ids::{AgentId, SessionNo, Ticket};
use muster_core::job::Job;
use muster_core::time::Timestamp;
use muster_failpoint::{self as failpoint, Point};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::store::{CommitError, ReadError, Store};

mod handle;
mod observe;

pub use handle::{DriverGone, DriverHandle, NotSubmitted};
pub use observe::Observers;

use handle::{Input, Submission};

/// Inputs that wait for the driver; senders wait when it is full.
const INBOX: usize = 8_192;
/// Inputs of one batch. A larger one would keep the first caller waiting for the last.
const BATCH: usize = 2_048;
/// Submissions that wait for the driver. More are turned away.
const SUBMISSIONS: usize = 1_024;
/// Jobs that a batch takes beside other news; of one submission all or none.
const BESIDE: usize = 64;
/// Batches of orders that wait for an agent's stream. An agent that doesn't take them is cut off.
const ORDERS: usize = 1_024;

/// Orders of one batch for one agent.
pub type Orders = Vec<Order>;

/// Why the driver had to stop.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    #[error("records could not be stored")]
    Commit { source: CommitError },
    #[error("the store could not be read")]
    Read { source: ReadError },
}

/// The effects of a batch whose records are stored. Only a commit makes one, so nothing can be said
/// before it is durable.
struct Committed(Vec<Effect>);

pub(crate) struct Driver<S> {
    fleet: Fleet,
    store: Arc<S>,
    inbox: mpsc::Receiver<Input>,
    submissions: mpsc::Receiver<Submission>,
    streams: BTreeMap<AgentId, Stream>,
    waiting: BTreeMap<Ticket, oneshot::Sender<Answer>>,
    next_ticket: u64,
    clock: Clock,
    observers: Observers,
}

/// Where an agent's orders go.
struct Stream {
    session: SessionNo,
    orders: mpsc::Sender<Orders>,
}

impl<S: Store> Driver<S> {
    /// Rebuilds the fleet from the store's rows, through the same door as all other news.
    pub(crate) async fn start(
        store: Arc<S>,
        limits: Limits,
        observers: Observers,
    ) -> Result<(Self, DriverHandle), DriverError> {
        let mut fleet = Fleet::new(limits);
        let clock = Clock::new();
        let mut out = Effects::default();
        let rows = store
            .load()
            .await
            .map_err(|source| DriverError::Read { source })?;
        for row in rows {
            fleet.handle(clock.now(), Event::Restored(row), &mut out);
        }
        if let Some(why) = fleet.safe_mode() {
            tracing::error!(%why, "safe mode: nothing is started or stopped");
        }
        failpoint::hit(Point::FleetRestored);
        let (sender, inbox) = mpsc::channel(INBOX);
        let (submit, submissions) = mpsc::channel(SUBMISSIONS);
        let driver = Self {
            fleet,
            store,
            inbox,
            submissions,
            streams: BTreeMap::new(),
            waiting: BTreeMap::new(),
            next_ticket: 0,
            clock,
            observers,
        };
        Ok((driver, DriverHandle::new(sender, submit)))
    }

    /// Runs until `stop`, or until the store fails.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), DriverError> {
        loop {
            let due = self.until_due();
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                input = self.inbox.recv() => match input {
                    Some(input) => self.batch(Some(input), None).await?,
                    None => return Ok(()),
                },
                Some(submission) = self.submissions.recv() => {
                    self.batch(None, Some(submission)).await?;
                }
                () = tokio::time::sleep(due) => self.batch(None, None).await?,
            }
        }
    }

    fn until_due(&self) -> Duration {
        /// Nothing is due; looking at the clock again once an hour costs nothing.
        const IDLE: Duration = Duration::from_secs(3_600);
        let due = self.fleet.next_deadline();
        due.map_or(IDLE, |due| due.since(self.clock.now()).into())
    }

    /// With the first of what it is about.
    async fn batch(
        &mut self,
        input: Option<Input>,
        submission: Option<Submission>,
    ) -> Result<(), DriverError> {
        let mut out = Effects::default();
        let mut looks = Vec::new();
        let mut next = input.or_else(|| self.inbox.try_recv().ok());
        let mut taken = 0;
        while let Some(input) = next {
            self.take(input, &mut out, &mut looks);
            taken += 1;
            next = if taken < BATCH {
                self.inbox.try_recv().ok()
            } else {
                None
            };
        }
        let most = if taken > 0 { BESIDE } else { BATCH };
        let mut next = submission.or_else(|| self.submissions.try_recv().ok());
        let mut taken = 0;
        while let Some(submission) = next {
            taken += submission.jobs.len();
            self.submit(submission, &mut out).await?;
            next = if taken < most {
                self.submissions.try_recv().ok()
            } else {
                None
            };
        }
        let now = self.clock.now();
        if self.fleet.next_deadline().is_some_and(|due| due <= now) {
            self.fleet.handle(now, Event::Tick, &mut out);
        }
        self.fleet.settle(now, &mut out);
        let committed = self.commit(out.drain()).await?;
        self.speak(committed);
        for look in looks {
            look(&self.fleet, now);
        }
        Ok(())
    }

    fn take(&mut self, input: Input, out: &mut Effects, looks: &mut Vec<handle::Look>) {
        let now = self.clock.now();
        match input {
            Input::Tell(event) => {
                tracing::trace!(?event, "event");
                self.fleet.handle(now, event, out);
            }
            Input::Ask { event, answer } => {
                let ticket = self.ticket(answer);
                self.fleet.handle(now, event(ticket), out);
            }
            Input::Attach {
                agent,
                session,
                orders,
            } => {
                let known = self.streams.get(&agent).map(|stream| stream.session);
                // Replacing an older stream closes it; one that was overtaken is closed itself.
                if known.is_none_or(|known| known < session) {
                    self.streams.insert(agent, Stream { session, orders });
                }
            }
            Input::Look(look) => looks.push(look),
        }
    }

    async fn submit(
        &mut self,
        submission: Submission,
        out: &mut Effects,
    ) -> Result<(), DriverError> {
        let Submission { jobs, answer } = submission;
        let jobs = self.with_priors(jobs).await?;
        let ticket = self.ticket(answer);
        let now = self.clock.now();
        self.fleet
            .handle(now, Event::Submitted { ticket, jobs }, out);
        Ok(())
    }

    fn ticket(&mut self, answer: oneshot::Sender<Answer>) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.waiting.insert(ticket, answer);
        ticket
    }

    /// Looks up the keys that the fleet doesn't know. A job can't end between this look and its use:
    /// jobs are forgotten when a batch settles, and then its commit comes before the next look.
    async fn with_priors(&self, jobs: Vec<Arc<Job>>) -> Result<Vec<NewJob>, DriverError> {
        let mut with_priors = Vec::with_capacity(jobs.len());
        for job in jobs {
            let prior = match &job.key {
                Some(key) if !self.fleet.has_key(&job.team, &key.key) => {
                    let found = self.store.find_key(&job.team, &key.key).await;
                    found.map_err(|source| DriverError::Read { source })?
                }
                Some(_) | None => None,
            };
            with_priors.push(NewJob { job, prior });
        }
        Ok(with_priors)
    }

    async fn commit(&self, effects: Vec<Effect>) -> Result<Committed, DriverError> {
        let mut records: Vec<Record> = Vec::new();
        let mut rest = Vec::with_capacity(effects.len());
        for effect in effects {
            match effect {
                Effect::Record(record) => records.push(record),
                other @ (Effect::Order { .. } | Effect::Answer { .. } | Effect::Notify(_)) => {
                    rest.push(other);
                }
            }
        }
        if !records.is_empty() {
            let (began, count) = (Instant::now(), records.len());
            let stored = self.store.commit(records).await;
            stored.map_err(|source| DriverError::Commit { source })?;
            self.observers.committed(began.elapsed(), count);
        }
        Ok(Committed(rest))
    }

    fn speak(&mut self, Committed(effects): Committed) {
        let mut orders: BTreeMap<AgentId, Orders> = BTreeMap::new();
        for effect in effects {
            match effect {
                Effect::Record(_) => {}
                Effect::Order { agent, order } => orders.entry(agent).or_default().push(order),
                Effect::Answer { ticket, answer } => {
                    if let Some(waiting) = self.waiting.remove(&ticket) {
                        // A caller that went away does not need it.
                        let _ = waiting.send(answer);
                    }
                }
                Effect::Notify(notice) => self.notify(notice),
            }
        }
        for (agent, orders) in orders {
            self.send(&agent, orders);
        }
    }

    fn notify(&self, notice: Notice) {
        self.observers.notice(&self.fleet, notice);
    }

    /// Orders for an agent without a stream are dropped: its next Hello brings them up again.
    fn send(&mut self, agent: &AgentId, orders: Orders) {
        let Some(stream) = self.streams.get(agent) else {
            return;
        };
        if stream.orders.try_send(orders).is_err() {
            let session = stream.session.0;
            tracing::warn!(agent.id = %agent, session, "agent does not take its orders; cutting it off");
            self.streams.remove(agent);
        }
    }
}

/// Wall-clock time that never steps: the offset to the monotonic clock is read once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    began: Instant,
    wall: Timestamp,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let wall = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let wall = Timestamp(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX));
        Self {
            began: Instant::now(),
            wall,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.wall.0.saturating_add(elapsed))
    }
}

#[cfg(test)]
mod tests;
