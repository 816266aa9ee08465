//! The reader.

use std::collections::{BTreeMap, BTreeSet};

use super::{BadText, Bounds, Family, Kind, Problem, Sample};

/// Longest metric or label name, in bytes.
const NAME_MAX: usize = 200;
/// Longest help text that is kept, in bytes; the rest is cut.
const HELP_MAX: usize = 512;

/// Reads a whole text: families in order of their names, samples in the order of the text.
///
/// # Errors
/// The first thing that is wrong. Nothing of a bad text is used.
pub fn parse(text: &str, bounds: &Bounds) -> Result<Vec<Family>, BadText> {
    let mut reader = Reader {
        bounds: *bounds,
        families: BTreeMap::new(),
        seen: BTreeSet::new(),
        samples: 0,
    };
    let mut last = 0;
    for (index, line) in text.lines().enumerate() {
        last = index + 1;
        let at = |problem| BadText {
            line: last,
            problem,
        };
        let line = line.trim_matches([' ', '\t', '\r']);
        if let Some(comment) = line.strip_prefix('#') {
            reader.comment(comment).map_err(at)?;
        } else if !line.is_empty() {
            reader.sample(line).map_err(at)?;
        }
    }
    let families: Vec<_> = reader.families.into_values().collect();
    for family in &families {
        check_histogram(family).map_err(|problem| BadText {
            line: last,
            problem,
        })?;
    }
    // A lone # TYPE line measures nothing.
    Ok(families
        .into_iter()
        .filter(|family| !family.samples.is_empty())
        .collect())
}

struct Reader {
    bounds: Bounds,
    families: BTreeMap<String, Family>,
    seen: BTreeSet<(String, BTreeMap<String, String>)>,
    samples: usize,
}

impl Reader {
    /// `# HELP` and `# TYPE` mean something; any other comment doesn't.
    fn comment(&mut self, comment: &str) -> Result<(), Problem> {
        let comment = comment.trim_start();
        let mut words = comment.splitn(3, [' ', '\t']);
        let (keyword, name) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let rest = words.next().unwrap_or("").trim();
        match keyword {
            "HELP" => {
                let family = self.described(name)?;
                if !family.help.is_empty() {
                    return Err(twice(name));
                }
                family.help = unescape_help(rest);
                Ok(())
            }
            "TYPE" => {
                let kind = Kind::from_word(rest).ok_or_else(|| Problem::Type {
                    text: rest.chars().take(40).collect(),
                })?;
                let family = self.described(name)?;
                if family.kind != Kind::Untyped {
                    return Err(twice(name));
                }
                family.kind = kind;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn described(&mut self, name: &str) -> Result<&mut Family, Problem> {
        check_metric_name(name)?;
        let family = self
            .families
            .entry(name.to_owned())
            .or_insert_with(|| Family {
                name: name.to_owned(),
                help: String::new(),
                kind: Kind::Untyped,
                samples: Vec::new(),
            });
        if family.samples.is_empty() {
            Ok(family)
        } else {
            Err(twice(name))
        }
    }

    fn sample(&mut self, line: &str) -> Result<(), Problem> {
        let sample = read_sample(line, &self.bounds)?;
        self.samples += 1;
        if self.samples > self.bounds.samples {
            return Err(Problem::Samples {
                most: self.bounds.samples,
            });
        }
        let key = (
            sample.name.clone(),
            sample.labels.iter().cloned().collect::<BTreeMap<_, _>>(),
        );
        if !self.seen.insert(key) {
            return Err(Problem::SeriesTwice {
                series: super::series(&sample),
            });
        }
        let owner = self.owner(&sample.name);
        let family = self
            .families
            .entry(owner.clone())
            .or_insert_with(|| Family {
                name: owner,
                help: String::new(),
                kind: Kind::Untyped,
                samples: Vec::new(),
            });
        check_part(family, &sample)?;
        family.samples.push(sample);
        Ok(())
    }

    /// The family of a sample: `x_bucket` belongs to the histogram `x`, if there is one.
    fn owner(&self, name: &str) -> String {
        let base = ["_bucket", "_sum", "_count"]
            .into_iter()
            .find_map(|suffix| name.strip_suffix(suffix));
        match base.and_then(|base| self.families.get(base)) {
            Some(family) if matches!(family.kind, Kind::Histogram | Kind::Summary) => {
                family.name.clone()
            }
            Some(_) | None => name.to_owned(),
        }
    }
}

fn twice(name: &str) -> Problem {
    Problem::MetadataTwice {
        name: name.to_owned(),
    }
}

fn read_sample(line: &str, bounds: &Bounds) -> Result<Sample, Problem> {
    let end = line.find(['{', ' ', '\t']).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    check_metric_name(name)?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => read_labels(inside, bounds)?,
        None => (Vec::new(), rest),
    };
    let mut words = rest.split_ascii_whitespace();
    let value = read_number(words.next().unwrap_or(""))?;
    if words.next().is_some() {
        return Err(Problem::Timestamp);
    }
    Ok(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

type Labels = Vec<(String, String)>;

/// Reads labels up to the closing brace; returns them with what follows.
fn read_labels<'a>(inside: &'a str, bounds: &Bounds) -> Result<(Labels, &'a str), Problem> {
    let mut labels: Labels = Vec::new();
    let mut rest = inside.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (name, after) = rest.split_once('=').ok_or(Problem::LabelSyntax)?;
        let name = name.trim();
        check_label_name(name)?;
        let after = after.trim_start().strip_prefix('"');
        let (value, after) = read_quoted(after.ok_or(Problem::LabelSyntax)?)?;
        if value.len() > bounds.label_value {
            return Err(Problem::LabelValue {
                name: name.to_owned(),
                length: value.len(),
                most: bounds.label_value,
            });
        }
        if labels.iter().any(|(known, _)| known == name) {
            return Err(Problem::LabelTwice {
                name: name.to_owned(),
            });
        }
        labels.push((name.to_owned(), value));
        if labels.len() > bounds.labels {
            return Err(Problem::Labels {
                count: labels.len(),
                most: bounds.labels,
            });
        }
        rest = after.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(next) => next.trim_start(),
            None if rest.starts_with('}') => rest,
            None => return Err(Problem::LabelSyntax),
        };
    }
}

/// Reads up to the closing quote; returns the value with what follows the quote.
fn read_quoted(text: &str) -> Result<(String, &str), Problem> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[place + 1..])),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('\\' | '"'))) => value.push(escaped),
                Some(_) | None => return Err(Problem::LabelSyntax),
            },
            plain => value.push(plain),
        }
    }
    Err(Problem::LabelSyntax)
}

fn read_number(text: &str) -> Result<f64, Problem> {
    let bad = || Problem::Number {
        text: text.chars().take(40).collect(),
    };
    match text {
        "+Inf" | "Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        "NaN" => Ok(f64::NAN),
        // Rust would also read words such as "infinity".
        _ if text
            .chars()
            .any(|c| c.is_ascii_alphabetic() && c != 'e' && c != 'E') =>
        {
            Err(bad())
        }
        _ => text.parse().map_err(|_| bad()),
    }
}

fn check_metric_name(name: &str) -> Result<(), Problem> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    let ok = name.starts_with(first)
        && name.len() <= NAME_MAX
        && name.chars().all(|c| first(c) || c.is_ascii_digit());
    ok.then_some(()).ok_or_else(|| Problem::MetricName {
        text: name.chars().take(80).collect(),
    })
}

fn check_label_name(name: &str) -> Result<(), Problem> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let ok = name.starts_with(first)
        && name.len() <= NAME_MAX
        && !name.starts_with("__")
        && name.chars().all(|c| first(c) || c.is_ascii_digit());
    ok.then_some(()).ok_or_else(|| Problem::LabelName {
        text: name.chars().take(80).collect(),
    })
}

fn check_part(family: &Family, sample: &Sample) -> Result<(), Problem> {
    let suffix = sample.name.strip_prefix(family.name.as_str()).unwrap_or("");
    let has = |label: &str| sample.labels.iter().any(|(name, _)| name == label);
    let ok = match family.kind {
        Kind::Counter | Kind::Gauge | Kind::Untyped => suffix.is_empty(),
        Kind::Histogram => match suffix {
            "_bucket" => has("le"),
            "_sum" | "_count" => !has("le"),
            _ => false,
        },
        Kind::Summary => match suffix {
            "" => has("quantile"),
            "_sum" | "_count" => !has("quantile"),
            _ => false,
        },
    };
    if !ok {
        return Err(Problem::Part {
            name: family.name.clone(),
            sample: sample.name.clone(),
            kind: family.kind,
        });
    }
    let counts = family.kind == Kind::Counter || suffix == "_bucket" || suffix == "_count";
    if counts && !(sample.value.is_finite() && sample.value >= 0.0) {
        return Err(Problem::CounterValue {
            value: super::number(sample.value),
        });
    }
    Ok(())
}

/// Each set of labels has rising buckets up to `+Inf`, equal to its count, and a sum.
fn check_histogram(family: &Family) -> Result<(), Problem> {
    if family.kind != Kind::Histogram {
        return Ok(());
    }
    let mut sets: BTreeMap<Labels, Distribution> = BTreeMap::new();
    let bad = || Problem::Histogram {
        name: family.name.clone(),
    };
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        labels.retain(|(name, _)| name != "le");
        labels.sort();
        let set = sets.entry(labels).or_default();
        match sample.name.strip_prefix(family.name.as_str()) {
            Some("_sum") => set.has_sum = true,
            Some("_count") => set.count = Some(sample.value),
            Some(_) | None => {
                let bound = sample.labels.iter().find(|(name, _)| name == "le");
                let bound = bound.map(|(_, text)| read_number(text));
                let bound = bound.and_then(Result::ok).ok_or_else(bad)?;
                set.buckets.push((bound, sample.value));
            }
        }
    }
    if sets.into_values().all(Distribution::into_whole) {
        Ok(())
    } else {
        Err(bad())
    }
}

#[derive(Default)]
struct Distribution {
    buckets: Vec<(f64, f64)>,
    has_sum: bool,
    count: Option<f64>,
}

impl Distribution {
    fn into_whole(mut self) -> bool {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let rising = self.buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
        let last = self.buckets.last().copied();
        let ends = last.is_some_and(|(bound, _)| bound == f64::INFINITY);
        rising && ends && self.has_sum && self.count == last.map(|(_, count)| count)
    }
}

fn unescape_help(text: &str) -> String {
    let mut help = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if help.len() >= HELP_MAX {
            break;
        }
        match character {
            '\\' => match characters.next() {
                Some('n') => help.push('\n'),
                Some(other) => help.push(other),
                None => help.push('\\'),
            },
            plain => help.push(plain),
        }
    }
    help
}
