//! What an init process wrote down, when its engine knows no more.

use muster_core::time::Timestamp;

use super::*;

/// A record of a task that began at 100 and ended with 0 at 200, in the place of the init process.
fn write_record(bench: &Bench, id: AttemptId) {
    let asked = bench.engine.asked(&container(id)).unwrap();
    let init = asked.init.unwrap();
    let key = init.run.unwrap().key;
    let text = format!("muster-init 1\nkey {key}\nstarted 5 100\nended 105 200\nexited 0\nend\n");
    std::fs::rename(init.records.join("armed"), init.records.join("started")).unwrap();
    std::fs::write(init.records.join("record"), text).unwrap();
}

async fn ended_by_record(bench: &Bench, id: AttemptId) {
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended), (pb::Outcome::Succeeded, "exited", Some(0)));
    let times = [ended.started, ended.ended];
    let written = [Timestamp(100), Timestamp(200)];
    assert_eq!(times, written.map(|at| Some(crate::wire::timestamp(at))));
    let run = ended.usage.unwrap().run.unwrap();
    assert_eq!((run.seconds, run.nanos), (0, 100_000_000));
    bench.until_clean().await;
}

/// As an engine does that is killed between the start of a task and its own note of it.
#[tokio::test]
async fn a_start_that_the_engine_forgot_is_told_by_the_record() {
    let bench = Bench::new().await;
    bench.engine.set_mounts();
    let agent = bench.agent();
    let fault = StartFault::HangUpBeforeStarting;
    bench.engine.fail_next_start(fault);
    let id = bench.offer(&["hello"]).await;
    let dir = bench.attempt_dir(id);
    let asked_to_start = || {
        let journal = std::fs::read_to_string(dir.join("journal"));
        journal.is_ok_and(|text| text.contains("start_intent"))
    };
    bench.until("the intent", asked_to_start).await;
    write_record(&bench, id);
    ended_by_record(&bench, id).await;
    agent.stop().await;
}

#[tokio::test]
async fn times_of_a_container_that_is_gone_are_those_of_the_record() {
    let bench = Bench::new().await;
    bench.engine.set_mounts();
    bench.engine.script("hello", Behaviour::forever());
    let agent = bench.agent();
    let id = bench.offer(&["hello"]).await;
    bench.coordinator.started(id).await;
    write_record(&bench, id);
    bench.engine.remove_from_outside(&container(id));
    ended_by_record(&bench, id).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_start_that_was_written_down_is_told_with_the_end() {
    let bench = Bench::new().await;
    bench.engine.script("hello", Behaviour::forever());
    let agent = bench.agent();
    let id = bench.offer(&["hello"]).await;
    bench.coordinator.started(id).await;
    agent.stop().await;
    // As if that had not arrived.
    bench.coordinator.change(|seen| seen.reports.clear());
    bench.engine.remove_from_outside(&container(id));
    let agent = bench.agent();
    let ended = bench.coordinator.ended(id).await;
    assert_eq!(brief(&ended), (pb::Outcome::Lost, "container_gone", None));
    assert!(ended.started.is_some());
    // Nobody knows for how long it ran.
    assert_eq!(ended.usage.unwrap().run, None);
    bench.until_clean().await;
    agent.stop().await;
}
