//! Per-device settings below /proc/sys, of named links only.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;

use super::KernelError;
use crate::model::Sysctl;
use crate::net::LinkName;

/// The settings in the network namespace of the calling thread.
#[derive(Clone, Debug)]
pub struct Sysctls {
    root: PathBuf,
}

impl Default for Sysctls {
    fn default() -> Sysctls {
        Sysctls::below("/proc/sys")
    }
}

impl Sysctls {
    /// Uses another root directory, for tests.
    #[must_use]
    pub fn below(root: impl Into<PathBuf>) -> Sysctls {
        Sysctls { root: root.into() }
    }

    /// Reads all settings that Adit manages of these links.
    ///
    /// # Errors
    /// When a setting can't be read, for example because the link does not exist.
    pub fn observe<'a>(
        &self,
        links: impl IntoIterator<Item = &'a LinkName>,
    ) -> Result<BTreeMap<(LinkName, Sysctl), String>, KernelError> {
        let mut settings = BTreeMap::new();
        for link in links {
            for sysctl in Sysctl::ALL {
                settings.insert((link.clone(), sysctl), self.read(link, sysctl)?);
            }
        }
        Ok(settings)
    }

    /// Reads a setting, without the newline at its end.
    ///
    /// # Errors
    /// When there is no such link or setting, or it can't be read.
    pub fn read(&self, link: &LinkName, sysctl: Sysctl) -> Result<String, KernelError> {
        let failed = |error| KernelError::new(format!("read {sysctl} of {link}"), error);
        let path = self.path(link, sysctl).map_err(failed)?;
        let text = fs::read_to_string(path).map_err(failed)?;
        Ok(text.trim_end().to_owned())
    }

    /// Writes a setting.
    ///
    /// # Errors
    /// When there is no such link or setting, or the kernel refuses the value.
    pub fn write(&self, link: &LinkName, sysctl: Sysctl, value: &str) -> Result<(), KernelError> {
        let failed = KernelError::of_change;
        let path = self.path(link, sysctl).map_err(failed)?;
        // This is one write, and it never creates a file if the root is not /proc.
        let mut file = OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(path)
            .map_err(failed)?;
        file.write_all(value.as_bytes()).map_err(failed)
    }

    /// Whether a device drops IPv4 packets whose source is routed through another device: `rp_filter` is 1
    /// there, where the larger of the values of the device and of `all` counts. A setting that can't be read
    /// is not strict.
    #[must_use]
    pub fn is_strict(&self, link: &LinkName) -> bool {
        let read = |of: &str| -> Option<u8> {
            let text = fs::read_to_string(self.root.join(Sysctl::RpFilter.path(of))).ok()?;
            text.trim_end().parse().ok()
        };
        let own = read(link.as_str());
        own.is_some_and(|own| own.max(read("all").unwrap_or(0)) == 1)
    }

    /// The path of a setting. A device may be named `all` or `default`, but these are settings of the whole
    /// host.
    fn path(&self, link: &LinkName, sysctl: Sysctl) -> io::Result<PathBuf> {
        if ["all", "default"].contains(&link.as_str()) {
            let text = "`all` and `default` are settings of the whole host, which Adit never changes";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(self.root.join(sysctl.path(link.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &'static str) -> LinkName {
        LinkName::constant(name)
    }

    #[test]
    fn reads_and_writes_devices_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        for name in ["adit0", "all", "default"] {
            let folder = root.path().join("net/ipv4/conf").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("rp_filter"), "1\n").unwrap();
        }
        let sysctls = Sysctls::below(root.path());

        sysctls.write(&link("adit0"), Sysctl::RpFilter, "2").unwrap();
        assert_eq!(sysctls.read(&link("adit0"), Sysctl::RpFilter).unwrap(), "2");
        let observed = sysctls.observe([&link("adit0")]).unwrap();
        assert_eq!(observed[&(link("adit0"), Sysctl::RpFilter)], "2");

        for host in ["all", "default"] {
            assert!(sysctls.write(&link(host), Sysctl::RpFilter, "2").is_err());
            let untouched = fs::read_to_string(root.path().join(Sysctl::RpFilter.path(host))).unwrap();
            assert_eq!(untouched, "1\n");
        }
        // The larger one counts.
        assert!(!sysctls.is_strict(&link("adit0")) && !sysctls.is_strict(&link("gone")));
        sysctls.write(&link("adit0"), Sysctl::RpFilter, "0").unwrap();
        assert!(sysctls.is_strict(&link("adit0")));

        let gone = sysctls.write(&link("gone"), Sysctl::RpFilter, "2").unwrap_err();
        assert_eq!(gone.errno(), Some(libc::ENOENT));
    }
}
