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
    let asked = bench.engine.asked(&bench.container(id)).unwrap();
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
