//! Real services for tests that hold our clients against them: Debian's registry and push gateway,
//! each on a free port with a directory of its own, ended when the test ends.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use muster_core::image::Digest;
use serde_json::json;

const START_DEADLINE: Duration = Duration::from_secs(20);

/// False, with a word to whoever reads the output, unless slow tests are switched on.
pub(crate) fn wanted(test: &str) -> bool {
    let wanted = std::env::var("MUSTER_E2E").is_ok_and(|value| value == "1");
    if !wanted {
        eprintln!("SKIPPED {test}: it starts a real service; set MUSTER_E2E=1");
    }
    wanted
}

/// A process that serves on `address`, `127.0.0.1:PORT`.
pub(crate) struct Service {
    child: Child,
    pub(crate) address: String,
    directory: tempfile::TempDir,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    /// `extra` is added to the registry's configuration, with `DIR` replaced by its directory.
    pub(crate) fn registry(extra: &str) -> Self {
        Self::start(|address, directory| {
            let root = directory.to_str().unwrap();
            let config = directory.join("config.yml");
            let mut file = std::fs::File::create(&config).unwrap();
            write!(
                file,
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}}}}}\n\
                 http: {{addr: '{address}'}}\n{}",
                extra.replace("DIR", root)
            )
            .unwrap();
            let mut command = Command::new("docker-registry");
            command.arg("serve").arg(config);
            command
        })
    }

    pub(crate) fn pushgateway() -> Self {
        Self::start(|address, _| {
            let mut command = Command::new("prometheus-pushgateway");
            command.arg(format!("--web.listen-address={address}"));
            command
        })
    }

    pub(crate) fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    fn start(command: impl Fn(SocketAddr, &std::path::Path) -> Command) -> Self {
        // Somebody else can take the port between our asking and the service's binding.
        for _ in 0..5 {
            let directory = tempfile::tempdir().unwrap();
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = free.local_addr().unwrap();
            drop(free);
            let mut command = command(address, directory.path());
            let child = command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the service's Debian package is installed");
            let mut service = Self {
                child,
                address: address.to_string(),
                directory,
            };
            if service.answers(address) {
                return service;
            }
        }
        panic!("the service did not start");
    }

    fn answers(&mut self, address: SocketAddr) -> bool {
        let began = Instant::now();
        while began.elapsed() < START_DEADLINE {
            if TcpStream::connect(address).is_ok() {
                return true;
            }
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

/// Puts an image whose only content is `label` into a registry under `tag`.
pub(crate) async fn push_image(base: &str, path: &str, tag: &str, label: &str) -> Digest {
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Labels": {"x": label}},
        "rootfs": {"type": "layers", "diff_ids": []}})
    .to_string();
    let http = reqwest::Client::new();
    let uploads = format!("{base}/v2/{path}/blobs/uploads/");
    let answer = http.post(uploads).send().await.unwrap();
    let location = answer.headers()["location"].to_str().unwrap();
    let mut location: reqwest::Url = location.parse().unwrap();
    // The registry does not repeat the password in it.
    let base_url: reqwest::Url = base.parse().unwrap();
    location.set_username(base_url.username()).unwrap();
    location.set_password(base_url.password()).unwrap();
    let upload = http
        .put(location)
        .query(&[("digest", digest(&config).to_string())])
        .body(config.clone());
    upload.send().await.unwrap().error_for_status().unwrap();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest(&config).to_string(),
            "size": config.len(),
        },
        "layers": [],
    });
    push_manifest(base, path, tag, &manifest).await
}

pub(crate) async fn push_manifest(
    base: &str,
    path: &str,
    tag: &str,
    manifest: &serde_json::Value,
) -> Digest {
    let text = manifest.to_string();
    let request = reqwest::Client::new()
        .put(format!("{base}/v2/{path}/manifests/{tag}"))
        .header("content-type", manifest["mediaType"].as_str().unwrap())
        .body(text.clone());
    request.send().await.unwrap().error_for_status().unwrap();
    digest(&text)
}

fn digest(text: &str) -> Digest {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    Digest::from_bytes(hash.as_ref().try_into().unwrap())
}
