//! `ManifestService`: looks at the whole request first, and then changes one object after another.

use std::sync::Arc;

use muster_core::channel::ChannelId;
use muster_core::effect::{Answer, Refusal};
use muster_proto::v1 as pb;
use muster_proto::v1::manifest_service_server::ManifestService;
use tonic::{Request, Response, Status};

use super::channels::by_from_wire;
use super::convert::Violation;
use super::{Shared, bad_request, invalid, mismatched, refused, stopping, team_from_wire};
use crate::manifest::{self, Document, Place, Problem, Source};
use crate::store::Store;

mod channel;
mod deed;
mod rollout;
mod state;

use deed::{Change, Deed, Outcome};
use state::State;

/// Files and documents of one request; each may cost a look at a registry.
const FILES_MAX: usize = 1_000;
const DOCUMENTS_MAX: usize = 200;

#[derive(Debug)]
pub struct Manifests<S>(pub Arc<Shared<S>>);

#[tonic::async_trait]
impl<S: Store> ManifestService for Manifests<S> {
    async fn apply(
        &self,
        request: Request<pb::ApplyRequest>,
    ) -> Result<Response<pb::ApplyResponse>, Status> {
        let pb::ApplyRequest {
            team,
            files,
            dry_run,
            by,
        } = request.into_inner();
        let by = by_from_wire(by)?;
        let team = team_from_wire(&team)?;
        if files.len() > FILES_MAX {
            let problem = format!("are {}; at most {FILES_MAX}", files.len());
            return Err(invalid("files", problem));
        }
        let sources: Vec<Source<'_>> = files
            .iter()
            .map(|pb::ManifestFile { name, text }| Source { name, text })
            .collect();
        let documents = manifest::read(&sources, &team).map_err(all_wrong)?;
        if documents.len() > DOCUMENTS_MAX {
            let problem = format!(
                "have {} documents; at most {DOCUMENTS_MAX}",
                documents.len()
            );
            return Err(invalid("files", problem));
        }
        let planned = self.plan(documents, &by).await?;
        if !dry_run {
            self.carry_out(&planned).await?;
        }
        let objects = planned.into_iter().map(Planned::into_wire).collect();
        Ok(Response::new(pb::ApplyResponse { objects }))
    }
}

/// What is to be done about a document.
struct Planned {
    document: Document,
    outcome: Outcome,
}

/// Why a document cannot be planned.
enum Failed {
    /// The document's fault.
    Wrong(Place, String),
    /// A registry or this coordinator is in trouble; later it may work.
    Trouble(Status),
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Self::Trouble(status)
    }
}

impl<S: Store> Manifests<S> {
    /// Checks everything and changes nothing.
    async fn plan(&self, documents: Vec<Document>, by: &str) -> Result<Vec<Planned>, Status> {
        let mut state = State::new(&self.0);
        let mut planned = Vec::with_capacity(documents.len());
        let mut problems = Vec::new();
        for document in documents {
            let outcome = match &document.body {
                manifest::Body::Channel(body) => {
                    channel::plan(&mut state, &document.channel, body, by).await
                }
                manifest::Body::Rollout(body) => {
                    rollout::plan(&mut state, &document.channel, body, by).await
                }
            };
            match outcome {
                Ok(outcome) => planned.push(Planned { document, outcome }),
                Err(Failed::Wrong(place, what)) => problems.push(Problem {
                    file: document.file,
                    place,
                    what,
                }),
                Err(Failed::Trouble(status)) => {
                    let what = format!("{}: {}", title(&document), status.message());
                    return Err(Status::new(status.code(), what));
                }
            }
        }
        if problems.is_empty() {
            Ok(planned)
        } else {
            Err(all_wrong(problems))
        }
    }

    async fn carry_out(&self, planned: &[Planned]) -> Result<(), Status> {
        for (done, Planned { document, outcome }) in planned.iter().enumerate() {
            for deed in &outcome.deeds {
                if let Err(status) = self.change(&document.channel, deed).await {
                    let what = format!(
                        "{}: {}; what comes before it in the request ({done} of {}) has been applied",
                        title(document),
                        status.message(),
                        planned.len()
                    );
                    return Err(Status::new(status.code(), what));
                }
            }
        }
        Ok(())
    }

    async fn change(&self, channel: &ChannelId, deed: &Deed) -> Result<(), Status> {
        let (channel, deed) = (channel.clone(), deed.clone());
        let asked = self.0.driver.ask(move |ticket| deed.event(ticket, channel));
        match asked.await.map_err(stopping)? {
            // Somebody else was faster, or the channel's own document was enough.
            Answer::Channel(_) | Answer::Refused(Refusal::AlreadyThere { .. }) => Ok(()),
            Answer::Refused(refusal) => Err(refused(&refusal)),
            other @ (Answer::Submitted(_)
            | Answer::CancelRequested { .. }
            | Answer::Released { .. }
            | Answer::Adopted(_)
            | Answer::LossesConfirmed { .. }
            | Answer::Agent(_)) => Err(mismatched(&other)),
        }
    }
}

impl Planned {
    fn into_wire(self) -> pb::AppliedObject {
        let Self { document, outcome } = self;
        let Outcome {
            action,
            changes,
            note,
            deeds: _,
        } = outcome;
        let ChannelId { team, name } = document.channel;
        let changes = changes.into_iter().map(|change| {
            let Change {
                field,
                before,
                after,
            } = change;
            pb::FieldChange {
                field,
                before,
                after,
            }
        });
        pb::AppliedObject {
            kind: document.body.kind().to_owned(),
            team: team.to_string(),
            name: name.to_string(),
            file: document.file,
            line: document.place.line,
            action: action.into(),
            changes: changes.collect(),
            note,
        }
    }
}

fn title(document: &Document) -> String {
    format!("{} {}", document.body.kind(), document.channel.name)
}

fn all_wrong(problems: Vec<Problem>) -> Status {
    let violations = problems.into_iter().map(|problem| Violation {
        field: problem.location(),
        problem: problem.what,
    });
    bad_request(violations.collect())
}
