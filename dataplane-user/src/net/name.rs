//! Names of links, nodes and networks, which are checked when they are created.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text is not a valid name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(String);

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks the text.
            ///
            /// # Errors
            /// When the text is not a valid name; the error says why.
            pub fn new(text: &str) -> Result<$type, InvalidName> {
                $check(text)?;
                Ok($type(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<$type, InvalidName> {
                $type::new(text)
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// A network device's name: 1 to 15 bytes (`IFNAMSIZ` − 1, linux/if.h).
    LinkName,
    check_link
);
name!(
    /// A node's name: a DNS-1123 subdomain as in Kubernetes, at most 253 bytes.
    NodeName,
    check_subdomain
);
name!(
    /// A network's name: a DNS-1123 subdomain, at most 253 bytes.
    NetworkName,
    check_subdomain
);

name!(
    /// The id of a peer: the name of a node, or any words separated by `/`, such as `site/gateway-2`.
    PeerId,
    check_peer
);

impl PeerId {
    /// The one of `ids` that covers `id`: `site` covers `site` and `site/gateway-2`.
    #[must_use]
    pub fn covering<'a>(ids: &'a BTreeSet<PeerId>, id: &str) -> Option<&'a PeerId> {
        let ends = id.match_indices('/').map(|(end, _)| end);
        let mut above = ends.chain([id.len()]).map(|end| &id[..end]);
        above.find_map(|id| ids.get(id))
    }
}

impl From<&NodeName> for PeerId {
    fn from(name: &NodeName) -> PeerId {
        PeerId(Arc::clone(&name.0))
    }
}

impl LinkName {
    /// A constant name.
    ///
    /// # Panics
    /// When it is not valid.
    #[must_use]
    pub fn constant(text: &'static str) -> LinkName {
        LinkName::new(text).expect("a constant link name is valid")
    }
}

impl LinkName {
    /// A name from a text that may be too long: a text of more than 15 bytes is shortened to its first ten
    /// bytes, a dash and four hexadecimal digits of a hash of the whole.
    ///
    /// # Errors
    /// When the result is not a valid name.
    pub fn shortened(text: &str) -> Result<LinkName, InvalidName> {
        if text.len() <= 15 {
            return LinkName::new(text);
        }
        let end = (0..=10).rev().find(|&end| text.is_char_boundary(end));
        let head = &text[..end.unwrap_or_default()];
        let hash = super::hash::stable_hash(text.as_bytes()) & 0xffff;
        LinkName::new(&format!("{head}-{hash:04x}"))
    }
}

/// Whether a text is a host name that a resolver may find: labels of letters, digits, `-` and `_` (RFC 2181,
/// section 11), at most 253 bytes, and a final dot if it is fully qualified. If the last label has only
/// digits, the text is a mistyped IPv4 address (RFC 3696, section 2).
#[must_use]
pub fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let ends = label.starts_with('-') || label.ends_with('-');
        (1..=63).contains(&label.len()) && label.bytes().all(known) && !ends
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253 && name.split('.').all(label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

fn check_link(text: &str) -> Result<(), InvalidName> {
    let fine = (1..=15).contains(&text.len())
        && text != "."
        && text != ".."
        && !text.chars().any(|c| c == '/' || c == ':' || c.is_whitespace());
    if fine {
        return Ok(());
    }
    Err(InvalidName(format!(
        "`{text}` is not a valid link name: 1 to 15 bytes without `/`, `:` and white space"
    )))
}

fn check_subdomain(text: &str) -> Result<(), InvalidName> {
    let label = |label: &str| {
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        label.bytes().all(|c| inner(c) || c == b'-')
            && label.bytes().next().is_some_and(inner)
            && label.bytes().last().is_some_and(inner)
    };
    if !text.is_empty() && text.len() <= 253 && text.split('.').all(label) {
        return Ok(());
    }
    Err(InvalidName(format!(
        "`{text}` is not a valid name: lower-case letters, digits, `-` and `.`, beginning and ending with a letter or \
         digit"
    )))
}

fn check_peer(text: &str) -> Result<(), InvalidName> {
    let word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_graphic());
    if text.len() <= 253 && text.split('/').all(word) {
        return Ok(());
    }
    Err(InvalidName(format!(
        "`{}` is not a valid peer id: words without spaces, separated by `/`, at most 253 bytes",
        text.escape_debug()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_covers_all_ids_below_it() {
        let ids = BTreeSet::from(["a", "site/x"].map(|id| PeerId::new(id).unwrap()));
        for (id, covered) in [
            ("a", Some("a")),
            ("a/b/c", Some("a")),
            ("ab", None),
            ("site", None),
            ("site/x", Some("site/x")),
            ("site/xy", None),
            ("site/x/y", Some("site/x")),
        ] {
            let found = PeerId::covering(&ids, id).map(PeerId::as_str);
            assert_eq!(found, covered, "{id}");
        }
        for bad in ["", "/", "a/", "a b", "a\nb"] {
            assert!(PeerId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn long_names_of_links_are_cut_and_stay_distinct() {
        let cut = |text: &str| LinkName::shortened(text).expect("valid").to_string();
        assert_eq!(cut("exactly-fifteen"), "exactly-fifteen");
        let (one, two) = (cut("a-very-long-name-1"), cut("a-very-long-name-2"));
        assert_eq!(one.len(), 15);
        assert!(
            one.starts_with("a-very-lon-") && two.starts_with("a-very-lon-"),
            "{one} {two}"
        );
        assert_ne!(one, two);
        assert!(LinkName::shortened("not/a-valid-name-at-all").is_err());
    }

    #[test]
    fn names_of_hosts_may_have_underscores_and_a_final_dot() {
        for good in ["a", "vpn_1.example", "_x.example.", "a-b.c", "1a", "3.example"] {
            assert!(is_host_name(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "a..b",
            ".a",
            "-a",
            "a-.b",
            "a.1",
            "192.0.2.256",
            "a b",
            "fe80::1",
            "a.",
        ] {
            assert_eq!(is_host_name(bad), bad == "a.", "{bad}");
        }
    }

    #[test]
    fn names_are_checked() {
        for good in ["a", "node-1", "rack-2.example", "10.0.0.1"] {
            assert!(NodeName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a..b", "a_b", "a\n", ".a"] {
            assert!(NodeName::new(bad).is_err(), "{bad:?}");
        }
        assert!(LinkName::new("adit-geneve").is_ok());
        for bad in ["", "0123456789abcdef", "a/b", "a b", ".", ".."] {
            assert!(LinkName::new(bad).is_err(), "{bad:?}");
        }
    }
}
