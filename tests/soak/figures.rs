//! The result: figures with their bars, as a table for people and as JSON for tools.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

/// One figure. Without a bar it only informs.
#[derive(Debug)]
struct Figure {
    name: String,
    value: f64,
    most: Option<f64>,
}

#[derive(Debug)]
pub(crate) struct Figures {
    soak: &'static str,
    figures: Vec<Figure>,
    examples: Vec<String>,
}

impl Figures {
    pub(crate) const fn new(soak: &'static str) -> Self {
        Self {
            soak,
            figures: Vec::new(),
            examples: Vec::new(),
        }
    }

    /// Must be 0.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(crate) fn none(&mut self, name: &str, count: u64) {
        self.push(name, count as f64, Some(0.0));
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub(crate) fn count(&mut self, name: &str, count: u64) {
        self.push(name, count as f64, None);
    }

    pub(crate) fn inform(&mut self, name: &str, value: f64) {
        self.push(name, value, None);
    }

    pub(crate) fn at_most(&mut self, name: &str, value: f64, most: f64) {
        self.push(name, value, Some(most));
    }

    pub(crate) fn examples(&mut self, examples: Vec<String>) {
        self.examples.extend(examples);
    }

    fn push(&mut self, name: &str, value: f64, most: Option<f64>) {
        self.figures.push(Figure {
            name: name.to_owned(),
            value,
            most,
        });
    }

    pub(crate) fn table(&self) -> String {
        let mut text = format!("soak: {}\n", self.soak);
        for Figure { name, value, most } in &self.figures {
            let bar = match most {
                None => String::new(),
                Some(most) if value <= most => format!("at most {most}: met"),
                Some(most) => format!("at most {most}: MISSED"),
            };
            text.push_str(&format!("  {name:<44} {value:>14.2}  {bar}\n"));
        }
        for example in &self.examples {
            text.push_str(&format!("  ! {example}\n"));
        }
        text
    }

    /// Writes the section of this soak into the report, beside what the others wrote.
    pub(crate) fn write(&self) -> PathBuf {
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
        let path = target.join("soak/report.json");
        let known = std::fs::read(&path).unwrap_or_default();
        let mut report: Map<String, Value> = serde_json::from_slice(&known).unwrap_or_default();
        let figures = self.figures.iter().map(
            |Figure { name, value, most }| json!({ "name": name, "value": value, "at_most": most }),
        );
        let figures: Vec<Value> = figures.collect();
        let section = json!({ "met": self.missed().is_empty(), "figures": figures, "examples": self.examples });
        report.insert(self.soak.to_owned(), section);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, serde_json::to_vec_pretty(&report).unwrap()).unwrap();
        path
    }

    pub(crate) fn missed(&self) -> Vec<&str> {
        let missed = self
            .figures
            .iter()
            .filter(|figure| figure.most.is_some_and(|most| figure.value > most));
        missed.map(|figure| figure.name.as_str()).collect()
    }
}
