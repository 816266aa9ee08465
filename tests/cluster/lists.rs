//! Questions about jobs.

use muster_agent::runtime::fake::Behaviour;
use muster_proto::v1 as pb;
use muster_tests::cluster::{Cluster, Host, reference, spec};
use tonic::Code;

#[tokio::test]
async fn a_list_comes_in_pages_newest_first() {
    let cluster = Cluster::start().await;
    let mut sent = Vec::new();
    for _ in 0..7 {
        sent.push(cluster.submit(spec(&reference(), "load"), 1).await.id);
    }
    sent.reverse();
    let mut request = pb::ListJobsRequest {
        page_size: 3,
        ..Default::default()
    };
    let mut found = Vec::new();
    let mut pages = 0;
    loop {
        let page = cluster
            .jobs()
            .list(request.clone())
            .await
            .unwrap()
            .into_inner();
        assert!(page.jobs.len() <= 3);
        found.extend(page.jobs.into_iter().map(|job| job.id));
        pages += 1;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(found, sent);
    assert_eq!(pages, 3);

    request.page_token = "nonsense!".into();
    let status = cluster.jobs().list(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn lists_are_filtered_by_label_name_and_state() {
    let cluster = Cluster::start().await;
    let mut labeled = spec(&reference(), "load");
    labeled.labels = [("day".to_owned(), "monday".to_owned())].into();
    labeled.name = "nightly".into();
    let nightly = cluster.submit(labeled, 1).await;
    let other = cluster.submit(spec(&reference(), "load"), 1).await;
    let cancel = pb::CancelRequest {
        job: other.id.clone(),
        ..Default::default()
    };
    cluster.jobs().cancel(cancel).await.unwrap();
    let list = async |request: pb::ListJobsRequest| -> Vec<String> {
        let page = cluster.jobs().list(request).await.unwrap().into_inner();
        page.jobs.into_iter().map(|job| job.id).collect()
    };
    let by_label = pb::ListJobsRequest {
        labels: [("day".to_owned(), "monday".to_owned())].into(),
        ..Default::default()
    };
    assert_eq!(list(by_label).await, std::slice::from_ref(&nightly.id));
    let by_name = pb::ListJobsRequest {
        name: "nightly".into(),
        ..Default::default()
    };
    assert_eq!(list(by_name).await, [nightly.id]);
    let by_state = pb::ListJobsRequest {
        states: vec![pb::JobState::Ended.into()],
        outcomes: vec![pb::Outcome::Canceled.into()],
        ..Default::default()
    };
    assert_eq!(list(by_state).await, [other.id]);
}

#[tokio::test]
async fn jobs_are_listed_by_the_digest_that_their_attempts_ran() {
    let cluster = Cluster::start().await;
    let mut host = Host::new("etl-1", 1);
    host.engine.script("wait", Behaviour::forever());
    host.start(&cluster).await;
    let ran = cluster.submit(spec(&reference(), "wait"), 1).await.id;
    cluster.running(&ran, 1).await;
    cluster.submit(spec(&reference(), "wait"), 1).await;
    let [task] = &cluster.tasks(&ran).await[..] else {
        panic!("one task");
    };
    let list = async |digest: &str| {
        let request = pb::ListJobsRequest {
            digest: digest.to_owned(),
            ..Default::default()
        };
        let page = cluster
            .jobs()
            .list(request)
            .await
            .map(tonic::Response::into_inner);
        page.map(|page| page.jobs.into_iter().map(|job| job.id).collect::<Vec<_>>())
    };
    assert_eq!(
        list(&task.digest).await.unwrap(),
        std::slice::from_ref(&ran)
    );
    assert_eq!(list(&task.digest[..7 + 12]).await.unwrap(), [ran]);
    assert!(list("sha256:0123456789ab").await.unwrap().is_empty());
    let status = list("latest").await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("latest"), "{status}");
    host.stop().await;
}

#[tokio::test]
async fn a_job_is_found_by_the_end_of_its_id_and_only_by_its_team() {
    let cluster = Cluster::start().await;
    let job = cluster.submit(spec(&reference(), "load"), 1).await;
    let short = &job.id[job.id.len() - 8..];
    assert_eq!(cluster.job(short).await.id, job.id);
    let request = pb::GetJobRequest {
        team: "others".into(),
        id: job.id,
    };
    let status = cluster.jobs().get(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn why_names_what_keeps_a_task_waiting() {
    let cluster = Cluster::start().await;
    let mut stray = spec(&reference(), "load");
    stray.pool = "gpu".into();
    let job = cluster.submit(stray, 2).await;
    let request = pb::ExplainRequest {
        job: job.id,
        index: Some(1),
        ..Default::default()
    };
    let explained = cluster.jobs().explain(request).await.unwrap().into_inner();
    assert_eq!(explained.reasons[0].code, "no_agent_in_pool");
    assert!(
        explained.reasons[0].message.contains("gpu"),
        "{explained:?}"
    );
    assert_eq!(explained.attempts, []);
}

#[tokio::test]
async fn only_what_is_quarantined_can_be_requeued_or_dropped() {
    let cluster = Cluster::start().await;
    let job = cluster.submit(spec(&reference(), "load"), 2).await.id;
    let mut jobs = cluster.jobs();
    let requeue = |job: &str, index| pb::RequeueRequest {
        job: job.to_owned(),
        index,
        ..Default::default()
    };
    let drop = |index| pb::DropRequest {
        job: job.clone(),
        index,
        ..Default::default()
    };

    let listed = jobs.list_quarantined(pb::ListQuarantinedRequest::default());
    let listed = listed.await.unwrap().into_inner();
    assert_eq!((listed.tasks, listed.total), (vec![], 0));
    let all = jobs.requeue(requeue("", 0)).await.unwrap().into_inner();
    assert_eq!(all.tasks, 0);
    let status = jobs.requeue(requeue(&job, 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let status = jobs.drop(drop(1)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let status = jobs.drop(drop(2)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
    let bad = pb::ListQuarantinedRequest {
        team: "No Team".into(),
    };
    let status = jobs.list_quarantined(bad).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
}
