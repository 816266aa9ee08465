//! The JSON of results: a contract. Names and words stay; new fields may come.
//!
//! Field names are those of the wire, enums their words, times RFC 3339 in UTC, spans seconds with the
//! unit in the name. What is absent is `null`. Every message is taken apart completely, so that a new
//! field of the wire has to be given its place here.

mod adoption;
mod explain;
mod finding;
mod fleet;
mod job;
mod manifest;
mod retry;
mod rollout;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

pub(crate) use adoption::AdoptionJson;
pub(crate) use explain::ExplanationJson;
pub(crate) use finding::FindingJson;
pub(crate) use fleet::{AgentJson, ChannelJson, ClientJson, ReleaseJson, ServerJson, VersionJson};
pub(crate) use job::{AttemptJson, JobJson, SpecJson, SubmittedJson, TaskJson};
pub(crate) use manifest::AppliedJson;
pub(crate) use rollout::RolloutJson;

pub(crate) fn text<T: Serialize>(thing: &T) -> String {
    serde_json::to_string(thing).expect("our own shapes are always valid JSON")
}

/// `{"<name>": [...], "next_page_token": ""}`.
pub(crate) struct Page<'a, T> {
    pub(crate) name: &'static str,
    pub(crate) things: &'a [T],
    pub(crate) next_page_token: &'a str,
}

impl<T: Serialize> Serialize for Page<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut page = serializer.serialize_map(Some(2))?;
        page.serialize_entry(self.name, self.things)?;
        page.serialize_entry("next_page_token", self.next_page_token)?;
        page.end()
    }
}

/// An empty text means: not set.
fn set(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
