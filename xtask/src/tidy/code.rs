//! Removes comments, strings and unit tests from Rust sources.

/// The source with comments, strings and character literals replaced by blanks; line numbers stay the same.
pub(super) fn only(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = comment(rest).or_else(|| literal(rest));
        let length = match skipped {
            Some(length) => length,
            None if is_word(first) => {
                // As a whole, or the `r` at a name's end would start a raw string.
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                code.push_str(&rest[..end]);
                rest = &rest[end..];
                continue;
            }
            None => {
                code.push(first);
                rest = &rest[first.len_utf8()..];
                continue;
            }
        };
        let blank = |c| if c == '\n' { '\n' } else { ' ' };
        code.extend(rest[..length].chars().map(blank));
        rest = &rest[length..];
    }
    code
}

/// The code up to the module with its unit tests, which comes last by convention.
pub(super) fn without_tests(code: &str) -> &str {
    let end = code.match_indices("#[cfg(test)]\nmod ").find(|(at, _)| {
        let after = &code[*at..];
        let line = after.lines().nth(1).unwrap_or_default();
        line.ends_with('{')
    });
    end.map_or(code, |(at, _)| &code[..at])
}

pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of the comment that starts here.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if !text.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let here = &text[at..];
        if here.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if here.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += here.chars().next().map_or(1, char::len_utf8);
        }
    }
    Some(text.len())
}

/// The length of the string or the character that starts here; a lifetime is none.
fn literal(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        text.strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(['"', '#', '\'']))
    })?;
    let body = &text[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let inner = body[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = inner.find(&end).map_or(inner.len(), |at| at + end.len());
        return Some(prefix.len() + hashes + 1 + length);
    }
    let quote = body.chars().next().filter(|c| *c != '#')?;
    if quote == '\'' && is_lifetime(body) {
        return None;
    }
    let mut escaped = false;
    let end = body.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == quote && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    Some(prefix.len() + end.map_or(body.len(), |(at, _)| at + 1))
}

fn is_lifetime(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    let (first, second) = (chars.next(), chars.next());
    first.is_some_and(is_word) && second != Some('\'')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_lines_stay() {
        let source = "a // tokio\nb /* x /* y */\n z */ c \"nix \\\" log\" d r#\"serde\"quoted\"# 'e' '\\'' f<'g>\nvar\"s\"";
        let code = only(source);
        assert_eq!(code.lines().count(), source.lines().count());
        let words: Vec<&str> = code.split_whitespace().collect();
        assert_eq!(words, ["a", "b", "c", "d", "f<'g>", "var"]);
        assert_eq!(code.len(), source.len());
    }

    #[test]
    fn unit_tests_are_cut_but_a_module_elsewhere_is_not() {
        assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests {\n}\n"), "a\n");
        assert_eq!(
            without_tests("#[cfg(test)]\nmod tests;\nb\n"),
            "#[cfg(test)]\nmod tests;\nb\n"
        );
    }
}
