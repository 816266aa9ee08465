//! Harbor's `PUSH_ARTIFACT`, in its default format and as a CloudEvent. Authentication: the
//! `Authorization` header, which Harbor calls "Auth Header".

use serde::Deserialize;

use muster_core::image::split_tag;

use super::{Accepted, Delivery, Hint, Rejected, Secret, authorization, check_token, json, tag};

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "type")]
    kind: String,
    #[serde(alias = "data")]
    event_data: Option<EventData>,
}

#[derive(Deserialize)]
struct EventData {
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    tag: Option<String>,
    resource_url: Option<String>,
}

pub(super) fn read(delivery: &Delivery<'_>, secrets: &[Secret]) -> Result<Accepted, Rejected> {
    check_token(secrets, authorization(delivery.headers))?;
    let Payload { kind, event_data } = json(delivery.body)?;
    if kind != "PUSH_ARTIFACT" && kind != "harbor.artifact.pushed" {
        return Ok(Accepted::default());
    }
    let data = event_data.ok_or(Rejected::BadField {
        field: "event_data",
    })?;
    Ok(Accepted::hints(data.resources.iter().filter_map(hint)))
}

fn hint(resource: &Resource) -> Option<Hint> {
    let Resource {
        tag: pushed,
        resource_url,
    } = resource;
    // `HOST/PROJECT/NAME:TAG`, or with `@sha256:` if it has no tag.
    let address = resource_url.as_deref()?.split('@').next()?;
    let (address, url_tag) = split_tag(address);
    let (host, path) = address.split_once('/')?;
    Some(Hint {
        repository: super::repository(host, path)?,
        tag: Some(tag(pushed.as_deref()).or_else(|| tag(url_tag))?),
        any_host: false,
    })
}
