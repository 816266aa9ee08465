//! What a channel's document comes to.

use muster_core::channel::{Cause, Channel, ChannelId, Following, Warm};
use muster_core::image::{Digest, Version};
use muster_core::rollout::policy::Policy;
use muster_core::time::Timestamp;
use muster_proto::v1::ApplyAction;

use super::Failed;
use super::deed::{Change, Deed, Outcome};
use super::state::{Active, Known, Places, State, target};
use crate::api::channels::candidate;
use crate::manifest::{ChannelBody, policy_fields, span};
use crate::registry::Access;
use crate::store::Store;

pub(super) async fn plan<S: Store>(
    state: &mut State<'_, S>,
    id: &ChannelId,
    body: &ChannelBody,
    by: &str,
) -> Result<Outcome, Failed> {
    match state.channel(id).await? {
        None => make(state, id, body, by).await,
        Some(known) => change(state, known, body, by).await,
    }
}

async fn make<S: Store>(
    state: &mut State<'_, S>,
    id: &ChannelId,
    body: &ChannelBody,
    by: &str,
) -> Result<Outcome, Failed> {
    let candidate = resolve(state, body, by).await?;
    let mut changes = vec![
        Change::new("repository", None, Some(body.repository.to_string())),
        Change::new("tag", None, Some(body.tag.to_string())),
    ];
    changes.extend(following_changes(&Following::default(), &body.following));
    changes.extend(
        policy_fields(&body.policy)
            .into_iter()
            .map(|(field, value)| Change::new(&field, None, Some(value))),
    );
    changes.extend(warm_changes(Warm::default(), body.warm));
    changes.push(Change::new(
        "current",
        None,
        Some(candidate.digest.to_string()),
    ));
    state.expect(Known {
        channel: Channel {
            id: id.clone(),
            repository: body.repository.clone(),
            tag: body.tag.clone(),
            current: candidate.release(1, Timestamp::default()),
            previous: None,
            held_back: None,
            passed_over: None,
            policy: body.policy.clone(),
            warm: body.warm,
            following: body.following.clone(),
            unpromoted: Vec::new(),
        },
        active: None,
    });
    let mut deeds = vec![Deed::Set {
        tag: body.tag.clone(),
        candidate,
    }];
    if body.following != Following::default() {
        deeds.push(Deed::SetFollowing(body.following.clone()));
    }
    if body.policy != Policy::default() {
        deeds.push(Deed::SetPolicy(Box::new(body.policy.clone())));
    }
    if !body.warm.is_off() {
        deeds.push(Deed::SetWarm(body.warm));
    }
    Ok(Outcome {
        action: ApplyAction::Created,
        changes,
        note: String::new(),
        deeds,
    })
}

async fn change<S: Store>(
    state: &mut State<'_, S>,
    mut known: Known,
    body: &ChannelBody,
    by: &str,
) -> Result<Outcome, Failed> {
    let channel = &mut known.channel;
    let mut changes = Vec::new();
    let mut deeds = Vec::new();
    let mut note = String::new();
    let moves = channel.repository != body.repository || channel.tag != body.tag;
    // First, so that a rollout to what the channel follows from now on goes by it.
    if channel.following != body.following {
        changes.extend(following_changes(&channel.following, &body.following));
        deeds.push(Deed::SetFollowing(body.following.clone()));
        if channel.following.credentials != body.following.credentials && !moves {
            // What is wrong with them is to be known now, and not at the next look.
            tag_digest(state, body).await?;
        }
        channel.following = body.following.clone();
    }
    if channel.policy != body.policy {
        changes.extend(differences(&channel.policy, &body.policy));
        deeds.push(Deed::SetPolicy(Box::new(body.policy.clone())));
        channel.policy = body.policy.clone();
    }
    if channel.warm != body.warm {
        changes.extend(warm_changes(channel.warm, body.warm));
        deeds.push(Deed::SetWarm(body.warm));
        channel.warm = body.warm;
    }
    if moves {
        let candidate = resolve(state, body, by).await?;
        let follows = differing([
            (
                "repository",
                Some(channel.repository.to_string()),
                Some(body.repository.to_string()),
            ),
            (
                "tag",
                Some(channel.tag.to_string()),
                Some(body.tag.to_string()),
            ),
        ]);
        changes.splice(0..0, follows);
        channel.repository = body.repository.clone();
        channel.tag = body.tag.clone();
        channel.held_back = None;
        channel.passed_over = None;
        if !channel.is_at(&candidate) {
            note = format!("a rollout to {} begins", candidate.digest.short());
            known.active = Some(Active {
                from: target(&channel.current),
                to: target(&candidate.release(0, Timestamp::default())),
                promoted: false,
            });
        }
        deeds.push(Deed::Set {
            tag: body.tag.clone(),
            candidate,
        });
    }
    state.expect(known);
    if deeds.is_empty() {
        return Ok(Outcome::unchanged(""));
    }
    Ok(Outcome {
        action: ApplyAction::Changed,
        changes,
        note,
        deeds,
    })
}

async fn resolve<S: Store>(
    state: &State<'_, S>,
    body: &ChannelBody,
    by: &str,
) -> Result<Box<muster_core::channel::Candidate>, Failed> {
    let digest = tag_digest(state, body).await?;
    let found = state.found(access(body), digest, places(body)).await?;
    let by = by.to_owned();
    Ok(candidate(body.repository.clone(), found, Cause::Set, by))
}

async fn tag_digest<S: Store>(state: &State<'_, S>, body: &ChannelBody) -> Result<Digest, Failed> {
    let version = Version::Tag(body.tag.clone());
    state.digest(access(body), &version, places(body)).await
}

const fn access(body: &ChannelBody) -> Access<'_> {
    Access {
        repository: &body.repository,
        credentials: body.following.credentials.as_ref(),
    }
}

const fn places(body: &ChannelBody) -> Places {
    Places {
        image: body.named_at,
        credentials: body.credentials_at,
    }
}

/// What differs in how the tag is looked at.
fn following_changes(before: &Following, after: &Following) -> Vec<Change> {
    let poll = |of: &Following| of.poll.map(|interval| span(interval.span()));
    let name = |of: &Following| of.credentials.as_ref().map(ToString::to_string);
    differing([
        ("poll_interval", poll(before), poll(after)),
        ("credentials", name(before), name(after)),
    ])
}

/// What differs in how many containers wait.
fn warm_changes(before: Warm, after: Warm) -> Vec<Change> {
    let value = |of: Warm, number: u32| (!of.is_off()).then(|| number.to_string());
    differing([
        (
            "warm.min",
            value(before, before.min()),
            value(after, after.min()),
        ),
        (
            "warm.max",
            value(before, before.max()),
            value(after, after.max()),
        ),
    ])
}

/// Fields with their values before and after, as far as those differ.
fn differing(fields: [(&str, Option<String>, Option<String>); 2]) -> Vec<Change> {
    let changed = fields
        .into_iter()
        .filter(|(_, before, after)| before != after);
    changed
        .map(|(field, before, after)| Change::new(field, before, after))
        .collect()
}

/// The fields that differ, in the order of a manifest: those that go, then those that come or change.
fn differences(before: &Policy, after: &Policy) -> Vec<Change> {
    let (before, after) = (policy_fields(before), policy_fields(after));
    let value = |of: &[(String, String)], field: &str| {
        let row = of.iter().find(|(name, _)| name == field);
        row.map(|(_, value)| value.clone())
    };
    let gone = before
        .iter()
        .filter(|(field, _)| value(&after, field).is_none());
    let gone = gone.map(|(field, old)| Change::new(field, Some(old.clone()), None));
    let other = after.iter().filter_map(|(field, new)| {
        let old = value(&before, field);
        (old.as_ref() != Some(new)).then(|| Change::new(field, old, Some(new.clone())))
    });
    gone.chain(other).collect()
}
