//! An image in a registry: one manifest, or an index of one for each platform.

use std::collections::BTreeSet;

use oci_client::errors::OciDistributionError;
use oci_client::manifest::{ImageIndexEntry, OciDescriptor, OciImageManifest, OciManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

/// What is looked at if there is a choice.
const PREFERRED: &str = "linux/amd64";
/// Largest configuration that is read, in bytes.
const CONFIG_MAX: i64 = 4 << 20;

pub(super) struct Found {
    /// Of an index, as `linux/amd64`; empty: it is one image.
    pub(super) platforms: BTreeSet<String>,
    /// As the registry has it.
    pub(super) config: String,
    /// Oldest first.
    pub(super) layers: Vec<OciDescriptor>,
}

pub(super) async fn find(
    client: &Client,
    reference: &Reference,
    auth: &RegistryAuth,
) -> Result<Found, OciDistributionError> {
    let (manifest, _) = client.pull_manifest(reference, auth).await?;
    let (image, platforms) = match manifest {
        OciManifest::Image(image) => (image, BTreeSet::new()),
        OciManifest::ImageIndex(index) => {
            let platforms = index.manifests.iter().filter_map(platform).collect();
            let chosen = choose(&index.manifests).ok_or_else(|| missing("an image"))?;
            let one = reference.clone_with_digest(chosen.digest.clone());
            (one_image(client, &one, auth).await?, platforms)
        }
    };
    let config = read(client, reference, &image.config).await?;
    Ok(Found {
        platforms,
        config,
        layers: image.layers,
    })
}

async fn one_image(
    client: &Client,
    reference: &Reference,
    auth: &RegistryAuth,
) -> Result<OciImageManifest, OciDistributionError> {
    match client.pull_manifest(reference, auth).await?.0 {
        OciManifest::Image(image) => Ok(image),
        OciManifest::ImageIndex(_) => Err(missing("anything but an index")),
    }
}

async fn read(
    client: &Client,
    reference: &Reference,
    blob: &OciDescriptor,
) -> Result<String, OciDistributionError> {
    if blob.size > CONFIG_MAX {
        let what = format!("a configuration of {} bytes is too large", blob.size);
        return Err(OciDistributionError::GenericError(Some(what)));
    }
    let mut bytes = Vec::new();
    client.pull_blob(reference, blob, &mut bytes).await?;
    // Whoever reads it takes what is no JSON for no labels.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn choose(entries: &[ImageIndexEntry]) -> Option<&ImageIndexEntry> {
    let images = || entries.iter().filter(|entry| platform(entry).is_some());
    let preferred = |entry: &&ImageIndexEntry| platform(entry).is_some_and(|is| is == PREFERRED);
    images().find(preferred).or_else(|| images().next())
}

/// `None`: it is about an image, such as an attestation.
fn platform(entry: &ImageIndexEntry) -> Option<String> {
    let platform = entry.platform.as_ref()?;
    let text = format!("{}/{}", platform.os, platform.architecture);
    (text != "unknown/unknown").then_some(text)
}

fn missing(what: &str) -> OciDistributionError {
    OciDistributionError::ImageManifestNotFoundError(format!("the index does not have {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(platforms: &[(&str, &str)]) -> Vec<ImageIndexEntry> {
        let entry = |(os, architecture): &(&str, &str)| {
            let json = serde_json::json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": format!("sha256:{os}{architecture}"),
                "size": 1,
                "platform": {"os": os, "architecture": architecture},
            });
            serde_json::from_value(json).unwrap()
        };
        platforms.iter().map(entry).collect()
    }

    #[test]
    fn attestations_are_no_images_and_the_usual_platform_is_preferred() {
        let all = entries(&[
            ("unknown", "unknown"),
            ("linux", "arm64"),
            ("linux", "amd64"),
        ]);
        let platforms: Vec<_> = all.iter().filter_map(platform).collect();
        assert_eq!(platforms, ["linux/arm64", "linux/amd64"]);
        assert_eq!(choose(&all).unwrap().digest, "sha256:linuxamd64");
        assert_eq!(choose(&all[..2]).unwrap().digest, "sha256:linuxarm64");
        assert!(choose(&all[..1]).is_none());
    }
}
