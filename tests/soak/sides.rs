//! Systems at muster's side that are gone, or take connections and never answer: a push gateway and a collector of
//! traces. Tasks end as they do without, and as fast.

use std::time::{Duration, Instant};

use muster_proto::v1 as pb;
use muster_tests::fleet::enabled;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::audit::patiently;
use crate::daemons::Daemons;
use crate::figures::Figures;
use crate::fleet::Fleet;
use crate::load::{ARRAY, Kind};
use crate::proxy::Proxy;
use crate::settings::number;

const AGENTS: usize = 8;
const PLACES: u32 = 32;
const LOOK: Duration = Duration::from_millis(50);
/// For all tasks of a run.
const PATIENCE: Duration = Duration::from_secs(180);

/// What stands where the coordinator pushes and exports to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sides {
    /// It is not told to.
    None,
    /// Nobody listens.
    Gone,
    /// Takes every connection and answers none.
    Deaf,
}

/// Listens and keeps every connection, without a word, until it is dropped.
struct Deaf {
    address: String,
    _running: AbortOnDropHandle<()>,
}

impl Deaf {
    async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let running = tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                kept.push(connection);
            }
        });
        Self {
            address,
            _running: AbortOnDropHandle::new(running),
        }
    }
}

/// Runs so many jobs, and says how many tasks a second ended.
async fn rate(sides: Sides, jobs: u32) -> f64 {
    let deaf = Deaf::listen().await;
    let address = match sides {
        Sides::None => None,
        Sides::Gone => Some("http://127.0.0.1:1"),
        Sides::Deaf => Some(deaf.address.as_str()),
    };
    let daemons = tokio::task::block_in_place(|| Daemons::start_beside(address));
    let stop = CancellationToken::new();
    let proxy = Proxy::start(daemons.address().to_owned(), stop.clone()).await;
    let mut fleet = Fleet::start(AGENTS, PLACES, daemons.address(), &proxy);
    let run = uuid::Uuid::now_v7().simple().to_string();
    let deadline = Instant::now() + PATIENCE;
    let mut looks = tokio::time::interval(LOOK);
    while fleet_size(&daemons).await < AGENTS {
        looks.tick().await;
        assert!(Instant::now() < deadline, "agents are missing");
    }

    let began = Instant::now();
    let mut open = Vec::new();
    for job in 0..jobs {
        let request = Kind::Short.submission(job, ARRAY, &run);
        let answer = patiently("submission", || {
            let mut jobs = daemons.jobs();
            let request = request.clone();
            async move { jobs.submit(request).await }
        })
        .await;
        open.push(answer.jobs.into_iter().next().unwrap().job.unwrap().id);
    }
    for id in open {
        loop {
            let job = daemons.job(&id).await;
            if job.state() == pb::JobState::Ended {
                let counts = job.counts.unwrap();
                assert_eq!((counts.succeeded, counts.retries), (ARRAY, 0), "{sides:?}");
                break;
            }
            looks.tick().await;
            assert!(Instant::now() < deadline, "{sides:?}: {job:?} does not end");
        }
    }
    let took = began.elapsed();
    let starts = fleet.hosts.iter().flat_map(|host| host.engine.starts());
    let starts: Vec<u32> = starts.map(|(_, count)| count).collect();
    let tasks = jobs * ARRAY;
    assert_eq!(starts.iter().sum::<u32>(), tasks, "{sides:?}");
    assert!(starts.iter().all(|count| *count == 1), "{sides:?}");
    fleet.stop().await;
    stop.cancel();
    f64::from(tasks) / took.as_secs_f64()
}

async fn fleet_size(daemons: &Daemons) -> usize {
    let answer = patiently("agents", || {
        let mut agents = daemons.agents();
        async move { agents.list(pb::ListAgentsRequest::default()).await }
    })
    .await;
    answer.agents.len()
}

/// The middle one of some shares, in percent.
fn middle(mut shares: Vec<f64>) -> f64 {
    shares.sort_by(f64::total_cmp);
    shares[shares.len() / 2] * 100.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systems_at_the_side() {
    if !enabled() {
        return;
    }
    let long = number("MUSTER_SOAK_TASKS").is_some();
    let (jobs, rounds) = if long { (50, 5) } else { (2, 1) };
    let (mut alone, mut gone, mut deaf) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        // Side by side, because the machine has other work too.
        let without = rate(Sides::None, jobs).await;
        gone.push(rate(Sides::Gone, jobs).await / without);
        deaf.push(rate(Sides::Deaf, jobs).await / without);
        alone.push(without);
    }
    let mut figures = Figures::new("sides");
    figures.count("tasks a run", u64::from(jobs * ARRAY));
    figures.inform("tasks a second without", middle(alone) / 100.0);
    figures.inform("throughput, sides gone, percent", middle(gone));
    figures.inform("throughput, sides deaf, percent", middle(deaf));
    println!("{}", figures.table());
    if long {
        println!("report: {}", figures.write().display());
    }
}
