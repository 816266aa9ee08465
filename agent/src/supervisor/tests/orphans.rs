//! Containers that outlive the agent's journal.

use muster_core::ids::AttemptId;
use muster_proto::v1 as pb;
use muster_proto::v1::order::Kind;

use super::brief;
use crate::rig::bench::{Bench, IMAGE, container};
use crate::rig::{Agent, Seen, offer};
use crate::runtime::fake::{Behaviour, OnTerm};
use crate::wire;

/// A task that runs, and what it was offered as; its agent has been stopped.
async fn left_running(bench: &Bench) -> (AttemptId, pb::Offer) {
    let polite = Behaviour {
        on_term: OnTerm::Exit(0),
        ..Behaviour::forever()
    };
    bench.engine.script("work", polite);
    let agent = bench.agent();
    let (id, offer) = offer(IMAGE, &["work"]);
    bench.coordinator.order(Kind::Offer(offer.clone())).await;
    bench.coordinator.started(id).await;
    agent.stop().await;
    (id, offer)
}

fn lose_journals(bench: &Bench) {
    std::fs::remove_dir_all(bench.attempts()).unwrap();
}

/// The agent again, and what its first Hello says.
async fn again(bench: &Bench) -> (Agent, pb::Hello) {
    let before = bench.coordinator.lock().hellos.len();
    let agent = bench.agent();
    let hello = |seen: &Seen| seen.hellos.get(before).cloned();
    (agent, bench.coordinator.until("a hello", hello).await)
}

fn named(hello: &pb::Hello) -> Vec<AttemptId> {
    let orphans = hello.orphans.iter();
    orphans
        .map(|orphan| wire::attempt_id(orphan.attempt.as_ref().unwrap()).unwrap())
        .collect()
}

#[tokio::test]
async fn a_container_is_taken_up_again_after_its_journal_was_lost() {
    let bench = Bench::new().await;
    let (id, offer) = left_running(&bench).await;
    lose_journals(&bench);
    let (agent, hello) = again(&bench).await;
    assert_eq!((named(&hello), hello.attempts), (vec![id], vec![]));
    assert_eq!(hello.orphans[0].cluster, "0123456789abcdef");
    bench.coordinator.change(|seen| seen.reports.clear());
    bench.coordinator.order(Kind::Adopt(offer.clone())).await;
    bench.coordinator.started(id).await;
    agent.stop().await;

    // It has a journal now. The order comes again, as from a coordinator that was restarted.
    let (agent, hello) = again(&bench).await;
    assert_eq!((named(&hello), hello.attempts.len()), (vec![], 1));
    bench.coordinator.order(Kind::Adopt(offer)).await;
    assert!(bench.engine.exit(&container(id), 0));
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended), (pb::Outcome::Succeeded, "exited", Some(0)));
    bench.until_clean().await;
    assert_eq!(bench.engine.starts()[&container(id)], 1);
    agent.stop().await;
}

/// Its init process stops it when nothing is heard, and exits as it does.
#[tokio::test]
async fn an_end_that_may_be_that_of_a_lease_counts_as_lost() {
    let bench = Bench::new().await;
    bench.engine.set_mounts();
    bench.engine.script("work", Behaviour::forever());
    let agent = bench.agent();
    let (id, mut offer) = offer(IMAGE, &["work"]);
    offer.spec.as_mut().unwrap().on_disconnect = Some(pb::OnDisconnect {
        stop_after: Some(prost_types::Duration {
            seconds: 600,
            nanos: 0,
        }),
    });
    bench.coordinator.order(Kind::Offer(offer.clone())).await;
    bench.coordinator.started(id).await;
    agent.stop().await;
    lose_journals(&bench);
    let (agent, hello) = again(&bench).await;
    assert_eq!(named(&hello), [id]);
    bench.coordinator.change(|seen| seen.reports.clear());
    bench.coordinator.order(Kind::Adopt(offer)).await;
    bench.coordinator.started(id).await;
    assert!(bench.engine.exit(&container(id), 0));
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended), (pb::Outcome::Lost, "container_gone", None));
    bench.until_clean().await;
    agent.stop().await;
}

#[tokio::test]
async fn nothing_touches_it_before_the_coordinator_has_decided() {
    let bench = Bench::new().await;
    let (id, _) = left_running(&bench).await;
    // Everything: the agent does not even know its cluster any more.
    std::fs::remove_dir_all(&bench.config.data_dir).unwrap();
    let (agent, hello) = again(&bench).await;
    assert_eq!((named(&hello), hello.cluster.as_str()), (vec![id], ""));
    let beats = bench.coordinator.lock().beats.len();
    let more = |seen: &Seen| (seen.beats.len() > beats + 2).then_some(());
    bench.coordinator.until("heartbeats", more).await;
    assert_eq!(bench.engine.names(), [container(id)]);

    let attempt = Some(wire::from_attempt_id(id));
    let discard = pb::Discard { attempt };
    bench.coordinator.order(Kind::Discard(discard)).await;
    bench.until_clean().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_journal_that_is_damaged_is_a_lost_one() {
    let bench = Bench::new().await;
    let (id, offer) = left_running(&bench).await;
    let dir = bench.attempt_dir(id);
    std::fs::write(dir.join("journal"), "rubbish\n").unwrap();
    let (agent, hello) = again(&bench).await;
    assert_eq!((named(&hello), hello.attempts), (vec![id], vec![]));
    assert!(dir.join("journal.damaged").exists());
    bench.coordinator.change(|seen| seen.reports.clear());
    bench.coordinator.order(Kind::Adopt(offer)).await;
    bench.coordinator.started(id).await;
    bench
        .coordinator
        .order(crate::rig::stop(id, pb::StopReason::Canceled))
        .await;
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended).0, pb::Outcome::Canceled);
    bench.until_clean().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_stop_that_comes_before_it_is_taken_up_is_not_answered() {
    let bench = Bench::new().await;
    let (id, offer) = left_running(&bench).await;
    lose_journals(&bench);
    let (agent, _) = again(&bench).await;
    bench.coordinator.change(|seen| seen.reports.clear());
    let stop = || crate::rig::stop(id, pb::StopReason::Canceled);
    bench.coordinator.order(stop()).await;
    bench.coordinator.order(Kind::Adopt(offer)).await;
    bench.coordinator.order(stop()).await;
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended).0, pb::Outcome::Canceled);
    let answers = |seen: &Seen| {
        seen.reports
            .keys()
            .any(|key| *key == (id, wire::seq::ANSWER))
    };
    assert!(
        !answers(&bench.coordinator.lock()),
        "it was refused as never seen"
    );
    bench.until_clean().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_discard_does_nothing_to_what_has_a_journal() {
    let bench = Bench::new().await;
    let (id, _) = left_running(&bench).await;
    let (agent, hello) = again(&bench).await;
    assert_eq!((named(&hello), hello.attempts.len()), (vec![], 1));
    let attempt = Some(wire::from_attempt_id(id));
    let discard = pb::Discard { attempt };
    bench.coordinator.order(Kind::Discard(discard)).await;
    let beats = bench.coordinator.lock().beats.len();
    let more = |seen: &Seen| (seen.beats.len() > beats + 2).then_some(());
    bench.coordinator.until("heartbeats", more).await;
    assert_eq!(bench.engine.names(), [container(id)]);
    agent.stop().await;
}

#[tokio::test]
async fn containers_of_other_clusters_are_not_named() {
    let bench = Bench::new().await;
    let (id, _) = left_running(&bench).await;
    lose_journals(&bench);
    // As if another cluster had an agent of this name on the same engine.
    std::fs::write(bench.config.data_dir.join("cluster"), "fedcba9876543210").unwrap();
    let (agent, hello) = again(&bench).await;
    assert_eq!(named(&hello), []);
    assert_eq!(bench.engine.names(), [container(id)]);
    agent.stop().await;
}
