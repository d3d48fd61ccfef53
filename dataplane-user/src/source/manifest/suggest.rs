//! The nearest known name.

/// Ends a sentence about an unknown name: the one that was meant, or the list of what is known.
pub(crate) fn hint<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known = known.into_iter().collect::<Vec<_>>();
    if let Some(near) = nearest(unknown, &known) {
        return format!("did you mean `{near}`?");
    }
    if known.is_empty() {
        return "none is known".to_owned();
    }
    // A set may have thousands of names; a line that lists them all helps nobody.
    const SHOWN: usize = 20;
    let more = if known.len() > SHOWN { ", …" } else { "" };
    let list = known.into_iter().take(SHOWN).collect::<Vec<_>>().join(", ");
    format!("known: {list}{more}")
}

/// The known name nearest to an unknown one, if it is near enough to be a slip.
pub(super) fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = unknown.to_lowercase();
    let limit = unknown.chars().count().div_ceil(3).min(3);
    known
        .iter()
        .map(|name| (distance(&lower, &name.to_lowercase()), *name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Damerau-Levenshtein distance (optimal string alignment) in characters.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.chars().collect::<Vec<_>>(), b.chars().collect::<Vec<_>>());
    // Longer differences are no slips, and a hostile input must not cost a quadratic table.
    if a.len().abs_diff(b.len()) > 3 {
        return usize::MAX;
    }
    let mut before = Vec::new();
    let mut above = (0..=b.len()).collect::<Vec<_>>();
    for (i, &ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &cb) in b.iter().enumerate() {
            let mut best = (above[j] + usize::from(ca != cb))
                .min(above[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && ca == b[j - 1] && a[i - 1] == cb {
                best = best.min(before_at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

fn before_at(row: &[usize], column: usize) -> usize {
    row.get(column).copied().unwrap_or(usize::MAX - 1)
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

    #[test]
    fn a_swap_is_one_slip() {
        for (a, b, want) in [
            ("ab", "ba", 1),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("a", "a", 0),
        ] {
            assert_eq!(distance(a, b), want, "{a} {b}");
        }
    }
}
