//! Images that can't be pulled now, as when their registry is down. Until a pull works, tasks of such an image go to
//! the agents that hold it; elsewhere one attempt at a time tries, less and less often. Else an outage would cost
//! every task that waits an attempt, and the registry would be asked as often as attempts fail. What lasts for longer
//! is taken for a mistake, and then tasks end by their budgets.

use std::collections::BTreeMap;

use super::Fleet;
use super::timers::Timer;
use crate::agent::Agent;
use crate::ids::{AgentId, AttemptId};
use crate::image::Digest;
use crate::outcome::{End, EndReason};
use crate::time::{Millis, Timestamp};

/// After the first failure; it doubles with each one.
const PAUSE: Millis = Millis::from_secs(1);
const PAUSE_MAX: Millis = Millis::from_secs(60);
/// So long an outage costs nothing but the attempts that were under way when it began.
const OUTAGE: Millis = Millis::from_secs(1_800);
/// An image that nobody tried for so long after its pause is forgotten.
const FORGET: Millis = Millis::from_secs(600);

/// What is known of an image since a pull failed; not stored, so a restart of the coordinator begins anew.
#[derive(Debug)]
pub(super) struct Failing {
    /// The first failure.
    since: Timestamp,
    failures: u32,
    /// Nobody tries before then.
    pub until: Timestamp,
    /// The attempt that tries.
    trial: Option<AttemptId>,
    /// What the newest failure said.
    pub message: String,
}

impl Failing {
    fn is_lasting(&self, now: Timestamp) -> bool {
        now.since(self.since) >= OUTAGE
    }
}

pub(super) type Pulls = BTreeMap<Digest, Failing>;

impl Fleet {
    /// How many attempts may try to pull the image now; `None`: as many as like, for no pull is known to fail.
    pub(super) fn may_pull(&self, now: Timestamp, digest: Digest) -> Option<u32> {
        let failing = self
            .pulls
            .get(&digest)
            .filter(|failing| !failing.is_lasting(now))?;
        Some(u32::from(failing.trial.is_none() && failing.until <= now))
    }

    /// The attempt was made on that agent.
    pub(super) fn note_puller(&mut self, attempt: AttemptId, agent: &AgentId, digest: Digest) {
        let holds = |id: &AgentId| {
            let agent = self.agents.get(id);
            agent.is_some_and(|agent| agent.digests.contains(&digest))
        };
        if holds(agent) {
            return;
        }
        if let Some(failing) = self.pulls.get_mut(&digest) {
            failing.trial = Some(attempt);
        }
    }

    /// The attempt started: if it was the one that tried, the image can be pulled again.
    pub(super) fn note_pull_worked(&mut self, attempt: AttemptId) {
        let before = self.pulls.len();
        self.pulls
            .retain(|_, failing| failing.trial != Some(attempt));
        self.placeable |= self.pulls.len() < before;
    }

    /// The images that can't be pulled and that the agent does not hold.
    pub(super) fn failing_beyond(&self, agent: &Agent) -> Vec<Digest> {
        let failing = self.pulls.keys().copied();
        failing
            .filter(|digest| !agent.digests.contains(digest))
            .collect()
    }

    /// The agent did not hold these before: if it has one now, that can be pulled again.
    pub(super) fn note_pulled(&mut self, agent: &AgentId, before: &[Digest]) {
        let Some(agent) = self.agents.get(agent) else {
            return;
        };
        for digest in before
            .iter()
            .filter(|digest| agent.digests.contains(*digest))
        {
            self.pulls.remove(digest);
            self.placeable = true;
        }
    }

    /// The attempt ended. Returns whether it tried for all others, which costs its task nothing.
    pub(super) fn note_pull_end(
        &mut self,
        now: Timestamp,
        attempt: AttemptId,
        digest: Digest,
        end: &End,
    ) -> bool {
        let known = self.pulls.get_mut(&digest);
        let tried = known.is_some_and(|failing| {
            let tried = failing.trial == Some(attempt);
            failing.trial = failing.trial.filter(|_| !tried);
            tried && !failing.is_lasting(now)
        });
        if end.reason != EndReason::PullFailed {
            return false;
        }
        let failing = self.pulls.entry(digest).or_insert_with(|| Failing {
            since: now,
            failures: 0,
            until: now,
            trial: None,
            message: String::new(),
        });
        failing.message.clone_from(&end.message);
        if now < failing.until {
            return tried; // it was under way when the pause began
        }
        let factor = 1_u64.checked_shl(failing.failures).unwrap_or(u64::MAX);
        failing.failures = failing.failures.saturating_add(1);
        failing.until = now + Millis(PAUSE.0.saturating_mul(factor)).min(PAUSE_MAX);
        self.timers.set(failing.until, Timer::PullAgain(digest));
        tried
    }

    pub(super) fn pull_due(&mut self, now: Timestamp, digest: Digest) {
        let Some(failing) = self.pulls.get(&digest) else {
            return;
        };
        let forgotten = failing.until + FORGET;
        if forgotten <= now {
            self.pulls.remove(&digest);
        } else if failing.until <= now {
            self.timers.set(forgotten, Timer::PullAgain(digest));
        }
        self.placeable = true;
    }
}
