//! Output on the real engine: whole, or its holes declared, however much there is and whoever is away.

use super::parked::cold_and_warm;
use super::*;

cold_and_warm!(a_flood_arrives_whole_over_a_restart_of_the_agent);

/// The numbers from 1 on, one a line.
const LINES: u32 = 1_000_000;
/// More than the spool and the segments of one attempt hold together, in lines of 1,000 bytes.
const FLOOD_LINES: u64 = 160_000;

async fn a_flood_arrives_whole_over_a_restart_of_the_agent(start: Start) {
    let Some(mut bench) = Bench::of(start).await else {
        return;
    };
    let id = bench.run(&format!("seq 1 {LINES}")).await;
    bench
        .coordinator
        .until("the first of the output", |seen| {
            seen.logs
                .get(&id)
                .is_some_and(|log| !log.is_empty())
                .then_some(())
        })
        .await;
    bench.agent.take().unwrap().stop().await;
    bench.agent = Some(Agent::start(bench.engine.clone(), bench.config.clone()));
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended).0, pb::Outcome::Succeeded);
    let text = bench.text(id).await;
    let mut next = 1;
    for line in text.lines() {
        assert_eq!(line, next.to_string(), "after {} lines", next - 1);
        next += 1;
    }
    assert_eq!(next, LINES + 1);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_does_not_hold_the_task_up_and_is_declared() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    bench.coordinator.change(|seen| seen.deaf = true);
    let script = format!(
        "line=$(head -c 999 /dev/zero | tr '\\0' x); yes $line | head -n {FLOOD_LINES}; echo the last words"
    );
    let id = bench.run(&script).await;
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended).0, pb::Outcome::Succeeded, "{:?}", ended.end);
    bench.coordinator.change(|seen| seen.deaf = false);
    let log = bench.coordinator.log(id).await;
    let (notes, output): (Vec<_>, Vec<_>) = log
        .iter()
        .partition(|(stream, _)| *stream == LogStream::Gap);
    let missing: u64 = notes
        .iter()
        .map(|(_, note)| note.split(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    let kept: usize = output.iter().map(|(_, text)| text.len()).sum();
    let all = FLOOD_LINES * 1000 + 15;
    assert_eq!(u64::try_from(kept).unwrap() + missing, all, "{notes:?}");
    assert!(missing > 0, "the flood was too small to be a test");
    assert_eq!(output.last().unwrap().1, "the last words\n");
    bench.close().await;
}
