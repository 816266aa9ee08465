//! `AdminService`.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use muster_core::effect::Answer;
use muster_core::error_chain::error_chain;
use muster_core::event::Event;
use muster_core::redact::redact;
use muster_core::safe_mode::{Adoption, SafeMode, Stray, Tasks};
use muster_core::time::Timestamp;
use muster_proto::v1 as pb;
use muster_proto::v1::admin_service_server::AdminService;
use prost::bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::convert::duration::time_to_wire;
use super::convert::jobs::{attempt_id_to_wire, end_to_wire};
use super::{Shared, mismatched, refused, stopping};
use crate::check::{self, Facts, Finding, Verdict};
use crate::driver::Clock;
use crate::store::{BackupError, Backups, Copy, Identity, Store};
use crate::telemetry;

/// Bytes of one chunk of a backup.
const CHUNK: u64 = 256 << 10;
/// Chunks on their way to a client.
const CHUNKS: usize = 4;
/// Strays that are listed one by one.
const STRAYS_SHOWN: usize = 1_000;

#[derive(Debug)]
pub(crate) struct Admin<S> {
    pub shared: Arc<Shared<S>>,
    pub identity: Identity,
    pub started: Timestamp,
    pub backups: Backups,
    pub facts: Facts,
    /// What the coordinator was started with, without secrets.
    pub settings: BTreeMap<String, String>,
}

type Chunks = Pin<Box<dyn Stream<Item = Result<pb::BackupChunk, Status>> + Send>>;

#[tonic::async_trait]
impl<S: Store> AdminService for Admin<S> {
    type BackupStream = Chunks;

    async fn info(
        &self,
        _request: Request<pb::InfoRequest>,
    ) -> Result<Response<pb::InfoResponse>, Status> {
        let safe_mode = self
            .shared
            .driver
            .look(|fleet, _| fleet.safe_mode().map(ToString::to_string))
            .await
            .map_err(stopping)?;
        Ok(Response::new(pb::InfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("MUSTER_COMMIT").unwrap_or_default().to_owned(),
            cluster: self.identity.cluster.to_string(),
            term: self.identity.term.0,
            started: Some(time_to_wire(self.started)),
            store: "sqlite".to_owned(),
            safe_mode: safe_mode.unwrap_or_default(),
        }))
    }

    async fn backup(
        &self,
        _request: Request<pb::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let copy = self.backups.make().await.map_err(|error| {
            let chain = error_chain(&error);
            match error {
                BackupError::Busy => Status::aborted(chain),
                BackupError::Open { .. }
                | BackupError::Write { .. }
                | BackupError::Engine { .. }
                | BackupError::Bad { .. } => {
                    tracing::error!(error = chain, "backup could not be made");
                    Status::internal(chain)
                }
            }
        })?;
        let (chunks, receiver) = mpsc::channel(CHUNKS);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = send(&copy, &chunks) {
                let failed = Status::internal(format!("the copy could not be read: {error}"));
                // The client may be gone; then there is nobody to tell.
                let _ = chunks.blocking_send(Err(failed));
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn adopt(
        &self,
        request: Request<pb::AdoptRequest>,
    ) -> Result<Response<pb::AdoptResponse>, Status> {
        let pb::AdoptRequest {
            dry_run,
            without_agents,
        } = request.into_inner();
        if dry_run {
            let adoption = self.shared.driver.look(|fleet, _| fleet.adoption()).await;
            let adoption = adoption.map_err(stopping)?;
            let adoption =
                adoption.ok_or_else(|| refused(&muster_core::effect::Refusal::NotRestored))?;
            return Ok(Response::new(adoption_to_wire(adoption)));
        }
        let asked = self.shared.driver.ask(move |ticket| Event::Adopted {
            ticket,
            without_agents,
        });
        match asked.await.map_err(stopping)? {
            Answer::Adopted(adoption) => Ok(Response::new(adoption_to_wire(*adoption))),
            Answer::Refused(refusal) => Err(refused(&refusal)),
            other @ (Answer::Submitted(_)
            | Answer::CancelRequested { .. }
            | Answer::Released { .. }
            | Answer::LossesConfirmed { .. }
            | Answer::Agent(_)
            | Answer::Channel(_)) => Err(mismatched(&other)),
        }
    }

    async fn check(
        &self,
        _request: Request<pb::CheckRequest>,
    ) -> Result<Response<pb::CheckResponse>, Status> {
        let found = check::run(&self.shared, self.facts, Clock::new().now()).await;
        let findings = found.into_iter().map(finding_to_wire).collect();
        Ok(Response::new(pb::CheckResponse {
            findings,
            now: Some(time_to_wire(Clock::new().now())),
        }))
    }

    async fn diagnose(
        &self,
        _request: Request<pb::DiagnoseRequest>,
    ) -> Result<Response<pb::DiagnoseResponse>, Status> {
        let lines = telemetry::recent_lines();
        Ok(Response::new(pb::DiagnoseResponse {
            settings: self.settings.clone().into_iter().collect(),
            log_lines: lines.iter().map(|line| redact(line)).collect(),
            metrics: self.shared.metrics.text(),
        }))
    }
}

/// Sends the whole copy, or until the client is gone.
fn send(
    copy: &Copy,
    chunks: &mpsc::Sender<Result<pb::BackupChunk, Status>>,
) -> std::io::Result<()> {
    let size = copy.file.metadata()?.len();
    let mut sent = 0;
    while sent < size {
        let length = usize::try_from(CHUNK.min(size - sent)).expect("a chunk fits in memory");
        let mut data = vec![0; length];
        copy.file.read_exact_at(&mut data, sent)?;
        let data = Bytes::from(data);
        if chunks
            .blocking_send(Ok(pb::BackupChunk { data, size }))
            .is_err()
        {
            return Ok(());
        }
        sent += CHUNK.min(size - sent);
    }
    Ok(())
}

fn adoption_to_wire(adoption: Adoption) -> pb::AdoptResponse {
    let Adoption {
        why,
        called,
        missing,
        taken_over,
        again,
        lost,
        strays,
    } = adoption;
    let backup = match &why {
        SafeMode::Restored { backup, .. } => *backup,
        SafeMode::Behind { .. } => None,
    };
    pb::AdoptResponse {
        why: why.to_string(),
        backup: backup.map(time_to_wire),
        called: called.iter().map(ToString::to_string).collect(),
        missing: missing.iter().map(ToString::to_string).collect(),
        taken_over,
        again: again.into_iter().map(tasks_to_wire).collect(),
        lost: lost.into_iter().map(tasks_to_wire).collect(),
        strays: strays
            .into_iter()
            .take(STRAYS_SHOWN)
            .map(stray_to_wire)
            .collect(),
    }
}

fn tasks_to_wire(tasks: Tasks) -> pb::AdoptedTasks {
    let Tasks { job, name, tasks } = tasks;
    let ranges = tasks.iter().map(|range| pb::IndexRange {
        first: *range.start(),
        last: *range.end(),
    });
    pb::AdoptedTasks {
        job: job.to_string(),
        name: name.to_string(),
        tasks: ranges.collect(),
    }
}

fn stray_to_wire(stray: Stray) -> pb::StrayAttempt {
    let Stray {
        attempt,
        agent,
        end,
    } = stray;
    pb::StrayAttempt {
        attempt: Some(attempt_id_to_wire(attempt)),
        agent: agent.to_string(),
        end: end.as_ref().map(end_to_wire),
    }
}

fn finding_to_wire(finding: Finding) -> pb::Finding {
    let Finding {
        check,
        verdict,
        subject,
        what,
        advice,
    } = finding;
    let verdict = match verdict {
        Verdict::Ok => pb::Verdict::Ok,
        Verdict::Unknown => pb::Verdict::Unknown,
        Verdict::Warning => pb::Verdict::Warning,
        Verdict::Problem => pb::Verdict::Problem,
    };
    pb::Finding {
        check: check.to_owned(),
        verdict: verdict.into(),
        subject,
        what,
        advice: advice.to_owned(),
    }
}
