//! What a batch takes.

use super::*;
use crate::api::convert::spec_from_wire;
use crate::metrics::Metrics;
use crate::store::SqliteStore;
use muster_core::ids::{JobId, TeamName};
use muster_proto::v1 as pb;
use tokio::task::JoinSet;
use uuid::Uuid;

struct Rig {
    driver: Driver<SqliteStore>,
    handle: DriverHandle,
    _data: tempfile::TempDir,
}

impl Rig {
    /// A driver that was not told to run yet.
    async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(data.path()).unwrap());
        let observers = Observers {
            metrics: Metrics::new(),
            push_gateway: None,
        };
        let (driver, handle) = Driver::start(store, Limits::default(), observers)
            .await
            .unwrap();
        Self {
            driver,
            handle,
            _data: data,
        }
    }

    /// So many clients that each submit one job and wait for the answer. All of them are in the line on return.
    async fn submit(&self, count: usize) -> JoinSet<Result<Answer, NotSubmitted>> {
        let mut clients = JoinSet::new();
        for _ in 0..count {
            let handle = self.handle.clone();
            clients.spawn(async move { handle.submit(vec![job()]).await });
        }
        while self.driver.submissions.len() < count {
            tokio::task::yield_now().await;
        }
        clients
    }
}

fn job() -> Arc<Job> {
    let wire = pb::JobSpec {
        name: "one".into(),
        image: "registry.example/etl:latest".into(),
        ..Default::default()
    };
    let Ok(spec) = spec_from_wire(&wire) else {
        panic!("it is a spec");
    };
    Arc::new(Job {
        id: JobId(Uuid::now_v7()),
        team: TeamName::parse("default").unwrap(),
        spec: Arc::new(spec),
        array: 1,
        key: None,
        pinned: None,
        release: None,
        created: Clock::new().now(),
        traceparent: None,
    })
}

#[tokio::test]
async fn a_submission_too_many_is_turned_away_and_the_others_are_taken() {
    let rig = Rig::new().await;
    let mut clients = rig.submit(SUBMISSIONS).await;

    assert_eq!(rig.handle.has_room(), Err(NotSubmitted::Busy));
    let refused = rig.handle.submit(vec![job()]).await;
    assert_eq!(refused.unwrap_err(), NotSubmitted::Busy);

    let stop = CancellationToken::new();
    let driver = tokio::spawn(rig.driver.run(stop.clone()));
    while let Some(answer) = clients.join_next().await {
        let answer = answer.unwrap().unwrap();
        assert!(matches!(answer, Answer::Submitted(_)), "{answer:?}");
    }
    assert_eq!(rig.handle.has_room(), Ok(()));
    stop.cancel();
    driver.await.unwrap().unwrap();
    let gone = rig.handle.submit(vec![job()]).await;
    assert_eq!(gone.unwrap_err(), NotSubmitted::Gone(DriverGone));
}

#[tokio::test]
async fn other_news_comes_first_and_a_batch_takes_some_submissions_beside_it() {
    let rig = Rig::new().await;
    let mut clients = rig.submit(SUBMISSIONS).await;
    let handle = rig.handle.clone();
    let pending = tokio::spawn(async move { handle.look(|fleet, _| fleet.tally().pending).await });
    while rig.driver.inbox.is_empty() {
        tokio::task::yield_now().await;
    }

    let stop = CancellationToken::new();
    let driver = tokio::spawn(rig.driver.run(stop.clone()));
    let beside = u64::try_from(BESIDE).unwrap();
    assert_eq!(pending.await.unwrap(), Ok(beside));
    while let Some(answer) = clients.join_next().await {
        answer.unwrap().unwrap();
    }
    stop.cancel();
    driver.await.unwrap().unwrap();
}
