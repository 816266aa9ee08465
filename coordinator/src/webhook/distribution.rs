//! The registry that Docker gave to the CNCF, which most private registries are: its notifications.
//! Authentication: a fixed `Authorization` header, set in the registry's configuration.

use serde::Deserialize;

use super::{Accepted, Delivery, Hint, Rejected, Secret, authorization, check_token, json, tag};

#[derive(Deserialize)]
struct Envelope {
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    action: String,
    target: Target,
    request: Option<Request>,
}

#[derive(Deserialize)]
struct Target {
    repository: Option<String>,
    tag: Option<String>,
}

#[derive(Deserialize)]
struct Request {
    host: Option<String>,
}

pub(super) fn read(delivery: &Delivery<'_>, secrets: &[Secret]) -> Result<Accepted, Rejected> {
    check_token(secrets, authorization(delivery.headers))?;
    let envelope: Envelope = json(delivery.body)?;
    Ok(Accepted::hints(envelope.events.iter().filter_map(hint)))
}

/// Pushes of blobs, and of manifests by digest, move no tag.
fn hint(event: &Event) -> Option<Hint> {
    let Event {
        action,
        target,
        request,
    } = event;
    if action != "push" {
        return None;
    }
    let tag = tag(target.tag.as_deref())?;
    let path = target.repository.as_deref()?;
    let host = request.as_ref().and_then(|request| request.host.as_deref());
    let named = host.and_then(|host| super::repository(host, path));
    // Whoever pushed may have used a name or an address that nobody else does, or none at all.
    let repository = named.or_else(|| super::repository("registry.invalid", path))?;
    Some(Hint {
        repository,
        tag: Some(tag),
        any_host: true,
    })
}
