//! A journal that is lost, and the containers that outlive it.

use std::collections::BTreeSet;

use muster_agent::plan::Seen;
use muster_core::effect::Offer;
use muster_core::ids::AttemptId;
use muster_core::time::Millis;

use crate::bug::Bug;
use crate::fault::Fault;
use crate::host::{Host, Intent, Journal, Step};
use crate::world::{Happening, World};

/// As the agent looks, and as long as it leaves what does not run alone while it is connected.
const LOOK: Millis = Millis::from_secs(60);
pub(crate) const GRACE: Millis = Millis::from_secs(300);
/// Between TERM and KILL.
const STOP_GRACE: u64 = 10_000;

impl World {
    /// The agent dies, and its next life finds a disk without journals.
    pub(crate) fn lose_journals(&mut self, at: usize, down: Millis) {
        if self.hosts[at].disk.is_empty() || self.hosts[at].destroyed {
            return;
        }
        self.hit(Fault::JournalLost);
        self.crash_agent(at, down);
        self.lose_homes(at);
        for (attempt, journal) in std::mem::take(&mut self.hosts[at].disk) {
            if !journal.kills.is_empty() {
                // Nobody knows any more who sent that signal.
                self.ledger.excuse(attempt);
            }
            if !self.hosts[at].engine.containers.contains_key(&attempt) {
                self.ledger.forget_start(attempt);
            }
        }
    }

    /// What the agent names in its Hello.
    pub(crate) fn named_orphans(&self, at: usize) -> BTreeSet<AttemptId> {
        if self.bug == Some(Bug::ForgetOrphans) {
            return BTreeSet::new();
        }
        self.hosts[at].orphans().into_iter().collect()
    }

    /// Once a minute, and when something is to be discarded.
    pub(crate) fn look_for_leftovers(&mut self, at: usize, life: u64) {
        let host = &self.hosts[at];
        if host.life != life || host.agent.is_none() {
            return;
        }
        if !host.engine.up {
            return self.after(LOOK, Happening::Leftovers { host: at, life });
        }
        let now = self.now;
        let nobodys = self.look_at_nobodys(at);
        if nobodys || !self.hosts[at].orphans().is_empty() {
            self.after(LOOK, Happening::Leftovers { host: at, life });
        }
        for attempt in self.hosts[at].orphans() {
            let host = &mut self.hosts[at];
            let seen = host.seen(attempt);
            let agent = host.agent.as_mut().expect("it was just looked at");
            let first = *agent.orphans.entry(attempt).or_insert(now);
            let discarded = agent.discarded.contains(&attempt);
            let told = host.session.map(|_| host.session_since);
            let over = told.is_some_and(|told| now.since(first.max(told)) >= GRACE);
            if seen == Seen::Running {
                if discarded || self.bug == Some(Bug::KillOrphans) {
                    self.stop_orphan(at, attempt);
                }
            } else if discarded || over {
                self.hosts[at].engine.containers.remove(&attempt);
            }
        }
    }

    fn stop_orphan(&mut self, at: usize, attempt: AttemptId) {
        if self.store.is_open(attempt) {
            let what = format!("{attempt} is stopped without a journal, and holds its task");
            return self.violated("I16 hands off", what);
        }
        let container = self.hosts[at].engine.containers.get_mut(&attempt);
        let container = container.expect("it was just seen");
        container.signalled = true;
        let (after, code) = container.program.on_term.unwrap_or((STOP_GRACE, 137));
        self.ends_after(at, attempt, Millis(after.min(STOP_GRACE)), code);
    }

    /// The journal is written anew, as if the start had been asked for now.
    pub(crate) fn on_adopt(&mut self, at: usize, offer: Offer) {
        let (attempt, now) = (offer.attempt, self.now);
        let host = &mut self.hosts[at];
        if host.disk.contains_key(&attempt) {
            return;
        }
        let intent = Intent {
            at: host.clock(now),
            boot_clock: host.boot_clock(now),
            boot: host.boot,
            engine_started: host.engine.started,
            warm: host.parked_as(attempt),
        };
        let journal = Journal {
            offer,
            heard: host.heard(),
            intent: (host.seen(attempt) != Seen::Exited).then_some(intent),
            started: false,
            kills: vec![],
            ended: None,
            adopted: true,
        };
        host.disk.insert(attempt, journal);
        let agent = host.agent.as_mut().expect("the caller looked");
        agent.orphans.remove(&attempt);
        agent.undecided.remove(&attempt);
        agent.lives.insert(attempt, agent.new_life());
        self.hit(Fault::OrphanAdopted);
        self.later(at, attempt, Step::Look, 5);
    }

    pub(crate) fn on_discard(&mut self, at: usize, attempt: AttemptId) {
        let host = &mut self.hosts[at];
        if host.disk.contains_key(&attempt) {
            return;
        }
        let agent = host.agent.as_mut().expect("the caller looked");
        agent.discarded.insert(attempt);
        agent.undecided.remove(&attempt);
        self.hit(Fault::OrphanDiscarded);
        let life = self.hosts[at].life;
        self.after(Millis(1), Happening::Leftovers { host: at, life });
    }
}

impl Host {
    /// Containers with an attempt's name that no journal knows.
    fn orphans(&self) -> Vec<AttemptId> {
        let all = self.engine.containers.keys();
        all.filter(|id| !self.disk.contains_key(id))
            .copied()
            .collect()
    }
}
