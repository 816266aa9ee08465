//! How the core's values are written in rows, whatever the database: words, numbers and small JSON.
//! What a column can't hold is refused when it is read, with its name and its value.

use std::collections::BTreeMap;
use std::str::FromStr;

use muster_core::agent::HeldImage;
use muster_core::effect::Because;
use muster_core::job::Withdrawn;
use muster_core::outcome::{End, EndReason, Outcome};
use muster_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{LateReport, ReadError};

pub(super) fn corrupt(what: &'static str, value: &impl ToString) -> ReadError {
    ReadError::Corrupt {
        what,
        value: value.to_string(),
    }
}

/// Databases have signed numbers. What does not fit is an hour that never comes or a size nobody has.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(what: &'static str, value: i64) -> Result<u64, ReadError> {
    u64::try_from(value).map_err(|_| corrupt(what, &value))
}

pub(super) fn parsed<T: FromStr>(what: &'static str, text: &str) -> Result<T, ReadError> {
    text.parse().map_err(|_| corrupt(what, &text))
}

pub(super) fn outcome(word: &str) -> Result<Outcome, ReadError> {
    Outcome::from_word(word).ok_or_else(|| corrupt("an outcome", &word))
}

/// `first`, `user 1/3`, `infra 2/3`, `free` or `trial`.
pub(super) fn because_to_text(because: Because) -> String {
    match because {
        Because::First => "first".to_owned(),
        Because::UserRetry { number, allowed } => format!("user {number}/{allowed}"),
        Because::InfraRetry { number, allowed } => format!("infra {number}/{allowed}"),
        Because::FreeRetry => "free".to_owned(),
        Because::Forgiven => "trial".to_owned(),
    }
}

pub(super) fn because_from_text(text: &str) -> Result<Because, ReadError> {
    let bad = || corrupt("the reason of an attempt", &text);
    let Some((budget, of)) = text.split_once(' ') else {
        return match text {
            "first" => Ok(Because::First),
            "free" => Ok(Because::FreeRetry),
            "trial" => Ok(Because::Forgiven),
            _ => Err(bad()),
        };
    };
    let (number, allowed) = of.split_once('/').ok_or_else(bad)?;
    let number = number.parse().map_err(|_| bad())?;
    let allowed = allowed.parse().map_err(|_| bad())?;
    match budget {
        "user" => Ok(Because::UserRetry { number, allowed }),
        "infra" => Ok(Because::InfraRetry { number, allowed }),
        _ => Err(bad()),
    }
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings, numbers and maps with string keys are JSON")
}

fn from_json<'t, T: Deserialize<'t>>(what: &'static str, text: &'t str) -> Result<T, ReadError> {
    serde_json::from_str(text).map_err(|_| corrupt(what, &text))
}

/// Labels, or amounts by name.
pub(super) fn map_to_json<V: Serialize>(map: &BTreeMap<String, V>) -> String {
    to_json(map)
}

pub(super) fn map_from_json<V>(text: &str) -> Result<BTreeMap<String, V>, ReadError>
where
    V: for<'t> Deserialize<'t>,
{
    from_json("a map", text)
}

#[derive(Serialize, Deserialize)]
struct EndJson {
    outcome: String,
    exit_code: Option<i32>,
    reason: String,
    message: String,
}

impl EndJson {
    fn of(end: &End) -> Self {
        let End {
            outcome,
            exit_code,
            reason,
            message,
        } = end;
        Self {
            outcome: outcome.as_str().to_owned(),
            exit_code: *exit_code,
            reason: reason.as_str().to_owned(),
            message: message.clone(),
        }
    }

    fn read(self) -> Result<End, ReadError> {
        let Self {
            outcome: word,
            exit_code,
            reason,
            message,
        } = self;
        let outcome = outcome(&word)?;
        Ok(End {
            outcome,
            exit_code,
            reason: EndReason::from_word(&reason),
            message,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct WithdrawnJson {
    tasks: String,
    at: u64,
    end: EndJson,
}

/// `None` for none, which is how nearly every job is.
pub(super) fn withdrawn_to_json(withdrawn: &[Withdrawn]) -> Option<String> {
    if withdrawn.is_empty() {
        return None;
    }
    let all: Vec<_> = withdrawn
        .iter()
        .map(|Withdrawn { tasks, end, at }| WithdrawnJson {
            tasks: tasks.to_string(),
            at: at.0,
            end: EndJson::of(end),
        })
        .collect();
    Some(to_json(&all))
}

pub(super) fn withdrawn_from_json(text: Option<&str>) -> Result<Vec<Withdrawn>, ReadError> {
    let Some(text) = text else {
        return Ok(Vec::new());
    };
    let all: Vec<WithdrawnJson> = from_json("withdrawn tasks", text)?;
    all.into_iter()
        .map(|WithdrawnJson { tasks, at, end }| {
            let tasks = parsed("ranges of tasks", &tasks)?;
            Ok(Withdrawn {
                tasks,
                end: end.read()?,
                at: Timestamp(at),
            })
        })
        .collect()
}

#[derive(Serialize, Deserialize)]
struct LateJson {
    at: u64,
    end: EndJson,
}

pub(super) fn late_to_json(at: Timestamp, end: &End) -> String {
    to_json(&LateJson {
        at: at.0,
        end: EndJson::of(end),
    })
}

pub(super) fn late_from_json(text: &str) -> Result<LateReport, ReadError> {
    let LateJson { at, end } = from_json("a late report", text)?;
    Ok(LateReport {
        at: Timestamp(at),
        end: end.read()?,
    })
}

#[derive(Serialize, Deserialize)]
struct HeldJson {
    id: String,
    images: Vec<String>,
    tags: Vec<String>,
}

pub(super) fn held_to_json(held: &[HeldImage]) -> String {
    let all: Vec<_> = held
        .iter()
        .map(|HeldImage { id, images, tags }| HeldJson {
            id: id.to_string(),
            images: images.iter().map(ToString::to_string).collect(),
            tags: tags.clone(),
        })
        .collect();
    to_json(&all)
}

pub(super) fn held_from_json(text: &str) -> Result<Vec<HeldImage>, ReadError> {
    let all: Vec<HeldJson> = from_json("held images", text)?;
    all.into_iter()
        .map(|HeldJson { id, images, tags }| {
            let id = parsed("a digest", &id)?;
            let images = images.iter().map(|image| parsed("an image", image));
            Ok(HeldImage {
                id,
                images: images.collect::<Result<_, _>>()?,
                tags,
            })
        })
        .collect()
}

/// Numbers of releases.
pub(super) fn numbers_to_json(numbers: &[u64]) -> String {
    to_json(&numbers)
}

pub(super) fn numbers_from_json(text: &str) -> Result<Vec<u64>, ReadError> {
    from_json("numbers", text)
}
