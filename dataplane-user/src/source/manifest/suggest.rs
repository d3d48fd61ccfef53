//! Suggestions for unknown names.

use strsim::osa_distance;

/// The largest number of changed characters that counts as a typing error.
const SLIPS: usize = 3;

/// The end of a message about an unknown name: the name that was probably meant, or the known names.
pub(crate) fn hint<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known = known.into_iter().collect::<Vec<_>>();
    if let Some(near) = nearest(unknown, &known) {
        return format!("did you mean `{near}`?");
    }
    if known.is_empty() {
        return "none exist".to_owned();
    }
    // A set may have thousands of names, too many for one line.
    const SHOWN: usize = 20;
    let more = if known.len() > SHOWN { ", …" } else { "" };
    let list = known.into_iter().take(SHOWN).collect::<Vec<_>>().join(", ");
    format!("known: {list}{more}")
}

/// The known name that is nearest to an unknown one, if the difference can be a typing error.
pub(super) fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = unknown.to_lowercase();
    let length = unknown.chars().count();
    let limit = length.div_ceil(3).min(SLIPS);
    // A long input must not cost a quadratic table.
    let alike = known
        .iter()
        .filter(|name| name.chars().count().abs_diff(length) <= SLIPS);
    alike
        .map(|name| (osa_distance(&lower, &name.to_lowercase()), *name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised() {
        let known = ["prefixes", "ports", "encapsulation", "vni", "df"];
        for (unknown, want) in [
            ("prefixs", Some("prefixes")),
            ("Prefixes", Some("prefixes")),
            ("encapuslation", Some("encapsulation")),
            ("vin", Some("vni")),
            ("port", Some("ports")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(unknown, &known), want, "{unknown}");
        }
        assert_eq!(hint("colour", ["a", "b"]), "known: a, b");
        assert_eq!(hint("prefixs", known), "did you mean `prefixes`?");
    }
}
