//! Pushes and rollbacks: the next attempt runs the new digest, running ones keep theirs.

use muster_agent::runtime::fake::Behaviour;
use muster_proto::v1 as pb;
use muster_tests::cluster::{Cluster, Host, digest_text, reference, spec, until};
use muster_tests::sample;
use tonic_types::StatusExt;

async fn post(cluster: &Cluster) -> u16 {
    let client = reqwest::Client::new();
    let body = serde_json::json!({ "image": reference() });
    let sent = client
        .post(format!("{}/webhook/generic", cluster.http))
        .json(&body);
    sent.send().await.unwrap().status().as_u16()
}

async fn channel_at(cluster: &Cluster, byte: u8) -> pb::Channel {
    until("the channel's digest", || async {
        let request = pb::GetChannelRequest {
            name: "analytics".into(),
            ..Default::default()
        };
        let channel = cluster.channels().get(request).await.unwrap().into_inner();
        let current = channel.current.as_ref()?;
        (current.digest == digest_text(byte)).then_some(channel)
    })
    .await
}

#[tokio::test]
async fn a_push_reaches_the_next_attempt_and_no_running_one() {
    let cluster = Cluster::start().await;
    let mut host = Host::new("etl-1", 1);
    host.engine.script("work", Behaviour::forever());
    host.start(&cluster).await;
    cluster.set_channel().await;
    let job = cluster.submit(spec("analytics", "work"), 2).await;
    cluster.running(&job.id, 1).await;

    cluster.push("latest", 2);
    assert!((200..300).contains(&post(&cluster).await));
    let channel = channel_at(&cluster, 2).await;
    assert_eq!(channel.current.unwrap().cause, "webhook");
    assert_eq!(cluster.tasks(&job.id).await[0].digest, digest_text(1));

    host.exit(&job.id, 0, 1, 0).await;
    let name = host.container(&job.id, 1, 1).await;
    let asked = host.engine.asked(&name).unwrap();
    assert_eq!(
        asked.image,
        digest_text(2),
        "what the engine was asked to run"
    );
    host.exit(&job.id, 1, 1, 0).await;
    cluster.ended(&job.id).await;
    let digests: Vec<String> = cluster
        .tasks(&job.id)
        .await
        .into_iter()
        .map(|task| task.digest)
        .collect();
    assert_eq!(digests, [digest_text(1), digest_text(2)]);
    host.stop().await;
}

#[tokio::test]
async fn a_rollback_is_one_step_and_stays_until_the_tag_moves() {
    let cluster = Cluster::start().await;
    cluster.set_channel().await;
    cluster.push("latest", 2);
    post(&cluster).await;
    channel_at(&cluster, 2).await;
    let request = pb::RollbackRequest {
        name: "analytics".into(),
        reason: "bad numbers".into(),
        ..Default::default()
    };
    cluster.channels().rollback(request).await.unwrap();
    let channel = channel_at(&cluster, 1).await;
    assert_eq!(channel.current.unwrap().reason, "bad numbers");

    // The tag still means what was rolled back.
    let refresh = pb::RefreshChannelRequest {
        name: "analytics".into(),
        ..Default::default()
    };
    cluster.channels().refresh(refresh.clone()).await.unwrap();
    channel_at(&cluster, 1).await;
    cluster.push("latest", 3);
    cluster.channels().refresh(refresh).await.unwrap();
    channel_at(&cluster, 3).await;

    let request = pb::HistoryRequest {
        name: "analytics".into(),
        ..Default::default()
    };
    let history = cluster
        .channels()
        .history(request)
        .await
        .unwrap()
        .into_inner();
    let digests: Vec<String> = history
        .releases
        .into_iter()
        .map(|release| release.digest)
        .collect();
    assert_eq!(digests, [3, 1, 2, 1].map(digest_text));
    let list = cluster
        .channels()
        .list(pb::ListChannelsRequest::default())
        .await;
    assert_eq!(list.unwrap().into_inner().channels.len(), 1);
}

#[tokio::test]
async fn a_channel_that_the_registry_does_not_know_is_refused() {
    let cluster = Cluster::start().await;
    let request = pb::SetChannelRequest {
        name: "analytics".into(),
        repository: sample::repository().to_string(),
        tag: "missing".into(),
        ..Default::default()
    };
    let status = cluster.channels().set(request).await.unwrap_err();
    assert!(status.message().contains("missing"), "{status}");
}

#[tokio::test]
async fn a_new_digest_is_fetched_before_a_task_asks_for_it() {
    let cluster = Cluster::start().await;
    let mut host = Host::new("etl-1", 1);
    host.start(&cluster).await;
    cluster.set_channel().await;
    until("a prefetch", || async {
        (host.engine.pulls() == 1).then_some(())
    })
    .await;
    host.stop().await;
}

#[tokio::test]
async fn how_a_tag_is_looked_at_stays_until_it_is_set_anew() {
    let cluster = Cluster::start().await;
    let set = async |seconds: Option<i64>, credentials: Option<&str>| {
        let request = pb::SetChannelRequest {
            name: "analytics".into(),
            repository: "registry.example/analytics".into(),
            poll_interval: seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
            credentials: credentials.map(ToOwned::to_owned),
            ..Default::default()
        };
        let answer = cluster.channels().set(request).await;
        let channel = answer.map(tonic::Response::into_inner)?;
        let seconds = channel.poll_interval.map(|span| span.seconds);
        Ok::<_, tonic::Status>((seconds, channel.credentials))
    };
    let both = || (Some(30), "acme".to_owned());
    assert_eq!(set(Some(30), Some("acme")).await.unwrap(), both());
    let shown = || cluster.registry.shown().into_iter().flatten().count();
    let before = shown();
    assert_eq!(set(None, None).await.unwrap(), both());
    assert!(shown() > before, "the tag was looked at with them");
    for (seconds, credentials, field) in [
        (Some(9), None, "poll_interval"),
        (Some(-1), None, "poll_interval"),
        (Some(7 * 86_400 + 1), None, "poll_interval"),
        (None, Some("no/path"), "credentials"),
    ] {
        let status = set(seconds, credentials).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
        let wrong = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(wrong[0].field, field);
    }
    assert_eq!(set(None, None).await.unwrap(), both(), "as it was");
    assert_eq!(set(Some(0), Some("")).await.unwrap(), (None, String::new()));
}
