//! The agent with parked containers, on the fake engine.

use std::time::Duration;

use muster_core::ids::AttemptId;
use muster_proto::v1 as pb;
use muster_proto::v1::order::Kind;

use crate::rig::bench::{Bench, IMAGE, container};
use crate::rig::{Agent, offer, stop};
use crate::runtime::fake::{Behaviour, OnTerm, Pace, StartFault};

const NEXT: &str =
    "r.example/x@sha256:2222222222222222222222222222222222222222222222222222222222222222";

impl Bench {
    /// On which containers can be parked.
    async fn warm() -> Self {
        let mut bench = Self::new().await;
        bench.engine.set_mounts();
        bench.engine.hold(NEXT);
        bench.config.warm.memory_free = 0;
        bench
    }

    /// And its agent, with a container for the next task of the channel.
    async fn with_one_parked() -> (Self, Agent) {
        let bench = Self::warm().await;
        let agent = bench.agent();
        bench.keep(IMAGE, 1, 1).await;
        bench.until_parked(1).await;
        (bench, agent)
    }

    /// The channel's tasks run this image from now on.
    async fn keep(&self, image: &str, min: u32, max: u32) {
        let warm = pb::Warm {
            image: image.into(),
            min,
            max,
        };
        let keep = pb::Keep {
            channel: "default/app".into(),
            images: vec![image.into()],
            warm: Some(warm),
        };
        self.coordinator.order(Kind::Keep(keep)).await;
    }

    async fn offer_warm(&self, change: impl Fn(&mut pb::Offer)) -> AttemptId {
        let (id, mut offer) = plain_offer();
        change(&mut offer);
        self.coordinator.order(Kind::Offer(offer)).await;
        id
    }

    fn parked(&self) -> Vec<String> {
        let names = self.engine.names().into_iter();
        let told = self.engine.told();
        names
            .filter(|name| name.contains("-warm-") && !told.contains_key(name))
            .collect()
    }

    /// So many wait for tasks.
    async fn until_parked(&self, count: usize) {
        let listening = |name: &String| {
            let records = self.config.data_dir.join("warm").join(name).join("records");
            records.join("armed").exists() && !records.join("socket").exists()
        };
        self.until("parked containers", || {
            let parked = self.parked();
            parked.len() == count && parked.iter().all(listening)
        })
        .await;
    }

    async fn brief(&self, id: AttemptId) -> (pb::Outcome, String, Option<i32>) {
        let end = self.coordinator.ended(id).await.end.unwrap();
        (end.outcome(), end.reason.clone(), end.exit_code)
    }
}

/// Of a task for which a container may be parked.
fn plain_offer() -> (AttemptId, pb::Offer) {
    let (id, mut offer) = offer(IMAGE, &["hello"]);
    offer.channel = "app".into();
    let spec = offer.spec.as_mut().unwrap();
    spec.set_network(pb::Network::Bridge);
    (id, offer)
}

fn succeeded() -> (pb::Outcome, String, Option<i32>) {
    (pb::Outcome::Succeeded, "exited".into(), Some(0))
}

#[tokio::test]
async fn a_task_runs_in_a_parked_container_which_is_used_once() {
    let (bench, agent) = Bench::with_one_parked().await;
    let first = bench.parked().remove(0);
    let asked = bench.engine.asked(&first).unwrap();
    assert!(asked.env.is_empty() && asked.command.is_empty());
    assert!(asked.init.unwrap().run.is_none());
    assert!(!asked.labels.contains_key("muster.task"));

    let id = bench.offer_warm(|_| {}).await;
    assert_eq!(bench.brief(id).await, succeeded());
    assert_eq!(bench.engine.told()[&first], ["hello"]);
    // It has the task's limits, and another one takes its place.
    bench
        .until("its removal", || {
            !bench.engine.names().contains(&container(id))
        })
        .await;
    bench.until_parked(1).await;
    let second = bench.parked().remove(0);
    assert_eq!(bench.engine.asked(&second).unwrap().limits.pids, 64);
    bench
        .until("the end of its directory", || bench.is_forgotten())
        .await;
    agent.stop().await;
    assert_eq!(bench.engine.names(), Vec::<String>::new());
}

#[tokio::test]
async fn limits_are_set_before_the_task_begins() {
    let bench = Bench::warm().await;
    bench.engine.script("hello", Behaviour::forever());
    let agent = bench.agent();
    bench.keep(IMAGE, 1, 1).await;
    bench.until_parked(1).await;
    let name = bench.parked().remove(0);
    assert_eq!(bench.engine.asked(&name).unwrap().limits.pids, 256);
    let id = bench.offer_warm(|_| {}).await;
    bench.coordinator.started(id).await;
    let asked = bench.engine.asked(&container(id)).unwrap();
    assert_eq!((asked.limits.pids, asked.name), (64, name));
    let canceled = stop(id, pb::StopReason::Canceled);
    bench.coordinator.order(canceled).await;
    assert_eq!(bench.brief(id).await.0, pb::Outcome::Canceled);
    agent.stop().await;
}

#[tokio::test]
async fn what_a_parked_container_can_not_be_is_started_cold() {
    let (bench, agent) = Bench::with_one_parked().await;
    let parked = bench.parked();
    type Change = fn(&mut pb::Offer);
    let cases: [Change; 5] = [
        |offer| offer.image = NEXT.into(),
        |offer| offer.channel = "other".into(),
        |offer| offer.team = "other".into(),
        |offer| offer.spec.as_mut().unwrap().user = "1000".into(),
        |offer| offer.spec.as_mut().unwrap().workdir = "/w".into(),
    ];
    for change in cases {
        let id = bench.offer_warm(change).await;
        assert_eq!(bench.brief(id).await, succeeded());
    }
    assert!(bench.engine.told().is_empty(), "{:?}", bench.engine.told());
    drop(parked);
    agent.stop().await;
}

#[tokio::test]
async fn none_stays_of_an_image_that_the_channel_left() {
    let bench = Bench::warm().await;
    let agent = bench.agent();
    bench.keep(IMAGE, 2, 2).await;
    bench.until_parked(2).await;
    let old = bench.parked();
    bench.keep(NEXT, 1, 1).await;
    bench
        .until("the old ones to go", || {
            let names = bench.engine.names();
            old.iter().all(|name| !names.contains(name))
        })
        .await;
    bench.until_parked(1).await;
    bench.keep(NEXT, 0, 0).await;
    bench
        .until("all to go", || bench.engine.names().is_empty())
        .await;
    agent.stop().await;
}

#[tokio::test]
async fn one_that_died_is_not_used_and_replaced() {
    let (bench, agent) = Bench::with_one_parked().await;
    let first = bench.parked().remove(0);
    assert!(bench.engine.exit(&first, 137));
    bench
        .until("its removal", || !bench.engine.names().contains(&first))
        .await;
    bench.until_parked(1).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_start_whose_answer_is_lost_is_looked_up_and_not_repeated() {
    let (bench, agent) = Bench::with_one_parked().await;
    bench.engine.fail_next_tell(StartFault::HangUpAfterStarting);
    let id = bench.offer_warm(|_| {}).await;
    assert_eq!(bench.brief(id).await, succeeded());
    assert_eq!(bench.engine.told().len(), 1);

    bench.until_parked(1).await;
    bench
        .engine
        .fail_next_tell(StartFault::HangUpBeforeStarting);
    let id = bench.offer_warm(|_| {}).await;
    let (outcome, reason, _) = bench.brief(id).await;
    assert_eq!(
        (outcome, reason.as_str()),
        (pb::Outcome::InfraError, "never_started")
    );
    assert_eq!(bench.engine.told().len(), 1);
    agent.stop().await;
}

#[tokio::test]
async fn a_task_in_a_warm_container_outlives_the_agent() {
    let bench = Bench::warm().await;
    bench.engine.script("hello", Behaviour::forever());
    let agent = bench.agent();
    bench.keep(IMAGE, 1, 1).await;
    bench.until_parked(1).await;
    let id = bench.offer_warm(|_| {}).await;
    bench.coordinator.started(id).await;
    agent.stop().await;
    let name = container(id);
    assert_eq!(bench.engine.names(), std::slice::from_ref(&name));
    let agent = bench.agent();
    bench
        .until("the agent", || bench.coordinator.lock().hellos.len() == 2)
        .await;
    assert!(bench.engine.exit(&name, 0));
    assert_eq!(bench.brief(id).await, succeeded());
    bench
        .until("its removal", || bench.engine.names().is_empty())
        .await;
    agent.stop().await;
}

#[tokio::test]
async fn what_an_earlier_agent_left_parked_goes() {
    let (bench, agent) = Bench::with_one_parked().await;
    let name = bench.parked().remove(0);
    // As if the agent had been killed: the directory and the container are there.
    let asked = bench.engine.asked(&name).unwrap();
    agent.stop().await;
    use crate::runtime::Runtime as _;
    bench.engine.create(&asked).await.unwrap();
    std::fs::create_dir_all(bench.config.data_dir.join("warm").join(&name)).unwrap();
    let agent = bench.agent();
    bench
        .until("its removal", || bench.engine.names().is_empty())
        .await;
    agent.stop().await;
}

#[tokio::test]
async fn there_are_no_more_than_the_host_may_have() {
    let mut bench = Bench::warm().await;
    bench.config.warm.count = 2;
    let agent = bench.agent();
    bench.keep(IMAGE, 5, 5).await;
    bench.until_parked(2).await;
    agent.stop().await;
    bench.config.warm.memory_free = u64::MAX;
    let agent = bench.agent();
    bench
        .until("the agent", || bench.coordinator.lock().hellos.len() == 2)
        .await;
    bench.keep(IMAGE, 5, 5).await;
    let id = bench.offer_warm(|_| {}).await;
    assert_eq!(bench.brief(id).await, succeeded());
    assert!(bench.engine.told().is_empty() && bench.parked().is_empty());
    agent.stop().await;
}

/// The agent is stopped while a task runs in a warm container, its disk loses what it knew of that, and it comes back.
async fn taken_up_after(lose: impl Fn(&Bench, AttemptId)) {
    let bench = Bench::warm().await;
    bench.engine.script("hello", Behaviour::forever());
    let agent = bench.agent();
    bench.keep(IMAGE, 1, 1).await;
    bench.until_parked(1).await;
    let (id, offer) = plain_offer();
    bench.coordinator.order(Kind::Offer(offer.clone())).await;
    bench.coordinator.started(id).await;
    assert_eq!(bench.engine.told().len(), 1);
    agent.stop().await;
    lose(&bench, id);
    bench.coordinator.change(|seen| seen.reports.clear());
    let agent = bench.agent();
    let hello = |seen: &crate::rig::Seen| seen.hellos.get(1).cloned();
    let hello = bench.coordinator.until("a hello", hello).await;
    let orphans: Vec<_> = hello.orphans.iter().map(|orphan| &orphan.attempt).collect();
    assert_eq!(orphans, [&Some(crate::wire::from_attempt_id(id))]);
    bench.coordinator.order(Kind::Adopt(offer)).await;
    bench.coordinator.started(id).await;
    assert_eq!(bench.engine.names(), [container(id)]);
    assert!(bench.engine.exit(&container(id), 0));
    assert_eq!(bench.brief(id).await, succeeded());
    bench
        .until("its removal", || bench.engine.names().is_empty())
        .await;
    agent.stop().await;
}

#[tokio::test]
async fn a_task_in_a_warm_container_is_taken_up_again_after_the_loss_of_the_data_directory() {
    taken_up_after(|bench, _| std::fs::remove_dir_all(&bench.config.data_dir).unwrap()).await;
}

#[tokio::test]
async fn a_task_in_a_warm_container_is_taken_up_again_after_damage_to_its_journal() {
    taken_up_after(|bench, id| {
        let journal = bench.attempt_dir(id).join("journal");
        std::fs::write(journal, "rubbish\n").unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_warm_container_that_can_not_have_its_attempts_name_keeps_its_own() {
    let (bench, agent) = Bench::with_one_parked().await;
    let first = bench.parked().remove(0);
    let (id, offer) = plain_offer();
    let somebodys = crate::runtime::NewContainer {
        name: container(id),
        labels: std::collections::BTreeMap::new(),
        init: None,
        ..bench.engine.asked(&first).unwrap()
    };
    use crate::runtime::Runtime as _;
    bench.engine.create(&somebodys).await.unwrap();
    bench.coordinator.order(Kind::Offer(offer)).await;
    assert_eq!(bench.brief(id).await, succeeded());
    bench
        .until("its removal", || !bench.engine.names().contains(&first))
        .await;
    assert!(bench.engine.names().contains(&container(id)));
    agent.stop().await;
}

/// Only the name of a container keeps an attempt from being started again when its journal is lost, and a parked one has
/// another name.
#[tokio::test]
async fn an_attempt_that_has_a_container_is_not_started_in_another_one() {
    let bench = Bench::warm().await;
    let stubborn = Behaviour {
        on_term: OnTerm::Ignore,
        ..Behaviour::forever()
    };
    bench.engine.script("hello", stubborn);
    let agent = bench.agent();
    bench.keep(IMAGE, 1, 1).await;
    bench.until_parked(1).await;
    let (id, offer) = plain_offer();
    bench.coordinator.order(Kind::Offer(offer.clone())).await;
    bench.coordinator.started(id).await;
    agent.stop().await;
    std::fs::remove_dir_all(&bench.config.data_dir).unwrap();
    bench.coordinator.change(|seen| seen.reports.clear());
    let agent = bench.agent();
    let hello = |seen: &crate::rig::Seen| seen.hellos.get(1).cloned();
    bench.coordinator.until("a hello", hello).await;
    bench.keep(IMAGE, 1, 1).await;
    bench.until_parked(1).await;
    // It is not left to the agent any more, and comes again before it is gone.
    let attempt = Some(crate::wire::from_attempt_id(id));
    let discard = pb::Discard { attempt };
    bench.coordinator.order(Kind::Discard(discard)).await;
    bench.coordinator.order(Kind::Offer(offer)).await;
    bench.coordinator.started(id).await;
    assert_eq!(bench.engine.told().len(), 1);
    assert!(bench.engine.exit(&container(id), 0));
    assert_eq!(bench.brief(id).await, succeeded());
    agent.stop().await;
}

#[tokio::test]
async fn one_that_is_being_made_ends_with_the_agent_too() {
    let bench = Bench::warm().await;
    bench.engine.note_creations();
    bench.engine.set_pace(Pace {
        create: Duration::from_millis(300),
        ..Pace::default()
    });
    let agent = bench.agent();
    bench.keep(IMAGE, 1, 1).await;
    let homes = bench.config.data_dir.join("warm");
    let asked = || std::fs::read_dir(&homes).is_ok_and(|mut homes| homes.next().is_some());
    bench.until("one that is being made", asked).await;
    agent.stop().await;
    bench
        .until("its creation", || !bench.engine.take_creations().is_empty())
        .await;
    assert_eq!(bench.engine.names(), Vec::<String>::new());
    assert!(!asked());
}
