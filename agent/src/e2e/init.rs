//! muster's own init process inside real containers: what a hostile task can do about it.

use super::{Bench, brief};
use crate::config::InitChoice;
use crate::runtime::{Runtime as _, Signal};
use muster_proto::v1 as pb;

#[tokio::test(flavor = "multi_thread")]
async fn a_task_can_not_look_into_its_init_process() {
    let Some(bench) = Bench::new().await else {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_task_can_spoil_its_record_and_not_forge_it() {
    let Some(bench) = Bench::new().await else {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_started_again_runs_nothing() {
    let Some(bench) = Bench::new().await else {
        return;
    };
    bench.coordinator.change(|seen| seen.mute = true); // so that the container stays
    let id = bench.run("echo ran; exit 7").await;
    assert_eq!(brief(&bench.coordinator.ended(id).await).2, Some(7));
    let name = format!("mu-01234567-{id}");
    bench.engine.start(&name).await.unwrap();
    bench.engine.wait(&name).await.unwrap();
    let found = bench.engine.inspect(&name).await.unwrap().unwrap();
    assert_eq!(found.exit_code, 123);
    bench.discard(&name).await;
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
