use clap::Parser;
use muster_proto::v1::TaskState::{Assigned, Pending, Running};

use super::*;
use crate::args::{Args, Command, Format};
use crate::mock::{
    JOB, Log, Script, World, end, ended_job, ended_task, err, job, out, task, whole,
};

fn flags(args: &[&str]) -> RunArgs {
    let args = Args::try_parse_from(["muster", "run"].iter().chain(args)).unwrap();
    match args.command {
        Command::Run(flags) => *flags,
        other => panic!("not run: {other:?}"),
    }
}

async fn run_in(world: &mut World, args: &[&str]) -> Exit {
    let running = run(&mut world.context, flags(args));
    let limited = tokio::time::timeout(Duration::from_secs(30), running);
    limited.await.expect("the command ends").unwrap()
}

fn one_succeeds() -> Script {
    let counts = v1::TaskCounts {
        succeeded: 1,
        ..v1::TaskCounts::default()
    };
    Script {
        job: job(1),
        changes: vec![
            Change::Task(task(Assigned, 1)),
            Change::Task(task(Running, 1)),
            Change::Task(ended_task(1, v1::Outcome::Succeeded, Some(0))),
            Change::Job(ended_job(1, v1::Outcome::Succeeded, counts)),
        ],
        logs: [(1, whole(vec![out("4"), err("warn\n"), out("2\n")]))].into(),
        ..Script::default()
    }
}

#[tokio::test]
async fn output_goes_where_it_belongs_and_the_last_line_says_the_end() {
    let mut world = World::new(one_succeeds(), Format::Table).await;
    let exit = run_in(&mut world, &["analytics", "python3", "load.py"]).await;
    assert_eq!(exit, Exit::DONE);
    assert_eq!(world.out.text(), "42\n");
    assert_eq!(
        world.err.text(),
        "job p8r0t2v4 on etl-1, analytics@sha256:4c4c4c4c\nwarn\np8r0t2v4 succeeded in 3.0 s\n"
    );
    let script = world.script.lock().unwrap();
    assert_eq!(script.submitted.len(), 1);
    let sent = script.submitted[0].jobs[0].spec.clone().unwrap();
    assert_eq!(sent.command, ["python3", "load.py"]);
}

#[tokio::test]
async fn a_failure_ends_with_the_tasks_code_or_its_class() {
    let script = || Script {
        changes: vec![
            Change::Task(task(Running, 1)),
            Change::Task(ended_task(1, v1::Outcome::Failed, Some(7))),
            Change::Job(ended_job(1, v1::Outcome::Failed, v1::TaskCounts::default())),
        ],
        ..one_succeeds()
    };
    let mut world = World::new(script(), Format::Table).await;
    assert_eq!(run_in(&mut world, &["analytics"]).await, Exit(7));
    let last = world.err.text();
    let last = last.lines().last().unwrap();
    assert_eq!(
        last,
        "p8r0t2v4 failed(7) in 3.0 s    see: muster why p8r0t2v4"
    );

    let mut world = World::new(script(), Format::Table).await;
    let exit = run_in(&mut world, &["--exit-code", "class", "analytics"]).await;
    assert_eq!(exit, Exit::TASK_FAILED);
}

#[tokio::test]
async fn waiting_is_silent_until_the_end() {
    let mut world = World::new(one_succeeds(), Format::Table).await;
    assert_eq!(
        run_in(&mut world, &["--wait", "analytics"]).await,
        Exit::DONE
    );
    assert_eq!(world.out.text(), "");
    assert_eq!(world.err.text(), "p8r0t2v4 succeeded in 3.0 s\n");
}

#[tokio::test]
async fn detaching_prints_the_id_and_nothing_else() {
    let mut world = World::new(one_succeeds(), Format::Table).await;
    assert_eq!(run_in(&mut world, &["-d", "analytics"]).await, Exit::DONE);
    assert_eq!(world.out.text(), format!("{JOB}\n"));
    assert_eq!(world.err.text(), "");
    assert!(world.script.lock().unwrap().watched.is_empty());
}

#[tokio::test]
async fn a_strict_submission_counts_warnings() {
    let script = || Script {
        warnings: vec!["no agent in pool gpu fits".to_owned()],
        ..one_succeeds()
    };
    let mut world = World::new(script(), Format::Table).await;
    let exit = run_in(&mut world, &["--strict", "analytics"]).await;
    assert_eq!(exit, Exit::NO_FIT);
    assert_eq!(world.err.text(), "warning: no agent in pool gpu fits\n");
    let mut world = World::new(script(), Format::Table).await;
    assert_eq!(run_in(&mut world, &["-d", "analytics"]).await, Exit::DONE);
}

#[tokio::test]
async fn a_restarted_coordinator_is_mentioned_once_and_loses_nothing() {
    let script = Script {
        watch_breaks_after: Some(2),
        logs_break_after: Some(2),
        ..one_succeeds()
    };
    let mut world = World::new(script, Format::Table).await;
    assert_eq!(run_in(&mut world, &["analytics"]).await, Exit::DONE);
    assert_eq!(world.out.text(), "42\n");
    let said = world.err.text();
    assert_eq!(said.matches("does not answer").count(), 1, "{said}");
    assert_eq!(said.matches("answers again").count(), 1, "{said}");
    assert_eq!(said.matches("warn\n").count(), 1, "{said}");
    let script = world.script.lock().unwrap();
    let positions: Vec<u64> = script.watched.iter().map(|watch| watch.position).collect();
    assert_eq!(positions, [0, 2]);
}

#[tokio::test]
async fn a_retry_is_told_and_followed() {
    let first = v1::Attempt {
        number: 1,
        end: Some(end(v1::Outcome::Failed, Some(2))),
        ..v1::Attempt::default()
    };
    let script = Script {
        changes: vec![
            Change::Task(task(Running, 1)),
            Change::Task(task(Pending, 1)),
            Change::Task(task(Running, 2)),
            Change::Task(ended_task(2, v1::Outcome::Succeeded, Some(0))),
            Change::Job(ended_job(
                1,
                v1::Outcome::Succeeded,
                v1::TaskCounts::default(),
            )),
        ],
        logs: [
            (1, whole(vec![out("one\n")])),
            (2, whole(vec![out("two\n")])),
        ]
        .into(),
        attempts: vec![first],
        ..one_succeeds()
    };
    let mut world = World::new(script, Format::Table).await;
    assert_eq!(run_in(&mut world, &["analytics"]).await, Exit::DONE);
    assert_eq!(world.out.text(), "one\ntwo\n");
    let said = world.err.text();
    assert_eq!(
        said.matches("p8r0t2v4.0#1 ended failed(2); ").count(),
        1,
        "{said}"
    );
}

#[tokio::test]
async fn a_log_that_never_ends_is_given_up_and_said() {
    let script = Script {
        logs: [(
            1,
            Log {
                entries: vec![out("half\n")],
                complete: false,
            },
        )]
        .into(),
        ..one_succeeds()
    };
    let mut world = World::new(script, Format::Table).await;
    assert_eq!(run_in(&mut world, &["analytics"]).await, Exit::DONE);
    assert_eq!(world.out.text(), "half\n");
    let said = world.err.text();
    assert!(
        said.contains("the output of p8r0t2v4.0#1 is incomplete"),
        "{said}"
    );
}

#[tokio::test]
async fn an_attempt_that_never_started_has_no_output() {
    let never = v1::End {
        outcome: v1::Outcome::ImageError.into(),
        exit_code: None,
        reason: "no_such_image".to_owned(),
        message: "no such image".to_owned(),
    };
    let ended = v1::Task {
        end: Some(never),
        ..ended_task(1, v1::Outcome::ImageError, None)
    };
    let script = Script {
        changes: vec![
            Change::Task(ended),
            Change::Job(ended_job(
                1,
                v1::Outcome::ImageError,
                v1::TaskCounts::default(),
            )),
        ],
        logs: [].into(),
        ..one_succeeds()
    };
    let mut world = World::new(script, Format::Table).await;
    assert_eq!(run_in(&mut world, &["analytics"]).await, Exit(125));
    let said = world.err.text();
    let last = said.lines().last().unwrap();
    assert!(
        last.starts_with("p8r0t2v4 image_error (no_such_image): no such image"),
        "{said}"
    );
}

#[tokio::test]
async fn a_task_canceled_before_it_was_assigned_ends_too() {
    let script = Script {
        changes: vec![Change::Job(ended_job(
            1,
            v1::Outcome::Canceled,
            v1::TaskCounts::default(),
        ))],
        ..one_succeeds()
    };
    let mut world = World::new(script, Format::Table).await;
    assert_eq!(run_in(&mut world, &["analytics"]).await, Exit(143));
}

fn runs_forever() -> Script {
    Script {
        changes: vec![Change::Task(task(Running, 1))],
        logs: [(1, Log::default())].into(),
        ..one_succeeds()
    }
}

#[tokio::test]
async fn one_interrupt_detaches_and_two_cancel() {
    const DETACHED: &str = "Detached. The job runs on.\n  come back   muster wait p8r0t2v4\n  \
                            cancel      muster cancel p8r0t2v4\n";
    let mut world = World::new(runs_forever(), Format::Table).await;
    world.signals.send(Asked::Terminate).await.unwrap();
    assert_eq!(run_in(&mut world, &["analytics"]).await, Exit::INTERRUPTED);
    assert!(world.err.text().ends_with(DETACHED));
    assert!(world.script.lock().unwrap().canceled.is_empty());

    let mut world = World::new(runs_forever(), Format::Table).await;
    for _ in 0..2 {
        world.signals.send(Asked::Interrupt).await.unwrap();
    }
    assert_eq!(run_in(&mut world, &["analytics"]).await, Exit::INTERRUPTED);
    let canceled = world.script.lock().unwrap().canceled.clone();
    assert_eq!(canceled.len(), 1);
    assert_eq!(canceled[0].job, JOB);
}

#[tokio::test]
async fn an_array_ends_with_the_worst_class_and_names_the_failed() {
    let counts = v1::TaskCounts {
        succeeded: 2,
        failed: 1,
        ..v1::TaskCounts::default()
    };
    let failed = v1::Task {
        index: 1,
        ..ended_task(3, v1::Outcome::Failed, Some(2))
    };
    let script = Script {
        job: job(3),
        changes: vec![Change::Job(ended_job(3, v1::Outcome::Failed, counts))],
        tasks: vec![failed],
        ..Script::default()
    };
    let mut world = World::new(script, Format::Table).await;
    let exit = run_in(&mut world, &["--array", "3", "analytics"]).await;
    assert_eq!(exit, Exit::TASK_FAILED);
    assert_eq!(world.out.text(), "");
    assert_eq!(
        world.err.text(),
        "job p8r0t2v4 load-users, 3 tasks, analytics\n\
         p8r0t2v4 load-users: 2 succeeded, 1 failed, in 3.0 s\n  \
         p8r0t2v4.1  failed(2) after 3 attempts    see: muster why p8r0t2v4.1\n"
    );
}
