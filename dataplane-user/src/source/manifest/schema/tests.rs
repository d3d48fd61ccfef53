//! The tables agree with the readers: each field is accepted with its default, at the ends of its range and
//! with each of its words, and rejected with anything else.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::*;
use crate::source::manifest::{ManifestFile, read};

/// A manifest of a kind with only its required fields.
fn least(kind: &str, device: &str) -> Value {
    let key = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=";
    let other = "q4FYYrHQf6cOA2pJVWHpIhT3RVE9TuErrVRfNO9BhVQ=";
    let spec = match kind {
        "TunnelNetwork" => json!({ "prefixes": ["10.0.0.0/8"] }),
        "TunnelNode" => {
            json!({ "network": "net", "underlay": { "ipv4": "192.0.2.1" }, "addresses": ["10.0.0.1"] })
        }
        "WireGuardInterface" => json!({ "node": "a" }),
        "WireGuardNetworkPlan" => json!({ "nodes": [
            { "name": "a", "publicKey": key },
            { "name": "b", "publicKey": other },
        ] }),
        "NetlinkRoute" => json!({ "node": "a", "to": "10.0.0.0/8", "via": "192.0.2.254", "dev": "eth0" }),
        "NetlinkRule" => json!({ "node": "a", "priority": 1, "table": 7 }),
        _ => match device {
            "veth" => json!({ "node": "a", "type": device, "peer": { "name": "eth0" } }),
            "vxlan" => json!({ "node": "a", "type": device, "vni": 1 }),
            "geneve" => json!({ "node": "a", "type": device, "id": 1, "remote": "192.0.2.2" }),
            "ipip" => json!({ "node": "a", "type": device, "remote": "192.0.2.2" }),
            _ => json!({ "node": "a", "type": device }),
        },
    };
    json!({ "apiVersion": "adit.dev/v1alpha1", "kind": kind, "metadata": { "name": "net" }, "spec": spec })
}

/// The resources of a manifest as text, or its errors.
fn resources(manifest: &Value) -> Result<String, String> {
    let mut documents = vec![manifest.to_string()];
    if manifest["kind"] == "TunnelNode" {
        documents.push(least("TunnelNetwork", "").to_string());
    }
    let file = ManifestFile {
        name: "a.yaml".into(),
        text: documents.join("\n---\n"),
    };
    match read(&[file], true) {
        Ok(mut resources) => {
            // This list depends on which fields are written.
            resources.without_effect.clear();
            Ok(format!("{resources:?}"))
        }
        Err(errors) => Err(errors.iter().map(|error| format!("{error}\n")).collect()),
    }
}

fn with(manifest: &Value, path: &[&str], value: &Value) -> Value {
    let mut manifest = manifest.clone();
    let mut current = &mut manifest["spec"];
    for name in path {
        if !current.is_object() {
            *current = Value::Object(Map::new());
        }
        current = &mut current[*name];
    }
    *current = value.clone();
    manifest
}

/// Fields whose range ends can't be tested alone, because other fields limit them further.
const LIMITED: [&str; 4] = ["mtu", "table", "vxlanSource", "dstport"];

fn check(manifest: &Value, path: &[&'static str], fields: &[&'static Field]) {
    for field in fields {
        let mut path = path.to_vec();
        path.push(field.name);
        let said = |value: &Value| resources(&with(manifest, &path, value));
        let rejected = |value: &Value| {
            let error = said(value).expect_err(&format!("{path:?}: {value}"));
            assert!(error.contains(field.name), "{path:?}: {error}");
        };
        let absent = said(&Value::Null);
        match field.absent {
            Absent::Required(give) => {
                let error = absent.expect_err(field.name);
                assert!(error.contains(give) && error.contains(field.name), "{error}");
            }
            Absent::Default(default) => assert_eq!(said(&json::literal(default)), absent, "{path:?}"),
            Absent::Means(_) => assert!(absent.is_ok(), "{path:?}: {absent:?}"),
        }
        match &field.accepts {
            Accepts::Boolean => {
                assert!(
                    said(&json!(true)).is_ok() && said(&json!(false)).is_ok(),
                    "{path:?}"
                );
                rejected(&json!("yes"));
            }
            Accepts::Integer(low, high) => {
                for number in [*low, *high] {
                    let number = json!(u64::try_from(number).expect("none is negative"));
                    let read = said(&number);
                    assert!(
                        LIMITED.contains(&field.name) || read.is_ok(),
                        "{path:?}: {read:?}"
                    );
                }
                rejected(&json!("many"));
                rejected(&json!(i64::try_from(*low).expect("small") - 1));
                if let Ok(high) = u64::try_from(*high).map(|high| high.checked_add(1)) {
                    high.iter().for_each(|high| rejected(&json!(high)));
                }
            }
            Accepts::Words(words) => {
                for word in *words {
                    let read = said(&json!(word));
                    let unknown = |error: &String| error.contains("unknown value");
                    assert!(!read.as_ref().is_err_and(unknown), "{path:?}: {read:?}");
                }
                rejected(&json!("nonsense"));
            }
            Accepts::Text(_) => rejected(&json!({ "a": 1 })),
            Accepts::List(_) => rejected(&json!(7)),
            Accepts::Map(of_map) => {
                rejected(&json!({ "nonsense": 1 }));
                let of_map = of_map.iter().collect::<Vec<_>>();
                // The fields of a map with required fields can't be tested one by one.
                if said(&json!({})).is_ok() {
                    check(manifest, &path, &of_map);
                }
            }
            Accepts::Either(_) => rejected(&json!(true)),
        }
    }
}

#[test]
fn each_field_is_read_as_its_table_says() {
    for kind in kinds() {
        if kind.name != "NetlinkInterface" {
            check(&least(kind.name, ""), &[], &kind.fields);
        }
    }
    for (device, fields) in interface::by_type() {
        check(&least("NetlinkInterface", device), &[], &fields);
    }
}

#[test]
fn no_name_is_there_twice_but_for_types_of_devices() {
    for kind in kinds().into_iter().filter(|kind| kind.name != "NetlinkInterface") {
        let mut names = kind.fields.iter().map(|field| field.name).collect::<Vec<_>>();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "{}", kind.name);
    }
}

#[test]
fn the_schema_asks_for_no_more_than_there_must_be() {
    let schema = json_schema();
    let is_enough = |schema: &Value, manifest: &Value| {
        let required = schema["required"].as_array().expect("a list");
        let mut required = required.iter().filter_map(Value::as_str);
        required.all(|name| manifest["spec"].get(name).is_some())
    };
    for kind in kinds().into_iter().filter(|kind| kind.name != "NetlinkInterface") {
        assert!(
            is_enough(&schema["$defs"][kind.name], &least(kind.name, "")),
            "{}",
            kind.name
        );
    }
    let types = schema["$defs"]["NetlinkInterface"]["oneOf"]
        .as_array()
        .expect("a list");
    for ((device, _), schema) in interface::by_type().into_iter().zip(types) {
        assert_eq!(schema["properties"]["type"]["const"], device);
        assert!(is_enough(schema, &least("NetlinkInterface", device)), "{device}");
    }
}

#[test]
fn the_documents_are_what_the_tables_say() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let current = |name: &str, made: &dyn Fn(&str) -> String| {
        let written = std::fs::read_to_string(docs.join(name)).unwrap_or_default();
        assert!(
            made(&written) == written,
            "docs/{name} is stale: run `cargo xtask codegen`"
        );
    };
    current("MANIFESTS.md", &|text| {
        markdown(text).expect("its marks are right")
    });
    let schema = serde_json::to_string_pretty(&json_schema()).expect("it is JSON") + "\n";
    current("manifests.schema.json", &|_| schema.clone());
}

#[test]
fn wrong_marks_in_the_document_are_reported() {
    let unknown = markdown("<!-- fields of Nothing -->\n<!-- end of fields -->\n");
    assert_eq!(
        unknown,
        Err("there is no kind or field Nothing that has fields".to_owned())
    );
    let open = markdown("<!-- fields of TunnelNode -->\n");
    assert!(open.is_err_and(|error| error.contains("has no end mark")));
}
