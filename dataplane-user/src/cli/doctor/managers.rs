//! Network managers that may remove objects of Adit.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::finding::Finding;

/// Configurations; `None`: the program does not run.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// The effective configuration of systemd-networkd.
    pub(super) networkd: Option<String>,
    /// The effective configuration of NetworkManager.
    pub(super) network_manager: Option<String>,
}

impl Facts {
    pub(super) fn gather(root: &Path) -> Facts {
        let if_running = |runtime: &str, file: &str, folders: [&str; 3]| {
            let runs = root.join(runtime).exists();
            runs.then(|| configuration(root, file, folders))
        };
        Facts {
            networkd: if_running(
                "run/systemd/netif/state",
                "etc/systemd/networkd.conf",
                [
                    "usr/lib/systemd/networkd.conf.d",
                    "run/systemd/networkd.conf.d",
                    "etc/systemd/networkd.conf.d",
                ],
            ),
            network_manager: if_running(
                "run/NetworkManager/devices",
                "etc/NetworkManager/NetworkManager.conf",
                [
                    "usr/lib/NetworkManager/conf.d",
                    "run/NetworkManager/conf.d",
                    "etc/NetworkManager/conf.d",
                ],
            ),
        }
    }
}

/// The main file, then the files of the folders, sorted by name. Of two files with one name, that of the
/// later folder counts.
fn configuration(root: &Path, file: &str, folders: [&str; 3]) -> String {
    let mut files = BTreeMap::new();
    for folder in folders {
        for entry in fs::read_dir(root.join(folder)).into_iter().flatten().flatten() {
            if entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "conf")
            {
                files.insert(entry.file_name(), entry.path());
            }
        }
    }
    let paths = [root.join(file)].into_iter().chain(files.into_values());
    let texts = paths.map(|path| fs::read_to_string(path).unwrap_or_default());
    texts.collect::<Vec<_>>().join("\n")
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(text) = &facts.networkd {
        for key in ["ManageForeignRoutes", "ManageForeignRoutingPolicyRules"] {
            findings.push(networkd(key, value(text, key).as_deref()));
        }
    }
    if let Some(text) = &facts.network_manager {
        findings.push(network_manager(value(text, "unmanaged-devices").as_deref()));
    }
    findings
}

/// The value of a key in any section, because neither program uses these keys in two sections. `+=` appends
/// to the previous value.
fn value(text: &str, key: &str) -> Option<String> {
    let mut found: Option<String> = None;
    for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
        let (name, value) = (name.trim(), value.trim());
        if name == key {
            found = Some(value.to_owned());
        } else if name.strip_suffix('+') == Some(key) {
            found = Some(found.map_or(value.to_owned(), |before| format!("{before};{value}")));
        }
    }
    found
}

fn networkd(key: &str, value: Option<&str>) -> Finding {
    let refuses = value.is_some_and(|value| ["no", "false", "off", "0"].contains(&value));
    let evidence = format!("{key}={}", value.unwrap_or("yes (the default)"));
    if refuses {
        return Finding::ok("systemd-networkd", evidence);
    }
    Finding::warning(
        "systemd-networkd",
        format!("{evidence}: when it starts, it removes routes and rules that it did not create"),
        format!(
            "install packaging/systemd/networkd.conf.d/adit.conf ({key}=no), then run `systemctl restart systemd-networkd`"
        ),
    )
}

fn network_manager(value: Option<&str>) -> Finding {
    let is_unmanaged = value.is_some_and(|value| {
        let mut specs = value.split([';', ',']).map(str::trim);
        specs.any(|spec| ["interface-name:adit*", "interface-name:*", "*"].contains(&spec))
    });
    let evidence = format!("unmanaged-devices={}", value.unwrap_or_default());
    if is_unmanaged {
        return Finding::ok("NetworkManager", evidence);
    }
    Finding::warning(
        "NetworkManager",
        format!("{evidence}: it may manage the devices of Adit"),
        "install packaging/NetworkManager/conf.d/adit.conf, then run `systemctl reload NetworkManager`",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::finding::tests::level;
    use super::*;

    #[test]
    fn who_does_not_run_is_not_judged() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(judge(&Facts::gather(root.path())), []);
    }

    #[test]
    fn a_networkd_that_removes_routes_is_found() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("run/systemd/netif")).unwrap();
        fs::write(root.path().join("run/systemd/netif/state"), "").unwrap();
        let findings = judge(&Facts::gather(root.path()));
        assert_eq!(findings.len(), 2);
        assert!(findings.iter().all(|finding| finding.level == Level::Warning));

        let folder = root.path().join("etc/systemd/networkd.conf.d");
        fs::create_dir_all(&folder).unwrap();
        let ours = include_str!("../../../../packaging/systemd/networkd.conf.d/adit.conf");
        fs::write(folder.join("adit.conf"), ours).unwrap();
        let findings = judge(&Facts::gather(root.path()));
        assert!(
            findings.iter().all(|finding| finding.level == Level::Ok),
            "{findings:#?}"
        );
        fs::write(folder.join("zz.conf"), "[Network]\nManageForeignRoutes=yes\n").unwrap();
        let findings = judge(&Facts::gather(root.path()));
        assert_eq!(
            [findings[0].level, findings[1].level],
            [Level::Warning, Level::Ok]
        );
    }

    #[test]
    fn a_network_manager_that_takes_our_devices_is_found() {
        let of = |text: &str| Facts {
            network_manager: Some(text.to_owned()),
            ..Facts::default()
        };
        assert_eq!(level(&judge(&of("")), "NetworkManager"), Level::Warning);
        let others = "[keyfile]\nunmanaged-devices=interface-name:cni*;mac:00:11:22:33:44:55\n";
        assert_eq!(level(&judge(&of(others)), "NetworkManager"), Level::Warning);
        let ours = include_str!("../../../../packaging/NetworkManager/conf.d/adit.conf");
        for text in [
            ours.to_owned(),
            format!("{ours}{others}"),
            format!("{others}{ours}"),
        ] {
            let expected = if text.ends_with(others) {
                Level::Warning
            } else {
                Level::Ok
            };
            assert_eq!(level(&judge(&of(&text)), "NetworkManager"), expected, "{text}");
        }
    }
}
