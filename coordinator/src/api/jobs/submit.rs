//! Submission: read everything, resolve images once, then hand all jobs over together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use futures_util::StreamExt;
use futures_util::stream;
use muster_core::channel::ChannelId;
use muster_core::effect::{Answer, Submitted};
use muster_core::ids::{JobId, TeamName};
use muster_core::image::{Image, Reference, Version};
use muster_core::job::{IdempotencyKey, Job};
use muster_core::spec::{ImageSource, Pin, Pull, Requirements, Spec, limits};
use muster_proto::v1 as pb;
use prost::Message;
use tonic::Status;
use uuid::Uuid;

use crate::api::convert::jobs::job_to_wire;
use crate::api::convert::{Violation, Violations, spec_from_wire};
use crate::api::{
    Shared, bad_request, invalid, mismatched, refused, stopping, team_from_wire, unreadable,
};
use crate::driver::Clock;
use crate::registry::ResolveError;
use crate::store::Store;

/// References that are resolved together.
const PARALLEL: usize = 8;

pub(super) async fn submit<S: Store>(
    shared: &Shared<S>,
    request: pb::SubmitRequest,
    traceparent: Option<String>,
) -> Result<pb::SubmitResponse, Status> {
    let pb::SubmitRequest { team, jobs } = request;
    let team = team_from_wire(&team)?;
    if jobs.is_empty() || jobs.len() > limits::BATCH {
        let problem = format!("{} jobs; give 1 to {}", jobs.len(), limits::BATCH);
        return Err(invalid("jobs", problem));
    }
    let drafts = read_jobs(&jobs)?;
    let images = Images::resolve(shared, &team, &drafts).await?;
    let jobs = build(&team, drafts, &images, traceparent)?;
    let tasks: u64 = jobs.iter().map(|job| u64::from(job.array)).sum();
    let count = u64::try_from(jobs.len()).unwrap_or(u64::MAX);
    match shared.driver.submit(jobs).await.map_err(stopping)? {
        Answer::Submitted(submitted) => {
            shared.metrics.submitted(team.as_str(), count, tasks);
            reply(shared, submitted).await
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

/// A job that was read but whose image is not known yet.
struct Draft {
    spec: Spec,
    array: u32,
    key: Option<IdempotencyKey>,
}

fn read_jobs(wire: &[pb::NewJob]) -> Result<Vec<Draft>, Status> {
    let mut bad = Vec::new();
    let mut drafts = Vec::with_capacity(wire.len());
    let mut keys = BTreeSet::new();
    for (place, new) in wire.iter().enumerate() {
        let here = |Violation { field, problem }| Violation {
            field: format!("jobs[{place}].{field}"),
            problem,
        };
        match read_job(new) {
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

fn read_job(wire: &pb::NewJob) -> Result<Draft, Vec<Violation>> {
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
        Some(Ok(spec)) => Some(spec),
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
        let team = team.clone();
        let channels = shared
            .driver
            .look(move |fleet, _| {
                let ours = fleet.channels().filter(|channel| channel.id.team == team);
                let current = ours.map(|channel| {
                    let release = &channel.current;
                    (channel.id.clone(), (release.image(), release.number))
                });
                current.collect()
            })
            .await
            .map_err(stopping)?;
        Ok(Self {
            channels,
            references,
        })
    }
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
    match shared.registry.resolve(&repository, &tag).await {
        Ok(digest) => Ok(Image::Remote { repository, digest }),
        Err(error) => {
            let chain = crate::error_chain::error_chain(&error);
            Err(match error {
                ResolveError::NoSuchTag { .. }
                | ResolveError::Denied { .. }
                | ResolveError::NotADigest { .. } => Problem::Wrong(chain),
                ResolveError::Throttled { .. }
                | ResolveError::Unreachable { .. }
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
            key,
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

async fn reply<S: Store>(
    shared: &Shared<S>,
    submitted: Vec<Submitted>,
) -> Result<pb::SubmitResponse, Status> {
    let mut jobs = Vec::with_capacity(submitted.len());
    for Submitted {
        id,
        existed,
        nobody_fits,
    } in submitted
    {
        let row = shared.store.job(id).await.map_err(unreadable)?;
        let row = row.ok_or_else(|| Status::internal(format!("job {id} is not in the store")))?;
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
