//! A look at tags: asking the registry, and telling the sink.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_core::channel::Cause;
use muster_core::error_chain::error_chain;
use muster_core::image::{Digest, Tag};
use muster_failpoint::{self as failpoint, Point};

use super::{ChannelSink, Eye, Origin};
use crate::registry::ResolveError;

/// Longest text about a failure that is kept, in bytes.
const PROBLEM_MAX: usize = 1024;

/// Looks at tags of one origin, one after the other, and tells the sink.
pub(super) async fn look_at(
    eye: &Eye,
    sink: &dyn ChannelSink,
    origin: &Origin,
    tags: BTreeMap<Tag, Cause>,
) {
    for (tag, cause) in tags {
        let is_news = look_once(eye, sink, origin, &tag, cause).await;
        if cause != Cause::Webhook || is_news {
            continue;
        }
        // A registry may tell of a push before it makes or moves the tag: what is no news yet may be soon.
        for pause in [eye.retries[0] / 20, eye.retries[0] / 4, eye.retries[0]] {
            tokio::time::sleep(pause).await;
            if look_once(eye, sink, origin, &tag, cause).await {
                break;
            }
        }
    }
}

/// Whether the tag means something new.
async fn look_once(
    eye: &Eye,
    sink: &dyn ChannelSink,
    origin: &Origin,
    tag: &Tag,
    cause: Cause,
) -> bool {
    let digest = resolve_patiently(eye, origin, tag, cause).await;
    if let Err(error) = &digest {
        could_not(origin, tag, error);
    }
    let mut is_news = false;
    let problem = digest.as_ref().err().map(chain);
    // Listed after the answer came: a channel may have been made or moved in the meantime.
    for channel in sink.channels().await {
        if Origin::of(&channel) != *origin || channel.tag != *tag {
            continue;
        }
        let found = match &digest {
            Ok(digest) => eye.facts(&channel, *digest).await,
            Err(_) => {
                eye.remember_problem(&channel.id, problem.clone());
                continue;
            }
        };
        is_news |= eye.remember(&channel.id, &found);
        match found {
            Ok(found) => {
                failpoint::hit(Point::ReleaseResolved);
                sink.resolved(channel, found, cause).await;
            }
            Err(error) => could_not(origin, tag, &error),
        }
    }
    is_news
}

fn could_not(origin: &Origin, tag: &Tag, error: &ResolveError) {
    tracing::warn!(
        image.repository = %origin.repository,
        image.tag = %tag,
        error = chain(error),
        "tag could not be resolved"
    );
}

async fn resolve_patiently(
    eye: &Eye,
    origin: &Origin,
    tag: &Tag,
    cause: Cause,
) -> Result<Digest, ResolveError> {
    let retries: &[Duration] = match cause {
        Cause::Webhook => &eye.retries,
        Cause::Set | Cause::Start | Cause::Poll | Cause::Rollback => &[],
    };
    for wait in retries {
        match eye.resolve(origin.access(), tag).await {
            Err(error) if error.is_transient() => tokio::time::sleep(*wait).await,
            result => return result,
        }
    }
    eye.resolve(origin.access(), tag).await
}

/// The error and everything behind it, in one line of bounded length.
pub(super) fn chain(error: &ResolveError) -> String {
    let mut text = error_chain(error);
    if text.len() > PROBLEM_MAX {
        let end = (0..=PROBLEM_MAX)
            .rev()
            .find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
    }
    text
}
