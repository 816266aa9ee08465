//! An agent says how an attempt stands.

use super::Fleet;
use super::rows::row_of;
use super::timers::Timer;
use crate::effect::{Effects, Order, Record};
use crate::event::{AttemptEnd, News, Report};
use crate::ids::{AgentId, AttemptId};
use crate::outcome::{End, EndReason, Outcome, Usage};
use crate::task::{Phase, Progress, Stop, StopReason};
use crate::time::Timestamp;

impl Fleet {
    /// Applies the report if its attempt holds the task, and acknowledges it in any case: an agent
    /// repeats a report until it is acknowledged.
    pub(super) fn on_report(&mut self, now: Timestamp, report: Report, out: &mut Effects) {
        let Report {
            agent,
            session: _,
            attempt,
            seq,
            news,
        } = report;
        if let Some(known) = self.agents.get_mut(&agent) {
            known.last_contact = now;
        }
        let current = self
            .holds(attempt)
            .is_some_and(|(place, _)| place.agent == agent);
        if current {
            match news {
                News::Accepted => {
                    self.no_more_rest(&agent);
                    self.advance(attempt, Progress::Accepted, out);
                }
                News::Started { at } => {
                    self.note_start(now, &agent, out);
                    self.advance(attempt, Progress::Started { at }, out);
                    self.clear_doubt(now, attempt.task.job, out);
                    self.note_pull_worked(attempt);
                }
                News::Refused { unfit, message } => {
                    if unfit {
                        self.rest(now, &agent);
                    }
                    self.refuse(now, attempt, message, out);
                }
                News::Ended(ended) => self.end_attempt(now, attempt, *ended, out),
            }
        } else if let Some(safe) = &mut self.safe {
            // Not acknowledged, so that nothing is forgotten before somebody has looked.
            return safe.unknown(&agent, attempt, seq, news);
        } else {
            keep_evidence(now, &agent, attempt, news, out);
        }
        out.order(&agent, Order::Ack { attempt, seq });
    }

    fn advance(&mut self, attempt: AttemptId, news: Progress, out: &mut Effects) {
        let (_, phase) = self
            .holds(attempt)
            .expect("the caller found that it holds the task");
        let before = *phase;
        *phase = before.advance(news);
        let after = *phase;
        if before == after {
            return; // told twice
        }
        let id = attempt.task;
        let live = self
            .jobs
            .get_mut(id.job)
            .expect("the attempt's job is live");
        if let Phase::Running { started } = after {
            live.progress.counts.preparing -= 1;
            live.progress.counts.running += 1;
            live.progress.started = live.progress.started.or(Some(started));
            self.dirty.insert(id.job);
            let late = self.limits.backstop(&live.job, started);
            self.timers.set(late, Timer::RunBackstop(attempt));
            out.record(Record::AttemptStarted {
                attempt,
                at: started,
            });
        }
        let task = live.tasks.get(&id.index).expect("the task is held");
        out.record(Record::Task {
            task: id,
            row: row_of(task),
        });
        let job = live.job.clone();
        if let Phase::Running { started } = after {
            self.note_trial_started(&job, attempt, started);
        }
    }

    /// The agent would not take it: it never ran, and costs nobody's budget.
    fn refuse(&mut self, now: Timestamp, attempt: AttemptId, message: String, out: &mut Effects) {
        let end = End {
            message,
            ..End::of(Outcome::InfraError, EndReason::Refused)
        };
        self.give_up(now, attempt, end, out);
    }
}

/// A report about an attempt that no longer counts: kept, shown, never applied.
fn keep_evidence(
    now: Timestamp,
    agent: &AgentId,
    attempt: AttemptId,
    news: News,
    out: &mut Effects,
) {
    match news {
        News::Ended(ended) => {
            let AttemptEnd {
                end,
                started: _,
                ended: _,
                usage: Usage { .. },
                metrics: _,
            } = *ended;
            out.record(Record::LateReport {
                attempt,
                at: now,
                end,
            });
        }
        News::Refused { .. } => {}
        // It runs although nobody wants it any more.
        News::Accepted | News::Started { .. } => {
            let stop = Stop {
                reason: StopReason::Superseded,
                now: false,
            };
            out.order(agent, Order::Stop { attempt, stop });
        }
    }
}
