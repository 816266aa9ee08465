//! Holds a tree against the tables of fields.

use std::collections::BTreeMap;

use muster_core::rollout::policy::limits;
use muster_core::time::Millis;

use super::fields::{Field, Shape};
use super::tree::{Node, Value};
use super::{Place, Problem};

/// Longest part of a wrong value that a message repeats, in characters.
const SHOWN: usize = 80;

/// Everything that is wrong with one document.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<(Place, String)>);

impl Problems {
    pub(super) fn add(&mut self, place: Place, what: impl Into<String>) {
        self.0.push((place, what.into()));
    }

    pub(super) fn of_file(mut self, file: &str) -> impl Iterator<Item = Problem> {
        self.0.sort();
        self.0.into_iter().map(move |(place, what)| Problem {
            file: file.to_owned(),
            place,
            what,
        })
    }
}

/// An object whose fields have their shapes.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) place: Place,
    fields: BTreeMap<&'static str, (Place, Item)>,
    /// The fields that are there, also those that are wrong.
    named: Vec<String>,
}

#[derive(Debug, Clone)]
enum Item {
    Text(String),
    Flag(bool),
    Number(u32),
    Span(Millis),
    Texts(Vec<String>),
    Object(Object),
}

impl Object {
    /// Where the value of a field stands, given as a path; of the nearest object around it if it is absent.
    pub(super) fn place_of(&self, path: &str) -> Place {
        let (name, rest) = path.split_once('.').unwrap_or((path, ""));
        match self.fields.get(name) {
            Some((_, Item::Object(object))) if !rest.is_empty() => object.place_of(rest),
            Some((place, _)) => *place,
            None => self.place,
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.named.iter().any(|known| known == name)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.fields.get(name)? {
            (_, Item::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match self.fields.get(name)? {
            (_, Item::Flag(flag)) => Some(*flag),
            _ => None,
        }
    }

    /// A count or a percentage.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        match self.fields.get(name)? {
            (_, Item::Number(number)) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn span(&self, name: &str) -> Option<Millis> {
        match self.fields.get(name)? {
            (_, Item::Span(span)) => Some(*span),
            _ => None,
        }
    }

    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        match self.fields.get(name) {
            Some((_, Item::Texts(texts))) => texts.clone(),
            _ => Vec::new(),
        }
    }

    pub(super) fn object(&self, name: &str) -> Option<&Self> {
        match self.fields.get(name)? {
            (_, Item::Object(object)) => Some(object),
            _ => None,
        }
    }
}

/// Reads the fields of a map; `path` is where it is, with a dot at its end, or empty.
pub(super) fn object(
    node: &Node,
    entries: &[(String, Place, Node)],
    table: &'static [Field],
    path: &str,
    bad: &mut Problems,
) -> Object {
    let mut fields = BTreeMap::new();
    for (key, at, value) in entries {
        let Some(field) = table.iter().find(|field| field.name == key) else {
            let known: Vec<&str> = table.iter().map(|field| field.name).collect();
            let what = format!(
                "{path}{} is no field; there are {}",
                shown(key),
                known.join(", ")
            );
            bad.add(*at, what);
            continue;
        };
        let path = format!("{path}{key}");
        match item(value, &field.shape, &path, bad) {
            Ok(item) => {
                fields.insert(field.name, (value.place, item));
            }
            Err(Some(what)) => bad.add(value.place, format!("{path} {what}")),
            Err(None) => {}
        }
    }
    for field in table.iter().filter(|field| field.required) {
        if !entries.iter().any(|(key, ..)| key == field.name) {
            bad.add(node.place, format!("{path}{} is missing", field.name));
        }
    }
    Object {
        place: node.place,
        fields,
        named: entries.iter().map(|(key, ..)| key.clone()).collect(),
    }
}

/// `Err(None)`: what is wrong is noted already.
fn item(
    node: &Node,
    shape: &'static Shape,
    path: &str,
    bad: &mut Problems,
) -> Result<Item, Option<String>> {
    match (shape, &node.value) {
        (Shape::Object(table), Value::Map(entries)) => {
            let object = object(node, entries, table, &format!("{path}."), bad);
            Ok(Item::Object(object))
        }
        (Shape::Object(_), Value::Empty) => {
            let what = "is empty; write {} for the defaults, or leave it out";
            Err(Some(what.to_owned()))
        }
        (Shape::Object(_), _) => Err(Some("is no map of fields".to_owned())),
        (Shape::Texts(most), Value::List(items)) => texts(items, *most, path, bad),
        (Shape::Texts(_), _) => Err(Some("is no list of texts such as [a, b]".to_owned())),
        (_, Value::Text(text)) => scalar(text, shape).map_err(Some),
        (_, Value::Empty) => Err(Some("is empty; leave it out for the default".to_owned())),
        (_, Value::List(_) | Value::Map(_)) => Err(Some("is no single value".to_owned())),
    }
}

fn texts(
    items: &[Node],
    most: usize,
    path: &str,
    bad: &mut Problems,
) -> Result<Item, Option<String>> {
    if items.len() > most {
        return Err(Some(format!("has {} items; at most {most}", items.len())));
    }
    let mut texts = Vec::with_capacity(items.len());
    for (place, item) in items.iter().enumerate() {
        match &item.value {
            Value::Text(text) => texts.push(text.clone()),
            Value::Empty | Value::List(_) | Value::Map(_) => {
                bad.add(item.place, format!("{path}[{place}] is no text"));
            }
        }
    }
    if texts.len() < items.len() {
        return Err(None);
    }
    Ok(Item::Texts(texts))
}

fn scalar(text: &str, shape: &Shape) -> Result<Item, String> {
    match shape {
        Shape::Kind(_) | Shape::Text => Ok(Item::Text(text.to_owned())),
        Shape::Words(words) if words.contains(&text) => Ok(Item::Text(text.to_owned())),
        Shape::Words(words) => Err(format!("{} is not {}", shown(text), words.join(" or "))),
        Shape::Flag => match text {
            "true" => Ok(Item::Flag(true)),
            "false" => Ok(Item::Flag(false)),
            _ => Err(format!("{} is not true or false", shown(text))),
        },
        Shape::Count { least, most } => {
            let number = whole(text).filter(|number| (*least..=*most).contains(number));
            let wrong = || format!("{} is not a number from {least} to {most}", shown(text));
            number.map(Item::Number).ok_or_else(wrong)
        }
        Shape::Percent { zero, least, most } => {
            let number = whole(text.strip_suffix('%').unwrap_or(text));
            let fits = |number: &u32| (*least..=*most).contains(number) || (*zero && *number == 0);
            let or_zero = if *zero { ", or 0" } else { "" };
            let wrong = || {
                let bounds = format!("from {least}% to {most}%{or_zero}");
                format!("{} is not a percentage {bounds}", shown(text))
            };
            number.filter(fits).map(Item::Number).ok_or_else(wrong)
        }
        Shape::Span => {
            let span: Millis = text
                .parse()
                .map_err(|error| format!("{} {error}", shown(text)))?;
            if span > limits::PATIENCE {
                return Err(format!("{} is more than 7 days", shown(text)));
            }
            Ok(Item::Span(span))
        }
        Shape::Texts(_) | Shape::Object(_) => Err("is no single value".to_owned()),
    }
}

fn whole(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// In quotes, and not too long.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}
