//! Names of devices in the syntax of nft (nft(8), "strings"; checked with 1.0.6).
//!
//! A quoted string ends at the next `"`, whatever precedes it. A `*` at its end is a wildcard unless a `\`
//! precedes it; only then is `\` an escape, and each one in the string is dropped. Elsewhere `\` and `*` have
//! no special meaning.

use crate::net::LinkName;

/// The longest string that nft accepts as the name of a device, in bytes (`IFNAMSIZ` − 1).
const LONGEST: usize = 15;

/// The name of a device in quotes, so that it matches only this device. `None`: nft can't express it.
#[must_use]
pub fn quoted(link: &LinkName) -> Option<String> {
    let name = link.as_str();
    if name.contains('"') {
        return None;
    }
    let Some(head) = name.strip_suffix('*') else {
        return Some(format!("\"{name}\""));
    };
    let fits = !head.contains('\\') && name.len() < LONGEST;
    fits.then(|| format!("\"{head}\\*\""))
}

/// The device that a string in nft's JSON names; `None` for a wildcard and for invalid names. In a set, nft
/// 1.0 prints a final `*` of a name without its `\`.
#[must_use]
pub fn unquoted(text: &str, in_set: bool) -> Option<LinkName> {
    match (text.strip_suffix("\\*"), text.ends_with('*')) {
        (Some(head), _) => LinkName::new(&format!("{head}*")).ok(),
        (None, true) if !in_set => None,
        (None, _) => LinkName::new(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_one_device_or_cannot_be_expressed() {
        let words = |name: &str| quoted(&LinkName::new(name).unwrap());
        for (name, expected) in [
            ("eth0", Some("\"eth0\"")),
            ("a*b", Some("\"a*b\"")),
            (r"a\b\", Some(r#""a\b\""#)),
            ("*", Some(r#""\*""#)),
            ("eth*", Some(r#""eth\*""#)),
            ("0123456789abc*", Some(r#""0123456789abc\*""#)),
            ("0123456789abcd*", None),
            (r"a\b*", None),
            ("a\"b", None),
        ] {
            assert_eq!(words(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn what_nft_prints_is_a_name_or_a_wildcard() {
        let name = |text, in_set| unquoted(text, in_set).map(|link| link.to_string());
        assert_eq!(name(r"eth\*", false).as_deref(), Some("eth*"));
        assert_eq!(name("eth*", false), None);
        assert_eq!(name("eth*", true).as_deref(), Some("eth*"));
        assert_eq!(name(r"a\b", false).as_deref(), Some(r"a\b"));
        assert_eq!(name("", true), None);
    }
}
