//! Manifests: applied, applied again, planned, reversed; and what is wrong changes nothing.

use muster_core::ids::CredentialsName;
use muster_proto::v1 as pb;
use muster_tests::cluster::{Cluster, digest_text, until};
use pb::ApplyAction;
use tonic_types::StatusExt;

const CHANNEL: &str = "kind: Channel
name: analytics
repository: registry.example/analytics
tag: latest
";

fn request(text: &str, dry_run: bool) -> pb::ApplyRequest {
    pb::ApplyRequest {
        files: vec![pb::ManifestFile {
            name: "analytics.yaml".into(),
            text: text.to_owned(),
        }],
        dry_run,
        by: "ann@laptop".into(),
        ..Default::default()
    }
}

async fn apply(cluster: &Cluster, text: &str) -> Vec<pb::AppliedObject> {
    let answer = cluster.manifests().apply(request(text, false)).await;
    answer.unwrap().into_inner().objects
}

async fn plan(cluster: &Cluster, text: &str) -> Vec<pb::AppliedObject> {
    let answer = cluster.manifests().apply(request(text, true)).await;
    answer.unwrap().into_inner().objects
}

/// What is wrong, line by line.
async fn refused(cluster: &Cluster, text: &str) -> Vec<String> {
    let answer = cluster.manifests().apply(request(text, false)).await;
    let status = answer.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    let lines = violations
        .into_iter()
        .map(|wrong| format!("{}: {}", wrong.field, wrong.description));
    lines.collect()
}

fn lines(object: &pb::AppliedObject) -> Vec<String> {
    let none = || "(none)".to_owned();
    let changes = object.changes.iter().map(|change| {
        let (before, after) = (change.before.clone(), change.after.clone());
        format!(
            "{}: {} -> {}",
            change.field,
            before.unwrap_or_else(none),
            after.unwrap_or_else(none)
        )
    });
    changes.collect()
}

async fn channel(cluster: &Cluster) -> pb::Channel {
    let request = pb::GetChannelRequest {
        name: "analytics".into(),
        ..Default::default()
    };
    cluster.channels().get(request).await.unwrap().into_inner()
}

async fn is_at(cluster: &Cluster, byte: u8) {
    until("the channel's digest", || async {
        let current = channel(cluster).await.current?;
        (current.digest == digest_text(byte)).then_some(())
    })
    .await;
}

async fn policy(cluster: &Cluster) -> pb::RolloutPolicy {
    let request = pb::GetPolicyRequest {
        channel: "analytics".into(),
        ..Default::default()
    };
    let answer = cluster.rollouts().get_policy(request).await;
    answer.unwrap().into_inner()
}

#[tokio::test]
async fn applying_twice_changes_nothing() {
    let cluster = Cluster::start().await;
    let text = format!("{CHANNEL}policy: {{bake: {{lasts: 10m}}, canary: {{percent: 25%}}}}\n");
    let planned = plan(&cluster, &text).await;
    let missing = pb::GetChannelRequest {
        name: "analytics".into(),
        ..Default::default()
    };
    let status = cluster.channels().get(missing).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound, "a plan makes nothing");

    let applied = apply(&cluster, &text).await;
    assert_eq!(applied, planned);
    assert_eq!(applied[0].action(), ApplyAction::Created);
    is_at(&cluster, 1).await;
    let policy = policy(&cluster).await;
    assert_eq!(policy.bake.unwrap().lasts.unwrap().seconds, 600);
    let history = channel(&cluster).await;
    assert_eq!(history.current.unwrap().by, "ann@laptop");

    for _ in 0..2 {
        let again = apply(&cluster, &text).await;
        assert_eq!(again[0].action(), ApplyAction::Unchanged);
        assert_eq!(lines(&again[0]), Vec::<String>::new());
    }
    assert_eq!(channel(&cluster).await.current.unwrap().number, 1);
}

#[tokio::test]
async fn a_plan_shows_the_difference_and_does_nothing() {
    let cluster = Cluster::start().await;
    apply(
        &cluster,
        &format!("{CHANNEL}policy: {{bake: {{lasts: 1h}}}}\n"),
    )
    .await;
    cluster.push("stable", 2);
    let text = CHANNEL.replace("latest", "stable") + "policy: {newer: queue}\n";
    let planned = plan(&cluster, &text).await;
    assert_eq!(planned[0].action(), ApplyAction::Changed);
    let expected = [
        "tag: latest -> stable",
        "policy.bake.lasts: 1h -> (none)",
        "policy.newer: supersede -> queue",
    ];
    assert_eq!(lines(&planned[0]), expected);
    assert_eq!(planned[0].note, "a rollout to sha256:02020202 begins");
    assert_eq!(channel(&cluster).await.tag, "latest");

    let applied = apply(&cluster, &text).await;
    assert_eq!(applied, planned);
    is_at(&cluster, 2).await;
    assert_eq!(policy(&cluster).await.bake, None);
}

#[tokio::test]
async fn one_wrong_document_changes_nothing() {
    let cluster = Cluster::start().await;
    let text = format!(
        "{CHANNEL}---\nkind: Channel\nname: other\nrepository: r.example/x\npolcy: {{}}\ntag: a b\n"
    );
    let expected = [
        "analytics.yaml:9:1: \"polcy\" is no field; there are kind, name, team, repository, tag, poll_interval, credentials, policy, warm",
        "analytics.yaml:10:6: tag: \"a b\" is not a tag: up to 128 letters, digits, '_', '.' and '-'",
    ];
    assert_eq!(refused(&cluster, &text).await, expected);
    // What the registry does not know is found before anything changes, too.
    let text = format!(
        "{CHANNEL}---\nkind: Channel\nname: other\nrepository: registry.example/analytics\ntag: missing\n\
         ---\nkind: Rollout\nchannel: nowhere\nto: latest\n"
    );
    let expected = [
        "analytics.yaml:8:13: registry.example/analytics has no tag missing",
        "analytics.yaml:12:10: team default has no channel nowhere",
    ];
    assert_eq!(refused(&cluster, &text).await, expected);
    let mut channels = cluster.channels();
    let list = channels.list(pb::ListChannelsRequest::default()).await;
    assert_eq!(list.unwrap().into_inner().channels, Vec::new());
}

#[tokio::test]
async fn a_rollout_is_applied_once_and_reversed_by_its_manifest() {
    let cluster = Cluster::start().await;
    cluster.push("next", 2);
    let forward = format!(
        "kind: Rollout\nchannel: analytics\nfrom: {}\nto: next\nreason: monthly figures\n",
        digest_text(1)
    );
    // With its channel, which does not exist before.
    let both = format!("{forward}---\n{CHANNEL}");
    let applied = apply(&cluster, &both).await;
    let kinds: Vec<&str> = applied.iter().map(|object| object.kind.as_str()).collect();
    assert_eq!(kinds, ["Channel", "Rollout"]);
    assert_eq!(applied[1].action(), ApplyAction::Created);
    let moved = format!("current: {} -> {}", digest_text(1), digest_text(2));
    assert_eq!(lines(&applied[1]), [moved]);
    is_at(&cluster, 2).await;
    let current = channel(&cluster).await.current.unwrap();
    assert_eq!(
        (current.cause, current.reason),
        ("start".into(), "monthly figures".into())
    );
    for object in apply(&cluster, &both).await {
        assert_eq!(object.action(), ApplyAction::Unchanged, "{object:?}");
    }

    let elsewhere = format!(
        "kind: Rollout\nchannel: analytics\nfrom: 1\nto: {}\n",
        digest_text(3)
    );
    let expected = format!(
        "analytics.yaml:3:7: from: the channel is not there; it is at release 2, {}",
        digest_text(2)
    );
    assert_eq!(refused(&cluster, &elsewhere).await, [expected]);

    let back = format!(
        "kind: Rollout\nchannel: analytics\nfrom: {}\nto: {}\n",
        digest_text(2),
        digest_text(1)
    );
    let applied = apply(&cluster, &back).await;
    assert_eq!(applied[0].action(), ApplyAction::Changed);
    assert_eq!(applied[0].note, "back to release 1");
    is_at(&cluster, 1).await;
    assert_eq!(channel(&cluster).await.current.unwrap().cause, "rollback");
    let again = apply(&cluster, &back).await;
    assert_eq!(again[0].action(), ApplyAction::Unchanged);

    // What was rolled back does not come again because a manifest is still there.
    let still = apply(&cluster, &forward).await;
    assert_eq!(still[0].action(), ApplyAction::Unchanged);
    assert!(
        still[0].note.contains("was rolled back"),
        "{}",
        still[0].note
    );
    is_at(&cluster, 1).await;
}

#[tokio::test]
async fn a_rollout_under_way_is_taken_back_by_its_reverse() {
    let cluster = Cluster::start().await;
    cluster.push("next", 2);
    apply(
        &cluster,
        &format!("{CHANNEL}policy: {{canary: {{first: 5}}}}\n"),
    )
    .await;
    let forward = "kind: Rollout\nchannel: analytics\nto: next\n";
    apply(&cluster, forward).await;
    let again = apply(&cluster, forward).await;
    assert_eq!(again[0].action(), ApplyAction::Unchanged);
    assert_eq!(again[0].note, "the rollout is under way");

    let back = format!(
        "kind: Rollout\nchannel: analytics\nfrom: {}\nto: {}\nreason: too early\n",
        digest_text(2),
        digest_text(1)
    );
    let applied = apply(&cluster, &back).await;
    assert_eq!(applied[0].action(), ApplyAction::Changed);
    let request = pb::GetRolloutRequest {
        channel: "analytics".into(),
        ..Default::default()
    };
    let rollout = cluster.rollouts().get(request).await.unwrap().into_inner();
    let end = rollout.end.unwrap();
    assert_eq!(
        (end.how, end.reason),
        ("aborted".into(), "too early (by ann@laptop)".into())
    );
    is_at(&cluster, 1).await;
}

#[tokio::test]
async fn how_a_tag_is_looked_at_is_part_of_the_manifest() {
    let mut cluster = Cluster::start().await;
    apply(&cluster, CHANNEL).await;
    let text = format!("{CHANNEL}poll_interval: 90s\ncredentials: acme\n");
    let asked = cluster.registry.asked().len();
    let planned = plan(&cluster, &text).await;
    let expected = [
        "poll_interval: (none) -> 1m30s",
        "credentials: (none) -> acme",
    ];
    assert_eq!(lines(&planned[0]), expected);
    assert_eq!(apply(&cluster, &text).await, planned);
    let acme = CredentialsName::parse("acme").unwrap();
    let shown = cluster.registry.shown();
    assert!(
        shown[asked..].contains(&Some(acme)),
        "tried before they are taken: {shown:?}"
    );
    for _ in 0..2 {
        let again = apply(&cluster, &text).await;
        assert_eq!(again[0].action(), ApplyAction::Unchanged);
    }

    cluster.stop().await;
    cluster.start_again().await;
    let now = channel(&cluster).await;
    assert_eq!(now.poll_interval.unwrap().seconds, 90);
    assert_eq!(now.credentials, "acme");
    assert_eq!(now.current.unwrap().number, 1, "nothing moved");

    let back = apply(&cluster, CHANNEL).await;
    let expected = [
        "poll_interval: 1m30s -> (none)",
        "credentials: acme -> (none)",
    ];
    assert_eq!(lines(&back[0]), expected);
    let now = channel(&cluster).await;
    assert_eq!((now.poll_interval, now.credentials), (None, String::new()));
}

#[tokio::test]
async fn credentials_that_are_not_there_are_told_where_they_are_named() {
    let cluster = Cluster::start().await;
    let acme = CredentialsName::parse("acme").unwrap();
    for text in [CHANNEL.to_owned(), format!("{CHANNEL}poll_interval: 1h\n")] {
        cluster.registry.lack(&acme);
        let line = text.lines().count() + 1;
        let wrong = refused(&cluster, &format!("{text}credentials: acme\n")).await;
        let [wrong] = &wrong[..] else {
            panic!("{wrong:?}");
        };
        assert!(
            wrong.starts_with(&format!("analytics.yaml:{line}:14: ")) && wrong.contains("acme"),
            "{wrong}"
        );
        apply(&cluster, &text).await;
    }
}
