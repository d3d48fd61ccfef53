//! The JSON schema of manifests (draft 2020-12), by which editors complete and check them.

use serde_json::{Map, Value, json};

use super::{Absent, Field, Kind, Literal, Takes, interface, kinds};

/// A schema of one manifest of any kind.
#[must_use]
pub fn json_schema() -> Value {
    let kinds = kinds();
    let names = kinds.iter().map(|kind| kind.name).collect::<Vec<_>>();
    let branches = kinds.iter().map(|kind| {
        json!({
            "if": { "properties": { "kind": { "const": kind.name } } },
            "then": { "properties": { "spec": { "$ref": format!("#/$defs/{}", kind.name) } } },
        })
    });
    let definitions = kinds.iter().map(|kind| (kind.name.to_owned(), of_kind(kind)));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Adit manifest",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": { "const": "adit.dev/v1alpha1" },
            "kind": { "enum": names },
            "metadata": {
                "type": "object",
                "required": ["name"],
                "properties": { "name": { "type": "string" } },
            },
            "spec": { "type": "object" },
        },
        "allOf": branches.collect::<Vec<_>>(),
        "$defs": definitions.collect::<Map<_, _>>(),
    })
}

fn of_kind(kind: &Kind) -> Value {
    let mut schema = match kind.name {
        "NetlinkInterface" => of_interface(),
        _ => of_fields(kind.fields.iter().copied()),
    };
    schema.insert("description".to_owned(), json!(kind.help));
    Value::Object(schema)
}

/// What a device must and may say goes by its type.
fn of_interface() -> Map<String, Value> {
    let types = interface::by_type().into_iter().map(|(name, fields)| {
        let mut schema = of_fields(fields.into_iter());
        schema["properties"]["type"] = json!({ "const": name });
        Value::Object(schema)
    });
    let mut schema = Map::new();
    schema.insert("oneOf".to_owned(), types.collect());
    schema
}

fn of_fields<'f>(fields: impl Iterator<Item = &'f Field> + Clone) -> Map<String, Value> {
    let is_required = |field: &&Field| matches!(field.absent, Absent::Refused(_));
    let required = fields.clone().filter(is_required).map(|field| field.name);
    let properties = fields.map(|field| (field.name.to_owned(), of_field(field)));
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema.insert("required".to_owned(), json!(required.collect::<Vec<_>>()));
    schema.insert("properties".to_owned(), Value::Object(properties.collect()));
    schema
}

fn of_field(field: &Field) -> Value {
    let mut schema = of_value(&field.takes);
    schema.insert("description".to_owned(), json!(field.help));
    if let Absent::Default(default) = field.absent {
        schema.insert("default".to_owned(), literal(default));
    }
    Value::Object(schema)
}

fn of_value(takes: &Takes) -> Map<String, Value> {
    let schema = match takes {
        Takes::Boolean => json!({ "type": "boolean" }),
        // Beyond these a number is none that JSON's readers agree on.
        Takes::Integer(low, high) => match (i64::try_from(*low), i64::try_from(*high)) {
            (Ok(low), Ok(high)) => json!({ "type": "integer", "minimum": low, "maximum": high }),
            (Ok(low), Err(_)) => json!({ "type": "integer", "minimum": low }),
            _ => json!({ "type": "integer" }),
        },
        Takes::Words(words) => json!({ "enum": words }),
        Takes::Text(example) => json!({ "type": "string", "examples": [example] }),
        Takes::List(items) => json!({ "type": "array", "items": of_value(items) }),
        Takes::Map(fields) => Value::Object(of_fields(fields.iter())),
        Takes::Either(several) => {
            let several = several.iter().map(|takes| Value::Object(of_value(takes)));
            json!({ "anyOf": several.collect::<Vec<_>>() })
        }
    };
    match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

/// A default as JSON has it.
pub(super) fn literal(literal: Literal) -> Value {
    match literal {
        Literal::Boolean(value) => json!(value),
        Literal::Integer(value) => i64::try_from(value).map_or(Value::Null, |value| json!(value)),
        Literal::Text(text) => json!(text),
        Literal::List(items) => items.iter().map(|item| self::literal(*item)).collect(),
        Literal::Empty => json!({}),
    }
}
