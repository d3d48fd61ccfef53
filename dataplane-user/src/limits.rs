//! Times and limits, each with its reason, grouped by topic. Sizes and numbers that a protocol or a kernel
//! interface prescribes are not here, but where they are used.
//!
//! Times that tests shorten are defaults of [`Pauses`](crate::pauses::Pauses), which describes each of them.

use std::time::Duration;

// The reconciliation loop.

/// Delay of the first retry: most failures of a change are over within a moment, for example while a device
/// is being created.
pub const FIRST_RETRY: Duration = Duration::from_millis(500);
/// Maximum delay of a retry: a failure that lasts needs an operator, and more retries only load the machine.
pub const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// Interval of checks while an object waits for something that sends no event. A check costs milliseconds,
/// and an operator who fixes something waits for the effect.
pub const WAITING: Duration = Duration::from_secs(3);
/// How long a resolved name stays valid. A handshake is renewed every two minutes (`REKEY_AFTER_TIME`). If
/// the last one is older, the peer may have moved.
pub const NAMES_LIFETIME: Duration = Duration::from_secs(30);
/// How long a second link stays. The other end of a link checks handshakes every few seconds. Until then it
/// sends on the link that this end has left.
pub const ROTATION_OVERLAP: Duration = Duration::from_secs(20);
/// Number of repairs of an object within [`FIGHT_WINDOW`] that make a fight.
pub const FIGHT_REPAIRS: usize = 5;
/// Time in which repairs are counted. Another manager of an object reacts to each change, so that five
/// repairs take seconds. Repairs that are less frequent are no fight.
pub const FIGHT_WINDOW: Duration = Duration::from_secs(60);
/// First pause in a fight: long enough for the installation of a package, or a script, to finish.
pub const FIRST_FIGHT: Duration = Duration::from_secs(5);
/// Longest pause in a fight. An operator must end a fight. Until then the agent retries often enough to
/// restore the object soon afterwards.
pub const LONGEST_FIGHT: Duration = Duration::from_secs(300);
/// Maximum number of observations: where something changes all the time, a reconciliation continues with what
/// it saw.
pub const OBSERVATIONS: u32 = 3;
/// A step of a reconciliation that takes longer than this hangs: filling a hundred thousand prefixes takes
/// seconds.
pub const LONGEST_STEP: Duration = Duration::from_secs(30);
/// Maximum time of a packet from the look-up of its route to the device, also where a host pauses the CPUs of
/// this machine.
pub const RCU_GRACE: Duration = Duration::from_millis(20);

// Manifests and other files.

/// How long files must stay unchanged before they are loaded: editors and config maps write several files.
pub const FILES_QUIET: Duration = Duration::from_millis(100);
/// Maximum delay of loading while files keep changing.
pub const FILES_LATEST: Duration = Duration::from_secs(1);
/// Maximum bytes read from a text file: manifests of thousands of nodes have a few megabytes.
pub const TEXT_FILE_BYTES: u64 = 64 << 20;
/// Maximum bytes read from a key file: a key in base64 and a line break, with room to detect more.
pub const KEY_FILE_BYTES: u64 = 256;
/// Maximum bytes read from the standard input: more than any key with white space around it.
pub const KEY_INPUT_BYTES: u64 = 4096;

// Names in endpoints.

/// How long a reconciliation waits for resolvers. It uses known addresses at once; the next one gets the
/// others.
pub const NAMES_TIMEOUT: Duration = Duration::from_secs(3);
/// How long `adit peer` waits for resolvers: they give up after five seconds themselves, and an operator
/// waits.
pub const HUB_NAMES_TIMEOUT: Duration = Duration::from_secs(5);
/// How long `adit wg up` waits for resolvers: at boot the network may not be up yet.
pub const WG_QUICK_NAMES_TIMEOUT: Duration = Duration::from_secs(10);

// Netlink.

/// How long the kernel may stay silent. It answers while it handles the request, so any silence means a lost
/// message.
pub const NETLINK_TIMEOUT: Duration = Duration::from_secs(10);
/// Receive buffer in bytes: room for the errors of a batch and for dumps that are read slowly.
pub const NETLINK_RECEIVE_BUFFER: usize = 4 << 20;
/// Buffer for a datagram: the kernel fills dump datagrams up to 32 KiB if the buffer of the reader is large
/// enough.
pub const NETLINK_DATAGRAM: usize = 64 << 10;
/// Maximum requests of a batch: more errors at once could overrun the receive buffer, and a request whose
/// error is lost would count as done.
pub const BATCH_REQUESTS: usize = 128;
/// Maximum bytes of a batch: the kernel refuses datagrams larger than its send buffer (208 KiB by default).
pub const BATCH_BYTES: usize = 32 << 10;
/// How often a table that changes while it is read is read again.
pub const DUMP_ATTEMPTS: usize = 8;
/// How long kernel events must pause before they wake the loop: one change by hand sends several messages.
pub const EVENTS_QUIET: Duration = Duration::from_millis(50);
/// Maximum delay of the wake-up while events keep arriving.
pub const EVENTS_LATEST: Duration = Duration::from_millis(250);
/// Rounds of reading kernel events before an observation, a hundred datagrams each. A storm must not prevent
/// the observation.
pub const LISTENING_ROUNDS: usize = 256;

// Other network namespaces.

/// How long reading another namespace may take: others may fill it, and the state of the node must not wait
/// for that.
pub const NAMESPACE_TIMEOUT: Duration = Duration::from_secs(5);
/// A namespace that could not be read in time is not read again for this long: reading it delays each
/// reconciliation.
pub const NAMESPACE_FIRST_BACK_OFF: Duration = Duration::from_secs(3);
/// The longest such pause; each is twice as long as the one before.
pub const NAMESPACE_LONGEST_BACK_OFF: Duration = Duration::from_secs(300);
/// How long a container runtime may take: one that does not answer must not delay a reconciliation for long.
pub const CONTAINER_TIMEOUT: Duration = Duration::from_secs(3);

// nftables.

/// How long `nft` may take: it waits only for the kernel, which may have to load modules on a busy machine.
pub const NFT_TIMEOUT: Duration = Duration::from_secs(30);
/// After `nft` hung, it is not started again for this long: it would delay each reconciliation.
pub const NFT_BACK_OFF: Duration = Duration::from_secs(60);

// WireGuard.

/// After this time the keys of a session are not used any more (`REJECT_AFTER_TIME`, WireGuard paper, section
/// 6.1).
pub const WIREGUARD_SESSION: Duration = Duration::from_secs(180);
/// Seconds between keepalives on a link that waits for a handshake: a keepalive requests the handshake.
pub const ROTATION_KEEPALIVE: u16 = 5;
/// Maximum bytes of peers in a message: they are one attribute, whose length field has 16 bits.
pub const WIREGUARD_MESSAGE_BYTES: usize = 48 << 10;
/// Maximum number of allowed IPs of a peer in one message, at most 40 bytes each.
pub const WIREGUARD_MESSAGE_PREFIXES: usize = 512;
/// Maximum number of peers of a device that is read between two reconciliations: that happens every few
/// seconds and must stay cheap.
pub const RECHECKED_PEERS: usize = 256;

// BPF.

/// Elements of a map that one system call reads or writes: few enough for one copy by the kernel, and enough
/// to make the cost of the call negligible.
pub const MAP_BATCH: usize = 4096;
/// Maximum size of a batch that is read: the allocator reuses such buffers, and they stay in the cache.
pub const MAP_BATCH_BYTES: usize = 96 << 10;
/// Up to so many elements of an array are read one by one: the kernel copies a few hundred in the time of a
/// system call.
pub const MAP_ONE_BY_ONE: usize = 256;
/// How long a freed slot is not used again: packets use it for microseconds more (`kernel/bpf/slots.rs`).
pub const SLOT_REUSE_DELAY: Duration = Duration::from_secs(1);
/// Lines at the end of the log of the verifier, which say what is wrong.
pub const VERIFIER_LINES: usize = 12;

// The socket of the agent, and HTTP.

/// Maximum bytes of a request on the socket: it is a short line, and a longer one is cut off.
pub const REQUEST_BYTES: u64 = 4096;
/// How long an agent may take for its status: reading maps and devices takes less than a second.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take that waits for a reconciliation.
pub const RECONCILIATION_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum number of statuses that are read at the same time: each opens file descriptors for the maps and
/// WireGuard devices.
pub const SOCKET_ANSWERS: usize = 4;
/// The same over HTTP, where anybody may send requests.
pub const HTTP_ANSWERS: usize = 2;
/// How long a client may take to send the header of its request.
pub const HTTP_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection, which is for one request, may last.
pub const HTTP_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum number of open connections of a listener: enough for several scrapers and operators.
pub const CONNECTIONS: u64 = 64;
/// One listener may use one in so many file descriptors, so that enough are left for the rest of the agent.
pub const CONNECTIONS_SHARE: u64 = 8;
/// Pause between two attempts while no connection can be accepted: file descriptors are freed within moments.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Pause between two log lines about failures to accept.
pub const ACCEPT_LOG_PAUSE: Duration = Duration::from_secs(300);
/// Maximum number of pending wake-ups of the loop. All pending ones are handled together, so a sender that
/// has to wait loses nothing.
pub const EVENTS_WAITING: usize = 64;

// Reports.

/// Maximum number of repairs of one reconciliation that are logged one by one; of the others only the number
/// is logged.
pub const LOGGED_REPAIRS: usize = 50;
/// Maximum number of repairs in the status: the last ones show what is going on.
pub const REMEMBERED_REPAIRS: usize = 10;
/// Maximum number of routes of others that warnings name because they take packets of the overlay: the first
/// ones show what adds them.
pub const NAMED_SHADOWS: usize = 10;
/// Maximum number of changes that a problem names: the first ones show what is affected.
pub const NAMED_CHANGES: usize = 3;

// Commands.

/// Interval of `adit status --watch`: as fast as people read.
pub const WATCH_PAUSE: Duration = Duration::from_secs(1);
/// Interval of `adit status --wait`: a script continues soon after the node is ready.
pub const WAIT_PAUSE: Duration = Duration::from_millis(100);
/// How long a command of a wg-quick file may take to end after it is asked to.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval of attempts to take a lock that somebody else has: changes of a hub file take milliseconds.
pub const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// How often the lock of a network namespace is tried while its holder does not answer: a process that takes
/// it listens within microseconds.
pub const NAMESPACE_LOCK_ATTEMPTS: u32 = 20;
/// How long to wait for the lock of a wg-quick file that is to be overwritten in place, whose holder may be
/// looking up names, and for another `adit wg up` or `adit wg down`.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum bytes of the id of a hub client, which has a line of its own in the file.
pub const DEVICE_ID_BYTES: usize = 128;
