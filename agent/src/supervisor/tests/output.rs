//! Output that is still on its way.

use super::*;

#[tokio::test]
async fn output_of_an_earlier_life_is_unfinished_before_the_engine_shows_its_container() {
    let bench = Bench::new().await;
    bench.coordinator.change(|seen| seen.deaf = true);
    let agent = bench.agent();
    let id = bench.offer(&["hello"]).await;
    bench.coordinator.ended(id).await;
    agent.stop().await;

    let name = container(id);
    bench.engine.set_opaque(&name, true);
    bench.coordinator.change(|seen| seen.beats.clear());
    let agent = bench.agent();
    let unfinished = |beat: &pb::Heartbeat| beat.load.map(|load| load.unfinished_logs);
    let said = bench.coordinator.until("heartbeats", |seen| {
        let said: Vec<_> = seen.beats.iter().map(unfinished).collect();
        (said.len() >= 3).then_some(said)
    });
    let said = said.await;
    assert!(said.iter().all(|said| *said == Some(1)), "{said:?}");

    bench.engine.set_opaque(&name, false);
    bench.coordinator.change(|seen| seen.deaf = false);
    bench.until_clean().await;
    bench
        .coordinator
        .until("a heartbeat without any", |seen| {
            (unfinished(seen.beats.last()?) == Some(0)).then_some(())
        })
        .await;
    agent.stop().await;
}
