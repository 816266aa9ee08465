use std::time::Duration;

use muster_core::ids::AttemptId;
use muster_core::logframe::LogStream;
use muster_proto::v1 as pb;
use muster_proto::v1::order::Kind;

use crate::journal;
use crate::rig::bench::{Bench, IMAGE, container};
use crate::rig::{DEADLINE, offer, stop};
use crate::runtime::Signal;
use crate::runtime::fake::{Behaviour, OnTerm, Pace, StartFault};
use crate::wire::seq;

mod contact;
mod host;
mod namespaces;
mod orphans;
mod output;
mod records;

impl Bench {
    async fn offer(&self, argv: &[&str]) -> AttemptId {
        let (id, offer) = offer(IMAGE, argv);
        self.coordinator.order(Kind::Offer(offer)).await;
        id
    }
}

fn brief(ended: &pb::Ended) -> (pb::Outcome, &str, Option<i32>) {
    let end = ended.end.as_ref().unwrap();
    (end.outcome(), &end.reason, end.exit_code)
}

#[tokio::test]
async fn a_task_runs_and_nothing_is_left() {
    let bench = Bench::new().await;
    let output = vec![
        (LogStream::Stdout, "out\n".to_owned()),
        (LogStream::Stderr, "err".to_owned()),
    ];
    bench.engine.script(
        "hello",
        Behaviour {
            output: output.clone(),
            ..Behaviour::default()
        },
    );
    let agent = bench.agent();
    let id = bench.offer(&["hello"]).await;

    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended), (pb::Outcome::Succeeded, "exited", Some(0)));
    assert_eq!(bench.coordinator.log(id).await, output);
    bench.until_clean().await;
    let seen: Vec<_> = bench
        .coordinator
        .lock()
        .reports
        .keys()
        .map(|key| key.1)
        .collect();
    assert_eq!(seen, [seq::ANSWER, seq::STARTED, seq::ENDED]);
    agent.stop().await;
}

#[tokio::test]
async fn a_task_finds_its_metadata() {
    let bench = Bench::new().await;
    bench.engine.script("wait", Behaviour::forever());
    let agent = bench.agent();
    let (id, mut offer) = offer(IMAGE, &["wait"]);
    offer.spec.as_mut().unwrap().env = [("MODE".into(), "fast".into())].into();
    offer.array = 7;
    offer.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into();
    bench.coordinator.order(Kind::Offer(offer.clone())).await;
    bench.coordinator.started(id).await;

    let asked = bench.engine.asked(&container(id)).unwrap();
    assert_eq!(asked.user, "65532:65532");
    assert_eq!(asked.labels["muster.attempt"], "1");
    assert_eq!(asked.labels["muster.cluster"], "0123456789abcdef");
    for wanted in [
        "MODE=fast".to_owned(),
        format!("MUSTER_TASK_ID={}", id.task),
        format!("MUSTER_IDEMPOTENCY_KEY={}", id.task),
        "MUSTER_FENCE=1".to_owned(),
        "MUSTER_TASK_COUNT=7".to_owned(),
        "MUSTER_METRICS_FILE=/run/muster/metrics.prom".to_owned(),
        format!("TRACEPARENT={}", offer.traceparent),
    ] {
        assert!(asked.env.contains(&wanted), "{wanted} in {:?}", asked.env);
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_stop_is_term_then_kill() {
    let bench = Bench::new().await;
    let stubborn = Behaviour {
        on_term: OnTerm::Ignore,
        ..Behaviour::forever()
    };
    let polite = Behaviour {
        on_term: OnTerm::Exit(0),
        ..Behaviour::forever()
    };
    bench.engine.script("stubborn", stubborn);
    bench.engine.script("polite", polite);
    let agent = bench.agent();
    for word in ["stubborn", "polite"] {
        let id = bench.offer(&[word]).await;
        bench.coordinator.started(id).await;
        bench
            .coordinator
            .order(stop(id, pb::StopReason::Canceled))
            .await;
        let ended = bench.coordinator.ended(id).await;
        assert_eq!(
            brief(&ended),
            (pb::Outcome::Canceled, "canceled_by_user", None),
            "{word}"
        );
    }
    bench.until_clean().await;
    agent.stop().await;
}

#[tokio::test]
async fn a_run_has_a_limit_of_time() {
    let bench = Bench::new().await;
    bench.engine.script("wait", Behaviour::forever());
    let agent = bench.agent();
    let (id, mut offer) = offer(IMAGE, &["wait"]);
    offer.spec.as_mut().unwrap().run_timeout = Some(prost_types::Duration {
        seconds: 0,
        nanos: 300_000_000,
    });
    bench.coordinator.order(Kind::Offer(offer)).await;
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended), (pb::Outcome::Timeout, "run_timeout", None));
    agent.stop().await;
}

#[tokio::test]
async fn a_start_that_hung_up_is_looked_at_and_never_repeated() {
    let bench = Bench::new().await;
    let agent = bench.agent();
    bench
        .engine
        .fail_next_start(StartFault::HangUpAfterStarting);
    let ran = bench.offer(&["hello"]).await;
    let ended = bench.coordinator.ended(ran).await;
    assert_eq!(brief(&ended).0, pb::Outcome::Succeeded);

    bench
        .engine
        .fail_next_start(StartFault::HangUpBeforeStarting);
    let never = bench.offer(&["hello"]).await;
    let ended = bench.coordinator.ended(never).await;
    assert_eq!(
        brief(&ended),
        (pb::Outcome::InfraError, "never_started", None)
    );
    bench.until_clean().await;
    assert!(bench.engine.starts().values().all(|starts| *starts == 1));
    agent.stop().await;
}

#[tokio::test]
async fn a_restarted_agent_takes_its_containers_up_again() {
    let bench = Bench::new().await;
    let output = vec![(LogStream::Stdout, "once\n".to_owned())];
    bench.engine.script(
        "wait",
        Behaviour {
            output: output.clone(),
            ..Behaviour::forever()
        },
    );
    let agent = bench.agent();
    let id = bench.offer(&["wait"]).await;
    bench.coordinator.started(id).await;
    agent.stop().await;
    assert_eq!(bench.engine.names(), [container(id)]);

    let agent = bench.agent();
    let held = bench
        .coordinator
        .until("a second hello", |seen| {
            seen.hellos.get(1).map(|hello| hello.attempts.clone())
        })
        .await;
    assert_eq!(held, [crate::wire::from_attempt_id(id)]);
    bench
        .coordinator
        .order(stop(id, pb::StopReason::Preempted))
        .await;
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended), (pb::Outcome::Preempted, "drained", None));
    assert_eq!(bench.coordinator.log(id).await, output);
    bench.until_clean().await;
    assert_eq!(bench.engine.starts()[&container(id)], 1);
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_is_stopped_starts_what_it_has_begun_to_start() {
    let bench = Bench::new().await;
    bench.engine.set_pace(Pace {
        ask: Duration::from_millis(300),
        ..Pace::default()
    });
    let agent = bench.agent();
    let id = bench.offer(&["hello"]).await;
    let dir = bench.attempt_dir(id);
    let intended = || journal::read(&dir).is_ok_and(|history| history.intent.is_some());
    bench.until("the intent", intended).await;
    assert!(bench.engine.starts().is_empty());
    agent.stop().await;

    let agent = bench.agent();
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended), (pb::Outcome::Succeeded, "exited", Some(0)));
    assert_eq!(bench.engine.starts()[&container(id)], 1);
    agent.stop().await;
}

#[tokio::test]
async fn an_end_without_acknowledgement_is_delivered_by_the_next_life() {
    let bench = Bench::new().await;
    bench.coordinator.change(|seen| {
        seen.mute = true;
        seen.deaf = true;
    });
    bench.engine.script(
        "seven",
        Behaviour {
            exit_code: 7,
            output: vec![(LogStream::Stdout, "x".to_owned())],
            ..Behaviour::default()
        },
    );
    let agent = bench.agent();
    let id = bench.offer(&["seven"]).await;
    bench.coordinator.ended(id).await;
    agent.stop().await;
    assert_eq!(bench.engine.names().len(), 1);

    bench.coordinator.change(|seen| {
        seen.reports.clear();
        seen.mute = false;
        seen.deaf = false;
    });
    let agent = bench.agent();
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended), (pb::Outcome::Failed, "exited", Some(7)));
    assert_eq!(
        bench.coordinator.log(id).await,
        [(LogStream::Stdout, "x".to_owned())]
    );
    bench.until_clean().await;
    agent.stop().await;
}

#[tokio::test]
async fn what_others_do_to_a_container_is_not_the_tasks_fault() {
    let bench = Bench::new().await;
    bench.engine.script(
        "polite",
        Behaviour {
            on_term: OnTerm::Exit(0),
            ..Behaviour::forever()
        },
    );
    let agent = bench.agent();
    let id = bench.offer(&["polite"]).await;
    bench.coordinator.started(id).await;
    bench.engine.kill_from_outside(&container(id), Signal::Term);
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(
        brief(&ended),
        (pb::Outcome::InfraError, "killed_externally", None)
    );

    let id = bench.offer(&["polite"]).await;
    bench.coordinator.started(id).await;
    bench.engine.remove_from_outside(&container(id));
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended), (pb::Outcome::Lost, "container_gone", None));
    agent.stop().await;
}

#[tokio::test]
async fn images_are_pulled_once_and_missing_ones_said() {
    let bench = Bench::new().await;
    let remote = format!("r.example/y@sha256:{}", "2".repeat(64));
    let absent = format!("r.example/z@sha256:{}", "3".repeat(64));
    bench.engine.publish(&remote);
    let agent = bench.agent();
    let mut ids = Vec::new();
    for _ in 0..4 {
        let (id, offer) = offer(&remote, &["hello"]);
        bench.coordinator.order(Kind::Offer(offer)).await;
        ids.push(id);
    }
    for id in ids {
        let ended = bench.coordinator.ended(id).await;
        assert_eq!(brief(&ended).0, pb::Outcome::Succeeded);
    }
    assert_eq!(bench.engine.pulls(), 1);

    let (id, offer) = offer(&absent, &["hello"]);
    bench.coordinator.order(Kind::Offer(offer)).await;
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(
        brief(&ended),
        (pb::Outcome::ImageError, "no_such_image", None)
    );

    bench
        .engine
        .script("missing", Behaviour::missing_entrypoint());
    let id = bench.offer(&["missing"]).await;
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(
        brief(&ended),
        (pb::Outcome::ImageError, "no_such_entrypoint", None)
    );
    assert!(ended.end.unwrap().message.contains("exec /no/such failed"));

    bench.engine.script(
        "refused",
        Behaviour {
            refused: true,
            ..Behaviour::default()
        },
    );
    let id = bench.offer(&["refused"]).await;
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended), (pb::Outcome::ImageError, "rejected", None));
    agent.stop().await;
}

#[tokio::test]
async fn what_the_policy_forbids_is_refused_and_unknown_stops_are_answered() {
    let bench = Bench::new().await;
    let agent = bench.agent();
    let (id, mut forbidden) = offer(IMAGE, &["hello"]);
    forbidden.spec.as_mut().unwrap().user = "root".into();
    bench.coordinator.order(Kind::Offer(forbidden)).await;
    let (unknown, _) = offer(IMAGE, &["hello"]);
    bench
        .coordinator
        .order(stop(unknown, pb::StopReason::Superseded))
        .await;
    for (id, reason) in [(id, "policy"), (unknown, "never_seen")] {
        let refused = bench
            .coordinator
            .until("a refusal", |seen| {
                match seen.reports.get(&(id, seq::ANSWER))? {
                    pb::report::News::Refused(refused) => Some(refused.clone()),
                    _ => None,
                }
            })
            .await;
        assert_eq!(refused.reason, reason);
    }
    assert!(bench.engine.names().is_empty());
    agent.stop().await;
}

#[tokio::test]
async fn an_offer_is_not_taken_while_its_refusal_is_on_the_way() {
    let bench = Bench::new().await;
    let agent = bench.agent();
    bench.coordinator.change(|seen| seen.mute = true);
    let (id, wanted) = offer(IMAGE, &["hello"]);
    bench
        .coordinator
        .order(stop(id, pb::StopReason::Superseded))
        .await;
    let refusal = |seen: &crate::rig::Seen| seen.reports.get(&(id, seq::ANSWER)).map(drop);
    bench.coordinator.until("a refusal", refusal).await;
    bench.coordinator.order(Kind::Offer(wanted)).await;
    let other = bench.offer(&["hello"]).await;
    bench.coordinator.ended(other).await;
    assert!(!bench.engine.starts().contains_key(&container(id)));
    assert!(!bench.attempt_dir(id).exists());
    agent.stop().await;
}

#[tokio::test]
async fn a_coordinator_with_a_smaller_term_is_not_obeyed() {
    let bench = Bench::new().await;
    std::fs::write(bench.config.data_dir.join("term"), "5").unwrap();
    let agent = bench.agent();
    bench
        .coordinator
        .until("two hellos", |seen| (seen.hellos.len() > 1).then_some(()))
        .await;
    bench.offer(&["hello"]).await;
    assert!(bench.coordinator.lock().reports.is_empty());
    assert!(
        bench
            .coordinator
            .lock()
            .hellos
            .iter()
            .all(|hello| hello.term == 5)
    );
    assert!(bench.engine.names().is_empty());
    agent.stop().await;
}

#[tokio::test]
async fn what_a_newer_coordinator_adds_is_passed_over() {
    let bench = Bench::new().await;
    let agent = bench.agent();
    bench.coordinator.say(None).await;
    let orders = pb::Orders {
        term: 1,
        orders: vec![pb::Order { kind: None }],
    };
    let orders = pb::coordinator_message::Kind::Orders(orders);
    bench.coordinator.say(Some(orders)).await;
    let id = bench.offer(&["hello"]).await;
    bench.coordinator.ended(id).await;
    assert_eq!(bench.coordinator.lock().hellos.len(), 1);
    agent.stop().await;
}

#[tokio::test]
async fn heartbeats_carry_load_figures_and_changed_images() {
    let bench = Bench::new().await;
    let agent = bench.agent();
    let beat = bench
        .coordinator
        .until("images", |seen| {
            seen.beats
                .iter()
                .find(|beat| beat.images.is_some())
                .cloned()
        })
        .await;
    assert_eq!(beat.images.unwrap().images[0].digests, [IMAGE]);
    assert!(beat.load.unwrap().memory_available_bytes > 0);
    assert!(
        beat.samples
            .iter()
            .any(|sample| sample.name == "muster_agent_attempts_running")
    );
    agent.stop().await;
}
