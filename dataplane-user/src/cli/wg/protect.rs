//! Protection of a default route: nft tables, and a warning about underlay devices that drop answers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::cli::output;
use crate::kernel::nft::quick::Protection;
use crate::model::KernelState;
use crate::net::{Family, LinkName};

/// Creates the nft tables of an interface with default routes. Without nftables the interface works without
/// them, and a warning is printed.
pub(super) async fn create(name: &LinkName, mark: u32, desired: &KernelState) {
    let families = desired
        .rules
        .iter()
        .map(|rule| rule.family)
        .collect::<BTreeSet<_>>();
    if families.is_empty() {
        return;
    }
    let addresses = desired
        .addresses
        .keys()
        .map(|(_, address)| *address)
        .collect::<Vec<_>>();
    let protection = Protection::new(name, mark, &families, &addresses);
    if let Err(error) = protection.create().await {
        output::note(&format!(
            "warning: hosts on the local link can inject packets into connections through {name} \
             (CVE-2019-14899), because its nft tables can't be created: {error}"
        ));
    }
}

/// Warns about each underlay device that drops the answers of endpoints: with strict reverse-path filtering
/// the kernel looks up the route to the source and finds the default route, unless it also considers the
/// mark.
pub(super) fn warn_of_strict_filter(name: &LinkName, desired: &KernelState, uplinks: &BTreeSet<LinkName>) {
    if !desired.rules.iter().any(|rule| rule.family == Family::Ipv4) {
        return;
    }
    for uplink in uplinks
        .iter()
        .filter(|uplink| drops_answers(Path::new("/proc/sys"), uplink))
    {
        output::note(&format!(
            "warning: {uplink} drops the answers of the endpoints of {name}, because its rp_filter is strict (1) and \
             src_valid_mark is 0: sysctl -w net.ipv4.conf.all.src_valid_mark=1, and keep it in /etc/sysctl.d"
        ));
    }
}

/// Whether the reverse-path filter of a device is strict and ignores marks. An absent setting counts as off.
fn drops_answers(root: &Path, uplink: &LinkName) -> bool {
    let read = |device: &str, setting: &str| {
        let path = root.join("net/ipv4/conf").join(device).join(setting);
        let text = fs::read_to_string(path).unwrap_or_default();
        text.trim().parse::<u8>().unwrap_or(0)
    };
    // The larger of both values counts.
    let larger = |setting| read("all", setting).max(read(uplink.as_str(), setting));
    larger("rp_filter") == 1 && larger("src_valid_mark") == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_dropped_by_a_strict_filter_without_marks() {
        for (all, own, marks, dropped) in [
            ("0", "1", ["0", "0"], true),
            ("1", "0", ["0", "0"], true),
            ("1", "0", ["1", "0"], false),
            ("0", "1", ["0", "1"], false),
            ("1", "2", ["0", "0"], false),
            ("0", "0", ["0", "0"], false),
        ] {
            let root = tempfile::tempdir().unwrap();
            for (device, filter, mark) in [("all", all, marks[0]), ("eth0", own, marks[1])] {
                let folder = root.path().join("net/ipv4/conf").join(device);
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join("rp_filter"), format!("{filter}\n")).unwrap();
                fs::write(folder.join("src_valid_mark"), format!("{mark}\n")).unwrap();
            }
            let found = drops_answers(root.path(), &LinkName::constant("eth0"));
            assert_eq!(found, dropped, "{all} {own} {marks:?}");
            assert!(!drops_answers(
                &root.path().join("nowhere"),
                &LinkName::constant("eth0")
            ));
        }
    }
}
