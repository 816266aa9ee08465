//! The schema and the pages say what the reader does.

use serde_json::Value;

use super::*;
use crate::manifest::fields::{CHANNEL_FIELDS, Field, Shape};

const PAGE: &str = include_str!("../../../../docs/manifests.md");

/// As much of JSON Schema as the schema uses, without patterns.
fn fits(value: &Value, schema: &Value) -> bool {
    let is_type = |name: &Value| match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        "boolean" => value.is_boolean(),
        other => panic!("the schema has the type {other}"),
    };
    let types = match schema.get("type") {
        None => &Vec::new(),
        Some(Value::Array(types)) => types,
        Some(one) => &vec![one.clone()],
    };
    if !types.is_empty() && !types.iter().any(is_type) {
        return false; // the other keywords rely on it
    }
    let object = schema.as_object().unwrap();
    object.iter().all(|(keyword, rule)| match keyword.as_str() {
        "$schema" | "title" | "description" | "pattern" | "type" => true,
        "const" => value == rule,
        "enum" => rule.as_array().unwrap().contains(value),
        "minimum" => value.as_i64().unwrap() >= rule.as_i64().unwrap(),
        "maximum" => value.as_i64().unwrap() <= rule.as_i64().unwrap(),
        "maxItems" => {
            value.as_array().unwrap().len() <= usize::try_from(rule.as_u64().unwrap()).unwrap()
        }
        "items" => value
            .as_array()
            .unwrap()
            .iter()
            .all(|item| fits(item, rule)),
        "oneOf" => {
            let fitting = rule
                .as_array()
                .unwrap()
                .iter()
                .filter(|one| fits(value, one));
            fitting.count() == 1
        }
        "anyOf" => rule.as_array().unwrap().iter().any(|one| fits(value, one)),
        "required" => {
            let mut names = rule.as_array().unwrap().iter();
            names.all(|name| value.get(name.as_str().unwrap()).is_some())
        }
        "properties" => {
            let mut fields = value.as_object().unwrap().iter();
            fields.all(|(name, value)| rule.get(name).is_none_or(|rule| fits(value, rule)))
        }
        "additionalProperties" => {
            assert_eq!(rule, false);
            let known = &schema["properties"];
            let mut fields = value.as_object().unwrap().keys();
            fields.all(|name| known.get(name).is_some())
        }
        other => panic!("the schema has the keyword {other}"),
    })
}

/// Whether the schema takes all documents of the text.
fn schema_takes(text: &str) -> bool {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    documents.iter().all(|document| fits(document, &schema()))
}

#[test]
fn examples_of_the_page_are_good() {
    let blocks: Vec<&str> = PAGE
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert_eq!(blocks.len(), 3);
    for block in blocks {
        if block.contains("kind: Image") {
            let file = Source {
                name: "muster.yaml",
                text: block,
            };
            assert!(carried(file).unwrap().is_some(), "{block}");
        } else {
            assert_eq!(read_one(block).unwrap().len(), 1, "{block}");
        }
        assert!(schema_takes(block), "{block}");
    }
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    for text in [
        "kind: Job\n",
        "kind: Channel\nname: a\n",
        "kind: Rollout\nchannel: a\nrepository: b\n",
        "kind: Rollout\nchannel: a\nto: [main]\n",
        "kind: Channel\nname: a\nrepository: r.example/a\npolcy: {}\n",
        "kind: Channel\nname: a\nrepository: r.example/a\npolicy: {bake: {last: 1h}}\n",
        "kind: Channel\nname: a\nrepository: r.example/a\npolicy: {bake: {lasts: 60}}\n",
        "kind: Channel\nname: a\nrepository: r.example/a\npolicy: {canary: {first: 0}}\n",
        "kind: Channel\nname: a\nrepository: r.example/a\npolicy: {canary: {percent: 101}}\n",
        "kind: Channel\nname: a\nrepository: r.example/a\npolicy: {newer: last}\n",
    ] {
        assert!(read_one(text).is_err(), "{text}");
        assert!(!schema_takes(text), "{text}");
    }
    for text in [
        "kind: Channel\nname: a\nrepository: r.example/a\ntag: 1.10\npolicy: {gates: {memory_percent: 0}}\n",
        "kind: Rollout\nchannel: a\nfrom: 41\nto: main\n",
    ] {
        assert!(read_one(text).is_ok(), "{text}");
        assert!(schema_takes(text), "{text}");
    }
}

#[test]
fn an_image_carries_what_the_schema_takes_and_is_not_applied() {
    for (text, good) in [
        ("kind: Image\n", true),
        ("kind: Image\npolicy: {canary: {first: 5}}\n", true),
        ("kind: Image\nname: analytics\n", false),
        ("kind: Image\nrepository: r.example/a\n", false),
        ("kind: Image\npolicy: {bake: {last: 1h}}\n", false),
    ] {
        let file = Source { name: "m", text };
        assert_eq!(carried(file).is_ok(), good, "{text}");
        assert_eq!(schema_takes(text), good, "{text}");
        let applied = read_one(text).unwrap_err();
        let expected = "m.yaml:1:7: an Image is not applied: it goes into an image, as the file that its label \
                        muster.manifests names";
        assert_eq!(applied, [expected], "{text}");
    }
}

#[test]
fn the_page_has_every_field_of_the_policy() {
    fn names(table: &[Field], path: &str, found: &mut Vec<String>) {
        for field in table {
            let name = format!("{path}{}", field.name);
            if let Shape::Object(inner) = &field.shape {
                names(inner, &format!("{name}."), found);
            }
            found.push(name);
        }
    }
    let mut all = Vec::new();
    names(&CHANNEL_FIELDS, "", &mut all);
    for name in all {
        let row = format!("| `{}` |", name.trim_start_matches("policy."));
        assert!(PAGE.contains(&row), "{row}");
    }
}
