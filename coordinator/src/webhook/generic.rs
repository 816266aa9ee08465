//! For anything that can run curl: `{"image": "REPOSITORY[:TAG]"}`. Authentication as Standard
//! Webhooks has it: HMAC-SHA256 over `ID.TIMESTAMP.BODY` in three headers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_core::image::{Digest, Repository, split_tag};
use muster_core::time::{Millis, Timestamp};
use serde::Deserialize;

use super::{Accepted, Delivery, Hint, Rejected, Secret, header, json, tag};

/// How far a sender's clock may be off.
const SKEW: Millis = Millis::from_secs(300);
const ID_MAX: usize = 256;

#[derive(Deserialize)]
struct Payload {
    image: String,
    /// Taken so that senders may say it; muster resolves the tag all the same.
    digest: Option<String>,
}

pub(super) fn read(delivery: &Delivery<'_>, secrets: &[Secret]) -> Result<Accepted, Rejected> {
    let id = check_signature(delivery, secrets)?;
    let Payload { image, digest } = json(delivery.body)?;
    if digest.is_some_and(|digest| digest.parse::<Digest>().is_err()) {
        return Err(Rejected::BadField { field: "digest" });
    }
    let bad = || Rejected::BadField { field: "image" };
    let named = image.split('@').next().unwrap_or(&image);
    let (repository, version) = split_tag(named);
    let repository: Repository = repository.parse().map_err(|_| bad())?;
    let hint = Hint {
        repository,
        tag: match version {
            Some(version) => Some(tag(Some(version)).ok_or_else(bad)?),
            None => None,
        },
        any_host: false,
    };
    Ok(Accepted {
        id,
        ..Accepted::hints([hint])
    })
}

/// The delivery's id, if it had to be signed.
fn check_signature(
    delivery: &Delivery<'_>,
    secrets: &[Secret],
) -> Result<Option<String>, Rejected> {
    if secrets.is_empty() {
        return Ok(None);
    }
    let Delivery {
        headers, body, now, ..
    } = *delivery;
    let of = |name| header(headers, name).ok_or(Rejected::Unauthorized);
    let id = of("webhook-id")?;
    let timestamp = of("webhook-timestamp")?;
    let signatures = of("webhook-signature")?;
    if id.is_empty() || id.len() > ID_MAX {
        return Err(Rejected::BadField {
            field: "webhook-id",
        });
    }
    let message = [id.as_bytes(), timestamp.as_bytes(), body].join(&b'.');
    // Several may be given while the sender replaces its key.
    let good = signatures
        .split(' ')
        .filter_map(|signature| signature.strip_prefix("v1,"))
        .filter_map(|encoded| STANDARD.decode(encoded).ok())
        .any(|tag| secrets.iter().any(|secret| secret.signed(&message, &tag)));
    if !good {
        return Err(Rejected::Unauthorized);
    }
    let seconds: u64 = timestamp.parse().map_err(|_| Rejected::BadField {
        field: "webhook-timestamp",
    })?;
    let sent = Timestamp(seconds.saturating_mul(1000));
    if now.since(sent) > SKEW || sent.since(now) > SKEW {
        return Err(Rejected::Stale);
    }
    Ok(Some(id.to_owned()))
}
