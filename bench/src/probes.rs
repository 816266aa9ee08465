//! What the machine does by itself, before and after: a row counts only while these agree.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Endpoint, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::docker;
use crate::samples::Samples;

/// Times of each probe.
const REPEATS: usize = 500;
/// Of those that take long.
const CONTAINERS: usize = 5;

/// The middle and the far end, in seconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Probe {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Probes {
    /// Appending 4 KiB to a file and syncing its data.
    pub(crate) fsync: Probe,
    /// A gRPC call that does nothing, over loopback.
    pub(crate) grpc: Probe,
    /// Starting a process that does nothing, and waiting for it.
    pub(crate) fork_exec: Probe,
    /// `docker run` of a container without a network; `None` if no row needs an engine.
    pub(crate) docker_run: Option<Probe>,
}

impl Probes {
    pub(crate) fn all(&self) -> Vec<(&'static str, Probe)> {
        let Self {
            fsync,
            grpc,
            fork_exec,
            docker_run,
        } = *self;
        let mut all = vec![
            ("fsync", fsync),
            ("gRPC call", grpc),
            ("fork and exec", fork_exec),
        ];
        all.extend(docker_run.map(|probe| ("docker run", probe)));
        all
    }
}

pub(crate) async fn measure(with_engine: bool) -> anyhow::Result<Probes> {
    let grpc = grpc().await?;
    tokio::task::block_in_place(|| {
        let engine = || repeat(CONTAINERS, || docker::time_run("none").map(|_| ()));
        Ok(Probes {
            fsync: fsync()?,
            grpc,
            fork_exec: fork_exec()?,
            docker_run: with_engine.then(engine).transpose()?,
        })
    })
}

fn fsync() -> anyhow::Result<Probe> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("probe");
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let block = [7; 4096];
    repeat(REPEATS, || {
        file.write_all(&block)?;
        Ok(file.sync_data()?)
    })
}

async fn grpc() -> anyhow::Result<Probe> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (_, health) = tonic_health::server::health_reporter();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = Server::builder()
        .add_service(health)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
            // An error means that the sender is gone, which says the same.
            let _ = stopped.await;
        });
    let serving = tokio::spawn(serving);
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect_lazy();
    let mut client = HealthClient::new(channel);
    let mut took = Vec::with_capacity(REPEATS);
    for _ in 0..REPEATS {
        let began = Instant::now();
        client
            .check(HealthCheckRequest::default())
            .await
            .context("the probe's own server does not answer")?;
        took.push(began.elapsed());
    }
    // Both ends of it: the server waits for its connections.
    drop((client, stop));
    serving.await??;
    Ok(Probe::of(&took))
}

fn fork_exec() -> anyhow::Result<Probe> {
    repeat(REPEATS, || {
        Command::new("/bin/true").status()?;
        Ok(())
    })
}

fn repeat(times: usize, mut probe: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Probe> {
    let mut took: Vec<Duration> = Vec::with_capacity(times);
    for _ in 0..times {
        let began = Instant::now();
        probe()?;
        took.push(began.elapsed());
    }
    Ok(Probe::of(&took))
}

impl Probe {
    fn of(durations: &[Duration]) -> Self {
        let samples = Samples::of_durations(durations);
        Self {
            p50: samples.median(),
            p99: samples.all()[samples.all().len() * 99 / 100],
        }
    }
}
