//! What one agent reported is told again a thousand times: twice, late and in any order. The tasks end as
//! they did the first time.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use muster_agent::runtime::fake::Behaviour;
use muster_proto::v1 as pb;
use muster_tests::cluster::{Cluster, DEADLINE, Host, reference, spec, until};
use tokio_util::sync::CancellationToken;

use self::player::{Player, Recording};
use self::tap::Tap;

mod player;
mod tap;

const ROUNDS: usize = 1_000;
/// Rounds at a time.
const OPEN: usize = 40;
const LOOK: Duration = Duration::from_millis(50);
/// How the tasks of a round behave, and how many of them there are.
const JOBS: [(&str, u32); 3] = [("works", 2), ("fails", 1), ("impossible", 1)];

/// How a job ended, to the last attempt; without what may differ from run to run.
#[derive(Debug, Clone, PartialEq)]
struct Ended {
    outcome: pb::Outcome,
    counts: pb::TaskCounts,
    tasks: Vec<pb::Task>,
    attempts: Vec<pb::Attempt>,
}

/// One of each of [`JOBS`].
async fn submit(cluster: &Cluster) -> Vec<pb::Job> {
    let job = |(word, array): (&str, u32)| {
        let mut spec = spec(&reference(), word);
        spec.retry.as_mut().unwrap().user = Some(2);
        pb::NewJob {
            spec: Some(spec),
            array,
            idempotency_key: String::new(),
        }
    };
    let request = pb::SubmitRequest {
        team: String::new(),
        jobs: JOBS.map(job).into(),
    };
    let answer = cluster.jobs().submit(request).await.unwrap().into_inner();
    let jobs = answer.jobs.into_iter();
    jobs.map(|submitted| submitted.job.unwrap()).collect()
}

/// Waits for the job's end, and asks seldom: others wait too.
async fn ended(cluster: &Cluster, id: &str) {
    let mut looks = tokio::time::interval(LOOK);
    let looking = async {
        while cluster.job(id).await.state() != pb::JobState::Ended {
            looks.tick().await;
        }
    };
    let seen = tokio::time::timeout(DEADLINE, looking).await;
    seen.unwrap_or_else(|_| panic!("{id} does not end"));
}

async fn end_of(cluster: &Cluster, id: &str) -> Ended {
    let mut jobs = cluster.jobs();
    let job = cluster.job(id).await;
    let request = pb::ListAttemptsRequest {
        job: id.to_owned(),
        ..Default::default()
    };
    let attempts = jobs.list_attempts(request).await.unwrap().into_inner();
    let task = |task| pb::Task {
        job: String::new(),
        ..task
    };
    let attempt = |attempt| pb::Attempt {
        job: String::new(),
        assigned: None,
        late_report: String::new(),
        ..attempt
    };
    Ended {
        outcome: job.outcome(),
        counts: job.counts.unwrap(),
        tasks: cluster.tasks(id).await.into_iter().map(task).collect(),
        attempts: attempts.attempts.into_iter().map(attempt).collect(),
    }
}

/// The first time: by a real agent.
async fn record(cluster: &Cluster) -> (Recording, Vec<Ended>) {
    let tap = Tap::before(cluster.connect()).await;
    let mut host = Host::new("etl-1", 4);
    for (word, exit_code, refused) in [
        ("works", 0, false),
        ("fails", 3, false),
        ("impossible", 0, true),
    ] {
        let behaviour = Behaviour {
            exit_code,
            refused,
            ..Behaviour::default()
        };
        host.engine.script(word, behaviour);
    }
    host.start_at(cluster, &tap.address).await;
    let jobs = submit(cluster).await;
    let mut ends = Vec::new();
    for job in &jobs {
        cluster.ended(&job.id).await;
        ends.push(end_of(cluster, &job.id).await);
    }
    host.is_clean().await;
    host.stop().await;
    let words: BTreeMap<&str, &str> = jobs
        .iter()
        .zip(JOBS)
        .map(|(job, (word, _))| (job.id.as_str(), word))
        .collect();
    let mut recording = Recording::new();
    for report in tap.reports() {
        let attempt = report.attempt.clone().unwrap();
        let word = words[attempt.job.as_str()].to_owned();
        let of = recording
            .entry((word, attempt.index, attempt.number))
            .or_default();
        // An agent whose stream breaks says it again.
        if of.last().is_none_or(|last| last.seq < report.seq) {
            of.push(report);
        }
    }
    (recording, ends)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_in_any_order_however_often_and_late_lead_to_the_same_ends() {
    // A thousand rounds of retries are far more than a team's pace allows.
    let pace = [("MUSTER_COORDINATOR_RETRIES_PER_MINUTE", "1000000")];
    let cluster = Cluster::start_on_tcp_with(&pace).await;
    let (recording, first) = record(&cluster).await;
    assert_eq!(recording.len(), 2 + 3 + 1, "attempts of a round");
    let stop = CancellationToken::new();
    let player = Player::new(cluster.connect(), recording);
    let playing = tokio::spawn(player.run(stop.clone()));
    cluster.agent_is("etl-1", pb::AgentState::Online).await;

    let round = |_| async {
        let jobs = submit(&cluster).await;
        for job in &jobs {
            ended(&cluster, &job.id).await;
        }
        jobs
    };
    let rounds = stream::iter(0..ROUNDS).map(round).buffer_unordered(OPEN);
    let rounds: Vec<Vec<pb::Job>> = rounds.collect().await;
    stop.cancel();
    let player = playing.await.unwrap();
    println!(
        "{ROUNDS} rounds: {} reports over {} streams, {} of them once more",
        player.sent, player.streams, player.again
    );
    assert!(
        player.again > 1_000 && player.streams > 1,
        "nothing was told twice"
    );

    // Only now: what came after the ends has been told too.
    let (cluster, first) = (&cluster, &first);
    let compared = stream::iter(&rounds).map(|jobs| async move {
        let mut ends = Vec::new();
        for job in jobs {
            ends.push(end_of(cluster, &job.id).await);
        }
        assert_eq!(&ends, first);
    });
    let same = compared.buffer_unordered(4).count().await;
    assert_eq!(same, ROUNDS);
    until("an agent without attempts", || async {
        let agent = cluster.agent_is("etl-1", pb::AgentState::Unreachable).await;
        (agent.running == 0 && agent.reserved.unwrap().places == 0).then_some(())
    })
    .await;
}
