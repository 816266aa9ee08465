//! What a rollout's document comes to. It says where a channel shall get: what is there, on its way there, or
//! was there and was rolled back, is left alone.

use muster_core::channel::{Cause, ChannelId, Release};
use muster_core::event::RollbackTo;
use muster_proto::v1::ApplyAction;

use super::Failed;
use super::deed::{Change, Deed, Outcome};
use super::state::{Known, Places, State, Target, target};
use crate::api::channels::candidate;
use crate::api::rollouts::read_image;
use crate::manifest::{From, Place, RolloutBody};
use crate::store::Store;

pub(super) async fn plan<S: Store>(
    state: &mut State<'_, S>,
    id: &ChannelId,
    body: &RolloutBody,
    by: &str,
) -> Result<Outcome, Failed> {
    let Some(known) = state.channel(id).await? else {
        let what = format!("team {} has no channel {}", id.team, id.name);
        return Err(Failed::Wrong(body.named_at, what));
    };
    let to = resolve(state, &known, body).await?;
    let from = begin(state, id, body).await?;
    if let Some(outcome) = already(&known, from.as_ref().map(|(from, _)| from), &to, body, by) {
        return Ok(outcome);
    }
    let channel = &known.channel;
    let current = target(&channel.current);
    if let Some((from, place)) = &from
        && *from != current.digest
    {
        let what = format!(
            "from: the channel is not there; it is at release {}, {}",
            channel.current.number, current.digest
        );
        return Err(Failed::Wrong(*place, what));
    }
    let changes = vec![moves("current", &current, &to)];
    if let Some(previous) = reversed(&known, from.is_some(), &to) {
        return Ok(Outcome {
            action: ApplyAction::Changed,
            changes,
            note: format!("back to release {}", previous.number),
            deeds: vec![Deed::RollBack {
                to: RollbackTo::Release(Box::new(previous.clone())),
                reason: body.reason.clone(),
                by: by.to_owned(),
            }],
        });
    }
    if channel.held_back == Some(to.digest) {
        let note = format!(
            "{} was rolled back; to try it again: muster rollout start {} {}",
            to.digest.short(),
            id.name,
            to.digest
        );
        return Ok(Outcome::unchanged(note));
    }
    let places = Places::at(body.to.1);
    let found = state
        .found(known.access(&to.repository), to.digest, places)
        .await?;
    let mut candidate = candidate(to.repository, found, Cause::Start, by.to_owned());
    candidate.reason.clone_from(&body.reason);
    Ok(Outcome {
        action: ApplyAction::Created,
        changes,
        note: format!("to see it: muster rollout status -w {}", id.name),
        deeds: vec![Deed::Start(candidate)],
    })
}

/// What a rollout that is under way, or that came to its end, leaves to do.
fn already(
    known: &Known,
    from: Option<&muster_core::image::Digest>,
    to: &Target,
    body: &RolloutBody,
    by: &str,
) -> Option<Outcome> {
    let Known { channel, active } = known;
    if let Some(active) = active {
        if active.to == *to {
            return Some(Outcome::unchanged("the rollout is under way"));
        }
        if from == Some(&active.to.digest) && active.from == *to {
            let changes = if active.promoted {
                vec![moves("current", &active.to, to)]
            } else {
                Vec::new()
            };
            return Some(Outcome {
                action: ApplyAction::Changed,
                changes,
                note: format!("the rollout to {} is taken back", active.to.digest.short()),
                deeds: vec![Deed::Abort {
                    reason: body.reason.clone(),
                    by: by.to_owned(),
                }],
            });
        }
    }
    if target(&channel.current) != *to {
        return None;
    }
    let note = active.as_ref().map(|active| {
        let elsewhere = active.to.digest.short();
        format!("the channel is there, but a rollout to {elsewhere} is under way")
    });
    Some(Outcome::unchanged(note.unwrap_or_default()))
}

/// The release before, if the document asks for the way back: it names where the channel is, and the channel came there from
/// `to`. Where a rollback has led the channel is no way forward: what comes then is a rollout like any other.
fn reversed<'a>(known: &'a Known, names_from: bool, to: &Target) -> Option<&'a Release> {
    let previous = known.channel.previous.as_ref()?;
    let came_back = known.channel.current.cause == Cause::Rollback;
    (names_from && !came_back && target(previous) == *to).then_some(previous)
}

async fn resolve<S: Store>(
    state: &State<'_, S>,
    known: &Known,
    body: &RolloutBody,
) -> Result<Target, Failed> {
    let (text, place) = &body.to;
    let channel = &known.channel;
    let read = read_image(&channel.repository, &channel.tag, text);
    let (repository, version) =
        read.map_err(|error| Failed::Wrong(*place, format!("to: {error}")))?;
    let digest = state
        .digest(known.access(&repository), &version, Places::at(*place))
        .await?;
    Ok(Target { repository, digest })
}

async fn begin<S: Store>(
    state: &State<'_, S>,
    id: &ChannelId,
    body: &RolloutBody,
) -> Result<Option<(muster_core::image::Digest, Place)>, Failed> {
    match body.from {
        None => Ok(None),
        Some((From::Digest(digest), place)) => Ok(Some((digest, place))),
        Some((From::Release(number), place)) => {
            let found = state.release(id, number).await?;
            let missing = || {
                let what = format!("from: channel {} has no release {number}", id.name);
                Failed::Wrong(place, what)
            };
            Ok(Some((found.ok_or_else(missing)?, place)))
        }
    }
}

fn moves(field: &str, from: &Target, to: &Target) -> Change {
    let (before, after) = if from.repository == to.repository {
        (from.digest.to_string(), to.digest.to_string())
    } else {
        let whole = |target: &Target| format!("{}@{}", target.repository, target.digest);
        (whole(from), whole(to))
    };
    Change::new(field, Some(before), Some(after))
}
