//! What is taken, what is refused, and what is the same again.

use muster_proto::v1 as pb;
use muster_tests::cluster::{Cluster, Host, reference, spec, submission};
use tonic::Code;
use tonic_types::StatusExt as _;

/// Submits something bad, and returns field and text of every complaint.
async fn complaints(cluster: &Cluster, request: pb::SubmitRequest) -> Vec<(String, String)> {
    let status = cluster.jobs().submit(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let details = status.get_error_details();
    let bad = details.bad_request().expect("the fields are named");
    let fields = bad.field_violations.iter();
    fields
        .map(|violation| (violation.field.clone(), violation.description.clone()))
        .collect()
}

#[tokio::test]
async fn a_bad_request_names_field_and_value_and_stores_nothing() {
    let cluster = Cluster::start().await;
    let bad = |change: fn(&mut pb::JobSpec)| {
        let mut spec = spec(&reference(), "load");
        change(&mut spec);
        submission(spec, 1, "")
    };
    let cases = [
        (
            bad(|spec| spec.image = "nowhere".into()),
            "jobs[0].spec.image",
            "nowhere",
        ),
        (
            bad(|spec| spec.image = "registry.example/none:1".into()),
            "jobs[0].spec.image",
            "none",
        ),
        (
            bad(|spec| spec.name = "Load Users".into()),
            "jobs[0].spec.name",
            "Load Users",
        ),
        (
            bad(|spec| spec.name = "x".repeat(64)),
            "jobs[0].spec.name",
            "64",
        ),
        (
            bad(|spec| spec.entrypoint = Some(pb::Argv::default())),
            "jobs[0].spec.entrypoint.args",
            "",
        ),
        (
            bad(|spec| spec.resources.as_mut().unwrap().memory_bytes = 5),
            "jobs[0].spec.resources.memory_bytes",
            "5",
        ),
        (
            bad(|spec| spec.priority = 5_000),
            "jobs[0].spec.priority",
            "5000",
        ),
        (
            submission(spec(&reference(), "load"), 10_000_001, ""),
            "jobs[0].array",
            "10000001",
        ),
        (
            submission(spec(&reference(), "load"), 1, &"k".repeat(201)),
            "jobs[0].idempotency_key",
            "kkk",
        ),
    ];
    for (request, field, value) in cases {
        let found = complaints(&cluster, request).await;
        let named = found
            .iter()
            .any(|(named, text)| named == field && text.contains(value));
        assert!(named, "{field} {value}: {found:?}");
    }

    let good = submission(spec(&reference(), "load"), 1, "a");
    let mut twice = good.clone();
    twice.jobs.push(good.jobs[0].clone());
    let found = complaints(&cluster, twice).await;
    assert_eq!(found[0].0, "jobs[1].idempotency_key");

    let answer = cluster.jobs().list(pb::ListJobsRequest::default()).await;
    assert_eq!(answer.unwrap().into_inner().jobs, [], "nothing is stored");
}

#[tokio::test]
async fn one_bad_job_keeps_the_whole_batch_out() {
    let cluster = Cluster::start().await;
    let mut request = submission(spec(&reference(), "load"), 1, "");
    request.jobs.push(pb::NewJob {
        spec: Some(spec("nowhere", "load")),
        ..Default::default()
    });
    let found = complaints(&cluster, request).await;
    assert_eq!(found[0].0, "jobs[1].spec.image");
    let answer = cluster.jobs().list(pb::ListJobsRequest::default()).await;
    assert_eq!(answer.unwrap().into_inner().jobs, []);
}

#[tokio::test]
async fn a_key_gives_the_same_job_while_it_lives_when_it_ended_and_after_a_restart() {
    let mut cluster = Cluster::start().await;
    let mut host = Host::new("etl-1", 1);
    let request = submission(spec(&reference(), "load"), 1, "nightly-2026-01-01");
    let submit = async |cluster: &Cluster| {
        let answer = cluster.jobs().submit(request.clone()).await.unwrap();
        let submitted = answer.into_inner().jobs.pop().unwrap();
        (submitted.job.unwrap().id, submitted.existed)
    };
    let (first, existed) = submit(&cluster).await;
    assert!(!existed);
    assert_eq!(submit(&cluster).await, (first.clone(), true), "it lives");

    host.start(&cluster).await;
    cluster.ended(&first).await;
    assert_eq!(submit(&cluster).await, (first.clone(), true), "it ended");

    cluster.stop().await;
    cluster.start_again().await;
    assert_eq!(
        submit(&cluster).await,
        (first.clone(), true),
        "after a restart"
    );

    let other = submission(spec(&reference(), "other"), 1, "nightly-2026-01-01");
    let status = cluster.jobs().submit(other).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert!(status.message().contains("nightly-2026-01-01"), "{status}");
    host.stop().await;
}

#[tokio::test]
async fn a_million_tasks_are_one_small_record_and_end_with_one_word() {
    let cluster = Cluster::start().await;
    let size = || -> u64 {
        let files = std::fs::read_dir(cluster.data_dir()).unwrap();
        let sizes = files.map(|file| file.unwrap().metadata().unwrap());
        sizes
            .filter(std::fs::Metadata::is_file)
            .map(|file| file.len())
            .sum()
    };
    let before = size();
    let job = cluster.submit(spec(&reference(), "load"), 1_000_000).await;
    assert_eq!(job.counts.unwrap().pending, 1_000_000);
    let request = pb::CancelRequest {
        job: job.id.clone(),
        reason: "not needed".into(),
        ..Default::default()
    };
    let answer = cluster.jobs().cancel(request).await.unwrap().into_inner();
    assert_eq!(answer.tasks, 1_000_000);
    let ended = cluster.ended(&job.id).await;
    assert_eq!(ended.counts.unwrap().canceled, 1_000_000);
    assert_eq!(ended.outcome(), pb::Outcome::Canceled);
    let grown = size() - before;
    assert!(grown < 512 << 10, "the store grew by {grown} bytes");
}

#[tokio::test]
async fn a_span_without_contact_that_a_late_heartbeat_would_use_up_is_refused() {
    let cluster = Cluster::start().await;
    let after = |millis: i32| pb::JobSpec {
        on_disconnect: Some(pb::OnDisconnect {
            stop_after: Some(prost_types::Duration {
                seconds: i64::from(millis / 1000),
                nanos: millis % 1000 * 1_000_000,
            }),
        }),
        ..spec(&reference(), "work")
    };
    // The cluster of these tests has a heartbeat of 500 ms.
    let found = complaints(&cluster, submission(after(1_900), 1, "")).await;
    assert_eq!(found.len(), 1, "{found:?}");
    let (field, told) = &found[0];
    assert_eq!(field, "jobs[0].spec.on_disconnect.stop_after");
    assert!(told.starts_with("1.9 s is less than 2.0 s"), "{told}");
    cluster.submit(after(2_000), 1).await;
}
