//! Escapes control characters in output. Names of links and containers, aliases and texts of manifests are
//! external; they must not move the cursor of a terminal, set its title or reverse the order of its text.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::paint::{Paint, is_mark};

/// Replaces each control character by its Rust escape, such as `\u{1b}`. Newlines and tabs stay, and marks of
/// the paint become colours.
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

/// The same for JSON, where special characters occur only in strings: those that serde does not escape become
/// `\u009b`.
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

/// The number of terminal columns of a text when it is written.
pub(super) fn width(text: &str) -> usize {
    let columns = |c: char| match c {
        _ if is_mark(c) => 0,
        _ if is_special(c) => c.escape_unicode().count(),
        _ => 1,
    };
    text.chars().map(columns).sum()
}

/// Control characters (C0, DEL, C1), characters that reverse the order of text (Unicode annex 9) or end a
/// line, and marks.
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
        // A mark in external text does not become a colour.
        assert_eq!(text("\u{fdd2}x", Paint::NEVER), r"\u{fdd2}x");
        assert!(matches!(
            text("two\n\tlines of ünïcode", Paint::NEVER),
            Cow::Borrowed(_)
        ));
    }
}
