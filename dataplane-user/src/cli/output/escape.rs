//! Control characters in what is printed: names of links and containers, aliases and texts of manifests come from
//! elsewhere, and must not move a terminal's cursor, set its title or turn the order of its text round.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::paint::{Paint, is_mark};

/// A text with each control character as Rust writes it, `\u{1b}`; lines and tabs stay, and marks of a paint become colours.
pub(super) fn text(text: &str, paint: Paint) -> Cow<'_, str> {
    if !text.contains(|c| is_special(c) && c != '\n' && c != '\t') {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if let Some(sequence) = paint.sequence(c) {
            shown.push_str(sequence);
        } else if is_special(c) && c != '\n' && c != '\t' {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// The same of JSON, in which special characters stand in strings alone: what serde leaves as it is becomes `\u009b`.
pub(super) fn json(json: &str) -> Cow<'_, str> {
    if !json.contains(|c| is_special(c) && c != '\n') {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_special(c) && c != '\n' {
            let _infallible = write!(shown, "\\u{:04x}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// How many columns of a terminal a text takes when it is written.
pub(super) fn width(text: &str) -> usize {
    let columns = |c: char| match c {
        _ if is_mark(c) => 0,
        _ if is_special(c) => c.escape_unicode().count(),
        _ => 1,
    };
    text.chars().map(columns).sum()
}

/// Control characters (C0, DEL, C1), those that turn the order of text round (Unicode's annex 9) or end a line, and marks.
fn is_special(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}') || is_mark(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_from_elsewhere_is_printed() {
        let evil = "eth\x1b[31m0\u{9b}2J\x07\r\u{202e}\u{7f}";
        let expected = r"eth\u{1b}[31m0\u{9b}2J\u{7}\u{d}\u{202e}\u{7f}";
        assert_eq!(text(evil, Paint::NEVER), expected);
        assert_eq!(text(evil, Paint::ALWAYS), expected);
        let painted = Paint::ALWAYS.bad(evil);
        assert_eq!(
            text(&painted, Paint::ALWAYS),
            format!("\x1b[31m{expected}\x1b[0m")
        );
        assert_eq!(width(evil), expected.len());
        // A mark that nobody painted is no colour.
        assert_eq!(text("\u{fdd2}x", Paint::NEVER), r"\u{fdd2}x");
        assert!(matches!(
            text("two\n\tlines of ünïcode", Paint::NEVER),
            Cow::Borrowed(_)
        ));
    }
}
