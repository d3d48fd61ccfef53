//! Why a received packet is discarded.

/// Why a packet is discarded (RFC 5880, sections 6.7.4 and 6.8.6). The names are labels of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Ignored {
    /// Fewer bytes than the mandatory section.
    #[error("the packet has less than 24 bytes")]
    TooShort,
    /// Version 0, or one that does not exist.
    #[error("the version is not 1")]
    Version,
    /// The length field contains less than the mandatory section.
    #[error("the length field is below 24")]
    Length,
    /// The length field contains more than the datagram.
    #[error("the length field exceeds the datagram")]
    Truncated,
    /// A detection time of zero.
    #[error("the detect multiplier is 0")]
    DetectMultiplier,
    /// Reserved for point-to-multipoint extensions.
    #[error("the multipoint bit is set")]
    Multipoint,
    /// The discriminator of the sender is 0.
    #[error("my discriminator is 0")]
    MyDiscriminator,
    /// The remote system claims to have received packets, but names no session.
    #[error("your discriminator is 0 in state Init or Up")]
    YourDiscriminator,
    /// Poll and final exclude each other (section 6.5).
    #[error("the poll and final bits are both set")]
    PollAndFinal,
    /// The length of the authentication section does not fit its type or the packet.
    #[error("the authentication section has an invalid length")]
    AuthenticationLength,
    /// The local system uses no authentication.
    #[error("the packet is authenticated, but this session uses no authentication")]
    AuthenticationUnexpected,
    /// The local system uses authentication.
    #[error("the packet is not authenticated")]
    AuthenticationMissing,
    /// Another type of authentication.
    #[error("the authentication type differs")]
    AuthenticationType,
    /// No key has this ID.
    #[error("the key ID is unknown")]
    AuthenticationKey,
    /// The content or the key differs.
    #[error("the digest is wrong")]
    AuthenticationDigest,
    /// A replayed packet, a packet that was overtaken, or a remote system that began a new sequence.
    #[error("the sequence number is out of range")]
    AuthenticationSequence,
    /// Your discriminator names no session, or another one.
    #[error("your discriminator is unknown")]
    UnknownSession,
    /// The session is in state AdminDown. The values of the remote system are still recorded, as in the RFC.
    #[error("the session is administratively down")]
    AdminDown,
}

impl Ignored {
    /// All reasons.
    pub const ALL: [Ignored; 18] = [
        Ignored::TooShort,
        Ignored::Version,
        Ignored::Length,
        Ignored::Truncated,
        Ignored::DetectMultiplier,
        Ignored::Multipoint,
        Ignored::MyDiscriminator,
        Ignored::YourDiscriminator,
        Ignored::PollAndFinal,
        Ignored::AuthenticationLength,
        Ignored::AuthenticationUnexpected,
        Ignored::AuthenticationMissing,
        Ignored::AuthenticationType,
        Ignored::AuthenticationKey,
        Ignored::AuthenticationDigest,
        Ignored::AuthenticationSequence,
        Ignored::UnknownSession,
        Ignored::AdminDown,
    ];

    /// The stable name in snake case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Ignored::TooShort => "too_short",
            Ignored::Version => "version",
            Ignored::Length => "length",
            Ignored::Truncated => "truncated",
            Ignored::DetectMultiplier => "detect_multiplier",
            Ignored::Multipoint => "multipoint",
            Ignored::MyDiscriminator => "my_discriminator",
            Ignored::YourDiscriminator => "your_discriminator",
            Ignored::PollAndFinal => "poll_and_final",
            Ignored::AuthenticationLength => "authentication_length",
            Ignored::AuthenticationUnexpected => "authentication_unexpected",
            Ignored::AuthenticationMissing => "authentication_missing",
            Ignored::AuthenticationType => "authentication_type",
            Ignored::AuthenticationKey => "authentication_key",
            Ignored::AuthenticationDigest => "authentication_digest",
            Ignored::AuthenticationSequence => "authentication_sequence",
            Ignored::UnknownSession => "unknown_session",
            Ignored::AdminDown => "admin_down",
        }
    }
}
