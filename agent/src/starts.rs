//! How many containers are created and started at a time.
//!
//! An engine that is asked for more than it can do at once only takes longer for each. How much it can do, its
//! answers tell: when `n` starts are in flight and each takes twice as long as the fastest of its kind did, half of
//! them wait for the other half (as TCP Vegas reckons). The limit grows while fewer wait than the engine has CPUs,
//! and shrinks while more than twice as many do.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// What is the fastest of a kind is looked for in the last one to two of these: hosts and their load change.
const MEMORY: Duration = Duration::from_secs(2 * 60);

/// Starts of one kind take equally long if nothing else goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    NoNetwork,
    OwnNamespace,
    LentNamespace,
}

/// The right to start containers, for as many at a time as the engine can do.
pub(crate) struct Starts {
    permits: Semaphore,
    state: Mutex<State>,
}

struct State {
    limit: Limit,
    /// Permits that there are, free or held.
    permits: usize,
}

/// Held while a container is created and started.
pub(crate) struct Permit<'a> {
    starts: &'a Starts,
    /// `None`: given back.
    permit: Option<SemaphorePermit<'a>>,
}

impl Starts {
    /// Never more than `most`; how many may wait in the engine follows its CPUs.
    pub(crate) fn new(most: u32, cpus: u32) -> Self {
        let limit = Limit::new(most, cpus);
        let permits = limit.permits();
        Self {
            permits: Semaphore::new(permits),
            state: Mutex::new(State { limit, permits }),
        }
    }

    pub(crate) async fn acquire(&self) -> Permit<'_> {
        let permit = self.permits.acquire().await;
        Permit {
            starts: self,
            permit: Some(permit.expect("the semaphore is never closed")),
        }
    }

    /// How many may be in flight now.
    pub(crate) fn limit(&self) -> u32 {
        self.lock().limit.now
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the lock panics")
    }
}

impl Permit<'_> {
    /// The container was started, so long after it was asked for.
    pub(crate) fn started(self, kind: Kind, took: Duration) {
        // With room left, what it took says nothing about more at a time.
        let is_full = self.starts.permits.available_permits() == 0;
        let mut state = self.starts.lock();
        state.limit.started(kind, took, is_full, Instant::now());
    }
}

impl Drop for Permit<'_> {
    /// There are as many permits as the limit says, as soon as enough have come back.
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else {
            return;
        };
        let mut state = self.starts.lock();
        let limit = state.limit.permits();
        if state.permits > limit {
            state.permits -= 1;
            permit.forget();
            return;
        }
        self.starts.permits.add_permits(limit - state.permits);
        state.permits = limit;
    }
}

/// The reckoning.
#[derive(Debug)]
struct Limit {
    now: u32,
    most: u32,
    cpus: u32,
    /// Starts in a row, about, that spoke for more (positive) or for fewer.
    votes: i64,
    fastest: [Fastest; 3],
}

/// In this span of memory and in the one before.
#[derive(Debug, Default, Clone, Copy)]
struct Fastest {
    since: Option<Instant>,
    now: Option<Duration>,
    before: Option<Duration>,
}

impl Fastest {
    fn note(&mut self, took: Duration, at: Instant) -> Duration {
        if self
            .since
            .is_none_or(|since| at.duration_since(since) >= MEMORY)
        {
            self.since = Some(at);
            self.before = self.now.take();
        }
        let now = self.now.map_or(took, |now| now.min(took));
        self.now = Some(now);
        self.before.map_or(now, |before| before.min(now))
    }
}

impl Limit {
    fn new(most: u32, cpus: u32) -> Self {
        let (most, cpus) = (most.max(1), cpus.max(1));
        Self {
            now: cpus.saturating_mul(2).min(most),
            most,
            cpus,
            votes: 0,
            fastest: [Fastest::default(); 3],
        }
    }

    fn permits(&self) -> usize {
        usize::try_from(self.now).unwrap_or(usize::MAX)
    }

    fn started(&mut self, kind: Kind, took: Duration, is_full: bool, at: Instant) {
        let fastest = &mut self.fastest[match kind {
            Kind::NoNetwork => 0,
            Kind::OwnNamespace => 1,
            Kind::LentNamespace => 2,
        }];
        let fastest = fastest.note(took, at);
        if !is_full {
            return;
        }
        // Of those in flight, how many wait, both sides times what it took.
        let waiting = u128::from(self.now) * (took - fastest).as_micros();
        let one_each = u128::from(self.cpus) * took.as_micros();
        if waiting < one_each {
            self.votes += 1;
        } else if waiting > 2 * one_each {
            self.votes -= 1;
        }
        // Once all that are in flight have said the same, about.
        if self.votes >= i64::from(self.now) {
            self.votes = 0;
            self.now = (self.now + 1).min(self.most);
        } else if self.votes <= -i64::from(self.now) {
            self.votes = 0;
            self.now = (self.now - 1).max(1);
        }
    }
}

#[cfg(test)]
mod tests;
