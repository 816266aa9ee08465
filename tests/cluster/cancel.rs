//! Jobs are canceled at every moment of their tasks' lives: nothing starts once a job has ended, nothing is left, and
//! no cancel takes longer than the task's grace allows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use muster_agent::runtime::fake::{Behaviour, OnTerm, Pace};
use muster_proto::v1 as pb;
use muster_tests::cluster::{Cluster, DEADLINE, Host, reference, spec};
use muster_tests::random::Rng;

const CANCELS: usize = 1_000;
/// At a time; more than there are places, so that some are canceled while they wait.
const OPEN: usize = 60;
const PLACES: u32 = 24;
/// Of [`spec`].
const GRACE: Duration = Duration::from_secs(1);
/// After the grace.
const SLACK: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);
/// How tasks behave that are told to end; the last one ends by itself.
const WORDS: [&str; 4] = ["obeys", "ignores", "exits", "short"];

fn behaviour(word: &str) -> Behaviour {
    match word {
        "ignores" => Behaviour {
            on_term: OnTerm::Ignore,
            ..Behaviour::forever()
        },
        // That is no success: it was told to.
        "exits" => Behaviour {
            on_term: OnTerm::Exit(0),
            ..Behaviour::forever()
        },
        "short" => Behaviour {
            takes: Duration::from_millis(100),
            ..Behaviour::default()
        },
        _ => Behaviour::forever(),
    }
}

/// What came of one cancel.
#[derive(Debug)]
struct Canceled {
    word: &'static str,
    job: String,
    outcome: pb::Outcome,
    attempts: Vec<pb::Attempt>,
    /// From the coordinator's answer to the job's end.
    took: Duration,
    /// How often each of its containers had been started when the end was seen.
    starts: BTreeMap<String, u32>,
}

async fn ended(cluster: &Cluster, id: &str) -> pb::Job {
    let mut looks = tokio::time::interval(LOOK);
    let looking = async {
        loop {
            let job = cluster.job(id).await;
            if job.state() == pb::JobState::Ended {
                return job;
            }
            looks.tick().await;
        }
    };
    let seen = tokio::time::timeout(DEADLINE, looking).await;
    seen.unwrap_or_else(|_| panic!("{id} does not end"))
}

/// Submits a job of one task, and cancels it after `delay`.
async fn cancel(cluster: &Cluster, host: &Host, word: &'static str, delay: Duration) -> Canceled {
    let job = cluster.submit(spec(&reference(), word), 1).await;
    // Nothing is waited for: the moment is what is tried.
    let _ = tokio::time::timeout(delay, std::future::pending::<()>()).await;
    let request = pb::CancelRequest {
        job: job.id.clone(),
        reason: "not needed".into(),
        ..Default::default()
    };
    let answered = cluster.jobs().cancel(request).await;
    let began = Instant::now();
    if let Err(refused) = answered {
        // It had ended.
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");
    }
    let outcome = ended(cluster, &job.id).await.outcome();
    let took = began.elapsed();
    let starts = of_job(host.engine.starts(), &job.id);
    let request = pb::ListAttemptsRequest {
        job: job.id.clone(),
        ..Default::default()
    };
    let attempts = cluster.jobs().list_attempts(request).await.unwrap();
    Canceled {
        word,
        job: job.id,
        outcome,
        attempts: attempts.into_inner().attempts,
        took,
        starts,
    }
}

fn of_job(starts: BTreeMap<String, u32>, job: &str) -> BTreeMap<String, u32> {
    let mine = starts.into_iter().filter(|(name, _)| name.contains(job));
    mine.collect()
}

/// Where the cancel met the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Met {
    Waiting,
    /// It was offered, or prepared, and never started.
    Unstarted,
    /// It had started, or its start was under way.
    Started,
    /// It had ended by itself.
    Over,
}

impl Canceled {
    /// Checks what can be seen of it alone.
    fn met(&self) -> Met {
        assert!(self.took <= GRACE + SLACK, "{self:?}");
        assert!(
            self.attempts.len() <= 1,
            "a canceled task is tried again: {self:?}"
        );
        let started = self
            .attempts
            .first()
            .is_some_and(|attempt| attempt.started.is_some());
        let starts: Vec<u32> = self.starts.values().copied().collect();
        let known: &[u32] = if started { &[1] } else { &[] };
        assert_eq!(starts, known, "{self:?}");
        match self.outcome {
            pb::Outcome::Succeeded if self.word == "short" => return Met::Over,
            pb::Outcome::Canceled => {}
            _ => panic!("it ended otherwise: {self:?}"),
        }
        match (self.attempts.is_empty(), started) {
            (true, _) => Met::Waiting,
            (false, false) => Met::Unstarted,
            (false, true) => Met::Started,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_a_job_is_canceled_nothing_starts_afterwards_and_nothing_is_left() {
    let cluster = Cluster::start().await;
    let mut host = Host::new("etl-1", PLACES);
    for word in WORDS {
        host.engine.script(word, behaviour(word));
    }
    host.engine.set_pace(Pace {
        create: Duration::from_millis(40),
        start: Duration::from_millis(60),
        started: Duration::from_millis(60),
        ..Pace::default()
    });
    host.start(&cluster).await;

    let mut random = Rng::new(1, "cancel");
    let plans: Vec<_> = (0..CANCELS)
        .map(|_| {
            let word = WORDS[random.index(WORDS.len())];
            (word, Duration::from_millis(random.below(900)))
        })
        .collect();
    let cancels = stream::iter(plans).map(|(word, delay)| cancel(&cluster, &host, word, delay));
    let canceled: Vec<Canceled> = cancels.buffer_unordered(OPEN).collect().await;
    host.is_clean().await;

    let starts = host.engine.starts();
    let mut met = BTreeMap::<Met, u32>::new();
    for one in &canceled {
        *met.entry(one.met()).or_default() += 1;
        let later = of_job(starts.clone(), &one.job);
        assert_eq!(later, one.starts, "started after its end: {one:?}");
    }
    let longest = canceled.iter().map(|one| one.took).max();
    println!("{CANCELS} cancels met {met:?}; the longest took {longest:?}");
    for phase in [Met::Waiting, Met::Unstarted, Met::Started, Met::Over] {
        assert!(met.get(&phase).is_some_and(|count| *count >= 10), "{met:?}");
    }
    host.stop().await;
}
