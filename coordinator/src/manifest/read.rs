//! From checked fields to what a document means.

use muster_core::channel::{ChannelId, Following, PollInterval, Warm};
use muster_core::ids::{ChannelName, CredentialsName, TeamName};
use muster_core::image::{Repository, Tag};
use muster_core::rollout::policy::Policy;
use muster_proto::v1 as pb;

use super::check::{Object, Problems, object, shown};
use super::fields::{CHANNEL, CHANNEL_FIELDS, IMAGE, IMAGE_FIELDS, ROLLOUT, ROLLOUT_FIELDS};
use super::tree::{Node, Value};
use super::{Body, ChannelBody, Document, From, Place, RolloutBody, Source};
use crate::api::channels::REASON_MAX;
use crate::api::convert::duration::millis_to_wire;
use crate::api::convert::rollouts::policy_from_wire;

/// A field as it is written: its name, where that stands, and its value.
type Entry = (String, Place, Node);

/// `None`: it is wrong, and `bad` says how.
pub(super) fn document(
    file: &Source<'_>,
    node: &Node,
    team: &TeamName,
    bad: &mut Problems,
) -> Option<Document> {
    let known = format!("kind has to be {CHANNEL} or {ROLLOUT}");
    let (entries, kind, place) = kind_of(node, &known, bad)?;
    let (channel, body) = match kind {
        CHANNEL => {
            let fields = object(node, entries, &CHANNEL_FIELDS, "", bad);
            let id = channel_id(&fields, "name", team, bad);
            let body = channel_body(&fields, bad).map(Box::new);
            (id, body.map(Body::Channel))
        }
        ROLLOUT => {
            let fields = object(node, entries, &ROLLOUT_FIELDS, "", bad);
            let id = channel_id(&fields, "channel", team, bad);
            (id, rollout_body(&fields, bad).map(Body::Rollout))
        }
        IMAGE => {
            let what = "an Image is not applied: it goes into an image, as the file that its label muster.manifests names";
            bad.add(place, what);
            return None;
        }
        other => {
            bad.add(place, format!("{known}, not {}", shown(other)));
            return None;
        }
    };
    Some(Document {
        file: file.name.to_owned(),
        place: node.place,
        channel: channel?,
        body: body?,
    })
}

/// What an image carries; its document can only say how the rollouts of whoever follows it go.
pub(super) fn carried(node: &Node, bad: &mut Problems) -> Option<Policy> {
    let known = format!("an image can only carry kind: {IMAGE}");
    let (entries, kind, place) = kind_of(node, &known, bad)?;
    if kind != IMAGE {
        bad.add(place, format!("{known}, not {}", shown(kind)));
        return None;
    }
    let fields = object(node, entries, &IMAGE_FIELDS, "", bad);
    read_policy(fields.object("policy")?, bad)
}

/// The fields of a document, and its kind with its place. `known`: which kinds there can be.
fn kind_of<'a>(
    node: &'a Node,
    known: &str,
    bad: &mut Problems,
) -> Option<(&'a [Entry], &'a str, Place)> {
    let Value::Map(entries) = &node.value else {
        bad.add(node.place, "is no document with fields");
        return None;
    };
    let Some((_, _, kind)) = entries.iter().find(|(key, ..)| key == "kind") else {
        bad.add(node.place, format!("kind is missing; {known}"));
        return None;
    };
    match &kind.value {
        Value::Text(word) => Some((entries, word, kind.place)),
        Value::Empty | Value::List(_) | Value::Map(_) => {
            bad.add(kind.place, known);
            None
        }
    }
}

fn channel_id(
    fields: &Object,
    field: &str,
    default: &TeamName,
    bad: &mut Problems,
) -> Option<ChannelId> {
    let name = fields.text(field).and_then(|name| {
        let parsed = ChannelName::parse(name).map_err(|error| format!("{} {error}", shown(name)));
        keep(fields, field, parsed, bad)
    });
    let team = match fields.text("team") {
        None => Some(default.clone()),
        Some(team) => {
            let parsed = TeamName::parse(team).map_err(|error| format!("{} {error}", shown(team)));
            keep(fields, "team", parsed, bad)
        }
    };
    Some(ChannelId {
        team: team?,
        name: name?,
    })
}

fn channel_body(fields: &Object, bad: &mut Problems) -> Option<ChannelBody> {
    let repository = fields.text("repository").and_then(|text| {
        let parsed = text.parse::<Repository>();
        keep(fields, "repository", parsed, bad)
    });
    let tag = Tag::parse(fields.text("tag").unwrap_or("latest"));
    let tag = keep(fields, "tag", tag, bad);
    let policy = match fields.object("policy") {
        None => Some(Policy::default()),
        Some(policy) => read_policy(policy, bad),
    };
    let warm = match fields.object("warm") {
        None => Some(Warm::default()),
        Some(warm) => {
            let (min, max) = (warm.number("min").unwrap_or(0), warm.number("max"));
            let bounds = max.map(|max| Warm::new(min, max));
            bounds.and_then(|bounds| keep(fields, "warm", bounds, bad))
        }
    };
    let poll = match fields.span("poll_interval") {
        None => Some(None),
        Some(span) => keep(fields, "poll_interval", PollInterval::new(span), bad).map(Some),
    };
    let credentials = match fields.text("credentials") {
        None => Some(None),
        Some(name) => {
            let parsed = CredentialsName::parse(name);
            let parsed = parsed.map_err(|error| format!("{} {error}", shown(name)));
            keep(fields, "credentials", parsed, bad).map(Some)
        }
    };
    Some(ChannelBody {
        credentials_at: fields.place_of("credentials"),
        following: Following {
            poll: poll?,
            credentials: credentials?,
        },
        named_at: fields.place_of("repository"),
        repository: repository?,
        tag: tag?,
        policy: policy?,
        warm: warm?,
    })
}

fn rollout_body(fields: &Object, bad: &mut Problems) -> Option<RolloutBody> {
    let reason = fields.text("reason").unwrap_or_default().to_owned();
    if reason.len() > REASON_MAX {
        let what = format!(
            "reason is {} bytes long; at most {REASON_MAX}",
            reason.len()
        );
        bad.add(fields.place_of("reason"), what);
    }
    let to = fields.text("to")?;
    if to.is_empty() {
        bad.add(
            fields.place_of("to"),
            "to is empty; it names a tag or a digest",
        );
    }
    let from = match fields.text("from") {
        None => None,
        Some(text) => {
            let release = text.parse().ok().filter(|number| *number > 0);
            let from = release.map(From::Release);
            let from = from.or_else(|| text.parse().ok().map(From::Digest));
            let wrong = || format!("{} is no digest and no release's number", shown(text));
            let from = keep(fields, "from", from.ok_or_else(wrong), bad)?;
            Some((from, fields.place_of("from")))
        }
    };
    Some(RolloutBody {
        named_at: fields.place_of("channel"),
        from,
        to: (to.to_owned(), fields.place_of("to")),
        reason,
    })
}

fn keep<T, E: std::fmt::Display>(
    fields: &Object,
    field: &str,
    result: Result<T, E>,
    bad: &mut Problems,
) -> Option<T> {
    result
        .map_err(|error| bad.add(fields.place_of(field), format!("{field}: {error}")))
        .ok()
}

/// By way of the wire's form, which has the defaults and the bounds that no table can say.
fn read_policy(fields: &Object, bad: &mut Problems) -> Option<Policy> {
    let span = |object: &Object, field| object.span(field).map(millis_to_wire);
    let canary = match fields.object("canary") {
        None => None,
        Some(canary) => Some(read_canary(canary, bad)?),
    };
    let wire = pb::RolloutPolicy {
        prefetch: fields
            .object("prefetch")
            .map(|prefetch| pb::PrefetchPolicy {
                enough_percent: prefetch.number("enough_percent").unwrap_or(0),
                at_a_time: prefetch.number("at_a_time").unwrap_or(0),
                patience: span(prefetch, "patience"),
            }),
        validate: fields
            .object("validate")
            .map(|validate| pb::ValidatePolicy {
                command: validate.texts("command"),
                timeout: span(validate, "timeout"),
                exit_code: validate.number("exit_code").unwrap_or(0),
                pool: validate.text("pool").unwrap_or_default().to_owned(),
            }),
        canary,
        restart: fields.object("restart").map(|restart| pb::RestartPolicy {
            jobs: restart.texts("jobs"),
            healthy_after: span(restart, "healthy_after"),
            patience: span(restart, "patience"),
        }),
        bake: fields.object("bake").map(|bake| pb::BakePolicy {
            lasts: span(bake, "lasts"),
        }),
        gates: fields.object("gates").map(|gates| pb::GatePolicy {
            failures: gates.number("failures").unwrap_or(0),
            failure_points: gates.number("failure_points"),
            duration_percent: gates.number("duration_percent"),
            memory_percent: gates.number("memory_percent"),
        }),
        newer: match fields.text("newer") {
            None => pb::NewerPolicy::Unspecified.into(),
            Some("queue") => pb::NewerPolicy::Queue.into(),
            Some(_) => pb::NewerPolicy::Supersede.into(),
        },
    };
    match policy_from_wire(&wire) {
        Ok(policy) => Some(policy),
        Err(violations) => {
            for violation in violations {
                let what = format!("policy.{}: {}", violation.field, violation.problem);
                bad.add(fields.place_of(&violation.field), what);
            }
            None
        }
    }
}

fn read_canary(canary: &Object, bad: &mut Problems) -> Option<pb::CanaryPolicy> {
    use pb::canary_policy::Share;
    let share = match (canary.number("first"), canary.number("percent")) {
        (Some(first), None) => Share::First(first),
        (None, Some(percent)) => Share::Percent(percent),
        (None, None) if canary.has("first") || canary.has("percent") => return None,
        (None, None) => {
            let what = "policy.canary needs first, e.g. 20, or percent, e.g. 10%";
            bad.add(canary.place, what);
            return None;
        }
        (Some(_), Some(_)) => {
            let what = "policy.canary has first and percent; it takes one of them";
            bad.add(canary.place, what);
            return None;
        }
    };
    Some(pb::CanaryPolicy {
        share: Some(share),
        jobs: canary.texts("jobs"),
        sample: canary.number("sample").unwrap_or(0),
        patience: canary.span("patience").map(millis_to_wire),
        roll_back_after_patience: canary.flag("roll_back_after_patience").unwrap_or(false),
    })
}
