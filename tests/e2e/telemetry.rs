//! Metrics leave through a real push gateway; one trace follows an attempt across processes.

use std::process::Command;

use crate::fleet::{Fleet, IMAGE, enabled, stderr};
use crate::processes::{Daemon, eventually, free_address};

fn get(url: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(async { reqwest::get(url).await?.error_for_status()?.text().await })
        .unwrap()
}

#[test]
fn figures_of_short_lived_tasks_reach_the_push_gateway_and_are_forgotten() {
    if !enabled() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut command = Command::new("prometheus-pushgateway");
    command.arg(format!("--web.listen-address={address}"));
    let mut gateway = Daemon::start("pushgateway", directory.path(), &mut command);
    gateway.wait_for_port(address);
    let url = format!("http://{address}");
    let flags = ["--pushgateway-url", &url, "--pushgateway-idle", "3s"];
    let fleet = Fleet::start_with(2, &flags);

    let script = "printf '# TYPE batch_records histogram\\nbatch_records_bucket{le=\"10\"} 1\\n\
         batch_records_bucket{le=\"+Inf\"} 2\\nbatch_records_sum 30\\nbatch_records_count 2\\n\
         # TYPE rows_total counter\\nrows_total 5\\n' > $MUSTER_METRICS_FILE";
    let output = fleet.muster(&[
        "run",
        "--pull",
        "never",
        "--network",
        "none",
        "--array",
        "4",
        "--name",
        "load-users",
        IMAGE,
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let metrics = format!("{url}/metrics");
    let group = "job=\"load-users\",team=\"default\"";
    let text = eventually("all four attempts on the gateway", || {
        let text = get(&metrics);
        let summed = text.lines().any(|line| {
            line.starts_with("rows_total{") && line.contains(group) && line.ends_with(" 20")
        });
        summed.then_some(text)
    });
    let has = |start: &str, end: &str| {
        text.lines().any(|line| {
            line.starts_with(start) && line.contains("load-users") && line.ends_with(end)
        })
    };
    assert!(has("batch_records_bucket{", "le=\"10\"} 4"), "{text}");
    assert!(has("batch_records_count{", " 8"), "{text}");
    assert!(has("muster_task_attempts_total{", " 4"), "{text}");
    assert!(text.contains("outcome=\"succeeded\""), "{text}");
    assert!(
        text.contains("muster_task_duration_seconds_bucket"),
        "{text}"
    );
    assert!(text.contains("muster_task_cpu_seconds_total"), "{text}");
    assert!(text.contains("muster_task_peak_memory_bytes"), "{text}");
    eventually("the idle group being deleted", || {
        (!get(&metrics).contains("load-users")).then_some(())
    });

    let own = get(&format!("http://{}/metrics", fleet.http));
    assert!(own.contains("muster_attempts_ended_total"), "{own}");
    let agents = eventually("the agents' own figures", || {
        let own = get(&format!("http://{}/metrics", fleet.http));
        (own.contains("agent=\"a1\"") && own.contains("agent=\"a2\"")).then_some(own)
    });
    assert!(agents.contains("muster_agent_"), "{agents}");
}

#[test]
fn a_dead_gateway_and_a_dead_collector_change_nothing() {
    if !enabled() {
        return;
    }
    let nobody = format!("http://{}", free_address());
    let fleet = Fleet::start_in(
        1,
        &["--pushgateway-url", &nobody],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &nobody)],
    );
    let output = fleet.muster(&["run", "--pull", "never", "--network", "none", IMAGE, "true"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    fleet.wait_for_no_containers();
}
