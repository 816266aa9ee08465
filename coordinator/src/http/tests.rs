use std::sync::Arc;
use std::sync::Mutex;

use axum::body::Body;
use futures_util::future::BoxFuture;
use muster_core::channel::{Cause, ChannelId};
use muster_core::ids::{ChannelName, TeamName};
use muster_core::image::{Digest, Tag};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::contract::{self, Service};
use crate::poll::{self, ChannelSink, FollowedChannel, Found};
use crate::registry::fake::FakeRegistry;
use crate::registry::{self, OciRegistry, Registry};

use super::*;

#[derive(Default)]
struct Sink {
    channels: Mutex<Vec<FollowedChannel>>,
    told: Mutex<Vec<(FollowedChannel, Digest, Cause)>>,
}

impl ChannelSink for Sink {
    fn channels(&self) -> BoxFuture<'_, Vec<FollowedChannel>> {
        let channels = self.channels.lock().unwrap().clone();
        Box::pin(async move { channels })
    }

    fn resolved(&self, channel: FollowedChannel, found: Found, cause: Cause) -> BoxFuture<'_, ()> {
        self.told
            .lock()
            .unwrap()
            .push((channel, found.digest, cause));
        Box::pin(async {})
    }
}

struct Rig {
    router: Router,
    sink: Arc<Sink>,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Rig {
    fn new(secrets: &str, loopback: bool) -> Self {
        Self::with(secrets, loopback, Arc::new(FakeRegistry::default()))
    }

    fn with(secrets: &str, loopback: bool, registry: Arc<dyn Registry>) -> Self {
        let sink = Arc::new(Sink::default());
        let (metrics, stop) = (Metrics::new(), CancellationToken::new());
        let (follower, _task) = poll::start(
            poll::Config::default(),
            registry,
            sink.clone(),
            metrics.clone(),
            stop.clone(),
        );
        let config = webhook::Config {
            secrets: webhook::Secrets::parse(secrets).unwrap(),
            loopback,
        };
        Self {
            router: router(config, follower, metrics.clone()),
            sink,
            metrics,
            stop,
        }
    }

    async fn send(&self, request: http::Request<Body>) -> (StatusCode, String) {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await;
        (status, String::from_utf8(body.unwrap().to_vec()).unwrap())
    }

    async fn post(&self, path: &str, body: impl Into<Body>) -> (StatusCode, Value) {
        let request = http::Request::post(path).body(body.into()).unwrap();
        let (status, text) = self.send(request).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn told(&self, holds: impl Fn(&(FollowedChannel, Digest, Cause)) -> bool) {
        let poll = async {
            while !self.sink.told.lock().unwrap().iter().any(&holds) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let deadline = Duration::from_secs(60);
        tokio::time::timeout(deadline, poll).await.expect("in time");
    }
}

const GOOD: &str = r#"{"image": "reg.example/etl:latest", "unknown": {"field": []}}"#;

fn channel(name: &str, repository: &str) -> FollowedChannel {
    FollowedChannel {
        id: ChannelId {
            team: TeamName::parse("default").unwrap(),
            name: ChannelName::parse(name).unwrap(),
        },
        repository: repository.parse().unwrap(),
        tag: Tag::parse("latest").unwrap(),
        current: None,
        following: Default::default(),
    }
}

#[tokio::test]
async fn a_good_delivery_is_answered_at_once_and_makes_a_look() {
    let fake = Arc::new(FakeRegistry::default());
    let rig = Rig::with("{}", true, fake.clone());
    let etl = channel("etl", "reg.example/etl");
    let digest = Digest::from_bytes([7; 32]);
    fake.push(&etl.repository, &etl.tag, digest);
    rig.sink.channels.lock().unwrap().push(etl.clone());

    let (status, body) = rig.post("/webhook/generic", GOOD).await;

    assert_eq!((status, body), (StatusCode::ACCEPTED, json!({"hints": 1})));
    rig.told(|told| *told == (etl.clone(), digest, Cause::Webhook))
        .await;
    let counted = "muster_webhooks_total{adapter=\"generic\",result=\"accepted\"} 1";
    assert!(rig.metrics.text().contains(counted));
}

#[tokio::test]
async fn odd_deliveries_get_a_short_answer_with_the_reason() {
    let rig = Rig::new("harbor: {secrets: [correct-horse-battery]}", true);
    let large = vec![b' '; (1 << 20) + 1];
    let chunks = futures_util::stream::iter(
        std::iter::repeat_n(vec![b' '; 1 << 16], 17).map(Ok::<_, std::io::Error>),
    );
    let broken = futures_util::stream::iter([Err::<Vec<u8>, _>(std::io::Error::other("gone"))]);
    for (path, body, status, error) in [
        (
            "/webhook/quay",
            Body::from(GOOD),
            404,
            "no adapter of that name",
        ),
        (
            "/webhook/generic",
            Body::from("{"),
            400,
            "the body is not the JSON",
        ),
        (
            "/webhook/generic",
            Body::from("{}"),
            400,
            "the body is not the JSON",
        ),
        (
            "/webhook/generic",
            Body::from(r#"{"image": "A B"}"#),
            400,
            "image is missing or not",
        ),
        (
            "/webhook/generic",
            Body::from(large),
            413,
            "the body is larger than 1 MiB",
        ),
        (
            "/webhook/generic",
            Body::from_stream(chunks),
            413,
            "the body is larger than 1 MiB",
        ),
        (
            "/webhook/generic",
            Body::from_stream(broken),
            400,
            "the body did not arrive",
        ),
        (
            "/webhook/harbor",
            Body::from("{}"),
            401,
            "the signature or token is missing or wrong",
        ),
    ] {
        let (got, answer) = rig.post(path, body).await;
        let shown = answer["error"].as_str().unwrap_or_default();
        assert_eq!(got.as_u16(), status, "{path} {shown}");
        assert!(shown.starts_with(error), "{shown}");
    }
    let request = http::Request::get("/webhook/generic");
    let (status, _) = rig.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn beyond_loopback_an_adapter_needs_a_secret() {
    let rig = Rig::new("dockerhub: {secrets: [correct-horse-battery]}", false);

    let (status, body) = rig.post("/webhook/generic", GOOD).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(body["error"], "no secret is configured for this adapter");

    let hub = r#"{"push_data": {"tag": "latest"}, "repository": {"repo_name": "acme/etl"}}"#;
    let (status, _) = rig.post("/webhook/dockerhub", hub).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    let path = "/webhook/dockerhub/correct-horse-battery";
    let (status, _) = rig.post(path, hub).await;
    assert_eq!(status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn the_sixty_first_delivery_of_a_minute_is_too_much() {
    let rig = Rig::new("{}", true);
    for _ in 0..60 {
        assert_eq!(
            rig.post("/webhook/generic", GOOD).await.0,
            StatusCode::ACCEPTED
        );
    }
    let (status, _) = rig.post("/webhook/generic", GOOD).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    // What is about nothing is not counted: a push makes one delivery for each layer.
    let nothing = r#"{"events": []}"#;
    for _ in 0..70 {
        let (status, _) = rig.post("/webhook/distribution", nothing).await;
        assert_eq!(status, StatusCode::ACCEPTED);
    }
}

#[tokio::test]
async fn the_coordinator_shows_its_figures_and_that_it_lives() {
    let rig = Rig::new("{}", true);
    let get = |path| http::Request::get(path).body(Body::empty()).unwrap();

    assert_eq!(
        rig.send(get("/healthz")).await,
        (StatusCode::OK, "ok\n".to_owned())
    );
    let answer = rig.router.clone().oneshot(get("/metrics")).await.unwrap();
    assert_eq!(answer.headers()["content-type"], metrics::CONTENT_TYPE);
    let (_, text) = rig.send(get("/metrics")).await;
    assert!(text.contains("muster_build_info{") && text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_body_that_hangs_does_not_outlive_the_end() {
    let rig = Rig::new("{}", true);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(serve(listener, rig.router.clone(), rig.stop.clone()));
    let mut slow = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = b"POST /webhook/generic HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
    tokio::io::AsyncWriteExt::write_all(&mut slow, head)
        .await
        .unwrap();

    rig.stop.cancel();

    let ended = tokio::time::timeout(DRAIN_DEADLINE * 3, serving).await;
    ended.expect("in time").unwrap().unwrap();
}

#[tokio::test]
async fn a_push_to_a_real_registry_moves_the_channel() {
    if !contract::wanted("a_push_to_a_real_registry_moves_the_channel") {
        return;
    }
    let no_docker_config = tempfile::tempdir().unwrap();
    let client = OciRegistry::new(registry::Config {
        docker_config: Some(no_docker_config.path().to_owned()),
        ..registry::Config::default()
    });
    let secrets = "distribution: {secrets: [correct-horse-battery]}";
    let rig = Rig::with(secrets, false, Arc::new(client));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hook = format!(
        "http://{}/webhook/distribution",
        listener.local_addr().unwrap()
    );
    let serving = tokio::spawn(serve(listener, rig.router.clone(), rig.stop.clone()));
    let registry = Service::registry(&format!(
        "notifications:\n  endpoints:\n    - name: muster\n      url: {hook}\n      \
         headers: {{Authorization: [Bearer correct-horse-battery]}}\n      \
         timeout: 5s\n      threshold: 3\n      backoff: 1s\n"
    ));
    // The channel says localhost, the push 127.0.0.1: the registry reports the latter.
    let port = registry.address.rsplit(':').next().unwrap();
    let etl = channel("etl", &format!("localhost:{port}/data/etl"));
    rig.sink.channels.lock().unwrap().push(etl.clone());

    for label in ["1", "2"] {
        let base = format!("http://{}", registry.address);
        let digest = contract::push_image(&base, "data/etl", "latest", label).await;
        rig.told(|told| *told == (etl.clone(), digest, Cause::Webhook))
            .await;
    }

    rig.stop.cancel();
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_in_the_documentation_works() {
    if !contract::wanted("the_script_in_the_documentation_works") {
        return;
    }
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/webhooks.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once("```sh\n#!/bin/sh\n").unwrap();
    let script = rest.split_once("\n```").unwrap().0.to_owned();
    let rig = Rig::new("generic: {secrets: [correct-horse-battery]}", false);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hook = format!("http://{}/webhook/generic", listener.local_addr().unwrap());
    let serving = tokio::spawn(serve(listener, rig.router.clone(), rig.stop.clone()));

    let run = move |secret: &str| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script, "notify-muster", "reg.example/etl:latest"]);
        command
            .env("SECRET", secret)
            .env("MUSTER_WEBHOOK_URL", &hook);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let answers = tokio::task::spawn_blocking(move || {
        [run("correct-horse-battery"), run("some-other-secret")]
    });

    assert_eq!(answers.await.unwrap(), ["{\"hints\":1}", ""]);
    rig.stop.cancel();
    serving.await.unwrap().unwrap();
}
