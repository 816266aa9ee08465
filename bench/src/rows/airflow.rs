//! Row airflow: lifecycles of tasks that do nothing, a second, beside Airflow.

use super::{Aim, Goal, Plot, Row, Series};
use crate::comparators::{Setting, airflow_lap, find_airflow};
use crate::rows::lifecycles::{TASKS, over_the_faster};
use crate::samples::Samples;
use crate::stand::{Size, Stand};

pub(crate) const ARRAY: Aim = Aim {
    row: "airflow",
    what: "no-op tasks a second end to end, one array job, over Airflow",
    unit: "x",
    goal: Goal::AtLeast,
    bar: 100.0,
    reach: None,
};

/// Few, because Airflow takes up to seconds for each.
const DEFAULT_TASKS: u32 = 10;
const TUNED_TASKS: u32 = 100;
const ROUNDS: usize = 2;

pub(crate) async fn array(rounds: usize) -> anyhow::Result<Row> {
    if let Err(missing) = find_airflow() {
        return Ok(Row::skipped(ARRAY, &missing.to_string()));
    }
    let rounds = rounds.min(ROUNDS);
    let mut stand = Stand::start(Size::USUAL, None).await?;
    stand.array(TASKS / 10).await?;
    let (mut ours, mut default, mut tuned) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(stand.array(TASKS).await?.rate());
        default.push(airflow_rate(Setting::Default, DEFAULT_TASKS)?);
        tuned.push(airflow_rate(Setting::Tuned, TUNED_TASKS)?);
    }
    stand.stop();
    let ratios = over_the_faster(&ours, &default, &tuned);
    let plot = Plot {
        title: "lifecycles beside Airflow".into(),
        unit: "tasks/s",
        series: vec![
            Series::new("muster", &ours),
            Series::new("Airflow, tuned", &tuned),
            Series::new("Airflow, default", &default),
        ],
    };
    let detail = format!(
        "{rounds} rounds: muster {:.0} tasks/s, Airflow {:.2} tuned and {:.2} by default (all D2)",
        Samples::new(ours).median(),
        Samples::new(tuned).median(),
        Samples::new(default).median(),
    );
    Ok(Row::measured(ARRAY, &ratios, detail, vec![plot]))
}

/// Tasks a second. It starts for each lap, because a scheduler that waits takes processor time from the others.
fn airflow_rate(setting: Setting, tasks: u32) -> anyhow::Result<f64> {
    let lap = tokio::task::block_in_place(|| airflow_lap(setting, tasks))?;
    Ok(f64::from(tasks) / lap.seconds)
}
