//! Somebody takes a restored store over as it is: the end of safe mode.

use std::collections::{BTreeMap, BTreeSet};

use super::Fleet;
use super::safe::{Safe, Unknown};
use super::take_over::UNKNOWN;
use super::timers::Timer;
use crate::agent::Link;
use crate::effect::{Answer, Effects, Notice, Order, Record, Refusal};
use crate::ids::{AttemptId, AttemptNo, JobId, TaskId, Ticket};
use crate::job::LiveJob;
use crate::ranges::Ranges;
use crate::safe_mode::{Adoption, SafeMode, Stray, Tasks};
use crate::spec::Delivery;
use crate::task::{Stop, StopReason, TaskState};
use crate::time::Timestamp;

impl Fleet {
    /// What taking the store over would mean now. `None`: it is no older copy.
    #[must_use]
    pub fn adoption(&self) -> Option<Adoption> {
        let safe = self.safe.as_ref()?;
        let missing = self.agents.values().filter(|agent| {
            !matches!(agent.link, Link::Lost { .. }) && !safe.called.contains_key(&agent.id)
        });
        let gone = self.gone_attempts(safe);
        let (mut again, mut lost) = (Vec::new(), Vec::new());
        for live in self.jobs.iter().filter(|live| is_restored(live, safe)) {
            let tasks = open_tasks(&live, &gone);
            if tasks.is_empty() {
                continue;
            }
            let tasks = Tasks {
                job: live.job.id,
                name: live.job.spec.name.clone(),
                tasks,
            };
            match live.job.spec.delivery {
                Delivery::AtLeastOnce => again.push(tasks),
                Delivery::AtMostOnce => lost.push(tasks),
            }
        }
        let strays = safe.strays.iter().map(|(attempt, stray)| Stray {
            attempt: *attempt,
            agent: stray.agent.clone(),
            end: stray.ended.as_ref().map(|(_, end)| end.clone()),
        });
        Some(Adoption {
            why: safe.why.clone(),
            called: safe.called.keys().cloned().collect(),
            missing: missing.map(|agent| agent.id.clone()).collect(),
            taken_over: safe.taken_over,
            again,
            lost,
            strays: strays.collect(),
        })
    }

    pub(super) fn on_adopted(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        without_agents: bool,
        out: &mut Effects,
    ) {
        let Some(adoption) = self.adoption() else {
            return out.answer(ticket, Answer::Refused(Refusal::NotRestored));
        };
        if let SafeMode::Behind { agent, seen, .. } = adoption.why {
            let seen = seen.0;
            let refusal = Refusal::StoreBehind { agent, seen };
            return out.answer(ticket, Answer::Refused(refusal));
        }
        if !adoption.missing.is_empty() && !without_agents {
            let agents = adoption.missing.iter().map(ToString::to_string).collect();
            let refusal = Refusal::AgentsMissing { agents };
            return out.answer(ticket, Answer::Refused(refusal));
        }
        let safe = self.safe.take().expect("there is something to adopt");
        for attempt in self.gone_attempts(&safe) {
            self.give_up(now, attempt, UNKNOWN, out);
        }
        self.lose_at_most_once(now, &safe, out);
        self.wait_for_agents(now, out);
        drop_strays(now, safe.strays, out);
        out.record(Record::SafeMode(None));
        out.notify(Notice::SafeModeLeft);
        out.answer(ticket, Answer::Adopted(Box::new(adoption)));
        self.placeable = true;
    }

    /// Attempts that hold a task, and that their agent came back without.
    fn gone_attempts(&self, safe: &Safe) -> BTreeSet<AttemptId> {
        let called = safe
            .called
            .iter()
            .filter_map(|(id, held)| Some((self.agents.get(id)?, held)));
        called
            .flat_map(|(agent, held)| agent.live.difference(held).copied())
            .collect()
    }

    /// Nobody can say that these have not run.
    fn lose_at_most_once(&mut self, now: Timestamp, safe: &Safe, out: &mut Effects) {
        let jobs = self.jobs.iter().filter(|live| {
            is_restored(live, safe) && live.job.spec.delivery == Delivery::AtMostOnce
        });
        let jobs: Vec<JobId> = jobs.map(|live| live.job.id).collect();
        for job in jobs {
            let live = self.jobs.get(job).expect("nobody forgot it meanwhile");
            let pending = live
                .tasks
                .iter()
                .filter(|(_, task)| is_pending(&task.state));
            let pending: Vec<u32> = pending.map(|(index, _)| *index).collect();
            let all = Ranges::up_to(live.job.array);
            for index in pending {
                self.end_pending_task(now, TaskId { job, index }, UNKNOWN, out);
            }
            self.withdraw(now, job, &all, &UNKNOWN);
        }
    }

    /// Those that have not called get the time of any agent from now on.
    fn wait_for_agents(&mut self, now: Timestamp, out: &mut Effects) {
        let lost_at = now + self.limits.lost_after;
        for agent in self.agents.values_mut() {
            let Link::Unreachable { since, .. } = agent.link else {
                continue;
            };
            agent.link = Link::Unreachable { since, lost_at };
            self.timers.set(lost_at, Timer::AgentLost(agent.id.clone()));
            out.record(Record::AgentLink {
                agent: agent.id.clone(),
                link: agent.link,
                last_contact: agent.last_contact,
            });
        }
    }
}

/// Their ends are kept if the store has the attempt; what runs has no task to run for.
fn drop_strays(now: Timestamp, strays: BTreeMap<AttemptId, Unknown>, out: &mut Effects) {
    for (attempt, Unknown { agent, ended }) in strays {
        if let Some((seq, end)) = ended {
            out.record(Record::LateReport {
                attempt,
                at: now,
                end,
            });
            out.order(&agent, Order::Ack { attempt, seq });
        } else {
            let stop = Stop {
                reason: StopReason::Superseded,
                now: false,
            };
            out.order(&agent, Order::Stop { attempt, stop });
        }
    }
}

/// Whether the job came from the backup.
fn is_restored(live: &LiveJob, safe: &Safe) -> bool {
    match safe.why {
        SafeMode::Restored { fence, .. } => live.fence == fence && fence > AttemptNo(0),
        SafeMode::Behind { .. } => true,
    }
}

/// Tasks that no attempt holds, or only one that is gone.
fn open_tasks(live: &LiveJob, gone: &BTreeSet<AttemptId>) -> Ranges {
    let job = live.job.id;
    let open = live.tasks.iter().filter(|(index, task)| match &task.state {
        TaskState::Pending { .. } => true,
        TaskState::Held { place, .. } => gone.contains(&AttemptId {
            task: TaskId {
                job,
                index: **index,
            },
            number: place.number,
        }),
    });
    let open = open.map(|(index, _)| *index..=*index);
    Ranges::from_ranges(open.chain(live.progress.unstarted.iter()))
}

const fn is_pending(state: &TaskState) -> bool {
    match state {
        TaskState::Pending { .. } => true,
        TaskState::Held { .. } => false,
    }
}
