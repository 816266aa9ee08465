use muster_core::promtext::Bounds;

use super::*;

fn ended(outcome: Outcome, metrics: &str) -> Ended {
    Ended {
        outcome,
        at: Timestamp(1_000_000_500),
        usage: Usage::default(),
        families: promtext::parse(metrics, &Bounds::TASK).unwrap(),
    }
}

/// Merges attempts with these files; returns the text and how many series were left out.
fn merged(files: &[&str]) -> (String, usize) {
    let (mut group, mut kinds) = (Group::default(), Kinds::default());
    let dropped = files
        .iter()
        .map(|file| group.merge(ended(Outcome::Succeeded, file), &mut kinds))
        .sum();
    (group.text(false), dropped)
}

fn assert_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|shown| shown == *line), "{line}\n{text}");
    }
    // The gateway reads it back with a parser as strict as ours.
    let bounds = Bounds {
        samples: 1_000,
        ..Bounds::TASK
    };
    promtext::parse(text, &bounds).unwrap();
}

#[test]
fn what_muster_measured_is_summed_over_attempts() {
    let (mut group, mut kinds) = (Group::default(), Kinds::default());
    let mut first = ended(Outcome::Failed, "");
    first.usage = Usage {
        peak_memory_bytes: Some(20 << 20),
        cpu_micros: Some(1_500_000),
        run: Some(Millis(700)),
        ..Usage::default()
    };
    let mut second = ended(Outcome::Succeeded, "");
    second.usage = Usage {
        peak_memory_bytes: Some(10 << 20),
        cpu_micros: Some(500_000),
        run: Some(Millis(40_000)),
        ..Usage::default()
    };
    let never_ran = ended(Outcome::ImageError, "");

    for attempt in [first, second, never_ran] {
        assert_eq!(group.merge(attempt, &mut kinds), 0);
    }

    assert_lines(
        &group.text(false),
        &[
            "muster_task_attempts_total{outcome=\"failed\"} 1",
            "muster_task_attempts_total{outcome=\"succeeded\"} 1",
            "muster_task_attempts_total{outcome=\"image_error\"} 1",
            "muster_task_duration_seconds_bucket{le=\"0.5\"} 0",
            "muster_task_duration_seconds_bucket{le=\"1\"} 1",
            "muster_task_duration_seconds_bucket{le=\"60\"} 2",
            "muster_task_duration_seconds_bucket{le=\"+Inf\"} 2",
            "muster_task_duration_seconds_sum 40.7",
            "muster_task_duration_seconds_count 2",
            "muster_task_peak_memory_bytes_bucket{le=\"16777216\"} 1",
            "muster_task_peak_memory_max_bytes 20971520",
            "muster_task_cpu_seconds_total 2",
            "muster_task_last_success_timestamp_seconds 1000000.5",
        ],
    );
}

#[test]
fn a_job_that_never_succeeded_has_no_last_success() {
    let (mut group, mut kinds) = (Group::default(), Kinds::default());
    group.merge(ended(Outcome::Failed, ""), &mut kinds);
    assert!(!group.text(false).contains(TASK_LAST_SUCCESS));
}

#[test]
fn counters_and_histograms_of_tasks_are_summed_and_gauges_are_the_last() {
    let file = |rows: u32, lag: u32, below: u32| {
        format!(
            "# TYPE rows_total counter\nrows_total{{table=\"a\"}} {rows}\n\
             # TYPE lag_seconds gauge\nlag_seconds {lag}\n\
             # TYPE batch histogram\nbatch_bucket{{le=\"10\"}} {below}\nbatch_bucket{{le=\"+Inf\"}} 5\n\
             batch_sum 50\nbatch_count 5\n"
        )
    };
    let (text, dropped) = merged(&[&file(10, 3, 1), &file(5, 2, 4)]);

    assert_eq!(dropped, 0);
    assert_lines(
        &text,
        &[
            "rows_total{table=\"a\"} 15",
            "lag_seconds 2",
            "batch_bucket{le=\"10\"} 5",
            "batch_bucket{le=\"+Inf\"} 10",
            "batch_sum 100",
            "batch_count 10",
        ],
    );
}

#[test]
fn other_buckets_than_before_are_left_out_whole() {
    let file = |bound: u32| {
        format!(
            "# TYPE batch histogram\nbatch_bucket{{le=\"{bound}\"}} 1\nbatch_bucket{{le=\"+Inf\"}} 1\n\
             batch_sum 1\nbatch_count 1\n"
        )
    };
    let (text, dropped) = merged(&[&file(10), &file(20)]);

    assert_eq!(dropped, 4);
    assert_lines(&text, &["batch_bucket{le=\"10\"} 1", "batch_count 1"]);
}

#[test]
fn the_first_to_use_a_name_decides_its_type_for_all_groups() {
    let mut kinds = Kinds::default();
    let (mut one, mut other) = (Group::default(), Group::default());
    let counter = ended(Outcome::Succeeded, "# TYPE rows counter\nrows 1\n");
    let gauge = ended(Outcome::Succeeded, "# TYPE rows gauge\nrows 1\n");

    assert_eq!(one.merge(counter, &mut kinds), 0);
    assert_eq!(other.merge(gauge.clone(), &mut kinds), 1);
    assert!(!other.text(false).contains("rows"));

    kinds.keep([&other].into_iter());
    assert_eq!(other.merge(gauge, &mut kinds), 0);
}

#[test]
fn names_and_labels_that_are_not_the_tasks_are_left_out() {
    let (text, dropped) = merged(&[
        "muster_task_attempts_total{outcome=\"succeeded\"} 99\npush_time_seconds 1\n\
         rows{job=\"other\"} 1\nrows{team=\"other\"} 1\nrows{kind=\"ok\"} 1\n",
    ]);

    assert_eq!(dropped, 4);
    assert_lines(
        &text,
        &[
            "muster_task_attempts_total{outcome=\"succeeded\"} 1",
            "rows{kind=\"ok\"} 1",
        ],
    );
    assert!(!text.contains("other"));
}

#[test]
fn a_group_takes_a_bounded_number_of_series() {
    let file = |from: u32| {
        (from..from + 150)
            .map(|n| format!("rows{{part=\"{n}\"}} 1\n"))
            .collect::<String>()
    };
    let (text, dropped) = merged(&[&file(0), &file(150), &file(0)]);

    assert_eq!(dropped, 100);
    assert_eq!(text.matches("rows{").count(), SERIES_MAX);
    assert_lines(&text, &[]);
}

#[test]
fn the_bare_text_has_nothing_of_the_tasks_own() {
    let (mut group, mut kinds) = (Group::default(), Kinds::default());
    group.merge(ended(Outcome::Succeeded, "rows 1\n"), &mut kinds);
    assert!(!group.text(true).contains("rows"));
}
