//! muster's own init process inside real containers: what a hostile task can do about it.

use super::parked::cold_and_warm;
use super::{Bench, Start, brief};
use crate::config::InitChoice;
use crate::plan::Seen;
use crate::rig::Agent;
use crate::runtime::{Runtime as _, Signal};
use muster_proto::v1 as pb;
use std::time::{Duration, Instant};

cold_and_warm!(
    a_task_can_not_look_into_its_init_process,
    a_task_can_spoil_its_record_and_not_forge_it,
    a_container_that_is_started_again_runs_nothing,
    a_task_is_stopped_in_time_though_its_agent_is_gone,
);

async fn a_task_can_not_look_into_its_init_process(start: Start) {
    let Some(bench) = Bench::of(start).await else {
        return;
    };
    let script = "tr '\\0' ' ' < /proc/1/cmdline | cut -c-33; \
        cat /proc/1/environ 2>/dev/null || echo no environment; \
        ls /proc/1/fd 2>/dev/null || echo no files; \
        head -c 1 /proc/1/mem 2>/dev/null || echo no memory; \
        kill -9 1; kill -STOP 1; env | grep -c MUSTER_INIT; \
        (echo x > /run/muster-init) 2>/dev/null || echo no writing; \
        head -1 /run/muster-records/record.new | tr -d ' '";
    let id = bench.run(script).await;
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended), (pb::Outcome::Succeeded, "exited", Some(0)));
    let wanted = "/run/muster-init --records /run/m\nno environment\nno files\nno memory\n0\n\
        no writing\n";
    assert_eq!(bench.text(id).await, wanted);
    bench.close().await;
}

async fn a_task_can_spoil_its_record_and_not_forge_it(start: Start) {
    let Some(bench) = Bench::of(start).await else {
        return;
    };
    let forged = "muster-init 1\\nkey 0\\nstarted 1 1\\nended 2 2\\nexited 0\\nend\\n";
    let scripts = [
        // In the place of the record, or where the init process will write it.
        format!("printf '{forged}' > /run/muster-records/record; exit 7"),
        format!(
            "rm /run/muster-records/*; mkdir /run/muster-records/record; touch /run/muster-records/record/x; printf '{forged}' > /run/muster-records/record.new; exit 7"
        ),
        // A signal from inside is the task's own affair.
        "kill -TERM 1; sleep 1; exit 7".to_owned(),
    ];
    for script in scripts {
        let ended = bench.coordinator.ended(bench.run(&script).await).await;
        let own = [
            (pb::Outcome::Failed, "exited", Some(7)),
            (pb::Outcome::Failed, "signaled", Some(143)),
        ];
        assert!(own.contains(&brief(&ended)), "{script}: {:?}", ended.end);
    }
    bench.close().await;
}

async fn a_container_that_is_started_again_runs_nothing(start: Start) {
    let Some(bench) = Bench::of(start).await else {
        return;
    };
    bench.coordinator.change(|seen| seen.mute = true); // so that the container stays
    let id = bench.run("echo ran; exit 7").await;
    assert_eq!(brief(&bench.coordinator.ended(id).await).2, Some(7));
    let name = bench.container(id);
    let started = bench.engine.start(&name).await;
    match start {
        Start::Cold => {
            started.unwrap();
            bench.engine.wait(&name).await.unwrap();
            let found = bench.engine.inspect(&name).await.unwrap().unwrap();
            assert_eq!(found.exit_code, 123);
        }
        // What it had mounted is elsewhere.
        Start::Warm => assert!(started.is_err()),
    }
    bench.discard(&name).await;
}

async fn a_task_is_stopped_in_time_though_its_agent_is_gone(start: Start) {
    let Some(mut bench) = Bench::of(start).await else {
        return;
    };
    let stop_after = |spec: &mut pb::JobSpec| {
        let stop_after = Some(prost_types::Duration {
            seconds: 2,
            nanos: 0,
        });
        spec.on_disconnect = Some(pb::OnDisconnect { stop_after });
    };
    let script = "trap 'echo told; exit 0' TERM; while :; do sleep 0.05; done";
    bench.teach(stop_after).await;
    if start == Start::Warm {
        bench.until_parked(2).await; // one of them with a lease
    }
    let id = bench.run_with(script, stop_after).await;
    bench.coordinator.started(id).await;
    let name = bench.container(id);
    // Longer than that it goes on, as long as the agent is there.
    let beats = bench.coordinator.lock().beats.len();
    let more = |seen: &crate::rig::Seen| (seen.beats.len() > beats + 15).then_some(());
    bench.coordinator.until("heartbeats", more).await;
    let found = bench.engine.inspect(&name).await.unwrap().unwrap();
    assert_eq!(found.seen, Seen::Running);

    // An agent that ends touches no container, however it ends.
    bench.agent.take().unwrap().stop().await;
    let began = Instant::now();
    bench.engine.wait(&name).await.unwrap();
    let took = began.elapsed();
    // Its last contact was up to a heartbeat before, and the engine takes a moment.
    assert!(took > Duration::from_secs(1), "{took:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");

    bench.agent = Some(Agent::start(bench.engine.clone(), bench.config.clone()));
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended), (pb::Outcome::Lost, "disconnected", None));
    assert_eq!(bench.text(id).await, "told\n");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engines_init_process_does_too() {
    let Some(bench) = Bench::with(|config| config.init = InitChoice::Engine).await else {
        return;
    };
    let id = bench
        .run("head -c 17 /proc/1/cmdline | tr '\\0' ' '; trap 'exit 0' TERM; echo; while :; do sleep 0.1; done")
        .await;
    bench.coordinator.started(id).await;
    bench
        .coordinator
        .until("its output", |seen| {
            seen.logs.get(&id).filter(|log| !log.is_empty()).map(drop)
        })
        .await;
    let name = format!("mu-01234567-{id}");
    bench.engine.kill(&name, Signal::Term).await.unwrap();
    let ended = bench.coordinator.ended(id).await;
    let wanted = (pb::Outcome::InfraError, "killed_externally", None);
    assert_eq!(brief(&ended), wanted);
    assert!(bench.text(id).await.contains("docker-init"));
    let missing = bench
        .run_with("", |spec| spec.command = vec!["/no/such".into()])
        .await;
    let ended = bench.coordinator.ended(missing).await;
    assert_eq!(brief(&ended).1, "no_such_entrypoint");
    bench.close().await;
}
