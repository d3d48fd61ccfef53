//! Per-device settings on the running kernel: only those of the own namespace and the named device.

use adit_tests::NetNs;
use dataplane_user::kernel::sysctl::Sysctls;
use dataplane_user::model::Sysctl;
use dataplane_user::net::LinkName;

#[test]
fn settings_belong_to_a_namespace_and_a_device() {
    let (one, two) = (NetNs::new(), NetNs::new());
    let name = LinkName::constant("test0");
    for netns in [&one, &two] {
        netns.ip("link add test0 type bridge");
        netns.ip("link add other0 type bridge");
    }
    let read = |netns: &NetNs, link: &'static str| {
        let link = LinkName::constant(link);
        netns.enter(|| Sysctls::default().read(&link, Sysctl::RpFilter).unwrap())
    };
    let before = read(&one, "test0");
    let after = if before == "2" { "1" } else { "2" };
    one.enter(|| Sysctls::default().write(&name, Sysctl::RpFilter, after).unwrap());

    assert_eq!(read(&one, "test0"), after);
    assert_eq!(read(&one, "other0"), before);
    assert_eq!(read(&two, "test0"), before);
    let refused = one.enter(|| {
        Sysctls::default()
            .write(&name, Sysctl::RpFilter, "no number")
            .unwrap_err()
    });
    assert_eq!(refused.errno(), Some(libc::EINVAL));
}
