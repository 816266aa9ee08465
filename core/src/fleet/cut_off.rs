//! Attempts that their hosts stop when they are cut off: when they have certainly stopped.
//!
//! The agent counts from when it sent the last message that was answered, by the clock that also runs
//! while its host sleeps; we count from when we got the last one, which was no earlier. Neither the
//! guard of `silence` nor `lost_after` holds these back: whoever is cut off from whom, they are stopped.

use std::collections::BTreeSet;

use super::Fleet;
use super::timers::Timer;
use crate::effect::Effects;
use crate::ids::{AgentId, AttemptId};
use crate::job::Job;
use crate::outcome::{End, EndReason, Outcome};
use crate::time::Timestamp;

impl Fleet {
    /// Notes that nothing came from the agent after `contact`; `live` are its attempts.
    pub(super) fn silent_from(
        &mut self,
        id: &AgentId,
        contact: Timestamp,
        live: BTreeSet<AttemptId>,
    ) {
        self.silence.contacts.insert(id.clone(), contact);
        for attempt in live {
            if let Some(stopped) = self.stops_at(attempt) {
                self.timers.set(stopped, Timer::CutOff(attempt));
            }
        }
    }

    /// When the silent agent has certainly stopped the attempts of the job. `None`: it is in sight, or it
    /// does not stop them.
    pub(super) fn stopped_at(&self, job: &Job, agent: &AgentId) -> Option<Timestamp> {
        let contact = *self.silence.contacts.get(agent)?;
        Some(contact + job.spec.stopped_after()?)
    }

    /// The same of an attempt that holds its task.
    pub(super) fn stops_at(&self, attempt: AttemptId) -> Option<Timestamp> {
        let (live, place) = self.place_of(attempt)?;
        self.stopped_at(&live.job, &place.agent)
    }

    pub(super) fn cut_off(&mut self, now: Timestamp, attempt: AttemptId, out: &mut Effects) {
        let Some((live, place)) = self.place_of(attempt) else {
            return;
        };
        let agent = &place.agent;
        let Some(stopped) = self.stopped_at(&live.job, agent) else {
            return; // it is back
        };
        if stopped > now {
            return; // the timer of an earlier silence
        }
        let silent = now.since(self.silence.contacts[agent]);
        let message =
            format!("agent {agent} was silent for {silent}, and its host stops the task before");
        let end = End {
            message,
            ..End::of(Outcome::Lost, EndReason::AgentLost)
        };
        self.give_up(now, attempt, end, out);
    }
}
