//! Jobs are submitted: all of one request are taken, or none.

use std::collections::BTreeMap;

use super::Fleet;
use super::timers::Timer;
use crate::effect::{Answer, Effects, Record, Refusal, Submitted};
use crate::event::{NewJob, Prior};
use crate::ids::{JobId, Ticket};
use crate::job::{IdempotencyKey, Job, LiveJob};

impl Fleet {
    pub(super) fn on_submit(&mut self, ticket: Ticket, jobs: Vec<NewJob>, out: &mut Effects) {
        let mut taken = Vec::with_capacity(jobs.len());
        match self.find_existing(&jobs) {
            Err(refusal) => {
                out.answer(ticket, Answer::Refused(refusal));
                return;
            }
            Ok(existing) => {
                for (new, existing) in jobs.into_iter().zip(existing) {
                    let nobody_fits = self.nobody_fits(&new.job);
                    let (id, existed) = match existing {
                        Some(id) => (id, true),
                        None => (self.take(new, out), false),
                    };
                    taken.push(Submitted {
                        id,
                        existed,
                        nobody_fits: nobody_fits && !existed,
                    });
                }
            }
        }
        out.answer(ticket, Answer::Submitted(taken));
    }

    /// For each job the earlier one under its key, looked up before anything is taken.
    fn find_existing(&self, jobs: &[NewJob]) -> Result<Vec<Option<JobId>>, Refusal> {
        let mut in_request = BTreeMap::new();
        let mut found = Vec::with_capacity(jobs.len());
        for new in jobs {
            let Some(key) = &new.job.key else {
                found.push(None);
                continue;
            };
            let prior = self.prior(&new.job, key).or(new.prior);
            let prior = prior.or_else(|| in_request.get(&key.key).copied());
            match prior {
                Some(Prior { id, body }) if body == key.body => found.push(Some(id)),
                Some(Prior { id, .. }) => {
                    return Err(Refusal::KeyInUse {
                        key: key.key.clone(),
                        existing: id,
                    });
                }
                None => {
                    in_request.insert(
                        key.key.clone(),
                        Prior {
                            id: new.job.id,
                            body: key.body,
                        },
                    );
                    found.push(None);
                }
            }
        }
        Ok(found)
    }

    fn prior(&self, job: &Job, key: &IdempotencyKey) -> Option<Prior> {
        let id = *self.keys.get(&(job.team.clone(), key.key.clone()))?;
        let body = self.jobs.get(id)?.job.key.as_ref()?.body;
        Some(Prior { id, body })
    }

    pub(super) fn take(&mut self, new: NewJob, out: &mut Effects) -> JobId {
        let job = self.specs.share(new.job);
        let id = job.id;
        if let Some(key) = &job.key {
            self.keys.insert((job.team.clone(), key.key.clone()), id);
        }
        if let Some(timeout) = job.spec.queue_timeout {
            self.timers
                .set(job.created + timeout, Timer::QueueTimeout(id));
        }
        out.record(Record::JobSubmitted(job.clone()));
        let live = LiveJob::new(job, self.next_seq);
        self.next_seq += 1;
        self.queue.update(&live);
        self.jobs.insert(live);
        self.dirty.insert(id);
        self.placeable = true;
        id
    }
}
