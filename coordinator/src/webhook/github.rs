//! GitHub's `package` and `registry_package` events. Authentication: `X-Hub-Signature-256`, the
//! HMAC-SHA256 of the body.

use serde::Deserialize;

use muster_core::image::split_tag;

use super::{Accepted, Delivery, Hint, Rejected, Secret, header, json, tag};

/// Where GitHub keeps images.
const REGISTRY: &str = "ghcr.io";

#[derive(Deserialize)]
struct Payload {
    action: String,
    #[serde(alias = "registry_package")]
    package: Package,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    namespace: Option<String>,
    package_type: String,
    package_version: Option<PackageVersion>,
}

#[derive(Deserialize)]
struct PackageVersion {
    package_url: Option<String>,
    container_metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    tag: Option<MetadataTag>,
}

#[derive(Deserialize)]
struct MetadataTag {
    name: Option<String>,
}

pub(super) fn read(delivery: &Delivery<'_>, secrets: &[Secret]) -> Result<Accepted, Rejected> {
    check_signature(delivery, secrets)?;
    match header(delivery.headers, "x-github-event") {
        Some("package" | "registry_package") => {}
        // A ping, or an event that was ticked by mistake.
        Some(_) => return Ok(Accepted::default()),
        None => {
            return Err(Rejected::BadField {
                field: "X-GitHub-Event",
            });
        }
    }
    let Payload { action, package } = json(delivery.body)?;
    let is_image = package.package_type.eq_ignore_ascii_case("container");
    if !is_image || !["published", "updated"].contains(&&*action) {
        return Ok(Accepted::default());
    }
    Ok(Accepted::hints(hint(package)))
}

fn check_signature(delivery: &Delivery<'_>, secrets: &[Secret]) -> Result<(), Rejected> {
    if secrets.is_empty() {
        return Ok(());
    }
    let presented = header(delivery.headers, "x-hub-signature-256")
        .and_then(|value| value.strip_prefix("sha256="))
        .and_then(from_hex)
        .ok_or(Rejected::Unauthorized)?;
    let signed = |secret: &Secret| secret.signed(delivery.body, &presented);
    let good = secrets.iter().any(signed);
    good.then_some(()).ok_or(Rejected::Unauthorized)
}

/// GitHub's own field says the tag; the address of the version says the rest, and in some
/// deliveries only the names of owner and package do.
fn hint(package: Package) -> Option<Hint> {
    let Package {
        name,
        namespace,
        package_type: _,
        package_version,
    } = package;
    let PackageVersion {
        package_url,
        container_metadata,
    } = package_version?;
    let metadata_tag = container_metadata
        .and_then(|metadata| metadata.tag)
        .and_then(|tag| tag.name);
    let url = package_url.as_deref().unwrap_or_default();
    let (address, url_tag) = split_tag(url);
    let from_url = address
        .split_once('/')
        .and_then(|(host, path)| super::repository(host, &path.to_ascii_lowercase()));
    let from_names = || {
        let path = format!("{}/{name}", namespace?).to_ascii_lowercase();
        super::repository(REGISTRY, &path)
    };
    Some(Hint {
        repository: from_url.or_else(from_names)?,
        // A version without a tag moves none.
        tag: Some(tag(metadata_tag.as_deref()).or_else(|| tag(url_tag))?),
        any_host: false,
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect()
}
