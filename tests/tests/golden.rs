//! Plans and diffs of whole manifests, compared with files in `tests/golden`; `UPDATE_GOLDEN=1` rewrites them.
//!
//! Each case is a directory. `manifests.yaml` is the desired state of node `a`. `before.yaml`, if it exists, is what its
//! kernel has already (as the plan of these manifests); without it the kernel has nothing. `expected.txt` has the
//! changes and the problems.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use adit_tests::random::facts;
use dataplane_user::diff::diff;
use dataplane_user::model::KernelState;
use dataplane_user::net::NodeName;
use dataplane_user::plan::plan;
use dataplane_user::resource::{Intent, Problem};
use dataplane_user::source;

#[test]
fn manifests_give_the_expected_changes() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut differing = Vec::new();
    for case in cases() {
        let found = render(&case);
        let expected = case.join("expected.txt");
        if update {
            fs::write(&expected, &found).unwrap();
        }
        let wanted = fs::read_to_string(&expected).unwrap_or_default();
        if found != wanted {
            differing.push(format!(
                "{}:\n--- expected\n{wanted}\n--- found\n{found}",
                case.display()
            ));
        }
    }
    assert!(
        differing.is_empty(),
        "{}\nUPDATE_GOLDEN=1 takes the new text",
        differing.join("\n")
    );
}

#[test]
fn the_plan_of_every_node_of_a_case_is_stable() {
    for case in cases() {
        let resources = source::load(&[case.join("manifests.yaml")]).unwrap();
        for node in resources.nodes.keys() {
            let facts = facts(&resources, node, 1500);
            let intent = Intent::new(resources.clone(), node.clone()).unwrap();
            let (desired, _) = plan(&intent, &facts);
            assert!(
                diff(&desired, &desired).is_empty(),
                "{} as {node}",
                case.display()
            );
            assert_eq!(plan(&intent, &facts).0, desired);
        }
    }
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut cases = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect::<Vec<_>>();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn render(case: &Path) -> String {
    let before = case.join("before.yaml");
    let observed = if before.exists() {
        desired(&before).0
    } else {
        KernelState::default()
    };
    let (desired, problems) = desired(&case.join("manifests.yaml"));
    let set = diff(&observed, &desired);
    let mut text = String::new();
    for change in &set.changes {
        writeln!(text, "{change}").unwrap();
    }
    for problem in &problems {
        writeln!(text, "! {problem}").unwrap();
    }
    text
}

fn desired(manifests: &Path) -> (KernelState, Vec<Problem>) {
    let resources = source::load(&[manifests.to_owned()]).unwrap();
    let node = NodeName::new("a").unwrap();
    let facts = facts(&resources, &node, 1500);
    let intent = Intent::new(resources, node).unwrap();
    plan(&intent, &facts)
}
