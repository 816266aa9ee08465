//! Retries that ask for more memory, and retries that wait for their team's pace.

use muster_agent::runtime::fake::Behaviour;
use muster_proto::v1 as pb;
use muster_tests::cluster::{Cluster, Host, reference, spec, until};

const MIB: u64 = 1 << 20;
/// How the task says that it had too little memory.
const NO_ROOM: u32 = 3;

#[tokio::test]
async fn a_task_whose_rule_says_so_asks_for_more_memory_also_over_a_restart() {
    let mut cluster = Cluster::start().await;
    let mut host = Host::new("etl-1", 1);
    host.engine.script("eat", Behaviour::forever());
    host.start(&cluster).await;
    let mut hungry = spec(&reference(), "eat");
    let retry = hungry.retry.as_mut().unwrap();
    retry.user = Some(5);
    retry.rules = vec![pb::RetryRule {
        exit_codes: vec![pb::ExitCodes {
            first: NO_ROOM,
            last: None,
        }],
        action: pb::retry_rule::Action::Retry.into(),
        grow: Some(pb::MemoryGrowth {
            percent: 200,
            max_bytes: 48 * MIB,
        }),
        ..Default::default()
    }];
    let job = cluster.submit(hungry, 1).await;
    let mut limits = Vec::new();
    for attempt in 1..=3 {
        let name = host.container(&job.id, 0, attempt).await;
        limits.push(host.engine.asked(&name).unwrap().limits.memory_bytes / MIB);
        cluster.running(&job.id, 1).await;
        if attempt == 2 {
            cluster.stop().await;
            cluster.start_again().await;
            cluster.agent_is("etl-1", pb::AgentState::Online).await;
        }
        let [task] = &cluster.tasks(&job.id).await[..] else {
            panic!("one task");
        };
        let grown = limits[limits.len() - 1] * MIB;
        let shown = if attempt == 1 { 0 } else { grown };
        assert_eq!(task.memory_bytes, shown);
        host.exit(&job.id, 0, attempt, i32::try_from(NO_ROOM).unwrap())
            .await;
    }
    assert_eq!(limits, [16, 32, 48]);
    let ended = cluster.ended(&job.id).await;
    assert_eq!(ended.outcome(), pb::Outcome::Failed);
    assert_eq!(ended.counts.unwrap().retries, 2, "it had the most there is");
    host.stop().await;
}

#[tokio::test]
async fn retries_that_wait_for_their_pace_are_counted_and_explained() {
    let pace = [("MUSTER_COORDINATOR_RETRIES_PER_MINUTE", "1")];
    let cluster = Cluster::start_on_tcp_with(&pace).await;
    let mut host = Host::new("etl-1", 4);
    let fails = Behaviour {
        exit_code: 3,
        ..Behaviour::default()
    };
    host.engine.script("fail", fails);
    host.start(&cluster).await;
    let mut spec = spec(&reference(), "fail");
    spec.retry.as_mut().unwrap().user = Some(1);
    let job = cluster.submit(spec, 14).await;
    // What ten minutes bring goes at once.
    until("the gauge", || async {
        let url = format!("{}/metrics", cluster.http);
        let text = reqwest::get(url).await.ok()?.text().await.ok()?;
        let wanted = "muster_retries_paced{team=\"default\"} 4";
        text.lines().any(|line| line == wanted).then_some(())
    })
    .await;
    let request = pb::ExplainRequest {
        job: job.id,
        ..Default::default()
    };
    let why = cluster.jobs().explain(request).await.unwrap().into_inner();
    assert_eq!(why.reasons[0].code, "retries_paced");
    assert_eq!(
        why.reasons[0].message,
        "the team's retries are paced, 1 a minute and one more for every 10 tasks that succeed: 0 go before it"
    );
    host.stop().await;
}
