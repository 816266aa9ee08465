use std::time::Duration;

use muster_core::time::Millis;

use super::*;
use crate::mock::{Script, World, ended_job, ended_task, job, task};

fn args(ids: &[&str]) -> WaitArgs {
    WaitArgs {
        ids: ids.iter().map(|id| id.parse().unwrap()).collect(),
        timeout: None,
    }
}

fn three() -> Script {
    let counts = v1::TaskCounts {
        succeeded: 2,
        canceled: 1,
        ..v1::TaskCounts::default()
    };
    Script {
        job: job(3),
        changes: vec![
            Change::Task(ended_task(1, v1::Outcome::Succeeded, Some(0))),
            Change::Job(ended_job(3, v1::Outcome::Canceled, counts)),
        ],
        ..Script::default()
    }
}

#[tokio::test]
async fn a_job_is_waited_for_and_summed_up() {
    let mut world = World::new(three(), Format::Table).await;
    let exit = run(&mut world.context, &args(&["p8r0t2v4"])).await.unwrap();
    assert_eq!(exit, Exit::CANCELED);
    assert_eq!(
        world.out.text(),
        "p8r0t2v4 load-users: 2 succeeded, 1 canceled, in 3.0 s\n"
    );
    assert!(world.script.lock().unwrap().watched[0].jobs_only);
}

#[tokio::test]
async fn a_single_task_is_enough() {
    let mut world = World::new(three(), Format::Table).await;
    let exit = run(&mut world.context, &args(&["p8r0t2v4.0"]))
        .await
        .unwrap();
    assert_eq!(exit, Exit::DONE);
    assert_eq!(world.out.text(), "p8r0t2v4.0  succeeded after 1 attempt\n");
}

#[tokio::test]
async fn waiting_has_an_end_when_told_so() {
    let script = Script {
        changes: vec![Change::Task(task(v1::TaskState::Running, 1))],
        ..three()
    };
    let mut world = World::new(script, Format::Table).await;
    let mut args = args(&["p8r0t2v4"]);
    args.timeout = Some(Millis(50));
    let waiting = run(&mut world.context, &args);
    let limited = tokio::time::timeout(Duration::from_secs(30), waiting);
    let failure = limited.await.unwrap().unwrap_err();
    assert_eq!(failure.exit(), Exit::TIMED_OUT);
    assert_eq!(failure.to_string(), "still not ended after 50 ms");
}

#[tokio::test]
async fn an_unknown_job_is_not_found() {
    let mut world = World::new(three(), Format::Table).await;
    let failure = run(&mut world.context, &args(&["zzzzzzzz"]))
        .await
        .unwrap_err();
    assert_eq!(failure.exit(), Exit::NOT_FOUND);
    assert_eq!(
        failure.report(false),
        "error: team default has no job zzzzzzzz\n  see what there is: muster ps -a"
    );
}
