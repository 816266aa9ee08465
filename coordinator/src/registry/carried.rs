//! What an image carries for its channel: a file in its layers, which its label `muster.manifests` names. It is read
//! from the registry, without an agent or an engine: the layers are looked through from the newest on, and none of
//! them is ever written to a disk.

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use muster_core::rollout::Facts;
use muster_core::rollout::policy::Policy;
use oci_client::errors::OciDistributionError;
use oci_client::manifest::OciDescriptor;
use oci_client::{Client, Reference};
use tokio::sync::mpsc;

use crate::manifest::{self, Problem, Source};

mod layer;

use layer::{ChunkReader, Scanned, scan};

/// Bytes that are fetched at most to find the file, over all layers.
const FETCHED_MAX: u64 = 256 << 20;
/// Pieces of a layer between its download and its reader.
const CHUNKS: usize = 4;
/// Problems of a file that are told; and the length of the text about them, in bytes.
const PROBLEMS_MAX: usize = 3;
const TEXT_MAX: usize = 1024;

/// What an image carries, or why it can't be taken with that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Carried {
    Policy(Option<Box<Policy>>),
    Bad(String),
}

impl Carried {
    pub(super) fn add_to(self, facts: &mut Facts) {
        match self {
            Self::Policy(policy) => facts.policy = policy,
            Self::Bad(why) => facts.objection = Some(why),
        }
    }
}

/// Looks for the file and reads it. `layers`: oldest first.
///
/// # Errors
/// If the registry can't be asked; what is wrong with the image is no error.
pub(super) async fn read(
    client: &Client,
    reference: &Reference,
    layers: &[OciDescriptor],
    file: &str,
) -> Result<Carried, OciDistributionError> {
    let bad = |what: &str| Ok(Carried::Bad(format!("{file} in the image {what}")));
    let Some(path) = layer::path(file) else {
        return Ok(Carried::Bad(format!(
            "the label muster.manifests is {file:?}; it has to name a file, such as /muster.yaml"
        )));
    };
    let mut fetched = 0_u64;
    for layer in layers.iter().rev() {
        let size = u64::try_from(layer.size).unwrap_or(u64::MAX);
        fetched = fetched.saturating_add(size);
        if fetched > FETCHED_MAX {
            return bad(&format!(
                "is not in its newest {} MiB of layers; copy it in one of the last steps of the build",
                FETCHED_MAX >> 20
            ));
        }
        match look(client, reference, layer, path.clone()).await? {
            Scanned::Found(text) => return Ok(parse(file, &text)),
            Scanned::Bad(what) => return bad(&what),
            Scanned::Gone => return bad("is not there: a later layer removed it"),
            Scanned::Absent => {}
        }
    }
    bad("is not there, though the label muster.manifests names it")
}

/// Reads one layer to its end, so that its digest is checked, and has it looked through meanwhile.
async fn look(
    client: &Client,
    reference: &Reference,
    layer: &OciDescriptor,
    path: Vec<Vec<u8>>,
) -> Result<Scanned, OciDistributionError> {
    let most = u64::try_from(layer.size).unwrap_or(0);
    let mut stream = client.pull_blob_stream(reference, layer).await?;
    let (sender, chunks) = mpsc::channel::<Bytes>(CHUNKS);
    let scanning = tokio::task::spawn_blocking(move || scan(ChunkReader::new(chunks), &path));
    let mut got = 0;
    while let Some(chunk) = stream.try_next().await? {
        got += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        if got > most {
            let what = format!("the layer {} is longer than its {most} bytes", layer.digest);
            return Err(OciDistributionError::GenericError(Some(what)));
        }
        // Who looks it through may have seen enough.
        let _ = sender.send(chunk).await;
    }
    drop(sender);
    let scanned = scanning.await;
    scanned.map_err(|error| OciDistributionError::GenericError(Some(error.to_string())))
}

fn parse(file: &str, text: &str) -> Carried {
    match manifest::carried(Source { name: file, text }) {
        Ok(policy) => Carried::Policy(policy.map(Box::new)),
        Err(problems) => {
            let words = |problem: &Problem| format!("{}: {}", problem.location(), problem.what);
            let told: Vec<String> = problems.iter().take(PROBLEMS_MAX).map(words).collect();
            let mut text = told.join("; ");
            text.truncate(text.floor_char_boundary(TEXT_MAX));
            if problems.len() > PROBLEMS_MAX {
                text.push_str(&format!("; and {} more", problems.len() - PROBLEMS_MAX));
            }
            Carried::Bad(format!("what the image carries is wrong: {text}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use oci_client::client::{ClientConfig, ClientProtocol};

    use super::*;

    /// An archive of no files.
    const EMPTY: [u8; 1024] = [0; 1024];
    const EMPTY_DIGEST: &str =
        "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

    /// A registry that has one blob under all names, and how often it was fetched.
    async fn registry() -> (String, Arc<AtomicUsize>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let name = listener.local_addr().unwrap().to_string();
        let fetched = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&fetched);
        let blob = move || async move {
            count.fetch_add(1, Ordering::Relaxed);
            EMPTY
        };
        let routes = axum::Router::new()
            .route("/v2/etl/blobs/{digest}", axum::routing::get(blob))
            .fallback(|| async { "" });
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (name, fetched)
    }

    #[tokio::test]
    async fn no_layer_is_fetched_that_claims_a_size_out_of_bounds() {
        let (name, fetched) = registry().await;
        let client = Client::new(ClientConfig {
            protocol: ClientProtocol::Http,
            ..ClientConfig::default()
        });
        let reference: Reference = format!("{name}/etl:1").parse().unwrap();
        let layer = |size| OciDescriptor {
            digest: EMPTY_DIGEST.to_owned(),
            size,
            ..OciDescriptor::default()
        };
        let most = i64::try_from(FETCHED_MAX).unwrap();
        for (times, claimed) in [-1, i64::MIN, i64::MAX, most].into_iter().enumerate() {
            let layers = [layer(1024), layer(claimed), layer(1024)];
            let carried = read(&client, &reference, &layers, "/muster.yaml").await;
            let Ok(Carried::Bad(why)) = carried else {
                panic!("{claimed}: {carried:?}");
            };
            assert!(why.contains("newest 256 MiB"), "{claimed}: {why}");
            let fetched = fetched.load(Ordering::Relaxed);
            assert_eq!(fetched, times + 1, "{claimed}: only the newest layer is");
        }
    }

    #[test]
    fn only_a_policy_can_be_carried_and_what_is_wrong_has_its_place() {
        let policy = parse(
            "/muster.yaml",
            "kind: Image\npolicy:\n  bake: {lasts: 5m}\n",
        );
        let Carried::Policy(Some(policy)) = policy else {
            panic!("{policy:?}");
        };
        assert!(policy.bake.is_some());
        assert_eq!(parse("/m.yaml", ""), Carried::Policy(None));
        assert_eq!(parse("/m.yaml", "kind: Image\n"), Carried::Policy(None));
        for (text, expected) in [
            (
                "kind: Image\npolicy:\n  bake: {lasts: 30}\n",
                "/m.yaml:3:17: policy.bake.lasts \"30\" is not a duration such as 90s, 15m, 2h or 7d",
            ),
            (
                "kind: Channel\nname: other\n",
                "/m.yaml:1:7: an image can only carry kind: Image, not \"Channel\"",
            ),
            (
                "kind: Image\nname: other\n",
                "/m.yaml:2:1: \"name\" is no field; there are kind, policy",
            ),
            (
                "kind: Image\n---\nkind: Image\n",
                "/m.yaml:3:1: there is another document before it",
            ),
        ] {
            let expected = format!("what the image carries is wrong: {expected}");
            assert_eq!(parse("/m.yaml", text), Carried::Bad(expected), "{text}");
        }
        let many = "kind: Image\na: 1\nb: 1\nc: 1\nd: 1\n";
        let Carried::Bad(why) = parse("/m.yaml", many) else {
            panic!("it has four wrong fields");
        };
        assert!(why.ends_with("; and 1 more"), "{why}");
    }
}
