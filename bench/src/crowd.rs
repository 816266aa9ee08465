//! Many agents that are connected and idle, in a process of their own: what the coordinator hears of them is what
//! real agents say, and each has a connection of its own. Nothing runs on them.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use muster_proto::v1 as pb;
use muster_proto::v1::agent_message::Kind as Up;
use muster_proto::v1::coordinator_message::Kind as Down;
use muster_proto::v1::session_service_client::SessionServiceClient;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

/// Agents that connect at a time.
const AT_A_TIME: usize = 64;
/// Figures of its own in a heartbeat; a real agent has as many.
const SAMPLES: usize = 30;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `HOST:PORT`.
    #[arg(long)]
    coordinator: String,
    #[arg(long)]
    count: usize,
}

/// The child's side: says `ready` when all are connected, and ends with its input.
pub(crate) async fn serve(args: Args) -> anyhow::Result<()> {
    let turns = Arc::new(Semaphore::new(AT_A_TIME));
    let (welcomed, mut ready) = mpsc::channel(AT_A_TIME);
    let mut agents = JoinSet::new();
    for number in 0..args.count {
        let (turns, welcomed) = (turns.clone(), welcomed.clone());
        let endpoint = Endpoint::from_shared(format!("http://{}", args.coordinator))?;
        agents.spawn(agent(number, endpoint, turns, welcomed));
    }
    let over = tokio::task::spawn_blocking(|| std::io::stdin().lines().count());
    let work = async {
        for _ in 0..args.count {
            tokio::select! {
                // Nobody stops by itself.
                Some(stopped) = agents.join_next() => stopped??,
                Some(()) = ready.recv() => {}
            }
        }
        println!("ready");
        match agents.join_next().await {
            Some(stopped) => stopped?,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = over => Ok(()),
        stopped = work => stopped,
    }
}

/// The stream of an agent, and its heartbeats. The one for logs is opened when there are some.
async fn agent(
    number: usize,
    endpoint: Endpoint,
    turns: Arc<Semaphore>,
    welcomed: mpsc::Sender<()>,
) -> anyhow::Result<()> {
    let turn = turns.acquire().await?;
    let channel = endpoint.connect().await?;
    let mut client = SessionServiceClient::new(channel);
    let (sender, receiver) = mpsc::channel(1);
    sender.send(up(Up::Hello(hello(number)))).await?;
    let mut incoming = client
        .open(ReceiverStream::new(receiver))
        .await?
        .into_inner();
    let first = incoming.message().await?.and_then(|message| message.kind);
    let Some(Down::Welcome(welcome)) = first else {
        anyhow::bail!("no welcome but {first:?}");
    };
    drop(turn);
    welcomed.send(()).await?;
    let interval = welcome.heartbeat_interval.unwrap_or_default();
    let mut beats = tokio::time::interval(Duration::try_from(interval)?);
    let mut beat = 0;
    loop {
        tokio::select! {
            message = incoming.message() => {
                message?.context("the coordinator closed the stream")?;
            }
            _ = beats.tick() => {
                beat += 1;
                sender.send(up(Up::Heartbeat(heartbeat(beat)))).await?;
            }
        }
    }
}

const fn up(kind: Up) -> pb::AgentMessage {
    pb::AgentMessage { kind: Some(kind) }
}

fn hello(number: usize) -> pb::Hello {
    pb::Hello {
        agent: format!("idle-{number:05}"),
        pool: "default".into(),
        capacity: Some(pb::Capacity {
            cpu_millis: 8_000,
            memory_bytes: 32 << 30,
            places: 8,
            ..Default::default()
        }),
        version: env!("CARGO_PKG_VERSION").into(),
        engine: "fake".into(),
        boot_id: "0b9c".into(),
        process: format!("process-{number}"),
        ..Default::default()
    }
}

fn heartbeat(number: u64) -> pb::Heartbeat {
    let sample = |place: usize| pb::Sample {
        name: format!("muster_agent_figure_{place:02}_total"),
        value: 1.0,
        ..Default::default()
    };
    pb::Heartbeat {
        load: Some(pb::HostLoad {
            load1: 0.5,
            memory_available_bytes: 16 << 30,
            disk_free_bytes: 100 << 30,
            ..Default::default()
        }),
        samples: (0..SAMPLES).map(sample).collect(),
        at: Some(SystemTime::now().into()),
        number,
        ..Default::default()
    }
}

/// The parent's side.
pub(crate) struct Crowd {
    child: Child,
    input: Option<ChildStdin>,
}

impl Crowd {
    /// Returns when all are connected.
    pub(crate) fn start(coordinator: &str, count: usize) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["crowd", "--coordinator", coordinator])
            .args(["--count", &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the idle agents can't be started")?;
        let output = child.stdout.take().context("the child has an output")?;
        let input = child.stdin.take();
        let crowd = Self { child, input };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line.trim() == "ready", "the idle agents did not connect");
        Ok(crowd)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // Its input ends, and so does the child.
        self.input = None;
        let _ = self.child.wait();
    }
}
