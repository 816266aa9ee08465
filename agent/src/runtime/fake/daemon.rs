//! The fake's daemon: it ends and comes back, and its disk fills up, while containers run.

use std::collections::VecDeque;
use std::sync::MutexGuard;

use muster_core::time::{Millis, Timestamp};

use super::{FakeContainer, FakeRuntime, Inner, OnTerm, engine};
use crate::host;
use crate::plan::Seen;
use crate::runtime::{EngineError, EngineEvent};

/// As many events as Docker remembers.
const REMEMBERED: usize = 256;

/// What the daemon tells of what happens.
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// Nobody is there to tell it.
    silent: bool,
    recent: VecDeque<(Timestamp, EngineEvent)>,
}

impl Feed {
    /// What it remembers of the second of `since`, and later.
    pub(super) fn recall(&self, since: Option<Timestamp>) -> VecDeque<EngineEvent> {
        let Some(since) = since else {
            return VecDeque::new();
        };
        let recent = self.recent.iter();
        let recent = recent.filter(|(at, _)| at.0 / 1000 >= since.0 / 1000);
        recent.map(|(_, event)| event.clone()).collect()
    }
}

impl FakeRuntime {
    /// KILL to the daemon alone: the containers run on.
    pub fn kill_daemon(&self) {
        self.leave(&mut self.lock());
    }

    /// TERM to the daemon. Unless its containers outlive it, it ends them first.
    pub fn stop_daemon(&self) {
        let mut inner = self.lock();
        if !inner.live_restore {
            self.end_all(&mut inner);
        }
        self.leave(&mut inner);
    }

    /// The daemon and all containers are gone at once, and nobody saw how they ended.
    pub fn cut_power(&self) {
        let mut inner = self.lock();
        for container in inner.containers.values_mut() {
            container.cut_off = container.state.seen == Seen::Running;
        }
        self.leave(&mut inner);
    }

    /// After one of the three above. Without `live_restore` it ends what still runs.
    pub fn start_daemon(&self, live_restore: bool) {
        let mut inner = self.lock();
        inner.down = false;
        inner.live_restore = live_restore;
        inner.started = super::start_now();
        self.feed().silent = false;
        for (name, container) in &mut inner.containers {
            if std::mem::take(&mut container.cut_off) {
                self.end(name, container, 255);
            }
        }
        if !live_restore {
            self.end_all(&mut inner);
        }
    }

    /// Somebody sets the host's clock forward. The daemon is the same; only the time that its start
    /// seems to have is another.
    pub fn set_clock(&self, by: Millis) {
        let mut inner = self.lock();
        inner.started.at = inner.started.at + by;
    }

    /// From now on the daemon can't write anything, or it can again.
    pub fn fill_disk(&self, full: bool) {
        self.lock().full = full;
    }

    /// TERM to every container, and KILL to whoever is left.
    fn end_all(&self, inner: &mut Inner) {
        for (name, container) in &mut inner.containers {
            if container.state.seen == Seen::Running {
                let code = match container.behaviour.on_term {
                    OnTerm::Die => 143,
                    OnTerm::Exit(code) => code,
                    OnTerm::Ignore => 137,
                };
                self.end(name, container, code);
            }
        }
    }

    fn leave(&self, inner: &mut Inner) {
        inner.down = true;
        let mut feed = self.feed();
        feed.silent = true;
        feed.recent.clear();
        // Whoever waits for an answer sees the connection end.
        self.life.send_modify(|life| *life += 1);
        for FakeContainer { turn, .. } in inner.containers.values() {
            turn.send_modify(|turn| *turn += 1);
        }
    }

    /// What a request works on, if there is a daemon.
    pub(super) fn up(&self) -> Result<MutexGuard<'_, Inner>, EngineError> {
        let inner = self.lock();
        if inner.down {
            return Err(engine::hung_up());
        }
        Ok(inner)
    }

    pub(super) fn tell(&self, event: EngineEvent) {
        let mut feed = self.feed();
        if feed.silent {
            return;
        }
        feed.recent.push_back((host::now(), event.clone()));
        if feed.recent.len() > REMEMBERED {
            feed.recent.pop_front();
        }
        let _ = self.events.send(event);
    }

    pub(super) fn feed(&self) -> MutexGuard<'_, Feed> {
        self.feed.lock().expect("no holder of the lock panics")
    }
}
