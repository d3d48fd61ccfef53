//! Random changes of valid manifests.

use std::fs;
use std::path::{Path, PathBuf};
use std::str;

use serde_json::{Map, Value};

use super::*;
use crate::diff::diff;
use crate::fuzz::{Verdict, feed, same};
use crate::model::facts::NodeFacts;
use crate::plan::plan;
use crate::resource::Intent;
use tree::{Node, Tree};

#[test]
fn a_manifest_is_refused_or_says_the_same_as_json_and_can_be_planned() {
    let examples: Vec<Vec<u8>> = manifests().iter().map(|path| fs::read(path).unwrap()).collect();
    let words: &[&[u8]] = &[
        b"\n",
        b"  ",
        b"- ",
        b": ",
        b"---\n",
        b"{",
        b"}",
        b"[",
        b"]",
        b"&a ",
        b"*a",
        b"<<: *a",
        b"!!binary ",
        b"|\n",
        b"\"",
        b"'",
        b"#",
        b"null",
        b"~",
        b"true",
        b"off",
        b"0",
        b"-1",
        b"1e9",
        b"4294967296",
        b".nan",
        b"0x10",
        b"\0",
        b"\xff",
        b"\xe2\x80\xa8",
        b"0.0.0.0/0",
        b"::/0",
        b"spec:\n",
        b"namespace: b\n",
        b"kind: Node\n",
        b"a",
        b"/",
        b"\t",
    ];
    feed(&examples, words, |bytes| {
        let Ok(text) = str::from_utf8(bytes) else {
            return Ok(Verdict::Refused);
        };
        let Ok(resources) = read_one(text) else {
            return Ok(Verdict::Refused);
        };
        for node in resources.nodes.keys() {
            if let Ok(intent) = Intent::new(resources.clone(), node.clone()) {
                let (planned, _) = plan(&intent, &NodeFacts::default());
                same(&diff(&planned, &planned).changes, &Vec::new())?;
            }
        }
        let documents = tree::parse(&"a.yaml".into(), text).expect("it was read");
        let json = documents.iter().map(|node| format!("---\n{}\n", json(node)));
        match read_one(&json.collect::<String>()) {
            Ok(again) => same(&resources, &again),
            Err(errors) => Err(proptest::test_runner::TestCaseError::fail(format!("{errors:?}"))),
        }
    });
}

/// The examples and those of the golden cases.
fn manifests() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let within = |folder: PathBuf| {
        let mut found: Vec<PathBuf> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        found.sort();
        found
    };
    let golden = within(root.join("tests/golden"))
        .into_iter()
        .map(|case| case.join("manifests.yaml"));
    let examples = within(root.join("examples")).into_iter();
    examples
        .chain(golden)
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect()
}

fn json(node: &Node) -> Value {
    match &node.tree {
        Tree::Null | Tree::Float => Value::Null,
        Tree::Bool(is) => Value::from(*is),
        Tree::Integer(number) => {
            let signed = i64::try_from(*number).map(Value::from);
            signed
                .or_else(|_| u64::try_from(*number).map(Value::from))
                .unwrap_or_default()
        }
        Tree::Text(text) => Value::from(text.as_str()),
        Tree::List(list) => list.iter().map(json).collect(),
        Tree::Map(map) => Value::Object(
            map.iter()
                .map(|(key, value)| (key.value.clone(), json(value)))
                .collect::<Map<_, _>>(),
        ),
    }
}
