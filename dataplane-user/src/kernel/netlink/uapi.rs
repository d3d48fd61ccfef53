//! Constants of kernel headers that neither netlink-packet-route 0.34 nor libc 0.2 defines; those that libc
//! defines as `int` are converted to their width in messages. Each is defined only here, below the name of
//! its header.

/// Converts a constant of libc to its width in a message.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked just before"
)]
const fn short(number: libc::c_int) -> u16 {
    assert!(number >= 0 && number <= 0xffff);
    number as u16
}

// linux/netlink.h
/// The attribute of an extended ack with the text of the kernel.
pub(in crate::kernel) const NLMSGERR_ATTR_MSG: u16 = 1;
/// `struct nlmsghdr`.
pub(in crate::kernel) const NLMSG_HEADER: usize = size_of::<libc::nlmsghdr>();

// linux/genetlink.h
pub(in crate::kernel) const GENL_ID_CTRL: u16 = short(libc::GENL_ID_CTRL);
/// `struct genlmsghdr`.
pub(in crate::kernel) const GENL_HEADER: usize = size_of::<libc::genlmsghdr>();
pub(in crate::kernel) const CTRL_VERSION: u8 = 2;
pub(in crate::kernel) const CTRL_CMD_GETFAMILY: u8 = 3;
pub(in crate::kernel) const CTRL_ATTR_FAMILY_ID: u16 = short(libc::CTRL_ATTR_FAMILY_ID);
pub(in crate::kernel) const CTRL_ATTR_FAMILY_NAME: u16 = short(libc::CTRL_ATTR_FAMILY_NAME);

// linux/socket.h
pub(in crate::kernel) const AF_INET: u16 = short(libc::AF_INET);
pub(in crate::kernel) const AF_INET6: u16 = short(libc::AF_INET6);

// linux/rtnetlink.h
pub(in crate::kernel) const RTM_NEWCHAIN: u16 = 100;
pub(in crate::kernel) const RTM_DELCHAIN: u16 = 101;
pub(in crate::kernel) const RTM_NEWNEXTHOP: u16 = 104;
pub(in crate::kernel) const RTM_DELNEXTHOP: u16 = 105;
pub(in crate::kernel) const RTM_GETNEXTHOP: u16 = 106;
pub(in crate::kernel) const RTA_NH_ID: u16 = 30;

// linux/nexthop.h
/// `struct nhmsg`: family, scope, protocol, a reserved byte, flags.
pub(in crate::kernel) const NEXTHOP_HEADER: usize = 8;
/// `struct nexthop_grp`: id, weight − 1, three reserved bytes.
pub(in crate::kernel) const NEXTHOP_MEMBER: usize = 8;
pub(in crate::kernel) const NEXTHOP_GRP_TYPE_RES: u16 = 1;
pub(in crate::kernel) const NHA_ID: u16 = 1;
pub(in crate::kernel) const NHA_GROUP: u16 = 2;
pub(in crate::kernel) const NHA_GROUP_TYPE: u16 = 3;
pub(in crate::kernel) const NHA_BLACKHOLE: u16 = 4;
pub(in crate::kernel) const NHA_OIF: u16 = 5;
pub(in crate::kernel) const NHA_GATEWAY: u16 = 6;
pub(in crate::kernel) const NHA_ENCAP_TYPE: u16 = 7;
pub(in crate::kernel) const NHA_ENCAP: u16 = 8;
pub(in crate::kernel) const NHA_FDB: u16 = 11;
pub(in crate::kernel) const NHA_RES_GROUP: u16 = 12;
pub(in crate::kernel) const NHA_RES_GROUP_BUCKETS: u16 = 1;

// linux/if_tunnel.h, big-endian on the wire
pub(in crate::kernel) const TUNNEL_DONT_FRAGMENT: u16 = 0x0100;

// linux/fib_rules.h
/// Padding.
pub(in crate::kernel) const FRA_PAD: u16 = 18;
/// The protocol of a rule, one byte.
pub(in crate::kernel) const FRA_PROTOCOL: u16 = 21;
/// Since Linux 6.15.
pub(in crate::kernel) const FRA_DSCP_MASK: u16 = 30;

// linux/netconf.h
/// `struct netconfmsg`: family and padding.
pub(in crate::kernel) const NETCONF_HEADER: usize = 4;
pub(in crate::kernel) const NETCONFA_IFINDEX: u16 = 1;

// linux/netfilter.h, linux/netfilter/nfnetlink.h
pub(in crate::kernel) const NF_DROP: u32 = 0;
pub(in crate::kernel) const NFPROTO_UNSPEC: u8 = 0;
pub(in crate::kernel) const NFPROTO_INET: u8 = 1;
pub(in crate::kernel) const NFNLGRP_NFTABLES: u32 = short(libc::NFNLGRP_NFTABLES) as u32;
/// `struct nfgenmsg`: family, version, resource.
pub(in crate::kernel) const NFNL_HEADER: usize = 4;
/// The upper byte of a message type is the subsystem.
const NFTABLES: u16 = short(libc::NFNL_SUBSYS_NFTABLES) << 8;

// linux/netfilter/nf_tables.h
pub(in crate::kernel) const NFT_MSG_GETTABLE: u16 = NFTABLES | short(libc::NFT_MSG_GETTABLE);
pub(in crate::kernel) const NFT_MSG_GETRULE: u16 = NFTABLES | short(libc::NFT_MSG_GETRULE);
pub(in crate::kernel) const NFT_MSG_GETGEN: u16 = NFTABLES | short(libc::NFT_MSG_GETGEN);
/// The name of a table; also the first attribute of all objects in a table.
pub(in crate::kernel) const NFTA_TABLE_NAME: u16 = 1;
pub(in crate::kernel) const NFTA_TABLE_HANDLE: u16 = 4;
pub(in crate::kernel) const NFTA_TABLE_USERDATA: u16 = 6;
pub(in crate::kernel) const NFTA_GEN_ID: u16 = 1;
pub(in crate::kernel) const NFTA_RULE_TABLE: u16 = 1;
pub(in crate::kernel) const NFTA_RULE_CHAIN: u16 = 2;
pub(in crate::kernel) const NFTA_RULE_HANDLE: u16 = 3;
pub(in crate::kernel) const NFTA_RULE_EXPRESSIONS: u16 = 4;
pub(in crate::kernel) const NFTA_EXPR_NAME: u16 = 1;
pub(in crate::kernel) const NFTA_EXPR_DATA: u16 = 2;
pub(in crate::kernel) const NFTA_COUNTER_BYTES: u16 = 1;
pub(in crate::kernel) const NFTA_COUNTER_PACKETS: u16 = 2;
pub(in crate::kernel) const NFTA_IMMEDIATE_DATA: u16 = 2;
pub(in crate::kernel) const NFTA_DATA_VERDICT: u16 = 2;
pub(in crate::kernel) const NFTA_VERDICT_CODE: u16 = 1;

// linux/wireguard.h
pub(in crate::kernel) const WG_GENL_NAME: &str = "wireguard";
pub(in crate::kernel) const WG_GENL_VERSION: u8 = 1;
pub(in crate::kernel) const WG_CMD_GET_DEVICE: u8 = 0;
pub(in crate::kernel) const WG_CMD_SET_DEVICE: u8 = 1;
pub(in crate::kernel) const WGDEVICE_A_IFNAME: u16 = 2;
pub(in crate::kernel) const WGDEVICE_A_PRIVATE_KEY: u16 = 3;
pub(in crate::kernel) const WGDEVICE_A_PUBLIC_KEY: u16 = 4;
pub(in crate::kernel) const WGDEVICE_A_LISTEN_PORT: u16 = 6;
pub(in crate::kernel) const WGDEVICE_A_FWMARK: u16 = 7;
pub(in crate::kernel) const WGDEVICE_A_PEERS: u16 = 8;
pub(in crate::kernel) const WGPEER_A_PUBLIC_KEY: u16 = 1;
pub(in crate::kernel) const WGPEER_A_PRESHARED_KEY: u16 = 2;
pub(in crate::kernel) const WGPEER_A_FLAGS: u16 = 3;
pub(in crate::kernel) const WGPEER_A_ENDPOINT: u16 = 4;
pub(in crate::kernel) const WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL: u16 = 5;
pub(in crate::kernel) const WGPEER_A_LAST_HANDSHAKE_TIME: u16 = 6;
pub(in crate::kernel) const WGPEER_A_RX_BYTES: u16 = 7;
pub(in crate::kernel) const WGPEER_A_TX_BYTES: u16 = 8;
pub(in crate::kernel) const WGPEER_A_ALLOWEDIPS: u16 = 9;
pub(in crate::kernel) const WGALLOWEDIP_A_FAMILY: u16 = 1;
pub(in crate::kernel) const WGALLOWEDIP_A_IPADDR: u16 = 2;
pub(in crate::kernel) const WGALLOWEDIP_A_CIDR_MASK: u16 = 3;
pub(in crate::kernel) const WGPEER_F_REMOVE_ME: u32 = 1;
pub(in crate::kernel) const WGPEER_F_REPLACE_ALLOWEDIPS: u32 = 2;
pub(in crate::kernel) const WGPEER_F_UPDATE_ONLY: u32 = 4;
