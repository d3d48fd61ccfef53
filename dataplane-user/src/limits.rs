//! Times and limits, each with its reason, by what they are about. Sizes and numbers that a protocol or the kernel's interface sets are no
//! limits: they are where they are used.
//!
//! Times that tests shorten are the defaults of [`Pauses`](crate::pauses::Pauses), which says what each is.

use std::time::Duration;

// The reconciliation loop.

/// Most failures of a change pass within a moment, such as a device that is still on its way.
pub const FIRST_RETRY: Duration = Duration::from_millis(500);
/// What lasts takes an operator: more retries would only load the machine.
pub const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// Nobody announces what is waited for; a look costs milliseconds, and an operator who mends something waits for its effect.
pub const WAITING: Duration = Duration::from_secs(3);
/// A handshake is renewed every two minutes (`REKEY_AFTER_TIME`), and one that grows older may be that of a peer which has moved.
pub const NAMES_LIFETIME: Duration = Duration::from_secs(30);
/// The other end of a link looks for handshakes every few seconds, and sends on the link that this end has left until then.
pub const DRAIN: Duration = Duration::from_secs(20);
/// So many repairs of an object within [`FIGHT_WINDOW`] are no accident.
pub const FIGHT_REPAIRS: usize = 5;
/// Whoever else manages an object acts on each change, so that five repairs take seconds; repairs that are rarer are no fight.
pub const FIGHT_WINDOW: Duration = Duration::from_secs(60);
/// Long enough for a package that is being installed, or a script, to be done.
pub const FIRST_FIGHT: Duration = Duration::from_secs(5);
/// A fight is for an operator to end; until then the object is tried often enough to be right soon after that.
pub const LONGEST_FIGHT: Duration = Duration::from_secs(300);
/// Observations at most: where something changes all the time, a reconciliation goes on with what it saw.
pub const OBSERVATIONS: u32 = 3;
/// A step of a reconciliation that takes longer than this hangs: filling a hundred thousand prefixes takes seconds.
pub const LONGEST_STEP: Duration = Duration::from_secs(30);
/// How long a packet takes at most from its route's look-up to the device, also where a host stops this machine's processors.
pub const RCU_GRACE: Duration = Duration::from_millis(20);

// Manifests and other files.

/// How long it must be quiet after a change of a file: editors and config maps write several.
pub const FILES_QUIET: Duration = Duration::from_millis(100);
/// How long a change of a file waits for quiet, where there is none.
pub const FILES_LATEST: Duration = Duration::from_secs(1);
/// The most bytes that are read of a text file: manifests of thousands of nodes have some megabytes.
pub const TEXT_FILE_BYTES: u64 = 64 << 20;
/// A key in base64 and a line break, with room to notice more.
pub const KEY_FILE_BYTES: u64 = 256;
/// Longer than any key with white space around it: what is read of the standard input.
pub const KEY_INPUT_BYTES: u64 = 4096;

// Names of endpoints.

/// How long a reconciliation waits for resolvers: what is known already is not waited for, and the rest follows with the next one.
pub const NAMES_PATIENCE: Duration = Duration::from_secs(3);
/// How long `adit peer` waits for resolvers: resolvers give up after five seconds themselves, and an operator waits.
pub const HUB_NAMES_PATIENCE: Duration = Duration::from_secs(5);
/// How long `adit wg up` waits for resolvers: at boot the network may just be coming.
pub const WG_QUICK_NAMES_PATIENCE: Duration = Duration::from_secs(10);

// Netlink.

/// How long the kernel may stay silent. It answers while it takes the request, so any silence is a loss.
pub const NETLINK_PATIENCE: Duration = Duration::from_secs(10);
/// Room for the refusals of a batch and for dumps that are read slowly.
pub const NETLINK_RECEIVE_BUFFER: usize = 4 << 20;
/// The kernel fills dump datagrams up to 32 KiB where the reader's buffer lets it.
pub const NETLINK_DATAGRAM: usize = 64 << 10;
/// More refusals at once could overrun the receive buffer, and one that is lost would count as done.
pub const BATCH_REQUESTS: usize = 128;
/// The kernel refuses datagrams beyond its send buffer (208 KiB by default).
pub const BATCH_BYTES: usize = 32 << 10;
/// How often a table that changes while it is read is read anew.
pub const DUMP_ATTEMPTS: usize = 8;
/// How long it must be quiet after an event of the kernel: one change by hand is several messages.
pub const EVENTS_QUIET: Duration = Duration::from_millis(50);
/// How long the first event of a storm waits at most.
pub const EVENTS_LATEST: Duration = Duration::from_millis(250);
/// Room for a storm of events while a reconciliation keeps the thread busy.
pub const EVENTS_RECEIVE_BUFFER: usize = 4 << 20;
/// Rounds of listening before an observation; each hears a hundred datagrams, and a storm must not keep it from beginning.
pub const LISTENING_ROUNDS: usize = 256;

// Other network namespaces.

/// How long reading another namespace may take: somebody else may fill it, and the node's own state must not wait for that.
pub const NAMESPACE_PATIENCE: Duration = Duration::from_secs(5);
/// After a namespace could not be read in time, it rests: reading it holds up each reconciliation.
pub const NAMESPACE_FIRST_REST: Duration = Duration::from_secs(3);
/// The longest such rest; each is twice as long as the one before.
pub const NAMESPACE_LONGEST_REST: Duration = Duration::from_secs(300);
/// A container runtime that does not answer must not hold up a reconciliation for long.
pub const CONTAINER_PATIENCE: Duration = Duration::from_secs(3);

// nftables.

/// How long `nft` may take: it waits for nobody but the kernel, which may have modules to load for a machine that is busy.
pub const NFT_PATIENCE: Duration = Duration::from_secs(30);
/// After nft hung, it is not started again for this long: it would hold up each reconciliation.
pub const NFT_REST: Duration = Duration::from_secs(60);

// WireGuard.

/// After this time a session's keys are not used any more (`REJECT_AFTER_TIME`, WireGuard's paper, section 6.1).
pub const WIREGUARD_SESSION: Duration = Duration::from_secs(180);
/// Seconds between keepalives on a link that a handshake is awaited on: a keepalive asks for the handshake.
pub const ROTATION_KEEPALIVE: u16 = 5;
/// The peers of a message are one attribute, whose length has 16 bits.
pub const WIREGUARD_MESSAGE_BYTES: usize = 48 << 10;
/// Allowed IPs in one piece of a peer: 40 bytes each at most.
pub const WIREGUARD_MESSAGE_PREFIXES: usize = 512;
/// Peers of a device that is read between two reconciliations: that is to stay cheap, as it is done every few seconds.
pub const RECHECKED_PEERS: usize = 256;

// BPF.

/// Elements of a map read or written by one system call: few enough for the kernel to copy in one go, enough to make the call's own
/// cost vanish.
pub const MAP_BATCH: usize = 4096;
/// What a batch of elements that are read is at most: buffers that the allocator has at hand, and that stay in the cache.
pub const MAP_BATCH_BYTES: usize = 96 << 10;
/// So many elements of an array are read one by one: the kernel copies some hundred in the time of a system call.
pub const MAP_ONE_BY_ONE: usize = 256;
/// How long a slot that was freed is not used again: packets hold on to it for microseconds (`kernel/bpf/slots.rs`).
pub const SLOT_REST: Duration = Duration::from_secs(1);
/// Lines of the verifier's log that say what is wrong: it says so at its end.
pub const VERIFIER_LINES: usize = 12;

// The agent's socket and HTTP.

/// A request on the socket is a short line; whoever sends more is cut off.
pub const REQUEST_BYTES: u64 = 4096;
/// How long an agent may take for its status: it reads the maps and devices for it, which takes less than a second.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// For what waits until a reconciliation has acted.
pub const RECONCILIATION_PATIENCE: Duration = Duration::from_secs(60);
/// Statuses that are read at the same time: each reads the maps and WireGuard's devices, by descriptors of its own.
pub const SOCKET_ANSWERS: usize = 4;
/// The same over HTTP, where anybody may ask.
pub const HTTP_ANSWERS: usize = 2;
/// A client has this long for its request's header.
pub const HTTP_HEADER_PATIENCE: Duration = Duration::from_secs(10);
/// And a connection, which is for one request, this long altogether.
pub const HTTP_PATIENCE: Duration = Duration::from_secs(30);
/// Connections that a listener has open at most: several scrapers and operators, with room.
pub const CONNECTIONS: u64 = 64;
/// The share of all descriptors that one listener's connections may be, so that the rest of the agent has enough.
pub const CONNECTIONS_SHARE: u64 = 8;
/// Between two tries while nothing can be accepted: descriptors are freed within moments.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two lines about that in the log.
pub const ACCEPT_LOG_PAUSE: Duration = Duration::from_secs(300);
/// Wake-ups that wait for the loop: all that have gathered are one, so a sender that has to wait loses nothing.
pub const EVENTS_WAITING: usize = 64;

// What is told.

/// Repairs of one reconciliation that are logged one by one; of more only the number is.
pub const LOGGED_REPAIRS: usize = 50;
/// Repairs that the status tells of: the last ones say what goes on.
pub const REMEMBERED_REPAIRS: usize = 10;
/// Changes that a problem names at most: the first ones say what is affected.
pub const NAMED_CHANGES: usize = 3;

// Commands.

/// Between two looks of `adit status --watch`: as fast as people read.
pub const WATCH_PAUSE: Duration = Duration::from_secs(1);
/// Between two looks of `adit status --wait`: a script goes on soon after the node is ready.
pub const WAIT_PAUSE: Duration = Duration::from_millis(100);
/// How long a command of a wg-quick file may take to end when it is asked to.
pub const COMMAND_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at a hub file's lock that somebody else holds: changes of the file take milliseconds.
pub const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// How long the lock of a wg-quick file is waited for, when its own bytes are replaced: whoever holds it may look up names.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of the longest id of a hub client: it stands on a line of its own.
pub const DEVICE_ID_BYTES: usize = 128;
