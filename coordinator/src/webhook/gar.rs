//! Google's Artifact Registry: a Pub/Sub push subscription to its topic `gcr`. Authentication: a
//! token of ours, in the subscription's address (`?token=`) or in `Authorization`. The identity
//! tokens that Pub/Sub can sign are not verified.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use muster_core::image::split_tag;

use super::{Accepted, Delivery, Hint, Rejected, Secret, authorization, check_token, json, tag};

#[derive(Deserialize)]
struct Envelope {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    data: String,
}

#[derive(Deserialize)]
struct Change {
    action: String,
    /// `HOST/PATH:TAG`; absent if the image has none.
    tag: Option<String>,
}

pub(super) fn read(delivery: &Delivery<'_>, secrets: &[Secret]) -> Result<Accepted, Rejected> {
    let presented = delivery.query_token;
    check_token(
        secrets,
        presented.or_else(|| authorization(delivery.headers)),
    )?;
    let envelope: Envelope = json(delivery.body)?;
    let field = "message.data";
    let data = STANDARD
        .decode(envelope.message.data)
        .map_err(|_| Rejected::BadField { field })?;
    let Change {
        action,
        tag: tagged,
    } = json(&data)?;
    if action != "INSERT" {
        return Ok(Accepted::default());
    }
    Ok(Accepted::hints(tagged.as_deref().and_then(hint)))
}

fn hint(tagged: &str) -> Option<Hint> {
    let (address, version) = split_tag(tagged);
    let (host, path) = address.split_once('/')?;
    Some(Hint {
        repository: super::repository(host, path)?,
        tag: Some(tag(version)?),
        any_host: false,
    })
}
