//! The JSON of results: a contract. Names and words stay; new fields may come.
//!
//! Field names are those of the wire, enums their words, times RFC 3339 in UTC, spans seconds with the
//! unit in the name. What is absent is `null`. Every message is taken apart completely, so that a new
//! field of the wire has to be given its place here.

mod fleet;
mod job;

use serde::Serialize;
use serde_json::{Map, Value};

pub(crate) use fleet::{AgentJson, ChannelJson, ClientJson, ReleaseJson, ServerJson, VersionJson};
pub(crate) use job::{AttemptJson, ExplanationJson, JobJson, SpecJson, SubmittedJson, TaskJson};

pub(crate) fn text<T: Serialize>(thing: &T) -> String {
    serde_json::to_string(thing).expect("our own shapes are always valid JSON")
}

/// `{"<name>": [...], "next_page_token": ""}`.
pub(crate) fn page<T: Serialize>(name: &str, things: &[T], next_page_token: &str) -> Value {
    let things = serde_json::to_value(things).expect("our own shapes are always valid JSON");
    let mut page = Map::new();
    page.insert(name.to_owned(), things);
    page.insert("next_page_token".to_owned(), next_page_token.into());
    Value::Object(page)
}

/// An empty text means: not set.
fn set(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
