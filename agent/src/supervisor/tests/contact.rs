//! Tasks that stop when their host is cut off.

use std::time::Duration;

use muster_proto::v1 as pb;
use muster_proto::v1::order::Kind;

use super::brief;
use crate::rig::bench::{Bench, IMAGE, container};
use crate::rig::offer;
use crate::runtime::Runtime as _;
use crate::runtime::fake::{Behaviour, Pace};
use muster_core::ids::AttemptId;

async fn offered(bench: &Bench, millis: i32) -> AttemptId {
    let (id, mut offer) = offer(IMAGE, &["work"]);
    offer.spec.as_mut().unwrap().on_disconnect = Some(pb::OnDisconnect {
        stop_after: Some(prost_types::Duration {
            seconds: 0,
            nanos: millis * 1_000_000,
        }),
    });
    bench.coordinator.order(Kind::Offer(offer)).await;
    id
}

#[tokio::test]
async fn a_task_goes_on_while_heartbeats_are_answered_and_stops_when_they_are_not() {
    let bench = Bench::new().await;
    bench.engine.script("work", Behaviour::forever());
    let agent = bench.agent();
    let id = offered(&bench, 900).await;
    bench.coordinator.started(id).await;
    let beats = bench.coordinator.lock().beats.len();
    // Twice as long as it may be without one.
    let more = |seen: &crate::rig::Seen| (seen.beats.len() >= beats + 10).then_some(());
    bench.coordinator.until("heartbeats", more).await;
    assert_eq!(bench.engine.names().len(), 1);

    // The stream is there, and the answers are not: the way back is dead.
    bench.coordinator.change(|seen| seen.unheard = true);
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended), (pb::Outcome::Lost, "disconnected", None));
    bench.until_clean().await;
    agent.stop().await;
}

#[tokio::test]
async fn what_was_prepared_too_long_starts_nothing() {
    let bench = Bench::new().await;
    bench.engine.script("work", Behaviour::forever());
    let agent = bench.agent();
    let beat = |seen: &crate::rig::Seen| (seen.beats.len() > 1).then_some(());
    bench.coordinator.until("a heartbeat", beat).await;
    bench.coordinator.change(|seen| seen.unheard = true);
    let beats = bench.coordinator.lock().beats.len();
    let more = |seen: &crate::rig::Seen| (seen.beats.len() >= beats + 5).then_some(());
    bench.coordinator.until("heartbeats", more).await;
    let id = offered(&bench, 500).await;
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(
        brief(&ended),
        (pb::Outcome::InfraError, "never_started", None)
    );
    agent.stop().await;
}

#[tokio::test]
async fn what_was_prepared_while_it_was_cut_off_does_not_start_when_it_is_back() {
    let bench = Bench::new().await;
    bench.engine.script("work", Behaviour::forever());
    let agent = bench.agent();
    let beats = |bench: &Bench| bench.coordinator.lock().beats.len();
    let more = |from: usize, more: usize| {
        move |seen: &crate::rig::Seen| (seen.beats.len() >= from + more).then_some(())
    };
    bench.coordinator.until("heartbeats", more(0, 2)).await;
    bench.engine.set_pace(Pace {
        create: Duration::from_secs(3),
        ..Pace::default()
    });
    let id = offered(&bench, 700).await;
    let accepted = |seen: &crate::rig::Seen| {
        let answer = (id, crate::wire::seq::ANSWER);
        seen.reports.get(&answer).map(drop)
    };
    bench.coordinator.until("the answer", accepted).await;
    bench.coordinator.change(|seen| seen.unheard = true);
    let from = beats(&bench);
    bench.coordinator.until("silence", more(from, 6)).await;
    // Whoever was silent for so long has been replaced by now, and the order to stop is still to come.
    bench.coordinator.change(|seen| seen.unheard = false);
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(
        brief(&ended),
        (pb::Outcome::InfraError, "never_started", None)
    );
    assert!(bench.engine.starts().is_empty());
    agent.stop().await;
}

#[tokio::test]
async fn a_restarted_agent_remembers_when_it_was_heard() {
    let bench = Bench::new().await;
    bench.engine.script("work", Behaviour::forever());
    let agent = bench.agent();
    let id = offered(&bench, 900).await;
    bench.coordinator.started(id).await;
    agent.stop().await;
    let mut away = bench.config.clone();
    // Nobody listens there.
    away.coordinator = "http://127.0.0.1:9".to_owned();
    let agent = crate::rig::Agent::start(bench.engine.clone(), away);
    let name = container(id);
    let stopped = tokio::time::timeout(crate::rig::DEADLINE, bench.engine.wait(&name)).await;
    stopped.unwrap().unwrap();
    agent.stop().await;
    let agent = bench.agent();
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended), (pb::Outcome::Lost, "disconnected", None));
    bench.until_clean().await;
    agent.stop().await;
}
