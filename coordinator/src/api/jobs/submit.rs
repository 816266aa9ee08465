//! Submission: read everything, resolve images once, then hand all jobs over together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use futures_util::StreamExt;
use futures_util::stream;
use muster_core::channel::ChannelId;
use muster_core::effect::{Answer, Submitted};
use muster_core::ids::{JobId, TeamName};
use muster_core::image::{Image, Reference, Version};
use muster_core::job::{IdempotencyKey, Job, LiveJob};
use muster_core::spec::{ImageSource, OnDisconnect, Pin, Pull, Requirements, Spec, limits};
use muster_core::time::Millis;
use muster_proto::v1 as pb;
use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

use crate::api::convert::jobs::job_to_wire;
use crate::api::convert::{Violation, Violations, spec_from_wire};
use crate::api::{
    Shared, bad_request, invalid, mismatched, refused, stopping, team_from_wire, unreadable,
};
use crate::driver::{Clock, NotSubmitted};
use crate::registry::ResolveError;
use crate::session::SILENT_BEATS;
use crate::store::{JobRow, Store};

/// References that are resolved together.
const PARALLEL: usize = 8;

pub(super) async fn submit<S: Store>(
    shared: &Shared<S>,
    request: pb::SubmitRequest,
    traceparent: Option<String>,
) -> Result<pb::SubmitResponse, Status> {
    shared.driver.has_room().map_err(not_submitted)?;
    let pb::SubmitRequest { team, jobs } = request;
    let team = team_from_wire(&team)?;
    if jobs.is_empty() || jobs.len() > limits::BATCH {
        let problem = format!("{} jobs; give 1 to {}", jobs.len(), limits::BATCH);
        return Err(invalid("jobs", problem));
    }
    let drafts = read_jobs(&jobs, shared.heartbeat)?;
    let images = Images::resolve(shared, &team, &drafts).await?;
    let jobs = build(&team, drafts, &images, traceparent)?;
    let tasks: u64 = jobs.iter().map(|job| u64::from(job.array)).sum();
    let count = u64::try_from(jobs.len()).unwrap_or(u64::MAX);
    let answer = shared.driver.submit(jobs.clone()).await;
    match answer.map_err(not_submitted)? {
        Answer::Submitted(submitted) => {
            shared.metrics.submitted(team.as_str(), count, tasks);
            reply(shared, jobs, submitted).await
        }
        Answer::Refused(refusal) => Err(refused(&refusal)),
        other @ (Answer::CancelRequested { .. }
        | Answer::Released { .. }
        | Answer::LossesConfirmed { .. }
        | Answer::Agent(_)
        | Answer::Adopted(_)
        | Answer::Channel(_)) => Err(mismatched(&other)),
    }
}

/// The line of submissions is full for as long as a batch takes, or for as long as there are more than can be stored.
const AGAIN: Duration = Duration::from_secs(1);

fn not_submitted(error: NotSubmitted) -> Status {
    match error {
        NotSubmitted::Gone(gone) => stopping(gone),
        NotSubmitted::Busy => {
            let details = ErrorDetails::with_retry_info(Some(AGAIN));
            Status::with_error_details(Code::ResourceExhausted, error.to_string(), details)
        }
    }
}

/// A job that was read but whose image is not known yet.
struct Draft {
    spec: Spec,
    array: u32,
    key: Option<IdempotencyKey>,
}

fn read_jobs(wire: &[pb::NewJob], heartbeat: Millis) -> Result<Vec<Draft>, Status> {
    let mut bad = Vec::new();
    let mut drafts = Vec::with_capacity(wire.len());
    let mut keys = BTreeSet::new();
    for (place, new) in wire.iter().enumerate() {
        let here = |Violation { field, problem }| Violation {
            field: format!("jobs[{place}].{field}"),
            problem,
        };
        match read_job(new, heartbeat) {
            Ok(draft) => drafts.push(draft),
            Err(found) => bad.extend(found.into_iter().map(here)),
        }
        let key = new.idempotency_key.as_str();
        if !key.is_empty() && !keys.insert(key) {
            bad.push(here(Violation {
                field: "idempotency_key".to_owned(),
                problem: format!("{key:?} stands in this request twice"),
            }));
        }
    }
    if bad.is_empty() {
        Ok(drafts)
    } else {
        Err(bad_request(bad))
    }
}

/// A task must not be stopped because a heartbeat or two were late.
fn check_stop_after(spec: &Spec, heartbeat: Millis, bad: &mut Violations) {
    let OnDisconnect::StopAfter(limit) = spec.on_disconnect else {
        return;
    };
    let least = Millis(heartbeat.0.saturating_mul(SILENT_BEATS.into()));
    if limit < least {
        let problem = format!(
            "{limit} is less than {least}, which is {SILENT_BEATS} heartbeats of this coordinator; give at \
             least that, or let the task finish"
        );
        bad.add("spec.on_disconnect.stop_after", problem);
    }
}

fn read_job(wire: &pb::NewJob, heartbeat: Millis) -> Result<Draft, Vec<Violation>> {
    let pb::NewJob {
        spec,
        array,
        idempotency_key,
    } = wire;
    let mut bad = Violations::default();
    let array = (*array).max(1);
    if array > limits::ARRAY {
        bad.add("array", format!("{array} is more than {}", limits::ARRAY));
    }
    let printable = idempotency_key
        .bytes()
        .all(|byte| (0x20..0x7f).contains(&byte));
    if idempotency_key.len() > limits::KEY || !printable {
        let problem = format!("{idempotency_key:?} is not 1 to 200 printable ASCII characters");
        bad.add("idempotency_key", problem);
    }
    let spec = match spec.as_ref().map(spec_from_wire) {
        Some(Ok(spec)) => {
            check_stop_after(&spec, heartbeat, &mut bad);
            Some(spec)
        }
        Some(Err(found)) => {
            for Violation { field, problem } in found {
                bad.add(&format!("spec.{field}"), problem);
            }
            None
        }
        None => {
            bad.add("spec", "is missing");
            None
        }
    };
    match spec {
        Some(spec) if bad.is_empty() => {
            let key = (!idempotency_key.is_empty()).then(|| IdempotencyKey {
                key: idempotency_key.clone(),
                body: body_hash(wire),
            });
            Ok(Draft { spec, array, key })
        }
        Some(_) | None => Err(bad.into_vec()),
    }
}

/// Over the request as it came: maps are encoded in order, so equal requests have equal bytes.
fn body_hash(wire: &pb::NewJob) -> [u8; 32] {
    let hash = digest(&SHA256, &wire.encode_to_vec());
    hash.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// What the images of a submission mean now.
#[derive(Default)]
struct Images {
    channels: BTreeMap<ChannelId, (Image, u64)>,
    references: BTreeMap<String, Result<Image, Problem>>,
}

/// Why an image can't be used.
enum Problem {
    /// The client has to change something.
    Wrong(String),
    /// Trying again later can help.
    Later(String),
}

impl Images {
    async fn resolve<S: Store>(
        shared: &Shared<S>,
        team: &TeamName,
        drafts: &[Draft],
    ) -> Result<Self, Status> {
        let mut wanted: BTreeMap<String, Pull> = BTreeMap::new();
        for draft in drafts {
            if let ImageSource::Reference { text } = &draft.spec.image
                && !known_key(shared, team, draft).await?
            {
                wanted.insert(text.clone(), draft.spec.pull);
            }
        }
        let references = stream::iter(wanted)
            .map(|(text, pull)| async move {
                let image = resolve_reference(shared, &text, pull).await;
                (text, image)
            })
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        let on_channel = |draft: &Draft| matches!(draft.spec.image, ImageSource::Channel { .. });
        // Not for nothing: the answer waits for a commit.
        let channels = if drafts.iter().any(on_channel) {
            current_releases(shared, team.clone()).await?
        } else {
            BTreeMap::new()
        };
        Ok(Self {
            channels,
            references,
        })
    }
}

/// What the team's channels give now.
async fn current_releases<S: Store>(
    shared: &Shared<S>,
    team: TeamName,
) -> Result<BTreeMap<ChannelId, (Image, u64)>, Status> {
    let releases = shared.driver.look(move |fleet, _| {
        let ours = fleet.channels().filter(|channel| channel.id.team == team);
        let current = ours.map(|channel| {
            let release = &channel.current;
            (channel.id.clone(), (release.image(), release.number))
        });
        current.collect()
    });
    releases.await.map_err(stopping)
}

/// A job that is there already needs no image: a retried submission works also when the registry
/// is down or the tag is gone.
async fn known_key<S: Store>(
    shared: &Shared<S>,
    team: &TeamName,
    draft: &Draft,
) -> Result<bool, Status> {
    let Some(key) = &draft.key else {
        return Ok(false);
    };
    let found = shared
        .store
        .find_key(team, &key.key)
        .await
        .map_err(unreadable)?;
    Ok(found.is_some())
}

async fn resolve_reference<S: Store>(
    shared: &Shared<S>,
    text: &str,
    pull: Pull,
) -> Result<Image, Problem> {
    let reference: Reference = text
        .parse()
        .map_err(|error| Problem::Wrong(format!("{error}")))?;
    if pull == Pull::Never {
        return held_image(shared, reference).await;
    }
    let Reference {
        repository,
        version,
    } = reference;
    let tag = match version {
        Version::Digest(digest) => return Ok(Image::Remote { repository, digest }),
        Version::Tag(tag) => tag,
    };
    match shared.registry.resolve((&repository).into(), &tag).await {
        Ok(digest) => Ok(Image::Remote { repository, digest }),
        Err(error) => {
            let chain = muster_core::error_chain::error_chain(&error);
            Err(match error {
                ResolveError::NoSuchTag { .. }
                | ResolveError::NoSuchImage { .. }
                | ResolveError::Denied { .. }
                | ResolveError::NotAllowed { .. }
                | ResolveError::NotADigest { .. } => Problem::Wrong(chain),
                ResolveError::Throttled { .. }
                | ResolveError::Unreachable { .. }
                | ResolveError::Unverified { .. }
                | ResolveError::Credentials { .. } => Problem::Later(format!(
                    "{text}: {chain}; an image that only agents hold runs with --pull never"
                )),
            })
        }
    }
}

/// What the agents have under that name: the one that most of them hold.
async fn held_image<S: Store>(shared: &Shared<S>, wanted: Reference) -> Result<Image, Problem> {
    let text = wanted.to_string();
    let held = shared
        .driver
        .look(move |fleet, _| {
            let mut holders: BTreeMap<Image, usize> = BTreeMap::new();
            for held in fleet.agents().flat_map(|agent| &agent.held) {
                let named = match &wanted.version {
                    Version::Tag(_) => held.tags.contains(&wanted.to_string()),
                    Version::Digest(digest) => {
                        held.images.iter().any(|image| image.digest() == *digest)
                    }
                };
                if named {
                    *holders.entry(Image::Local { digest: held.id }).or_default() += 1;
                }
            }
            holders
                .into_iter()
                .max_by_key(|(_, holders)| *holders)
                .map(|(image, _)| image)
        })
        .await;
    match held {
        Ok(Some(image)) => Ok(image),
        Ok(None) => Err(Problem::Wrong(format!("no agent holds {text}"))),
        Err(gone) => Err(Problem::Later(gone.to_string())),
    }
}

fn build(
    team: &TeamName,
    drafts: Vec<Draft>,
    images: &Images,
    traceparent: Option<String>,
) -> Result<Vec<Arc<Job>>, Status> {
    let created = Clock::new().now();
    let mut bad = Vec::new();
    let mut jobs = Vec::with_capacity(drafts.len());
    for (
        place,
        Draft {
            mut spec,
            array,
            key,
        },
    ) in drafts.into_iter().enumerate()
    {
        let (pinned, release) = match pin(team, &spec, images) {
            Ok(pinned) => pinned,
            Err(Problem::Later(problem)) => return Err(Status::unavailable(problem)),
            Err(Problem::Wrong(problem)) => {
                bad.push(Violation {
                    field: format!("jobs[{place}].spec.image"),
                    problem,
                });
                continue;
            }
        };
        if spec.pull == Pull::Never {
            let needs = Requirements {
                held: pinned.clone(),
                ..spec.requirements.as_ref().clone()
            };
            spec.requirements = Arc::new(needs);
        }
        jobs.push(Arc::new(Job {
            id: JobId(Uuid::now_v7()),
            team: team.clone(),
            spec: Arc::new(spec),
            array,
            key: key.map(Box::new),
            pinned,
            release,
            created,
            traceparent: traceparent.clone(),
        }));
    }
    if bad.is_empty() {
        Ok(jobs)
    } else {
        Err(bad_request(bad))
    }
}

/// The image of all attempts, if the job has one for all.
fn pin(
    team: &TeamName,
    spec: &Spec,
    images: &Images,
) -> Result<(Option<Image>, Option<u64>), Problem> {
    match &spec.image {
        ImageSource::Channel { name, pin } => {
            let id = ChannelId {
                team: team.clone(),
                name: name.clone(),
            };
            let Some((image, release)) = images.channels.get(&id) else {
                return Err(Problem::Wrong(format!(
                    "{name:?} is no channel of team {team}; an image needs a tag or a digest, such \
                     as {name}:latest",
                    name = name.as_str()
                )));
            };
            Ok(match (pin, spec.pull) {
                (Pin::Task, Pull::Missing) => (None, None),
                (Pin::Run, _) | (Pin::Task, Pull::Never) => (Some(image.clone()), Some(*release)),
            })
        }
        ImageSource::Reference { text } => match images.references.get(text) {
            Some(Ok(image)) => Ok((Some(image.clone()), None)),
            Some(Err(Problem::Wrong(problem))) => Err(Problem::Wrong(problem.clone())),
            Some(Err(Problem::Later(problem))) => Err(Problem::Later(problem.clone())),
            // The job is there already under its key; this one is only compared with it.
            None => Ok((None, None)),
        },
    }
}

/// New jobs as they began, without a question to the store; earlier ones as they are.
async fn reply<S: Store>(
    shared: &Shared<S>,
    asked: Vec<Arc<Job>>,
    submitted: Vec<Submitted>,
) -> Result<pb::SubmitResponse, Status> {
    let mut jobs = Vec::with_capacity(submitted.len());
    for (
        job,
        Submitted {
            id,
            existed,
            nobody_fits,
        },
    ) in asked.into_iter().zip(submitted)
    {
        let row = if existed {
            let row = shared.store.job(id).await.map_err(unreadable)?;
            row.ok_or_else(|| Status::internal(format!("job {id} is not in the store")))?
        } else {
            JobRow {
                progress: LiveJob::new(job.clone(), 0).progress,
                job,
                rev: *shared.store.revisions().borrow(),
            }
        };
        let warning = format!(
            "no agent fits it even when idle; see: muster why {}",
            id.short()
        );
        jobs.push(pb::SubmittedJob {
            job: Some(job_to_wire(&row)),
            existed,
            warnings: nobody_fits.then_some(warning).into_iter().collect(),
        });
    }
    Ok(pb::SubmitResponse { jobs })
}
