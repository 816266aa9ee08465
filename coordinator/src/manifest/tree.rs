//! YAML as a tree in which each node knows its place. The only part that knows the YAML reader.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DefaultMessageFormatter, Location, MessageFormatter, Spanned};

use super::Place;

/// Bounds of one file. A manifest is small; these are for what only looks like one.
const NODES_MAX: usize = 100_000;
const DEPTH_MAX: usize = 32;
const REPEATED_MAX: usize = 10_000;

/// A value and where it stands; of an alias, where the alias stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Empty,
    /// Any scalar, as it is written: YAML's own opinion on `1.10` or `off` does not count.
    Text(String),
    List(Vec<Node>),
    /// In the file's order.
    Map(Vec<(String, Place, Node)>),
}

/// The documents of a text, without empty ones.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, (Place, String)> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_nodes: NODES_MAX,
            max_depth: DEPTH_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: REPEATED_MAX,
        },
    };
    let read = serde_saphyr::from_multiple_with_options::<Spanned<Raw>>(text, options);
    match read {
        Ok(documents) => Ok(documents
            .into_iter()
            .map(|document| node(document, text))
            .collect()),
        Err(error) => {
            let place = error.location().map(place).unwrap_or_default();
            let message = DefaultMessageFormatter.format_message(error.without_snippet());
            Err((place, format!("is not valid YAML: {message}")))
        }
    }
}

/// What the reader hands over; its numbers and booleans are looked up in the text again.
#[derive(Debug)]
enum Raw {
    Empty,
    Text(String),
    Literal,
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

fn node(raw: Spanned<Raw>, text: &str) -> Node {
    let value = match raw.value {
        Raw::Empty => Value::Empty,
        Raw::Text(text) => Value::Text(text),
        Raw::Literal => Value::Text(slice(raw.defined, text).to_owned()),
        Raw::List(items) => {
            let items = items.into_iter().map(|item| node(item, text));
            Value::List(items.collect())
        }
        Raw::Map(entries) => {
            let entries = entries.into_iter().map(|(key, value)| {
                let at = place(key.referenced);
                (key.value, at, node(value, text))
            });
            Value::Map(entries.collect())
        }
    };
    Node {
        place: place(raw.referenced),
        value,
    }
}

fn place(location: Location) -> Place {
    let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Place {
        line: number(location.line()),
        column: number(location.column()),
    }
}

/// The text that a scalar was read from.
fn slice(location: Location, text: &str) -> &str {
    let span = location.span();
    let offset = |number: Option<u64>| number.and_then(|number| usize::try_from(number).ok());
    let (Some(begin), Some(length)) = (offset(span.byte_offset()), offset(span.byte_len())) else {
        return "";
    };
    text.get(begin..begin + length).unwrap_or("").trim()
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Empty)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Literal)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Literal)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Literal)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Literal)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}
