//! The JSON Schema of manifests, for editors and for checks before anything is sent.

use serde_json::{Map, Value, json};

use super::fields::{CHANNEL_FIELDS, Field, IMAGE_FIELDS, ROLLOUT_FIELDS, Shape};

/// Of one document.
#[must_use]
pub fn schema() -> Value {
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "muster manifest",
        "description": "One document: a channel, a rollout of one, or what an image carries.",
        "oneOf": [object(&CHANNEL_FIELDS), object(&ROLLOUT_FIELDS), object(&IMAGE_FIELDS)],
    })
}

fn object(table: &[Field]) -> Value {
    let mut properties = Map::new();
    for field in table {
        let mut property = shape(&field.shape);
        property["description"] = field.about.into();
        properties.insert(field.name.to_owned(), property);
    }
    let required: Vec<&str> = table
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn shape(shape: &Shape) -> Value {
    match shape {
        Shape::Kind(kind) => json!({ "const": kind }),
        // YAML takes a tag such as 1.10 for a number.
        Shape::Text => json!({ "type": ["string", "number", "boolean"] }),
        Shape::Words(words) => json!({ "enum": words }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Count { least, most } => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Shape::Percent { zero, least, most } => {
            let least = if *zero { 0 } else { *least };
            json!({ "anyOf": [
                { "type": "string", "pattern": "^[0-9]+%$" },
                { "type": "integer", "minimum": least, "maximum": most },
            ] })
        }
        Shape::Span => json!({ "type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$" }),
        Shape::Texts(most) => json!({
            "type": "array",
            "items": { "type": ["string", "number", "boolean"] },
            "maxItems": most,
        }),
        Shape::Object(table) => object(table),
    }
}
