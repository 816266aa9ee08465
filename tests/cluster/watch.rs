//! Watching jobs over the wire, and going on from a position.

use futures_util::TryStreamExt as _;
use muster_agent::runtime::fake::Behaviour;
use muster_proto::v1 as pb;
use muster_proto::v1::watch_event::Change;
use muster_tests::cluster::{Cluster, Host, reference, spec};

fn watch(jobs: &[&pb::Job], position: u64) -> pb::WatchRequest {
    pb::WatchRequest {
        jobs: jobs.iter().map(|job| job.id.clone()).collect(),
        position,
        ..Default::default()
    }
}

#[tokio::test]
async fn a_watch_shows_each_end_and_ends_with_the_last_job() {
    let cluster = Cluster::start().await;
    let mut host = Host::new("etl-1", 4);
    let job = cluster.submit(spec(&reference(), "load"), 3).await;
    let events = cluster
        .jobs()
        .watch(watch(&[&job], 0))
        .await
        .unwrap()
        .into_inner();
    host.start(&cluster).await;
    let events: Vec<pb::WatchEvent> = events.try_collect().await.unwrap();
    let positions: Vec<u64> = events.iter().map(|event| event.position).collect();
    // Those of the first commit that was seen come before its end, and so at 0.
    assert!(
        positions.is_sorted() && positions.last() > Some(&0),
        "{events:?}"
    );
    let mut ends: Vec<u32> = events
        .iter()
        .filter_map(|event| match event.change.as_ref()? {
            Change::Task(task) if task.state() == pb::TaskState::Ended => Some(task.index),
            Change::Task(_) | Change::Job(_) => None,
        })
        .collect();
    ends.sort_unstable();
    assert_eq!(ends, [0, 1, 2]);
    let last = events.last().unwrap().change.as_ref().unwrap();
    assert!(matches!(last, Change::Job(job) if job.state() == pb::JobState::Ended));
    host.stop().await;
}

#[tokio::test]
async fn a_watch_that_goes_on_after_a_restart_misses_no_end() {
    let mut cluster = Cluster::start().await;
    let mut host = Host::new("etl-1", 2);
    host.engine.script("work", Behaviour::forever());
    host.start(&cluster).await;
    let first = cluster.submit(spec(&reference(), "work"), 1).await;
    let second = cluster.submit(spec(&reference(), "work"), 1).await;
    cluster.running(&first.id, 1).await;
    cluster.running(&second.id, 1).await;

    let both = [&first, &second];
    let mut events = cluster
        .jobs()
        .watch(watch(&both, 0))
        .await
        .unwrap()
        .into_inner();
    let seen = events.try_next().await.unwrap().expect("both jobs live");
    let position = seen.position;
    cluster.stop().await;
    // Both end while nobody listens.
    host.exit(&first.id, 0, 1, 0).await;
    host.exit(&second.id, 0, 1, 1).await;
    cluster.start_again().await;

    let events = cluster
        .jobs()
        .watch(watch(&both, position))
        .await
        .unwrap()
        .into_inner();
    let events: Vec<pb::WatchEvent> = events.try_collect().await.unwrap();
    let mut ended: Vec<(String, pb::Outcome)> = events
        .iter()
        .filter_map(|event| match event.change.as_ref()? {
            Change::Job(job) if job.state() == pb::JobState::Ended => {
                Some((job.id.clone(), job.outcome()))
            }
            Change::Job(_) | Change::Task(_) => None,
        })
        .collect();
    ended.sort();
    let mut expected = [
        (first.id, pb::Outcome::Succeeded),
        (second.id, pb::Outcome::Failed),
    ];
    expected.sort();
    assert_eq!(ended, expected);
    host.stop().await;
}
