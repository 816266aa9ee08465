//! Rows about a long queue: what a submission of a million tasks takes.

use super::{Aim, Goal, Plot, Row, Series};
use crate::comparators;
use crate::samples::Samples;
use crate::stand::{Size, Stand, spec, submit};

pub(crate) const SUBMIT: Aim = Aim {
    row: "13",
    what: "submission of an array of 1,000,000 tasks over COPY of 1,000,000 rows into PostgreSQL",
    unit: "x",
    goal: Goal::AtMost,
    bar: 0.1,
    reach: Some(0.01),
};

const MILLION: u32 = 1_000_000;

pub(crate) async fn submission(rounds: usize) -> anyhow::Result<Row> {
    let copies = tokio::task::block_in_place(|| comparators::copy_rows(MILLION, rounds))?;
    let stand = Stand::start(Size::NONE, None).await?;
    let mut ours = Vec::new();
    for _ in 0..rounds {
        let began = std::time::Instant::now();
        let id = submit(&mut stand.jobs(), spec("none"), MILLION).await?;
        ours.push(began.elapsed().as_secs_f64());
        let pending = stand.job(&id).await?.counts.unwrap_or_default().pending;
        anyhow::ensure!(pending == MILLION, "{pending} tasks are queued");
    }
    stand.stop();
    let (theirs, median) = (copies.median(), Samples::new(ours.clone()).median());
    let ratios = Samples::new(ours.iter().map(|ours| ours / theirs).collect());
    let plot = Plot {
        title: "submission of a million tasks".into(),
        unit: "s",
        series: vec![
            Series::new("muster", &ours),
            Series::new("COPY", copies.all()),
        ],
    };
    let detail = format!(
        "{rounds} rounds: muster {:.2} ms, COPY {theirs:.2} s (both D2)",
        median * 1e3
    );
    Ok(Row::measured(SUBMIT, &ratios, detail, vec![plot]))
}
