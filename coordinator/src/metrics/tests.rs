use std::collections::BTreeMap;

use muster_core::outcome::{EndReason, Outcome};

use super::*;

fn agent(name: &str) -> AgentId {
    AgentId::parse(name).unwrap()
}

fn sample(name: &str, label: Option<(&str, &str)>, value: f64) -> Sample {
    let labels: BTreeMap<_, _> = label
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    Sample {
        name: name.to_owned(),
        labels,
        value,
    }
}

#[test]
fn counts_are_shown_under_the_names_in_the_constants() {
    let metrics = Metrics::new();
    metrics.submitted("default", 2, 10);
    metrics.assigned(Millis(40));
    let end = End::of(Outcome::Oom, EndReason::MemoryLimit);
    metrics.attempt_ended("default", "etl", &end, Some(Millis(700)));
    metrics.set_tasks("running", 3);
    metrics.set_agents(&[("online", "yes", 2)]);
    metrics.session_opened();
    metrics.committed(Duration::from_millis(2), 17);
    metrics.webhook("harbor", "accepted");
    metrics.resolved("ok");
    metrics.released(muster_core::channel::Cause::Webhook);
    metrics.rollout_ended(Conclusion::RolledBack, Millis(90_000));
    metrics.pushed(PushResult::Dropped);
    metrics.set_push_groups(4);
    metrics.task_series_dropped(5);

    let text = metrics.text();

    for line in [
        "muster_jobs_submitted_total{team=\"default\"} 2",
        "muster_tasks_submitted_total{team=\"default\"} 10",
        "muster_task_wait_seconds_count 1",
        "muster_tasks_live{state=\"running\"} 3",
        "muster_attempts_ended_total{team=\"default\",pool=\"etl\",outcome=\"oom\",reason=\"memory_limit\"} 1",
        "muster_attempt_duration_seconds_bucket{le=\"1.0\",team=\"default\",pool=\"etl\"} 1",
        "muster_agents{link=\"online\",schedulable=\"yes\"} 2",
        "muster_agent_sessions 1",
        "muster_commit_duration_seconds_count 1",
        "muster_commit_records_sum 17.0",
        "muster_webhooks_total{adapter=\"harbor\",result=\"accepted\"} 1",
        "muster_registry_resolves_total{result=\"ok\"} 1",
        "muster_releases_total{cause=\"webhook\"} 1",
        "muster_rollouts_total{how=\"rolled_back\"} 1",
        "muster_rollout_duration_seconds_sum{how=\"rolled_back\"} 90.0",
        "muster_rollout_duration_seconds_bucket{le=\"60.0\",how=\"rolled_back\"} 0",
        "muster_rollout_duration_seconds_bucket{le=\"180.0\",how=\"rolled_back\"} 1",
        "muster_pushes_total{result=\"dropped\"} 1",
        "muster_push_groups 4",
        "muster_task_series_dropped_total 5",
        "muster_agent_samples_dropped_total 0",
        "# EOF",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
    }
}

#[test]
fn states_that_no_agent_is_in_any_more_are_not_shown() {
    let metrics = Metrics::new();
    metrics.set_agents(&[("online", "yes", 1), ("unreachable", "yes", 1)]);
    metrics.set_agents(&[("online", "yes", 2)]);

    let text = metrics.text();

    assert!(text.contains("muster_agents{link=\"online\",schedulable=\"yes\"} 2"));
    assert!(!text.contains("unreachable"));
}

#[test]
fn the_figures_of_agents_are_told_apart_and_forgotten_with_them() {
    let metrics = Metrics::new();
    let pulls = |value| sample("muster_agent_pulls_total", Some(("result", "ok")), value);
    metrics.agent_samples(&agent("etl-1"), vec![pulls(3.0)]);
    metrics.agent_samples(
        &agent("etl-2"),
        vec![
            pulls(4.0),
            sample("muster_agent_places", None, 10.0),
            sample("muster_agent_pull_seconds_bucket", Some(("le", "1.0")), 3.0),
        ],
    );

    let text = metrics.text();
    for line in [
        "# TYPE muster_agent_pulls counter",
        "muster_agent_pulls_total{agent=\"etl-1\",result=\"ok\"} 3.0",
        "muster_agent_pulls_total{agent=\"etl-2\",result=\"ok\"} 4.0",
        "# TYPE muster_agent_places gauge",
        "muster_agent_places{agent=\"etl-2\"} 10.0",
        "# TYPE muster_agent_pull_seconds_bucket unknown",
        "muster_agent_pull_seconds_bucket{agent=\"etl-2\",le=\"1.0\"} 3.0",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
    }

    metrics.agent_gone(&agent("etl-2"));
    assert!(!metrics.text().contains("etl-2"));
}

#[test]
fn odd_figures_of_an_agent_are_left_out_and_counted() {
    let metrics = Metrics::new();
    let long = "x".repeat(200);
    let mut samples = vec![
        sample("muster_tasks_live", None, 1.0),
        sample("muster_agent_bad name", None, 1.0),
        sample("muster_agent_nan", None, f64::NAN),
        sample("muster_agent_forged", Some(("agent", "etl-9")), 1.0),
        sample("muster_agent_long", Some(("path", &long)), 1.0),
    ];
    samples.extend((0..201).map(|n| sample(&format!("muster_agent_n{n}"), None, 1.0)));
    metrics.agent_samples(&agent("etl-1"), samples);

    let text = metrics.text();

    assert!(text.contains("muster_agent_samples_dropped_total 6"));
    for absent in [
        "bad name",
        "_nan",
        "forged",
        "agent_long",
        "muster_tasks_live{",
    ] {
        assert!(!text.contains(absent), "{absent}");
    }
}

#[test]
fn a_label_with_quotes_cannot_break_out() {
    let metrics = Metrics::new();
    let odd = sample("muster_agent_odd", Some(("text", "a\"} 1\nb\\")), 1.0);
    metrics.agent_samples(&agent("etl-1"), vec![odd]);

    let text = metrics.text();

    let line = "muster_agent_odd{agent=\"etl-1\",text=\"a\\\"} 1\\nb\\\\\"} 1.0";
    assert!(text.lines().any(|shown| shown == line), "{text}");
}

#[test]
fn every_name_is_in_the_documentation() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/");
    let read = |page| std::fs::read_to_string(format!("{docs}{page}")).unwrap();
    let pages = read("telemetry.md") + &read("pushgateway.md");
    let names = include_str!("../metrics.rs")
        .lines()
        .filter(|line| line.starts_with("pub const "))
        .filter_map(|line| line.split('"').nth(1));
    let mut count = 0;
    for name in names {
        assert!(pages.contains(&format!("`{name}`")), "{name}");
        count += 1;
    }
    assert!(count > 20);
}
