use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::contract::{self, Service};

use super::*;

/// A gateway that keeps what it is told, and that can fail or hang.
struct FakeGateway {
    address: String,
    state: Arc<FakeState>,
}

struct FakeState {
    seen: Mutex<Vec<(Method, String, String)>>,
    answers: Mutex<VecDeque<StatusCode>>,
    list: Mutex<String>,
    held: watch::Sender<bool>,
}

impl FakeGateway {
    async fn start() -> Self {
        let state = Arc::new(FakeState {
            seen: Mutex::default(),
            answers: Mutex::default(),
            list: Mutex::new("{\"data\":[]}".to_owned()),
            held: watch::Sender::new(false),
        });
        let router = Router::new().fallback(take).with_state(state.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, state }
    }

    fn seen(&self) -> MutexGuard<'_, Vec<(Method, String, String)>> {
        self.state.seen.lock().unwrap()
    }

    fn puts(&self) -> usize {
        let is_put = |(method, ..): &&(Method, String, String)| *method == Method::PUT;
        self.seen().iter().filter(is_put).count()
    }

    fn answer_next(&self, status: StatusCode) {
        self.state.answers.lock().unwrap().push_back(status);
    }
}

async fn take(
    State(state): State<Arc<FakeState>>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> (StatusCode, String) {
    if method == Method::GET {
        return (StatusCode::OK, state.list.lock().unwrap().clone());
    }
    let text = String::from_utf8(body.to_vec()).unwrap();
    let path = uri.path().to_owned();
    state.seen.lock().unwrap().push((method, path, text));
    let _ = state.held.subscribe().wait_for(|held| !held).await;
    let answer = state.answers.lock().unwrap().pop_front();
    (answer.unwrap_or(StatusCode::OK), String::new())
}

struct Rig {
    fake: FakeGateway,
    push: PushGateway,
    metrics: Metrics,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Rig {
    async fn start(idle: Duration) -> Self {
        Self::with(FakeGateway::start().await, idle)
    }

    fn with(fake: FakeGateway, idle: Duration) -> Self {
        let metrics = Metrics::new();
        let stop = CancellationToken::new();
        let config = Config {
            url: fake.address.clone(),
            idle,
        };
        let (push, task) = start(&config, metrics.clone(), stop.clone()).unwrap();
        Self {
            fake,
            push,
            metrics,
            stop,
            task,
        }
    }
}

fn attempt(job_name: &str, metrics: Option<&str>) -> FinishedAttempt {
    FinishedAttempt {
        team: TeamName::parse("default").unwrap(),
        job_name: JobName::parse(job_name).unwrap(),
        outcome: Outcome::Succeeded,
        ended: Timestamp(1_000),
        usage: Usage::default(),
        metrics: metrics.map(|text| text.as_bytes().into()),
    }
}

async fn until(holds: impl Fn() -> bool) {
    let poll = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let deadline = Duration::from_secs(20);
    tokio::time::timeout(deadline, poll).await.expect("in time");
}

const HOUR: Duration = Duration::from_secs(3600);
/// `nightly` of team `default`, as a path.
const NIGHTLY: &str = "/metrics/job@base64/bmlnaHRseQ/team@base64/ZGVmYXVsdA";

#[tokio::test]
async fn attempts_while_a_push_is_on_its_way_are_one_more_push() {
    let rig = Rig::start(HOUR).await;
    rig.fake.state.held.send_replace(true);
    rig.push.finished(attempt("nightly", None));
    until(|| rig.fake.puts() == 1).await;
    for _ in 0..50 {
        rig.push.finished(attempt("nightly", None));
    }
    rig.fake.state.held.send_replace(false);

    until(|| rig.fake.puts() == 2).await;

    let seen = rig.fake.seen().clone();
    assert_eq!((&seen[0].0, &*seen[0].1), (&Method::PUT, NIGHTLY));
    let all = "muster_task_attempts_total{outcome=\"succeeded\"} 51";
    assert!(seen[1].2.contains(all), "{}", seen[1].2);
}

#[tokio::test]
async fn a_gateway_in_trouble_gets_the_last_state_later() {
    let rig = Rig::start(HOUR).await;
    rig.fake.answer_next(StatusCode::INTERNAL_SERVER_ERROR);

    rig.push.finished(attempt("nightly", Some("rows 5\n")));
    until(|| rig.fake.puts() == 2).await;

    assert!(rig.fake.seen()[1].2.contains("rows 5"));
    until(|| {
        rig.metrics
            .text()
            .contains("muster_pushes_total{result=\"ok\"} 1")
    })
    .await;
    let failed = "muster_pushes_total{result=\"failed\"} 1";
    assert!(rig.metrics.text().contains(failed));
}

#[tokio::test]
async fn a_refused_group_goes_on_without_the_tasks_own_families() {
    let rig = Rig::start(HOUR).await;
    rig.fake.answer_next(StatusCode::BAD_REQUEST);

    rig.push.finished(attempt("nightly", Some("rows 5\n")));
    until(|| rig.fake.puts() == 2).await;

    let text = rig.fake.seen()[1].2.clone();
    assert!(text.contains("muster_task_attempts_total") && !text.contains("rows"));
}

#[tokio::test]
async fn an_idle_group_is_deleted_and_one_that_an_earlier_coordinator_left_too() {
    let fake = FakeGateway::start().await;
    *fake.state.list.lock().unwrap() = serde_json::json!({"status": "success", "data": [
        {"labels": {"job": "left", "team": "default"}, "muster_task_attempts_total": {"metrics": []}},
        {"labels": {"job": "foreign", "team": "default"}, "backups_total": {"metrics": []}},
    ]})
    .to_string();
    let rig = Rig::with(fake, Duration::from_millis(200));

    rig.push.finished(attempt("nightly", None));
    until(|| rig.fake.seen().len() == 3).await;

    let left = "/metrics/job@base64/bGVmdA/team@base64/ZGVmYXVsdA";
    let deleted: BTreeSet<_> = rig
        .fake
        .seen()
        .iter()
        .filter(|(method, ..)| *method == Method::DELETE)
        .map(|(_, path, _)| path.clone())
        .collect();
    assert_eq!(deleted, [NIGHTLY, left].map(str::to_owned).into());
    until(|| rig.metrics.text().contains("muster_push_groups 0")).await;
}

#[tokio::test]
async fn what_is_unpushed_at_the_end_is_pushed_then() {
    let rig = Rig::start(HOUR).await;
    rig.push.finished(attempt("nightly", None));
    until(|| rig.fake.puts() == 1).await;
    rig.push.finished(attempt("nightly", None));
    rig.push.finished(attempt("hourly", None));

    rig.stop.cancel();
    rig.task.await.unwrap();

    assert_eq!(rig.fake.puts(), 3);
}

#[tokio::test]
async fn the_end_does_not_wait_for_a_gateway_that_hangs() {
    let rig = Rig::start(HOUR).await;
    rig.fake.state.held.send_replace(true);
    rig.push.finished(attempt("nightly", None));
    until(|| rig.fake.puts() == 1).await;
    let began = Instant::now();

    rig.stop.cancel();
    rig.task.await.unwrap();

    assert!(began.elapsed() < FLUSH_DEADLINE * 2);
}

#[tokio::test]
async fn an_odd_address_is_named() {
    let config = Config {
        url: "gateway:9091".to_owned(),
        idle: HOUR,
    };
    let error = start(&config, Metrics::new(), CancellationToken::new()).unwrap_err();
    let text = "\"gateway:9091\" is not an http or https address";
    assert_eq!(error.to_string(), text);
}

#[tokio::test]
async fn a_real_gateway_shows_what_tasks_measured_and_forgets_it() {
    if !contract::wanted("a_real_gateway_shows_what_tasks_measured_and_forgets_it") {
        return;
    }
    let service = Service::pushgateway();
    let config = Config {
        url: format!("http://{}/", service.address),
        idle: Duration::from_secs(3),
    };
    let metrics = Metrics::new();
    let stop = CancellationToken::new();
    let (push, task) = start(&config, metrics.clone(), stop.clone()).unwrap();
    let file = "# HELP batch Records\n# TYPE batch histogram\nbatch_bucket{le=\"5000\"} 2\n\
                batch_bucket{le=\"+Inf\"} 2\nbatch_sum 7500\nbatch_count 2\n\
                # TYPE rows_total counter\nrows_total{table=\"a\\\"b\"} 7500\n";
    for _ in 0..3 {
        let mut attempt = attempt("nightly", Some(file));
        attempt.usage.run = Some(muster_core::time::Millis(400));
        push.finished(attempt);
    }
    // A gauge of that name in another group would be refused by the gateway; it is not sent.
    push.finished(attempt(
        "hourly",
        Some("# TYPE rows_total gauge\nrows_total 1\n"),
    ));

    let page = format!("http://{}/metrics", service.address);
    let shown = shown(&page, |text| {
        text.contains("rows_total") && text.contains("hourly")
    })
    .await;
    for line in [
        "muster_task_attempts_total{instance=\"\",job=\"nightly\",outcome=\"succeeded\",team=\"default\"} 3",
        "muster_task_attempts_total{instance=\"\",job=\"hourly\",outcome=\"succeeded\",team=\"default\"} 1",
        "muster_task_duration_seconds_count{instance=\"\",job=\"nightly\",team=\"default\"} 3",
        "batch_bucket{instance=\"\",job=\"nightly\",team=\"default\",le=\"5000\"} 6",
        "batch_sum{instance=\"\",job=\"nightly\",team=\"default\"} 22500",
        "rows_total{instance=\"\",job=\"nightly\",table=\"a\\\"b\",team=\"default\"} 22500",
    ] {
        assert!(shown.lines().any(|one| one == line), "{line}\n{shown}");
    }
    let list = reqwest::get(format!("http://{}/api/v1/metrics", service.address));
    let list: serde_json::Value = list.await.unwrap().json().await.unwrap();
    let nightly = &list["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|group| group["labels"]["job"] == "nightly")
        .unwrap();
    assert_eq!(nightly["last_push_successful"], true);
    assert_eq!(nightly["muster_task_attempts_total"]["type"], "COUNTER");

    until(|| metrics.text().contains("muster_push_groups 0")).await;
    let empty = reqwest::get(&page).await.unwrap().text().await.unwrap();
    assert!(
        !empty.contains("nightly") && !empty.contains("hourly"),
        "{empty}"
    );
    assert!(
        !metrics
            .text()
            .contains("muster_pushes_total{result=\"failed\"}")
    );
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn a_real_gateway_is_rid_of_what_an_earlier_coordinator_left() {
    if !contract::wanted("a_real_gateway_is_rid_of_what_an_earlier_coordinator_left") {
        return;
    }
    let service = Service::pushgateway();
    let config = |idle| Config {
        url: format!("http://{}", service.address),
        idle,
    };
    let stop = CancellationToken::new();
    let (push, task) = start(&config(HOUR), Metrics::new(), stop.clone()).unwrap();
    push.finished(attempt("nightly", None));
    stop.cancel();
    task.await.unwrap();
    let page = format!("http://{}/metrics", service.address);
    shown(&page, |text| text.contains("nightly")).await;

    let stop = CancellationToken::new();
    let idle = Duration::from_millis(100);
    let (_push, task) = start(&config(idle), Metrics::new(), stop.clone()).unwrap();

    shown(&page, |text| !text.contains("nightly")).await;
    stop.cancel();
    task.await.unwrap();
}

async fn shown(page: &str, wanted: impl Fn(&str) -> bool) -> String {
    let poll = async {
        loop {
            let text = reqwest::get(page).await.unwrap().text().await.unwrap();
            if wanted(&text) {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let deadline = Duration::from_secs(20);
    tokio::time::timeout(deadline, poll).await.expect("in time")
}
