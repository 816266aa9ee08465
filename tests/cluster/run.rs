//! Tasks run on agents: their ends, their output, and how they are stopped.

use futures_util::TryStreamExt as _;
use muster_agent::runtime::fake::{Behaviour, OnTerm};
use muster_core::logframe::LogStream;
use muster_proto::v1 as pb;
use muster_tests::cluster::{Cluster, Host, digest_text, reference, spec, until};

#[tokio::test]
async fn an_array_runs_over_two_agents_and_leaves_nothing_behind() {
    let cluster = Cluster::start().await;
    let (mut one, mut two) = (Host::new("etl-1", 2), Host::new("etl-2", 3));
    for host in [&one, &two] {
        host.engine.script("work", Behaviour::forever());
    }
    one.start(&cluster).await;
    two.start(&cluster).await;
    let job = cluster.submit(spec(&reference(), "work"), 5).await;
    cluster.running(&job.id, 5).await;
    let tasks = cluster.tasks(&job.id).await;
    for host in [&one, &two] {
        for name in host.engine.names() {
            assert!(host.engine.exit(&name, 0), "{name} runs");
        }
    }
    let ended = cluster.ended(&job.id).await;
    assert_eq!(ended.counts.unwrap().succeeded, 5);
    assert_eq!(ended.outcome(), pb::Outcome::Succeeded);
    let on = |name: &str| tasks.iter().filter(|task| task.agent == name).count();
    assert_eq!((on("etl-1"), on("etl-2")), (2, 3));
    assert!(tasks.iter().all(|task| task.digest == digest_text(1)));
    for host in [&mut one, &mut two] {
        host.is_clean().await;
        assert!(host.engine.starts().values().all(|starts| *starts == 1));
        host.stop().await;
    }
}

#[tokio::test]
async fn a_failed_task_is_tried_again_as_often_as_its_policy_says() {
    let cluster = Cluster::start().await;
    let mut host = Host::new("etl-1", 1);
    let fails = Behaviour {
        exit_code: 3,
        ..Behaviour::default()
    };
    host.engine.script("fail", fails);
    host.start(&cluster).await;
    let mut spec = spec(&reference(), "fail");
    spec.retry.as_mut().unwrap().user = Some(2);
    let job = cluster.submit(spec, 1).await;
    let ended = cluster.ended(&job.id).await;
    assert_eq!(ended.outcome(), pb::Outcome::Failed);
    let request = pb::ListAttemptsRequest {
        job: job.id,
        ..Default::default()
    };
    let attempts = cluster.jobs().list_attempts(request).await.unwrap();
    let attempts = attempts.into_inner().attempts;
    let codes: Vec<_> = attempts
        .iter()
        .map(|attempt| attempt.end.as_ref().and_then(|end| end.exit_code))
        .collect();
    assert_eq!(codes, [Some(3); 3]);
    host.stop().await;
}

#[tokio::test]
async fn a_retry_rule_ends_what_would_fail_again() {
    let cluster = Cluster::start().await;
    let mut host = Host::new("etl-1", 1);
    for (word, exit_code) in [("usage", 64), ("busy", 75)] {
        let fails = Behaviour {
            exit_code,
            ..Behaviour::default()
        };
        host.engine.script(word, fails);
    }
    host.start(&cluster).await;
    for (word, retries) in [("usage", 0), ("busy", 2)] {
        let mut spec = spec(&reference(), word);
        let policy = spec.retry.as_mut().unwrap();
        policy.user = Some(2);
        policy.rules = vec![pb::RetryRule {
            outcomes: vec![pb::Outcome::Failed.into()],
            exit_codes: vec![pb::ExitCodes {
                first: 64,
                last: Some(74),
            }],
            action: pb::retry_rule::Action::Fail.into(),
            grow: None,
        }];
        let job = cluster.submit(spec, 1).await;
        let ended = cluster.ended(&job.id).await;
        assert_eq!(ended.outcome(), pb::Outcome::Failed);
        assert_eq!(ended.counts.unwrap().retries, retries, "{word}");
    }
    host.stop().await;
}

#[tokio::test]
async fn logs_are_complete_to_the_last_unterminated_line() {
    let cluster = Cluster::start().await;
    let mut host = Host::new("etl-1", 1);
    let talks = Behaviour {
        output: vec![
            (LogStream::Stdout, "first\n".into()),
            (LogStream::Stderr, "a warning\n".into()),
            (LogStream::Stdout, "no end of line".into()),
        ],
        ..Behaviour::forever()
    };
    host.engine.script("talk", talks);
    host.start(&cluster).await;
    let job = cluster.submit(spec(&reference(), "talk"), 1).await;
    let request = pb::LogsRequest {
        job: job.id.clone(),
        follow: true,
        ..Default::default()
    };
    cluster.running(&job.id, 1).await;
    let mut live = cluster
        .jobs()
        .logs(request.clone())
        .await
        .unwrap()
        .into_inner();
    let mut seen = Vec::new();
    while seen.len() < "first\na warning\n".len() {
        let part = live.try_next().await.unwrap().expect("it goes on");
        seen.extend(part.entries.into_iter().flat_map(|entry| entry.data));
    }
    host.exit(&job.id, 0, 1, 0).await;
    cluster.ended(&job.id).await;
    let rest: Vec<pb::LogEntries> = live.try_collect().await.unwrap();
    assert!(rest.last().is_some_and(|last| last.complete), "{rest:?}");

    host.is_clean().await;
    host.stop().await;
    let answer = cluster.jobs().logs(request).await.unwrap().into_inner();
    let parts: Vec<pb::LogEntries> = answer.try_collect().await.unwrap();
    let text = |stream: pb::LogStream| -> String {
        let entries = parts.iter().flat_map(|part| &part.entries);
        let data = entries.filter(|entry| entry.stream() == stream);
        let bytes = data.flat_map(|entry| entry.data.clone()).collect();
        String::from_utf8(bytes).unwrap()
    };
    assert_eq!(text(pb::LogStream::Stdout), "first\nno end of line");
    assert_eq!(text(pb::LogStream::Stderr), "a warning\n");
    assert!(parts.last().unwrap().complete);
}

#[tokio::test]
async fn a_canceled_task_gets_term_then_kill_and_is_over_when_it_is_gone() {
    let cluster = Cluster::start().await;
    let mut host = Host::new("etl-1", 2);
    let stubborn = Behaviour {
        on_term: OnTerm::Ignore,
        ..Behaviour::forever()
    };
    host.engine.script("stay", stubborn);
    host.start(&cluster).await;
    let job = cluster.submit(spec(&reference(), "stay"), 4).await;
    cluster.running(&job.id, 2).await;
    let request = pb::CancelRequest {
        job: job.id.clone(),
        tasks: vec![pb::IndexRange { first: 1, last: 3 }],
        reason: "not needed".into(),
        ..Default::default()
    };
    let answer = cluster.jobs().cancel(request.clone()).await.unwrap();
    assert_eq!(answer.into_inner().tasks, 3);
    until("a canceled task", || async {
        let counts = cluster.job(&job.id).await.counts.unwrap();
        (counts.canceled == 3 && counts.running == 1).then_some(())
    })
    .await;
    let all = pb::CancelRequest {
        tasks: vec![],
        now: true,
        ..request
    };
    cluster.jobs().cancel(all).await.unwrap();
    let ended = cluster.ended(&job.id).await;
    assert!(ended.cancel_requested);
    assert_eq!(ended.counts.unwrap().canceled, 4);
    host.is_clean().await;
    host.stop().await;
}
