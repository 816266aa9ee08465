//! What the host offers, and when it refuses.

use std::collections::BTreeMap;

use super::*;

impl Bench {
    /// Why the agent refuses this offer.
    async fn refused(&self, offer: pb::Offer, id: AttemptId) -> pb::Refused {
        self.coordinator.order(Kind::Offer(offer)).await;
        let answer = self.coordinator.until("an answer", |seen| {
            seen.reports.get(&(id, seq::ANSWER)).cloned()
        });
        match answer.await {
            pb::report::News::Refused(refused) => refused,
            other => panic!("not refused: {other:?}"),
        }
    }
}

#[tokio::test]
async fn gpus_and_resources_are_offered_and_handed_on() {
    let mut bench = Bench::new().await;
    bench.config.gpus = 2;
    bench.config.resources = BTreeMap::from([("license".to_owned(), 3)]);
    bench.engine.script("train", Behaviour::forever());
    let agent = bench.agent();
    let hello = bench
        .coordinator
        .until("a hello", |seen| seen.hellos.first().cloned())
        .await;
    let capacity = hello.capacity.unwrap();
    assert_eq!((capacity.gpus, capacity.custom["license"]), (2, 3));

    let with_gpus = |count| {
        let (id, mut offer) = offer(IMAGE, &["train"]);
        let resources = offer.spec.as_mut().unwrap().resources.as_mut().unwrap();
        resources.gpus = count;
        (id, offer)
    };
    let (id, two) = with_gpus(2);
    bench.coordinator.order(Kind::Offer(two)).await;
    bench.coordinator.started(id).await;
    let asked = bench.engine.asked(&container(id)).unwrap();
    assert_eq!(asked.gpus, 2);

    let (id, three) = with_gpus(3);
    let refused = bench.refused(three, id).await;
    assert_eq!(refused.reason, "no_gpus");
    assert!(refused.message.contains("wants 3 GPUs"), "{refused:?}");
    agent.stop().await;
}

#[tokio::test]
async fn a_full_disk_refuses_with_figures_and_says_so_in_heartbeats() {
    let mut bench = Bench::new().await;
    bench.config.disk_reserve.bytes = u64::MAX;
    let agent = bench.agent();
    let (id, offer) = offer(IMAGE, &["true"]);
    let refused = bench.refused(offer, id).await;
    assert_eq!(refused.reason, "disk_full");
    let least = u64::MAX.to_string();
    assert!(refused.message.contains(&least), "{refused:?}");
    let beat = bench.coordinator.until("a beat", |seen| {
        seen.beats.iter().find_map(|beat| beat.load)
    });
    let load = beat.await;
    assert!(load.disk_full && load.disk_free_bytes > 0);
    agent.stop().await;
}

fn load(seen: &crate::rig::Seen) -> Option<pb::HostLoad> {
    seen.beats.last().and_then(|beat| beat.load)
}

fn sample(seen: &crate::rig::Seen, name: &str) -> Option<f64> {
    let samples = &seen.beats.last()?.samples;
    Some(samples.iter().find(|sample| sample.name == name)?.value)
}

#[tokio::test]
async fn an_ill_engine_takes_no_tasks_until_it_is_well_again() {
    let bench = Bench::new().await;
    bench.engine.script("long", Behaviour::forever());
    let agent = bench.agent();
    let running = bench.offer(&["long"]).await;
    bench.coordinator.started(running).await;

    bench.engine.set_ill(true);
    let degraded = |wanted: bool| {
        move |seen: &crate::rig::Seen| {
            let load = load(seen).filter(|load| load.docker_degraded == wanted);
            load.filter(|load| load.engine_latency.is_some())
        }
    };
    let load = bench.coordinator.until("illness", degraded(true)).await;
    assert_eq!(load.running, 1, "what runs goes on");
    let (id, another) = offer(IMAGE, &["true"]);
    let refused = bench.refused(another, id).await;
    assert_eq!(refused.reason, "docker_degraded");

    bench.engine.set_ill(false);
    bench.coordinator.until("health", degraded(false)).await;
    let id = bench.offer(&["true"]).await;
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended).0, pb::Outcome::Succeeded);
    agent.stop().await;
}

#[tokio::test]
async fn a_wedged_container_is_told_of_and_holds_up_nothing_else() {
    let bench = Bench::new().await;
    bench.engine.script("long", Behaviour::forever());
    let agent = bench.agent();
    let id = bench.offer(&["long"]).await;
    bench.coordinator.started(id).await;
    let name = container(id);
    bench.engine.get_stuck(&name);
    let wedged = |wanted: f64| {
        move |seen: &crate::rig::Seen| {
            let value = sample(seen, "muster_agent_attempts_wedged");
            value.filter(|value| (value - wanted).abs() < 0.5)
        }
    };
    let order = stop(id, pb::StopReason::Canceled);
    bench.coordinator.order(order).await;
    bench.coordinator.until("a wedge", wedged(1.0)).await;

    let other = bench.offer(&["true"]).await;
    let ended = bench.coordinator.ended(other).await;
    assert_eq!(brief(&ended).0, pb::Outcome::Succeeded);

    bench.engine.exit(&name, 137);
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended).0, pb::Outcome::Canceled);
    bench.coordinator.until("no wedge", wedged(0.0)).await;
    agent.stop().await;
}

#[tokio::test]
async fn an_engine_whose_start_seems_to_move_with_the_clock_is_the_same_engine() {
    let bench = Bench::new().await;
    bench.engine.script("work", Behaviour::forever());
    let agent = bench.agent();
    let (id, offer) = offer(IMAGE, &["work"]);
    bench.coordinator.order(Kind::Offer(offer)).await;
    bench.coordinator.started(id).await;
    bench
        .engine
        .set_clock(muster_core::time::Millis::from_secs(1));
    bench.engine.exit(&container(id), 0);
    let end = bench.coordinator.ended(id).await.end.unwrap();
    assert_eq!(end.outcome(), pb::Outcome::Succeeded, "{end:?}");
    agent.stop().await;
}

#[tokio::test]
async fn a_failure_that_a_starting_engine_caused_is_not_the_tasks_own() {
    let bench = Bench::new().await;
    let objector = Behaviour {
        on_term: OnTerm::Exit(7),
        ..Behaviour::forever()
    };
    bench.engine.script("work", objector);
    let agent = bench.agent();
    let (id, offer) = offer(IMAGE, &["work"]);
    bench.coordinator.order(Kind::Offer(offer)).await;
    bench.coordinator.started(id).await;
    // Nobody is there to hear the signal.
    agent.stop().await;
    bench.engine.kill_daemon();
    bench.engine.start_daemon(false);
    let agent = bench.agent();
    let end = bench.coordinator.ended(id).await.end.unwrap();
    assert_eq!(end.outcome(), pb::Outcome::InfraError, "{end:?}");
    assert_eq!(end.reason, "interrupted");
    agent.stop().await;
}
