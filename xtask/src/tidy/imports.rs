//! Checks which modules may use which others: the layers of the agent, its pure modules, and the BPF library.

use std::collections::BTreeSet;
use std::path::Path;

use super::Finding;
use super::code::Names;

/// The top-level modules of dataplane-user from the bottom to the top: each may use those before it.
const LAYERS: [&str; 25] = [
    "limits",
    "as_text",
    "net",
    "bfd",
    "files",
    "pauses",
    "heartbeat",
    "event",
    "model",
    "resource",
    "plan",
    "diff",
    "kernel",
    "source",
    "wg_quick",
    "hub",
    "apply",
    "gather",
    "drift",
    "reconcile",
    "status",
    "metrics",
    "reporter",
    "serve",
    "cli",
];
/// The modules of dataplane-user that use neither files nor kernels nor clocks.
const PURE: [&str; 7] = ["limits", "net", "bfd", "resource", "model", "plan", "diff"];
/// The crates that pure modules may use.
const PURE_CRATES: [&str; 8] = [
    "base64",
    "dataplane_ebpf",
    "ipnet",
    "sha1",
    "subtle",
    "thiserror",
    "x25519_dalek",
    "zeroize",
];
/// Parts of the standard library that reach outside of the program, each with a remedy.
const OUTSIDE: [(&str, &str); 9] = [
    ("std::env", "take it as an argument"),
    ("std::fs", "take the content as an argument"),
    (
        "std::net::TcpListener",
        "open sockets in a module outside of the core",
    ),
    (
        "std::net::TcpStream",
        "open sockets in a module outside of the core",
    ),
    (
        "std::net::UdpSocket",
        "open sockets in a module outside of the core",
    ),
    ("std::process", "run programs in a module outside of the core"),
    ("std::thread", "start threads in a module outside of the core"),
    ("std::time::Instant", "take the time as an argument"),
    ("std::time::SystemTime", "take the time as an argument"),
];

/// Checks a file, by its path below the root of the workspace. `crates` are the dependencies of dataplane-user.
pub(super) fn check(file: &Path, source: &str, crates: &BTreeSet<String>) -> Vec<Finding> {
    if file.extension().is_none_or(|extension| extension != "rs") {
        return Vec::new();
    }
    let names = match Names::of(source, false) {
        Ok(names) => names,
        Err(error) => return vec![Finding::new(file, error.span().start().line, error.to_string())],
    };
    let mut findings = upward(file, &names);
    if let Some(module) = pure_module(file) {
        findings.extend(pure(file, &names, module, crates));
        return findings;
    }
    if is_bpf_library(file) {
        return names.paths
            .iter()
            .filter(|(path, _)| first(path).starts_with("aya"))
            .map(|(_, line)| {
                let message =
                    "the library uses aya: only main.rs and programs/ may, so that the library also runs on hosts";
                Finding::new(file, *line, message)
            })
            .collect();
    }
    findings
}

/// The top-level module that a file of dataplane-user belongs to; `None` for tests and for the root of the crate.
fn module(file: &Path) -> Option<&str> {
    let below = file.strip_prefix("dataplane-user/src").ok()?;
    let top = below.components().next()?;
    let top = Path::new(top.as_os_str()).file_stem()?.to_str()?;
    let of_tests = below.components().any(|part| {
        let name = part.as_os_str();
        name == "tests" || name == "tests.rs" || name == "fuzz.rs"
    });
    (!of_tests && !matches!(top, "lib" | "main")).then_some(top)
}

fn pure_module(file: &Path) -> Option<&str> {
    module(file).filter(|module| PURE.contains(module))
}

/// Finds uses of modules of a higher layer, and a module that has no layer.
fn upward(file: &Path, names: &Names) -> Vec<Finding> {
    let Some(module) = module(file) else {
        return Vec::new();
    };
    let layer = |name: &str| LAYERS.iter().position(|known| *known == name);
    let Some(own) = layer(module) else {
        let message =
            format!("the module `{module}` has no layer: add it to LAYERS in xtask/src/tidy/imports.rs");
        return vec![Finding::new(file, 1, message)];
    };
    let named = names.paths.iter().filter_map(|(path, line)| {
        let path = absolute(file, path);
        let name = path.strip_prefix("crate::")?.split("::").next()?.to_owned();
        (layer(&name)? > own).then_some((name, *line))
    });
    let message = |name: &str| format!("`{module}` uses `{name}`, which is in a higher layer");
    named
        .map(|(name, line)| Finding::new(file, line, message(&name)))
        .collect()
}

/// A path that leads to the crate's root by `super`, from the module that is this file, as one that starts there.
fn absolute(file: &Path, path: &str) -> String {
    let depth = file
        .strip_prefix("dataplane-user/src")
        .unwrap_or(file)
        .iter()
        .count();
    match path.strip_prefix(&"super::".repeat(depth)) {
        Some(rest) => format!("crate::{rest}"),
        None => path.to_owned(),
    }
}

fn is_bpf_library(file: &Path) -> bool {
    let Ok(below) = file.strip_prefix("dataplane-ebpf/src") else {
        return false;
    };
    let programs = ["main.rs", "programs.rs"]
        .iter()
        .any(|name| below == Path::new(name));
    !programs && !below.starts_with("programs")
}

fn pure(file: &Path, names: &Names, module: &str, crates: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, line) in &names.paths {
        let path = absolute(file, path);
        if let Some(problem) = problem(&path, module, crates) {
            let message = format!("`{module}` is a pure module, but uses {path}: {problem}");
            findings.push(Finding::new(file, *line, message));
        }
    }
    findings
}

/// Why a pure module may not use this path; `None` if it may.
fn problem(path: &str, module: &str, crates: &BTreeSet<String>) -> Option<String> {
    if path == "async" || path == "await" {
        return Some("wait in a module outside of the core".to_owned());
    }
    let within = |outer: &str| {
        path.strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    if let Some((_, remedy)) = OUTSIDE.iter().find(|(outer, _)| within(outer)) {
        return Some((*remedy).to_owned());
    }
    if path == "std" || path == "std::time" || path == "std::net" {
        return None;
    }
    let mut parts = path.split("::");
    let (root, second) = (parts.next()?, parts.next());
    if root == "crate" {
        let sibling = second.filter(|name| name.starts_with(char::is_lowercase) && !PURE.contains(name))?;
        return Some(format!("`{sibling}` is not a pure module ({})", PURE.join(", ")));
    }
    if root == "dataplane_ebpf" {
        let allowed = matches!(module, "model" | "plan") && matches!(second, Some("layout"));
        return (!allowed)
            .then(|| "only `model` and `plan` may use it, and only `dataplane_ebpf::layout`".to_owned());
    }
    let foreign = crates.contains(root) && !PURE_CRATES.contains(&root);
    foreign.then(|| format!("pure modules may only use the crates {}", PURE_CRATES.join(", ")))
}

fn first(path: &str) -> &str {
    path.split("::").next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(file: &str, source: &str) -> Vec<usize> {
        let crates = [
            "aya",
            "dataplane_ebpf",
            "ipnet",
            "log",
            "nix",
            "thiserror",
            "tokio",
        ];
        let crates = crates.map(str::to_owned).into();
        let mut lines: Vec<usize> = check(Path::new(file), source, &crates)
            .iter()
            .map(|finding| finding.line)
            .collect();
        lines.dedup();
        lines
    }

    #[test]
    fn each_forbidden_name_is_found() {
        for source in [
            "use tokio::sync::Mutex;",
            "use std::{collections::BTreeMap, fs};",
            "use std::fs::{self, File};",
            "use std::time::{Duration, Instant};",
            "pub use ::aya::Ebpf as E;",
            "use std::{time::{SystemTime}};",
            "fn f() { log::info!(\"x\"); }",
            "fn f() -> std::process::ExitCode {}",
            "#[derive(Debug)] struct X(nix::Error);",
            "async fn f() {}",
            "use crate::kernel::Kernel;",
            "use crate::{net::Family, source::file};",
            "use dataplane_ebpf::packet;",
        ] {
            assert_eq!(lines("dataplane-user/src/plan/x.rs", source), [1], "{source}");
            assert_eq!(lines("dataplane-user/src/cli/x.rs", source), [0; 0], "{source}");
        }
    }

    #[test]
    fn what_is_allowed_is_left_alone() {
        let source = "//! Not like tokio::spawn.\nuse std::net::{IpAddr, Ipv4Addr};\nuse std::time::Duration;\n\
            use thiserror::Error;\nuse dataplane_ebpf::layout::{self, Class};\nuse crate::{model::Link, net};\n\
            use super::bpf;\nfn f(log: u8) { let tokio = \"aya::x\"; bpf::g(); }\n\
            #[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert_eq!(lines("dataplane-user/src/model/x.rs", source), [0; 0]);
        assert_eq!(lines("dataplane-user/src/plan/tests.rs", "use std::fs;"), [0; 0]);
        assert_eq!(lines("dataplane-user/src/model.rs", "\n\nuse nix::fcntl;"), [3]);
        assert_eq!(
            lines("dataplane-user/src/diff.rs", "use dataplane_ebpf::layout;"),
            [1]
        );
    }

    #[test]
    fn no_module_names_one_above_it() {
        let at = |file: &str, source: &str| lines(&format!("dataplane-user/src/{file}"), source);
        assert_eq!(
            at(
                "kernel/linux.rs",
                "use crate::model::Link;\nuse crate::{net, drift::Drift};"
            ),
            [2]
        );
        assert_eq!(
            at(
                "metrics.rs",
                "fn f() { crate::reconcile::g(crate::reporter::h()) }"
            ),
            [1]
        );
        assert_eq!(
            at(
                "kernel/linux.rs",
                "use super::bpf;\nuse super::super::{net, cli};"
            ),
            [2]
        );
        assert_eq!(at("metrics.rs", "fn f() { super::reporter::h() }"), [1]);
        assert_eq!(at("kernel/linux/tests.rs", "use crate::cli;"), [0; 0]);
        assert_eq!(at("news.rs", "use crate::net;"), [1]);
        assert_eq!(at("main.rs", "use crate::cli;"), [0; 0]);
    }

    #[test]
    fn the_bpf_library_never_names_aya() {
        let source = "use core::ptr;\nuse aya_ebpf::macros::map;";
        assert_eq!(lines("dataplane-ebpf/src/select.rs", source), [2]);
        assert_eq!(lines("dataplane-ebpf/src/programs/maps.rs", source), [0; 0]);
        assert_eq!(lines("dataplane-ebpf/src/main.rs", source), [0; 0]);
    }
}
