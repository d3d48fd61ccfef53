//! What the running kernel has.

use std::env;
use std::path::Path;
use std::process::Command;

/// Whether the kernel has a module, loaded, built in or to be loaded now. Where it has not, the calling test prints a
/// line and returns.
///
/// # Panics
/// With `ADIT_VM=1`, where every module must be there.
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
