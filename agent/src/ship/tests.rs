use std::path::Path;

use muster_core::logframe::LogStream;
use tonic::transport::Endpoint;

use super::*;
use crate::metrics::AgentMetrics;
use crate::output::spool::{Bounds, Spool};
use crate::rig::{Coordinator, DEADLINE, LogStreams};
use crate::runtime::Output;

const JOB: &str = "00000000000000000000000000";

async fn spool(dir: &Path, logs: &Arc<Logs>, index: u32) -> Spool {
    let id = format!("{JOB}.{index}-1").parse().unwrap();
    let path = dir.join(index.to_string());
    let metrics = Arc::new(AgentMetrics::new());
    Spool::open(id, &path, Arc::clone(logs), metrics, Bounds::HOST)
        .await
        .unwrap()
}

fn line(at_micros: u64, size: usize) -> Output {
    Output {
        stream: LogStream::Stdout,
        at_micros,
        data: vec![b'x'; size].into(),
    }
}

fn link(coordinator: &Coordinator) -> Option<Link> {
    let endpoint = Endpoint::from_shared(format!("http://{}", coordinator.address)).unwrap();
    Some(Link {
        channel: endpoint.connect_lazy(),
        agent: "a".into(),
        session: 1,
    })
}

#[tokio::test]
async fn logs_arrive_whole_over_broken_streams() {
    let coordinator = Coordinator::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    let logs = Arc::new(Logs::default());
    let (links, link_receiver) = watch::channel(None);
    let stop = CancellationToken::new();
    let shipper = tokio::spawn(run(Arc::clone(&logs), link_receiver, IDLE, stop.clone()));
    let mut spools = Vec::new();
    for index in 0..20 {
        let mut spool = spool(dir.path(), &logs, index).await;
        spool.write(&[line(1, 50_000), line(2, 300_000)]).await;
        spools.push(spool);
    }
    links.send_replace(link(&coordinator));
    coordinator
        .until("a first chunk", |seen| {
            (!seen.logs.is_empty()).then_some(())
        })
        .await;
    // Refuses for a while, then the stream is opened again.
    coordinator.change(|seen| seen.deaf = true);
    let mut files = Vec::new();
    for mut spool in spools {
        spool.write(&[line(3, 10)]).await;
        files.push(spool.log());
        spool.finish().await;
    }
    coordinator.change(|seen| seen.deaf = false);
    links.send_replace(link(&coordinator));
    for file in files {
        let done = tokio::time::timeout(DEADLINE, file.until_complete());
        done.await.unwrap();
        let seen = coordinator.lock();
        let wanted = std::fs::read(dir.path().join(file.attempt().task.index.to_string()));
        assert_eq!(seen.logs[&file.attempt()], wanted.unwrap());
        drop(seen);
    }
    stop.cancel();
    shipper.await.unwrap();
}

#[tokio::test]
async fn a_coordinator_that_lost_some_gets_it_again_and_an_empty_log_ends() {
    let coordinator = Coordinator::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    let logs = Arc::new(Logs::default());
    let (links, link_receiver) = watch::channel(link(&coordinator));
    let stop = CancellationToken::new();
    let shipper = tokio::spawn(run(Arc::clone(&logs), link_receiver, IDLE, stop.clone()));
    let mut first = spool(dir.path(), &logs, 0).await;
    first.write(&[line(1, 1000)]).await;
    let id = first.log().attempt();
    coordinator
        .until("all of it", |seen| {
            (seen.logs.get(&id)?.len() > 1000).then_some(())
        })
        .await;
    coordinator.change(|seen| seen.logs.get_mut(&id).unwrap().truncate(100));
    first.write(&[line(2, 10)]).await;
    let file = first.log();
    first.finish().await;
    tokio::time::timeout(DEADLINE, file.until_complete())
        .await
        .unwrap();

    let empty = spool(dir.path(), &logs, 1).await;
    let file = empty.log();
    empty.finish().await;
    tokio::time::timeout(DEADLINE, file.until_complete())
        .await
        .unwrap();
    drop(links);
    stop.cancel();
    shipper.await.unwrap();
}

#[tokio::test]
async fn a_coordinator_that_has_more_than_the_host_kept_gets_what_there_is() {
    let coordinator = Coordinator::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    let logs = Arc::new(Logs::default());
    let (links, link_receiver) = watch::channel(None);
    let stop = CancellationToken::new();
    let shipper = tokio::spawn(run(Arc::clone(&logs), link_receiver, IDLE, stop.clone()));
    for (index, size) in [(0, 300_000), (1, 0)] {
        let mut spool = spool(dir.path(), &logs, index).await;
        if size > 0 {
            spool.write(&[line(1, size)]).await;
        }
        let file = spool.log();
        let id = file.attempt();
        coordinator.change(|seen| {
            seen.logs.insert(id, vec![b'y'; 500_000]);
            seen.chunks = 0;
        });
        links.send_replace(link(&coordinator));
        if size > 0 {
            coordinator
                .until("a chunk", |seen| (seen.chunks > 0).then_some(()))
                .await;
        }
        spool.finish().await;
        tokio::time::timeout(DEADLINE, file.until_complete())
            .await
            .unwrap();
        let seen = coordinator.lock();
        let wanted = std::fs::read(dir.path().join(index.to_string()));
        assert_eq!(seen.logs[&id], wanted.unwrap());
        // The beginning, the end, and all of it again.
        assert!(seen.chunks <= 6, "{}", seen.chunks);
    }
    stop.cancel();
    shipper.await.unwrap();
}

#[tokio::test]
async fn a_stream_is_there_only_while_there_are_logs() {
    let coordinator = Coordinator::start(1).await;
    let dir = tempfile::tempdir().unwrap();
    let logs = Arc::new(Logs::default());
    let (_links, link_receiver) = watch::channel(link(&coordinator));
    let idle = Duration::from_millis(1);
    let stop = CancellationToken::new();
    let shipper = tokio::spawn(run(Arc::clone(&logs), link_receiver, idle, stop.clone()));
    for number in 0..20 {
        let mut spool = spool(dir.path(), &logs, number).await;
        spool.write(&[line(1, 10)]).await;
        let file = spool.log();
        spool.finish().await;
        tokio::time::timeout(DEADLINE, file.until_complete())
            .await
            .unwrap();
        let ended = usize::try_from(number).unwrap();
        let opened = ended + 1;
        assert_eq!(coordinator.lock().log_streams, LogStreams { opened, ended });

        logs.remove(file.attempt());
        coordinator
            .until("the end of the stream", |seen| {
                (seen.log_streams.ended == opened).then_some(())
            })
            .await;
    }
    stop.cancel();
    shipper.await.unwrap();
}
