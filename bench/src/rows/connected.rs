//! What agents that are connected and have nothing to do cost the coordinator.

use std::time::Duration;

use super::{Aim, Goal, Row, mebibytes};
use crate::crowd::Crowd;
use crate::samples::Samples;
use crate::stand::{Size, Stand, until};

pub(crate) const MEMORY: Aim = Aim {
    row: "11-memory",
    what: "resident memory of the coordinator for each of 10,000 connected agents",
    unit: "KiB",
    goal: Goal::AtMost,
    bar: 32.0,
    reach: Some(16.0),
};
pub(crate) const CPU: Aim = Aim {
    row: "11-cpu",
    what: "processor time of the coordinator with 10,000 idle agents and a heartbeat every 10 s from each",
    unit: "% of a core",
    goal: Goal::AtMost,
    bar: 5.0,
    reach: Some(2.0),
};
pub(crate) const WRITES: Aim = Aim {
    row: "11-writes",
    what: "bytes that it writes to the disk meanwhile",
    unit: "B",
    goal: Goal::AtMost,
    bar: 0.0,
    reach: Some(0.0),
};

const AGENTS: usize = 10_000;
/// Of each window; two heartbeats of each agent.
const WINDOW: Duration = Duration::from_secs(20);
/// After the last connection: what that left to do is done, and each agent has said its first heartbeats.
const SETTLE: Duration = Duration::from_secs(15);
const WINDOWS: usize = 2;
/// From a profile of the heap, which is too slow for each run.
const HEAP: &str = "by heaptrack (docs/performance.md) HTTP/2's connection has 24.6 KiB of buffers for each agent and \
                    4.1 of compressed headers, muster's task of the stream 5.1, its channels 3.9, messages 2.7";

/// Rows 11-memory, 11-cpu and 11-writes.
pub(crate) async fn idle() -> anyhow::Result<Vec<Row>> {
    let mut stand = Stand::start(Size::NONE, None).await?;
    let before = stand.coordinator().resident();
    let grpc = stand.fleet.grpc.clone();
    let crowd = tokio::task::block_in_place(|| Crowd::start(&grpc, AGENTS))?;
    until("all agents online", || async {
        Ok((stand.online().await? == AGENTS).then_some(()))
    })
    .await?;
    tokio::time::sleep(SETTLE).await;
    let coordinator = stand.coordinator();
    let (mut cpu, mut written) = (Vec::new(), Vec::new());
    for _ in 0..WINDOWS {
        let (busy, bytes) = (coordinator.cpu(), coordinator.written());
        tokio::time::sleep(WINDOW).await;
        let busy = coordinator.cpu().saturating_sub(busy);
        cpu.push(busy.as_secs_f64() / WINDOW.as_secs_f64() * 100.0);
        let bytes = coordinator.written().saturating_sub(bytes);
        written.push(f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)));
    }
    let after = coordinator.resident();
    anyhow::ensure!(stand.online().await? == AGENTS, "some agents went offline");
    drop(crowd);
    stand.stop();
    let total = mebibytes(after) - mebibytes(before);
    let each = total * 1024.0 / f64::from(u32::try_from(AGENTS)?);
    let memory =
        format!("{total:.0} MiB of the coordinator, its share of the connections included");
    let windows = format!("{WINDOWS} windows of {} s", WINDOW.as_secs());
    let row = |aim, values, detail| Row::measured(aim, &Samples::new(values), detail, Vec::new());
    Ok(vec![
        row(MEMORY, vec![each], memory).because(HEAP.to_owned()),
        row(CPU, cpu, windows.clone()),
        row(WRITES, written, windows),
    ])
}
