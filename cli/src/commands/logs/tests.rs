use clap::Parser;
use muster_proto::v1::TaskState::Running;
use muster_proto::v1::watch_event::Change;

use super::*;
use crate::args::{Args, Command, Format};
use crate::mock::{Log, Script, World, ended_job, ended_task, err, job, out, task, whole};

fn flags(args: &[&str]) -> LogsArgs {
    let args = Args::try_parse_from(["muster", "logs"].iter().chain(args)).unwrap();
    match args.command {
        Command::Logs(flags) => flags,
        other => panic!("not logs: {other:?}"),
    }
}

fn two_attempts() -> Script {
    Script {
        job: job(1),
        changes: vec![
            Change::Task(task(Running, 2)),
            Change::Task(ended_task(2, v1::Outcome::Failed, Some(3))),
            Change::Job(ended_job(1, v1::Outcome::Failed, v1::TaskCounts::default())),
        ],
        logs: [
            (1, whole(vec![out("one\n")])),
            (2, whole(vec![out("two\n"), err("oh\n")])),
        ]
        .into(),
        attempts: vec![
            v1::Attempt {
                number: 1,
                ..v1::Attempt::default()
            },
            v1::Attempt {
                number: 2,
                ..v1::Attempt::default()
            },
        ],
        ..Script::default()
    }
}

async fn logs(script: Script, args: &[&str]) -> (Result<Exit, Failure>, World) {
    let mut world = World::new(script, Format::Table).await;
    let exit = run(&mut world.context, flags(args)).await;
    (exit, world)
}

#[tokio::test]
async fn the_newest_attempt_is_printed_and_another_on_request() {
    let (exit, world) = logs(two_attempts(), &["p8r0t2v4"]).await;
    assert_eq!(exit.unwrap(), Exit::DONE);
    assert_eq!(
        (world.out.text(), world.err.text()),
        ("two\n".to_owned(), "oh\n".to_owned())
    );
    for args in [
        &["p8r0t2v4.0#1"][..],
        &["p8r0t2v4", "--attempt", "1"],
        &["p8r0t2v4", "--previous"],
    ] {
        let (exit, world) = logs(two_attempts(), args).await;
        assert_eq!(exit.unwrap(), Exit::DONE, "{args:?}");
        assert_eq!(world.out.text(), "one\n", "{args:?}");
    }
}

#[tokio::test]
async fn following_begins_with_the_newest_attempt_and_can_end_with_its_code() {
    let (exit, world) = logs(two_attempts(), &["-f", "--exit-code", "p8r0t2v4.0"]).await;
    assert_eq!(exit.unwrap(), Exit(3));
    assert_eq!(world.out.text(), "two\n");
    let (exit, _) = logs(two_attempts(), &["-f", "p8r0t2v4.0"]).await;
    assert_eq!(exit.unwrap(), Exit::DONE);
}

#[tokio::test]
async fn a_job_of_many_tasks_needs_an_index() {
    let script = Script {
        job: job(40),
        ..two_attempts()
    };
    let (exit, _) = logs(script, &["p8r0t2v4"]).await;
    assert_eq!(
        exit.unwrap_err().report(false),
        "error: job p8r0t2v4 has 40 tasks; name one\n  for example p8r0t2v4.0; see: muster ps p8r0t2v4"
    );
}

#[tokio::test]
async fn what_is_there_so_far_is_enough_without_follow() {
    let script = Script {
        logs: [(
            1,
            Log {
                entries: vec![out("so far\n")],
                complete: false,
            },
        )]
        .into(),
        ..two_attempts()
    };
    let (exit, world) = logs(script, &["p8r0t2v4"]).await;
    assert_eq!(exit.unwrap(), Exit::DONE);
    assert_eq!(world.out.text(), "so far\n");
}
