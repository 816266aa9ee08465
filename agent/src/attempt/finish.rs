//! After the end: the report, until it is acknowledged; then nothing of the attempt stays.

use std::sync::Arc;

use muster_core::time::Millis;
use muster_failpoint::{self as failpoint, Point};
use muster_proto::v1 as pb;
use prost::Message as _;

use super::{Ending, Life, RETRY, RETRY_MAX, RUN};
use crate::files;
use crate::host;
use crate::journal::{self, Entry};
use crate::metrics_file;
use crate::output::spool::LogFile;
use crate::runtime::Runtime;
use crate::usage::Measured;
use crate::wire::{self, seq};

impl<R: Runtime> Life<R> {
    /// Reports the end and cleans up once the coordinator has everything.
    pub(super) async fn finish(mut self, ending: Ending, log: Option<Arc<LogFile>>) {
        self.vacate(&ending).await;
        let report = self.report(&ending).await;
        tracing::info!(
            outcome = ending.end.outcome.as_str(),
            reason = ending.end.reason.as_str(),
            "attempt ended"
        );
        let bytes = report.encode_to_vec();
        if let Err(error) = self
            .journal
            .append_durably(Entry::Ended { report: bytes })
            .await
        {
            // Docker remembers; the verdict would be the same.
            tracing::warn!(%error, "end not journaled");
        }
        failpoint::hit(Point::AgentVerdictJournaled);
        self.shared.outbox.put(self.task.id, report);
        self.await_permission(log).await;
    }

    /// Waits until the end is acknowledged and the log is complete, then removes everything.
    pub(super) async fn await_permission(mut self, log: Option<Arc<LogFile>>) {
        let acknowledged = self.control.acknowledged.wait_for(|seq| *seq >= seq::ENDED);
        if acknowledged.await.is_err() {
            return; // the agent is stopping
        }
        failpoint::hit(Point::AgentAfterAck);
        if let Some(log) = log.filter(|_| !self.adopted) {
            log.until_complete().await;
        }
        self.remove_everything().await;
    }

    async fn remove_everything(&self) {
        let shared = &self.shared;
        self.end_unused().await;
        let mut pause = RETRY;
        while let Err(error) = shared.runtime.remove(&self.name).await {
            tracing::warn!(%error, "container not removed");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
        failpoint::hit(Point::AgentAfterRemove);
        shared.watch.forget(&self.name);
        shared.logs.remove(self.task.id);
        let (group, dir) = (self.group.clone(), self.dir.clone());
        let home = self.parked().map(|parked| shared.warm.dir(parked));
        let removed = files::spawn_removal(move || {
            if let Some(group) = group {
                group.remove();
            }
            if let Some(home) = home {
                // If it stays, the next start of the agent removes it.
                let _ = std::fs::remove_dir_all(home);
            }
            journal::forget(&dir)
        });
        match removed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "attempt's directory not removed"),
            Err(error) => tracing::debug!(%error, "clean-up cut off"),
        }
    }

    async fn report(&mut self, ending: &Ending) -> pb::Report {
        let container = ending.container.as_ref();
        // What the engine shows of such a container is not of this run.
        let (started, finished) = match ending.run {
            Some(run) => (Some(run.started), Some(run.ended)),
            None => (
                container.and_then(|found| found.started).or(self.started),
                container.and_then(|found| found.finished),
            ),
        };
        let run = started
            .zip(finished)
            .map(|(started, ended)| ended.since(started));
        let ended = finished.unwrap_or_else(host::now);
        let (group, dir) = (self.group.clone(), self.dir.join(RUN));
        let ran = started.is_some();
        let read = files::spawn(move || {
            let measured = group.filter(|_| ran).map(|group| group.read());
            (measured, metrics_file::read(&dir))
        });
        let (exact, file) = read.await.unwrap_or((None, Ok(None)));
        let sampled = self.measured;
        let measured = exact.map_or(sampled, |exact| Measured {
            peak_memory_bytes: exact.peak_memory_bytes.or(sampled.peak_memory_bytes),
            cpu_micros: exact.cpu_micros.or(sampled.cpu_micros),
        });
        let (metrics, metrics_problem) = match file {
            Ok(bytes) => (bytes.unwrap_or_default(), String::new()),
            Err(bad) => (Vec::new(), bad.to_string()),
        };
        let news = pb::report::News::Ended(pb::Ended {
            end: Some(wire::from_end(&ending.end)),
            started: started.map(wire::timestamp),
            ended: Some(wire::timestamp(ended)),
            usage: Some(self.usage(measured, run)),
            metrics: metrics.into(),
            metrics_problem,
        });
        wire::report(self.task.id, seq::ENDED, news)
    }

    /// `run`: how long it ran, if its end is known.
    fn usage(&self, measured: Measured, run: Option<Millis>) -> pb::Usage {
        pb::Usage {
            peak_memory_bytes: measured.peak_memory_bytes,
            cpu_seconds: measured
                .cpu_micros
                .map(|micros| std::time::Duration::from_micros(micros).as_secs_f64()),
            pull: self.pull.map(wire::duration),
            start: self.start.map(wire::duration),
            run: run.map(wire::duration),
        }
    }
}
