//! The JSON schema of manifests (draft 2020-12). Editors use it to complete and check them.

use serde_json::{Map, Value, json};

use super::{Absent, Accepts, Field, Kind, Literal, interface, kinds};

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

/// One schema for each type of device, because the type determines the fields.
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
    let is_required = |field: &&Field| matches!(field.absent, Absent::Required(_));
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
    let mut schema = of_value(&field.accepts);
    schema.insert("description".to_owned(), json!(field.help));
    if let Absent::Default(default) = field.absent {
        schema.insert("default".to_owned(), literal(default));
    }
    Value::Object(schema)
}

fn of_value(accepts: &Accepts) -> Map<String, Value> {
    let schema = match accepts {
        Accepts::Boolean => json!({ "type": "boolean" }),
        // Readers of JSON disagree about larger numbers.
        Accepts::Integer(low, high) => match (i64::try_from(*low), i64::try_from(*high)) {
            (Ok(low), Ok(high)) => json!({ "type": "integer", "minimum": low, "maximum": high }),
            (Ok(low), Err(_)) => json!({ "type": "integer", "minimum": low }),
            _ => json!({ "type": "integer" }),
        },
        Accepts::Words(words) => json!({ "enum": words }),
        Accepts::Text(example) => json!({ "type": "string", "examples": [example] }),
        Accepts::List(items) => json!({ "type": "array", "items": of_value(items) }),
        Accepts::Map(fields) => Value::Object(of_fields(fields.iter())),
        Accepts::Either(several) => {
            let several = several.iter().map(|accepts| Value::Object(of_value(accepts)));
            json!({ "anyOf": several.collect::<Vec<_>>() })
        }
    };
    match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

/// A default as JSON.
pub(super) fn literal(literal: Literal) -> Value {
    match literal {
        Literal::Boolean(value) => json!(value),
        Literal::Integer(value) => i64::try_from(value).map_or(Value::Null, |value| json!(value)),
        Literal::Text(text) => json!(text),
        Literal::List(items) => items.iter().map(|item| self::literal(*item)).collect(),
        Literal::Empty => json!({}),
    }
}
