//! One HTML file that needs nothing else: a table, and a plot for each comparison.

use std::fmt::Write;

use super::{Report, bar, short, verdict};
use crate::rows::{Plot, Row};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 26.0;
/// Where bars begin; names are to the left.
const LEFT: f64 = 150.0;
/// Room for the figure behind the longest bar.
const RIGHT: f64 = 110.0;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:62em;margin:2em auto;padding:0 1em;\
color:#1a1a1a}table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ddd;padding:.4em .6em;\
text-align:left;vertical-align:top}.n{text-align:right;white-space:nowrap}.met{color:#06672d}.missed{color:#a11}\
small{color:#555}svg text{font:13px system-ui,sans-serif}";

impl Report {
    pub(super) fn page(&self) -> String {
        let mut html = format!(
            "<!doctype html><html lang=en><meta charset=utf-8><title>muster: benchmarks</title>\
             <style>{STYLE}</style><h1>muster: benchmarks</h1><p>{}</p><table><tr><th>row<th>what\
             <th class=n>median<th class=n>min to max<th class=n>bar<th>verdict<th>durability</tr>",
            escape(&self.probes())
        );
        for row in &self.rows {
            table_row(&mut html, row);
        }
        html.push_str("</table>");
        for plot in self.rows.iter().flat_map(|row| &row.plots) {
            draw(&mut html, plot);
        }
        html.push_str("</html>\n");
        html
    }
}

fn table_row(html: &mut String, row: &Row) {
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), short);
    let why = row.why.iter().map(|why| format!(" Why: {why}"));
    let detail = row.detail.clone() + &why.collect::<String>();
    let class = if row.met { "met" } else { "missed" };
    let _ = write!(
        html,
        "<tr><td>{}<td>{}<br><small>{}</small><td class=n>{} {}<td class=n>{} to {}<td class=n>{}\
         <td class={class}>{}<td>{}</tr>",
        row.row,
        escape(row.what),
        escape(&detail),
        number(row.ratio),
        row.unit,
        number(row.low),
        number(row.high),
        escape(&bar(row)),
        escape(&verdict(row)),
        row.durability,
    );
}

/// A bar as long as the median for each series, and a tick for each round.
fn draw(html: &mut String, plot: &Plot) {
    let all = || plot.series.iter().flat_map(|series| &series.values);
    let most = all().copied().fold(0.0, f64::max);
    if most <= 0.0 {
        return;
    }
    let lines = f64::from(u32::try_from(plot.series.len()).unwrap_or(u32::MAX));
    let _ = write!(
        html,
        "<h3>{} <small>{}, bar: median, ticks: rounds</small></h3><svg width={WIDTH} height={}>",
        escape(&plot.title),
        plot.unit,
        lines * HEIGHT
    );
    let scale = (WIDTH - LEFT - RIGHT) / most;
    let mut top = 0.0;
    for series in &plot.series {
        if series.values.is_empty() {
            continue;
        }
        let median = crate::samples::Samples::new(series.values.clone()).median();
        let (middle, length) = (top + HEIGHT * 0.65, median * scale);
        let _ = write!(
            html,
            "<text x=0 y={middle}>{}</text><rect x={LEFT} y={} width={length:.1} height=16 fill=\"#8fb8de\"/>",
            escape(&series.name),
            top + 5.0
        );
        for value in &series.values {
            let x = LEFT + value * scale;
            let (from, to) = (top + 3.0, top + 23.0);
            let _ = write!(
                html,
                "<line x1={x:.1} x2={x:.1} y1={from} y2={to} stroke=\"#1b4b7a\"/>"
            );
        }
        let end = series.values.iter().copied().fold(0.0, f64::max) * scale;
        let _ = write!(
            html,
            "<text x={:.1} y={middle}>{} {}</text>",
            LEFT + end + 6.0,
            short(median),
            plot.unit
        );
        top += HEIGHT;
    }
    html.push_str("</svg>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
