//! How an attempt ended: what the agent's classifier is told, and the ends that need no classifier.

use muster_agent::outcome::{EngineHistory, Evidence, Exit, KillReason, Restart, classify};
use muster_agent::plan::Seen;
use muster_core::event::{AttemptEnd, News};
use muster_core::ids::AttemptId;
use muster_core::outcome::{End, EndReason, Outcome, Usage};
use muster_core::time::Timestamp;

use crate::agent::ENDED;
use crate::bug::Bug;
use crate::host::{Host, Intent};
use crate::world::World;

/// It was stopped before it started.
pub(crate) fn stopped_early(reason: KillReason) -> End {
    match reason {
        KillReason::Canceled => End::of(Outcome::Canceled, EndReason::CanceledByUser),
        KillReason::Preempted => End::of(Outcome::Preempted, EndReason::Drained),
        KillReason::Superseded => End::of(Outcome::Canceled, EndReason::Superseded),
        KillReason::RunTimeout => End::of(Outcome::Timeout, EndReason::RunTimeout),
        KillReason::Disconnected => End::of(Outcome::InfraError, EndReason::NeverStarted),
    }
}

/// What the engine shows and the agent knows of a container that doesn't run.
pub(crate) fn evidence(host: &Host, attempt: AttemptId, now: Timestamp) -> Evidence<'_> {
    let container = &host.engine.containers[&attempt];
    let journal = &host.disk[&attempt];
    let engine = journal
        .intent
        .map_or_else(EngineHistory::default, |intent| {
            let restarted = intent.engine_started != host.engine.started;
            let life = host
                .agent
                .as_ref()
                .and_then(|agent| agent.lives.get(&attempt));
            let heard = life.and_then(|life| life.contact).unwrap_or_default();
            EngineHistory {
                live_restore: host.engine.live_restore,
                rebooted: intent.boot != host.boot,
                restart: restarted.then_some(Restart {
                    last_contact: heard.max(intent.at),
                    started: Some(host.engine.started),
                }),
            }
        });
    Evidence {
        exit: Exit {
            started: host.started(attempt),
            finished: container.finished,
            code: container.code,
            oom_killed: container.oom,
            error: container.error.clone(),
        },
        kills: &journal.kills,
        foreign_kill: container.foreign_kill.filter(|_| journal.kills.is_empty()),
        clock_set: journal
            .intent
            .is_some_and(|intent| clock_was_set(host, &intent, now)),
        init: container.init_word(journal.adopted),
        init_failure: None,
        engine,
        success_codes: &journal.offer.job.spec.success_codes,
    }
}

/// As the agent compares its two clocks.
fn clock_was_set(host: &Host, intent: &Intent, now: Timestamp) -> bool {
    let ahead = |clock: Timestamp, boot_clock: u64| clock.0.saturating_sub(boot_clock);
    let then = ahead(intent.at, intent.boot_clock);
    let differ = ahead(host.clock(now), host.boot_clock(now)).abs_diff(then) > 1_500;
    intent.boot != host.boot || differ
}

impl World {
    pub(crate) fn harvest(&mut self, at: usize, attempt: AttemptId) {
        let host = &self.hosts[at];
        match host.seen(attempt) {
            Seen::Nothing => {
                return self.finish(
                    at,
                    attempt,
                    End::of(Outcome::Lost, EndReason::ContainerGone),
                );
            }
            Seen::Exited | Seen::StartFailed => {}
            _ => return,
        }
        let mut evidence = evidence(host, attempt, self.now);
        if self.bug == Some(Bug::TrustClock) {
            evidence.clock_set = false;
        }
        let mut end = classify(&evidence);
        let container = &host.engine.containers[&attempt];
        if self.bug == Some(Bug::TrustExitCode) && container.started.is_some() {
            end = match container.code {
                0 => End::of(Outcome::Succeeded, EndReason::Exited),
                code => End {
                    exit_code: Some(code),
                    ..End::of(Outcome::Failed, EndReason::Exited)
                },
            };
        }
        if self.bug == Some(Bug::TrustMemoryFlag) && container.oom {
            end = End::of(Outcome::Oom, EndReason::Exited);
        }
        self.finish(at, attempt, end);
    }

    /// Writes the end down and reports it until it is acknowledged.
    pub(crate) fn finish(&mut self, at: usize, attempt: AttemptId, end: End) {
        let host = &mut self.hosts[at];
        let now = host.clock(self.now);
        let container = host.engine.containers.get(&attempt);
        let ended = AttemptEnd {
            end,
            started: host.started(attempt),
            ended: container
                .and_then(|container| container.finished)
                .unwrap_or(now),
            usage: Usage::default(),
            metrics: None,
        };
        host.journal(attempt).ended = Some(ended.clone());
        self.put(at, attempt, ENDED, News::Ended(Box::new(ended)));
    }
}
