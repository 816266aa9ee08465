//! Tables with aligned columns, two spaces apart, without lines.

use std::fmt::Write;

use crate::console::clean;

/// Rows of text under a first line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Table {
    headers: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// The column that holds the word of a state or a verdict.
    state: Option<usize>,
}

impl Table {
    pub(crate) fn new(headers: &[&'static str]) -> Self {
        Self {
            headers: headers.to_vec(),
            rows: Vec::new(),
            state: headers
                .iter()
                .position(|header| matches!(*header, "STATE" | "VERDICT")),
        }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.headers.len());
        self.rows.push(cells);
    }

    /// The lines; on a terminal without the control characters that names could hold.
    pub(crate) fn text(&self, headers: bool, color: bool, terminal: bool) -> String {
        let fit = |cell: &str| {
            let line = cell.replace(['\n', '\r'], " ");
            if terminal { clean(&line) } else { line }
        };
        let first = headers.then(|| self.headers.iter().map(|text| (*text).to_owned()).collect());
        let rows = self
            .rows
            .iter()
            .map(|row| row.iter().map(|cell| fit(cell)).collect());
        let lines: Vec<Vec<String>> = first.into_iter().chain(rows).collect();
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.headers.len()).map(width).collect();

        let mut text = String::new();
        for (number, line) in lines.iter().enumerate() {
            let begin = text.len();
            let is_header = headers && number == 0;
            for (column, cell) in line.iter().enumerate() {
                let padding = widths[column].saturating_sub(cell.chars().count()) + 2;
                let style =
                    style(cell).filter(|_| color && !is_header && self.state == Some(column));
                match style {
                    Some(style) => write!(text, "{style}{cell}{style:#}"),
                    None => write!(text, "{cell}"),
                }
                .expect("a string takes whatever is written");
                text.extend(std::iter::repeat_n(' ', padding));
            }
            let end = text.trim_end_matches(' ').len().max(begin);
            text.truncate(end);
            text.push('\n');
        }
        text
    }
}

/// Names and values under each other, for one thing.
pub(crate) fn properties(pairs: &[(&str, String)]) -> String {
    let shown = pairs.iter().filter(|(_, value)| !value.is_empty());
    let width = shown.clone().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in shown {
        writeln!(text, "{name:width$}  {value}").expect("a string takes whatever is written");
    }
    text
}

/// The colour of a state's word. The word itself always stands there too.
fn style(word: &str) -> Option<anstyle::Style> {
    use anstyle::AnsiColor::{Cyan, Green, Magenta, Red, Yellow};
    let word = word.split(['(', ' ']).next().unwrap_or_default();
    let color = match word {
        "succeeded" | "online" => Green,
        "running" | "preparing" | "assigned" => Cyan,
        "pending" | "unreachable" | "canceled" | "warning" => Yellow,
        "failed" | "oom" | "timeout" | "problem" => Red,
        "lost" | "preempted" | "image_error" | "infra_error" => Magenta,
        _ => return None,
    };
    Some(color.on_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["JOB", "STATE", "NAME"]);
        table.row(vec!["k7m2q9x4".into(), "failed".into(), "a\x1b[2J".into()]);
        table.row(vec!["p8r0t2v4".into(), "pending".into(), String::new()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        assert_eq!(
            table().text(true, false, true),
            "JOB       STATE    NAME\n\
             k7m2q9x4  failed   a^[[2J\n\
             p8r0t2v4  pending\n"
        );
        assert_eq!(table().text(false, false, false).lines().count(), 2);
    }

    #[test]
    fn only_states_are_coloured() {
        let text = table().text(true, true, true);
        assert!(text.contains("\x1b[31mfailed\x1b[0m"), "{text:?}");
        assert!(text.starts_with("JOB       STATE    NAME\n"), "{text:?}");
    }
}
