//! While the container runs: its output, its limit of time, orders to stop it, and its end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use muster_core::outcome::{End, EndReason, Outcome};
use muster_core::time::Timestamp;
use muster_failpoint::{self as failpoint, Point};
use tokio::time::Instant;

use super::wedge::Wedge;
use super::{Ending, Life, RETRY, RETRY_MAX, StopOrder};
use crate::files;
use crate::host;
use crate::init;
use crate::journal::{Entry, Intent};
use crate::outcome::{
    EngineHistory, Evidence, Exit, InitWord, Kill, KillReason, Restart, Run, classify,
};
use crate::output::spool::{LogFile, Spool};
use crate::output::{self, Begin, captured};
use crate::plan::Seen;
use crate::runtime::{Container, DaemonStart, EngineError, KillError, LogsFrom, Runtime, Signal};

/// A killed container that is still there after so long is killed again.
const KILL_AGAIN: Duration = Duration::from_secs(30);
/// The clock that counts a run also runs while the host sleeps; timers don't.
const CLOCK_LOOK: Duration = Duration::from_secs(30);
/// How the init process that Docker puts into containers begins its last words, and ours.
const INIT_PREFIXES: [&str; 2] = ["[FATAL tini (", "[FATAL muster-init"];
const INIT_WORDS: Duration = Duration::from_secs(2);
/// Two clocks are not read at once, and one of them may have a leap second; in milliseconds.
const CLOCK_SLACK: u64 = 1_500;
/// A signal waits no longer for the disk.
const JOURNAL_WAIT: Duration = Duration::from_secs(5);
const SAMPLE: Duration = Duration::from_secs(1);

/// How far stopping it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopping {
    No,
    /// TERM was sent; KILL follows then.
    Term {
        kill_at: Instant,
    },
    Kill {
        again_at: Instant,
    },
}

/// What happened next.
enum Turn {
    Gone(Option<Container>),
    Stop(KillReason, bool),
    Timer,
    Sample,
}

impl<R: Runtime> Life<R> {
    /// Follows a container that was started until it is gone, and says how it ended.
    pub(super) async fn follow_through(
        &mut self,
        known: Option<Container>,
        spool: Spool,
        fresh: bool,
    ) -> (Ending, Arc<LogFile>) {
        let running = known
            .as_ref()
            .is_none_or(|container| matches!(container.seen, Seen::Running | Seen::Paused));
        if let Some(started) = known.as_ref().and_then(|container| container.started) {
            self.started = Some(started);
        }
        if running {
            self.report_started();
        } else {
            self.exited.cancel();
        }
        let begin = if fresh { Begin::Fresh } else { Begin::Again };
        let log = self.spawn_follower(spool, begin);
        self.shared.metrics.running.inc();
        let container = if running {
            self.until_gone().await
        } else {
            known
        };
        self.shared.metrics.running.dec();
        let container = container.map(|found| self.as_of_task(found));
        self.exited.cancel();
        failpoint::hit(Point::AgentExitSeen);
        (self.classify(container).await, log)
    }

    fn spawn_follower(&self, spool: Spool, begin: Begin) -> Arc<LogFile> {
        let log = spool.log();
        let (exited, over) = (self.exited.clone(), self.over.clone());
        match init::captured(&self.dir) {
            Some(captured) => {
                let following = captured::follow(captured, spool, begin, exited);
                tokio::spawn(over.run_until_cancelled_owned(following));
            }
            None => {
                let (runtime, name) = (self.shared.runtime.clone(), self.name.clone());
                let following = output::follow(runtime, name, spool, begin, exited);
                tokio::spawn(over.run_until_cancelled_owned(following));
            }
        }
        log
    }

    /// Reads what is left of the output of a container that doesn't run.
    pub(super) fn close_log(&self, spool: Spool, there: bool) -> Arc<LogFile> {
        self.exited.cancel();
        let begin = if there { Begin::Again } else { Begin::Gone };
        self.spawn_follower(spool, begin)
    }

    async fn until_gone(&mut self) -> Option<Container> {
        let shared = Arc::clone(&self.shared);
        let name = self.name.clone();
        let wedge = Arc::clone(&self.wedge);
        let mut gone = std::pin::pin!(until_gone(&shared.runtime, &name, &wedge));
        let mut stop = self.control.stop.clone();
        let mut stopping = Stopping::No;
        let mut hard = false;
        let sampled = self.group.as_ref().is_none_or(|group| !group.exists());
        loop {
            let timer = self.next_timer(stopping);
            let ordered = async {
                // After TERM only an order to KILL at once is news.
                let news = |order: &Option<StopOrder>| {
                    order.is_some_and(|order| !hard && (stopping == Stopping::No || order.now))
                };
                let order = stop.wait_for(news).await.map(|order| *order);
                match order {
                    Ok(Some(order)) => order,
                    Ok(None) | Err(_) => std::future::pending().await,
                }
            };
            let turn = tokio::select! {
                biased;
                container = &mut gone => Turn::Gone(container),
                order = ordered => Turn::Stop(order.reason, order.now),
                () = tokio::time::sleep_until(timer) => Turn::Timer,
                () = tokio::time::sleep(SAMPLE), if sampled => Turn::Sample,
            };
            match turn {
                Turn::Gone(container) => {
                    wedge.over();
                    return container;
                }
                Turn::Stop(reason, now) => {
                    hard |= now;
                    stopping = self.stop(reason, now).await;
                }
                Turn::Timer => stopping = self.on_timer(stopping).await,
                Turn::Sample => {
                    if let Ok(stats) = shared.runtime.stats(&name).await {
                        self.measured.sample(stats);
                    }
                }
            }
        }
    }

    /// When there is something to do if nothing happens.
    fn next_timer(&self, stopping: Stopping) -> Instant {
        match stopping {
            Stopping::Term { kill_at } => kill_at,
            Stopping::Kill { again_at } => again_at,
            Stopping::No => {
                let contact = self.contact_left().unwrap_or(CLOCK_LOOK);
                Instant::now() + self.time_left().min(contact).min(CLOCK_LOOK)
            }
        }
    }

    /// Of the run's limit, by the clock that also runs while the host sleeps.
    fn time_left(&self) -> Duration {
        let limit = Duration::from(self.task.run_timeout);
        let used = match &self.intent {
            Some(intent) if intent.boot_id == self.shared.boot_id => {
                host::boot_clock().saturating_sub(intent.boot_clock)
            }
            // The clock began anew with the host, and so did the container.
            Some(_) | None => 0,
        };
        limit.saturating_sub(Duration::from_millis(used))
    }

    /// Until the attempt must stop if nothing is heard of the coordinator. `None`: it may finish.
    pub(super) fn contact_left(&self) -> Option<Duration> {
        let limit = self.task.stop_after?;
        let left = self.shared.contact.left(host::boot_clock(), limit);
        Some(left.into())
    }

    /// Whether nothing was heard of the coordinator for too long, now or at any time since the attempt came to
    /// this process.
    pub(super) fn is_cut_off(&self) -> bool {
        let (now, since) = (host::boot_clock(), self.control.contact);
        let contact = &self.shared.contact;
        let limit = self.task.stop_after;
        limit.is_some_and(|limit| contact.is_cut_off(now, limit, since))
    }

    async fn on_timer(&mut self, stopping: Stopping) -> Stopping {
        match stopping {
            Stopping::No if self.time_left().is_zero() => {
                self.stop(KillReason::RunTimeout, false).await
            }
            Stopping::No if self.contact_left().is_some_and(|left| left.is_zero()) => {
                self.stop(KillReason::Disconnected, false).await
            }
            Stopping::No => Stopping::No,
            Stopping::Term { .. } | Stopping::Kill { .. } => {
                if matches!(stopping, Stopping::Kill { .. }) {
                    self.wedge.found("it does not die of KILL");
                }
                let reason = self.kills.last().map(|kill| kill.reason);
                self.signal(Signal::Kill, reason.unwrap_or(KillReason::Canceled))
                    .await;
                Stopping::Kill {
                    again_at: Instant::now() + KILL_AGAIN,
                }
            }
        }
    }

    async fn stop(&mut self, reason: KillReason, now: bool) -> Stopping {
        tracing::info!(?reason, now, "stopping attempt");
        if now || self.task.kill_grace.0 == 0 {
            self.signal(Signal::Kill, reason).await;
            return Stopping::Kill {
                again_at: Instant::now() + KILL_AGAIN,
            };
        }
        self.signal(Signal::Term, reason).await;
        Stopping::Term {
            kill_at: Instant::now() + Duration::from(self.task.kill_grace),
        }
    }

    /// Writes the signal down, then sends it: after a loss of power nothing else says that a task which
    /// ends with 0 did not do so by itself. A disk that does not take it leaves no task running.
    async fn signal(&mut self, signal: Signal, reason: KillReason) {
        let kill = Kill {
            at: host::now().0,
            signal: signal.number(),
            reason,
        };
        let written = self.journal.append_durably(Entry::Kill(kill));
        match tokio::time::timeout(JOURNAL_WAIT, written).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "signal not journaled"),
            Err(_) => tracing::warn!("the disk is slow to journal a signal"),
        }
        self.kills.push(kill);
        match self.shared.runtime.kill(&self.name, signal).await {
            // The wait will say so too.
            Ok(()) | Err(KillError::NotRunning) => {}
            Err(KillError::Engine(error)) => {
                if matches!(error, EngineError::Deadline { .. }) {
                    self.wedge.found("the engine does not signal it");
                }
                tracing::warn!(%error, "signal not sent");
            }
        }
    }

    /// The verdict, with everything it rests on.
    pub(super) async fn classify(&mut self, container: Option<Container>) -> Ending {
        let init = self.init_word().await;
        let Some(mut found) = container else {
            return self.gone(None).await;
        };
        if let InitWord::Record(run) = &init {
            // The engine's times may be of its own restart.
            found.finished = Some(run.ended);
            if self.is_warm() {
                found.started = Some(run.started);
            }
            found.started.get_or_insert(run.started);
        }
        let exit = Exit {
            started: found.started,
            finished: found.finished,
            code: found.exit_code,
            oom_killed: found.oom_killed,
            error: found.error.clone(),
        };
        // The record says it better.
        let unsaid = !matches!(init, InitWord::Record(_));
        let foreign_kill = if unsaid && self.kills.is_empty() && found.started.is_some() {
            self.shared.watch.foreign_kill(&self.name).await
        } else {
            None
        };
        let init_failure = if unsaid {
            self.init_failure(&found).await
        } else {
            None
        };
        let end = classify(&Evidence {
            exit,
            kills: &self.kills,
            foreign_kill,
            init,
            init_failure,
            engine: self.engine_history().await,
            clock_set: self.clock_was_set(),
            success_codes: &self.task.success_codes,
        });
        Ending::of(end, Some(found))
    }

    /// Of a container that the engine does not have, or will not give back: only its init process may
    /// know how it ended.
    pub(super) async fn gone(&self, container: Option<Container>) -> Ending {
        match self.init_word().await {
            InitWord::Record(run) => Ending {
                container,
                ..self.by_record(run).await
            },
            InitWord::Absent | InitWord::Silent { .. } | InitWord::Unproven { .. } => {
                let end = End::of(Outcome::Lost, EndReason::ContainerGone);
                Ending::of(end, container)
            }
        }
    }

    /// The engine says that it never ran. It may have forgotten.
    pub(super) async fn did_not_start(&self) -> Ending {
        match self.init_word().await {
            InitWord::Record(run) => self.by_record(run).await,
            InitWord::Silent { ran: true } => {
                Ending::of(End::of(Outcome::Lost, EndReason::EngineLost), None)
            }
            InitWord::Absent | InitWord::Silent { ran: false } | InitWord::Unproven { .. } => {
                Ending::never_ran(super::infra("the engine did not start it"))
            }
        }
    }

    /// Of a run of which only the init process can tell.
    async fn by_record(&self, run: Run) -> Ending {
        let end = classify(&Evidence {
            exit: Exit {
                started: None,
                finished: None,
                code: 0,
                oom_killed: false,
                error: String::new(),
            },
            kills: &self.kills,
            foreign_kill: None,
            init: InitWord::Record(run),
            init_failure: None,
            engine: self.engine_history().await,
            clock_set: self.clock_was_set(),
            success_codes: &self.task.success_codes,
        });
        Ending {
            run: Some(run),
            ..Ending::of(end, None)
        }
    }

    /// What muster's own init process left of this container.
    pub(super) async fn init_word(&self) -> InitWord {
        let Some(key) = self.init_key.clone() else {
            let leased = self.task.stop_after.is_some();
            let may_have_one = self.adopted && self.shared.init.is_some();
            return if may_have_one {
                InitWord::Unproven { leased }
            } else {
                InitWord::Absent
            };
        };
        let dir = self.dir.clone();
        let read = files::spawn(move || init::read(&dir, &key));
        read.await.unwrap_or(InitWord::Silent { ran: false })
    }

    /// What the init process printed if it could not execute the task's program. Its exit codes alone
    /// are also those of a shell that does not find a command.
    async fn init_failure(&self, found: &Container) -> Option<String> {
        if !matches!(found.exit_code, 126 | 127) || found.started.is_none() {
            return None;
        }
        let from = LogsFrom {
            follow: false,
            since: None,
        };
        let mut pieces = self.shared.runtime.logs(&self.name, from);
        let first = tokio::time::timeout(INIT_WORDS, pieces.next()).await;
        let piece = first.ok()??.ok()?;
        let text = String::from_utf8_lossy(&piece.data);
        let mut prefixes = INIT_PREFIXES.iter();
        let said = prefixes.find_map(|prefix| text.strip_prefix(prefix))?;
        let said = said.split_once("] ")?.1;
        Some(said.trim_end().to_owned())
    }

    /// An earlier life's container may be another engine's, which the watch never heard.
    pub(super) async fn note_missed_restart(&mut self) {
        if let Some(intent) = &self.intent {
            let now = self.shared.runtime.daemon_started().await;
            self.restart_missed = is_other_engine(intent, &self.shared.boot_id, now);
        }
    }

    /// Whether the clock that gives the times was set since the start, by one that can't be.
    fn clock_was_set(&self) -> bool {
        let Some(intent) = &self.intent else {
            return false;
        };
        let passed = host::now().0.abs_diff(intent.at);
        let ran = host::boot_clock().saturating_sub(intent.boot_clock);
        let is_back = host::now().0 < intent.at;
        intent.boot_id != self.shared.boot_id || is_back || passed.abs_diff(ran) > CLOCK_SLACK
    }

    async fn engine_history(&self) -> EngineHistory {
        let live_restore = self.shared.engine.live_restore;
        let Some(intent) = &self.intent else {
            return EngineHistory {
                live_restore,
                ..EngineHistory::default()
            };
        };
        let now = self.shared.runtime.daemon_started().await;
        let restarted = is_other_engine(intent, &self.shared.boot_id, now);
        // An agent that was away too knows of no contact after its intent.
        let heard = self.shared.watch.last_contact(&self.name);
        let heard = heard.filter(|_| !self.restart_missed).unwrap_or_default();
        let last_contact = heard.max(Timestamp(intent.at));
        EngineHistory {
            live_restore,
            rebooted: intent.boot_id != self.shared.boot_id,
            restart: restarted.then_some(Restart {
                last_contact,
                started: now.map(|now| now.at),
            }),
        }
    }
}

/// Whether the engine that runs now is not the one that was asked to run the container. If that can't be
/// told, the watch would have noticed.
fn is_other_engine(intent: &Intent, boot_id: &str, now: Option<DaemonStart>) -> bool {
    match (intent.engine_ticks, now) {
        (Some(before), Some(now)) => intent.boot_id != boot_id || before != now.ticks,
        (None, _) | (_, None) => false,
    }
}

/// Returns when the container doesn't run any more; `None`: somebody removed it. Outlasts errors of
/// the engine.
async fn until_gone<R: Runtime>(runtime: &R, name: &str, wedge: &Wedge) -> Option<Container> {
    let mut pause = RETRY;
    loop {
        if let Err(error) = runtime.wait(name).await {
            tracing::debug!(%error, "waiting for a container was interrupted");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
        match runtime.inspect(name).await {
            Ok(None) => return None,
            Ok(Some(container)) => match container.seen {
                Seen::Running => {}
                Seen::Paused => tokio::time::sleep(RETRY_MAX).await,
                Seen::Exited
                | Seen::StartFailed
                | Seen::Created
                | Seen::Dead
                | Seen::Removing
                | Seen::Nothing => return Some(container),
            },
            Err(error) => {
                if matches!(error, EngineError::Deadline { .. }) {
                    wedge.found("the engine does not inspect it");
                }
                tracing::debug!(%error, "container can't be inspected");
            }
        }
    }
}
