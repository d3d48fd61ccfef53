//! Checks for features of the running kernel and programs of the machine.

use std::env;
use std::path::Path;
use std::process::Command;

/// Returns from the calling test, with a line that says why, unless the kernel has all of these modules and the machine all of
/// these programs: `require!(modules: "dummy", "wireguard"; programs: "wg")`.
#[macro_export]
macro_rules! require {
    (modules: $($module:literal),+ $(; programs: $($program:literal),+)?) => {
        if !([$($module),+].into_iter().all($crate::require_module)
            $(&& [$($program),+].into_iter().all($crate::require_program))?)
        {
            return;
        }
    };
}

/// Whether the kernel has a module: loaded, built in, or loaded by this call. If not, prints a `skipped:` line, and the
/// calling test should return.
///
/// # Panics
/// With `ADIT_VM=1`, where every module must exist.
#[must_use]
pub fn require_module(module: &str) -> bool {
    let there = Path::new("/sys/module").join(module).exists()
        || Command::new("modprobe")
            .args(["-q", module])
            .status()
            .is_ok_and(|status| status.success());
    assert!(
        there || env::var_os("ADIT_VM").is_none_or(|vm| vm != "1"),
        "this virtual machine's kernel has no module {module}"
    );
    if !there {
        println!("skipped: the kernel has no module {module}");
    }
    there
}

/// Whether the kernel has IPv6: it was neither built without it nor booted with `ipv6.disable=1`.
#[must_use]
pub fn has_ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
}

/// Whether a program is in the PATH. If not, prints a `skipped:` line, and the calling test should return.
///
/// # Panics
/// With `CI=true`, where `cargo xtask setup` has installed all programs that tests need.
#[must_use]
pub fn require_program(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let there = env::split_paths(&path).any(|directory| directory.join(program).is_file());
    assert!(
        there || env::var_os("CI").is_none_or(|ci| ci != "true"),
        "{program} is not installed"
    );
    if !there {
        println!("skipped: {program} is not installed");
    }
    there
}
