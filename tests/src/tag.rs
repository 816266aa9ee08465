//! A registry with one tag, which moves on demand.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

#[derive(Debug)]
pub struct Tag {
    address: SocketAddr,
    /// The number of the image that it points at.
    at: Arc<AtomicU64>,
}

impl Tag {
    /// Answers as long as this process lives. The tag points at image 1.
    ///
    /// # Panics
    /// If loopback has no free port.
    #[must_use]
    pub fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let at = Arc::new(AtomicU64::new(1));
        let served = Arc::clone(&at);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let request = lines.next().unwrap_or_default();
                while lines.next().is_some_and(|line| !line.is_empty()) {}
                let answer = answer(&request, served.load(Ordering::SeqCst));
                // Whoever asked may have been killed.
                let _ = (&stream).write_all(answer.as_bytes());
            }
        });
        Self { address, at }
    }

    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/acme/followed", self.address)
    }

    #[must_use]
    pub fn reference(&self) -> String {
        format!("{}:latest", self.repository())
    }

    /// The image that it points at after so many moves and one, by its digest.
    #[must_use]
    pub fn image(&self, number: u64) -> String {
        format!("{}@{}", self.repository(), digest(&manifest(number)))
    }

    /// Gives the digest it moved to.
    pub fn moves(&self) -> String {
        digest(&manifest(self.at.fetch_add(1, Ordering::SeqCst) + 1))
    }
}

/// What the registry says to a request whose first line this is, while the tag points at image `at`.
fn answer(request: &str, at: u64) -> String {
    let mut words = request.split_whitespace();
    let method = words.next().unwrap_or_default();
    let path = words.next().unwrap_or_default();
    let (kind, body) = match path.rsplit_once("/blobs/") {
        // The tag may have moved since the manifest was read.
        Some((_, wanted)) => {
            let configs = (1..=at).map(config);
            let found = configs.into_iter().find(|text| digest(text) == wanted);
            (CONFIG, found.unwrap_or_default())
        }
        None => (MANIFEST, manifest(at)),
    };
    let shown = if method == "HEAD" { "" } else { &body };
    format!(
        "HTTP/1.1 200 OK\r\nDocker-Content-Digest: {}\r\nContent-Type: {kind}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{shown}",
        digest(&body),
        body.len()
    )
}

/// The manifest of an image without layers, one for each number.
fn manifest(number: u64) -> String {
    let config = config(number);
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest(&config), "size": config.len()},
        "layers": [],
    })
    .to_string()
}

fn config(number: u64) -> String {
    let labels = serde_json::json!({"org.opencontainers.image.revision": number.to_string()});
    let rootfs = serde_json::json!({"type": "layers", "diff_ids": []});
    serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Labels": labels}, "rootfs": rootfs,
    })
    .to_string()
}

fn digest(text: &str) -> String {
    let bytes = Sha256::digest(text);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
