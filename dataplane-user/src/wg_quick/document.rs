//! A file as lines, entries and sections, which keeps every byte. Every file is a valid document; `read`
//! interprets its lines.

use std::fmt;
use std::ops::Range;

use zeroize::Zeroizing;

/// The bytes of a file, and the ranges of its lines and sections. The bytes are wiped on drop, and `Debug`
/// does not show them.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    bytes: Zeroizing<Vec<u8>>,
    lines: Vec<Line>,
    sections: Vec<Section>,
}

/// A line, without its line break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The range of the line, with its line break.
    range: Range<usize>,
    pub(super) content: Content,
    /// The text after the first `#`.
    comment: Option<Range<usize>>,
}

/// The content of a line, without its comment. Ranges have no white space at their ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Only white space, or nothing.
    Blank,
    /// `[Name]`, or anything else that begins with a bracket.
    Header(Range<usize>),
    /// `Key = value`.
    Entry {
        /// The key.
        key: Range<usize>,
        /// The value.
        value: Range<usize>,
    },
    /// Anything without `=`.
    Other(Range<usize>),
}

/// A section: its header, and all lines up to the next header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The kind of the section.
    pub kind: SectionKind,
    /// The line numbers, from 0; the first line is the header.
    pub lines: Range<usize>,
}

/// The kind of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// `[Interface]`.
    Interface,
    /// `[Peer]`.
    Peer,
    /// Anything else.
    Unknown,
}

impl Document {
    /// Finds lines and sections in the bytes of a file.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Document {
        let bytes = Zeroizing::new(bytes);
        let mut lines = Vec::new();
        let mut start = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            lines.push(Line::new(&bytes, start..start + line.len()));
            start += line.len();
        }
        let headers = lines.iter().enumerate().filter_map(|(index, line)| {
            let Content::Header(name) = &line.content else {
                return None;
            };
            Some((index, SectionKind::of(&bytes[name.clone()])))
        });
        let headers = headers.collect::<Vec<_>>();
        let ends = headers.iter().skip(1).map(|(index, _)| *index);
        let ends = ends.chain([lines.len()]);
        let sections = headers.iter().zip(ends);
        let sections = sections.map(|((start, kind), end)| Section {
            kind: *kind,
            lines: *start..end,
        });
        let sections = sections.collect();
        Document {
            bytes,
            lines,
            sections,
        }
    }

    /// All bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its sections, in order.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Its `[Peer]` sections, in order.
    pub fn peers(&self) -> impl Iterator<Item = &Section> {
        self.sections
            .iter()
            .filter(|section| section.kind == SectionKind::Peer)
    }

    /// The number of lines.
    #[must_use]
    pub fn line_count(&self) -> usize {
        self.lines.len()
    }

    /// The range of a line, with its line break; after the last line, the empty range at the end.
    #[must_use]
    pub fn line(&self, index: usize) -> Range<usize> {
        let end = self.bytes.len()..self.bytes.len();
        self.lines.get(index).map_or(end, |line| line.range.clone())
    }

    /// Whether a line has nothing but white space.
    #[must_use]
    pub fn is_blank(&self, index: usize) -> bool {
        self.lines
            .get(index)
            .is_some_and(|line| line.content == Content::Blank && line.comment.is_none())
    }

    /// The range of the comment of a line that contains only a comment, without the `#`.
    #[must_use]
    pub fn comment(&self, index: usize) -> Option<Range<usize>> {
        let line = self.lines.get(index)?;
        let comment = line.comment.as_ref()?;
        (line.content == Content::Blank).then(|| trimmed(&self.bytes, comment.clone()))
    }

    /// The line with this key in a section, and the range of its value. If there are several, the last one.
    #[must_use]
    pub fn entry(&self, section: &Section, wanted: &str) -> Option<(usize, Range<usize>)> {
        let mut lines = section.lines.clone().rev();
        lines.find_map(|index| match &self.lines[index].content {
            Content::Entry { key, value }
                if squeezed(&self.bytes[key.clone()]).eq_ignore_ascii_case(wanted.as_bytes()) =>
            {
                Some((index, value.clone()))
            }
            _ => None,
        })
    }

    /// The last line of a section that is its header or an entry.
    #[must_use]
    pub fn last_entry(&self, section: &Section) -> usize {
        let mut lines = section.lines.clone().rev();
        let last = lines.find(|index| self.lines[*index].content != Content::Blank);
        last.unwrap_or(section.lines.start)
    }

    /// The line break of the file.
    #[must_use]
    pub fn line_break(&self) -> &'static str {
        let first = self.lines.first().map(|line| &self.bytes[line.range.clone()]);
        if first.is_some_and(|line| line.ends_with(b"\r\n")) {
            "\r\n"
        } else {
            "\n"
        }
    }

    /// The document with the bytes of a range replaced.
    #[must_use]
    pub fn replaced(&self, range: Range<usize>, with: &[u8]) -> Document {
        let mut bytes = Vec::with_capacity(self.bytes.len() + with.len());
        bytes.extend_from_slice(&self.bytes[..range.start]);
        bytes.extend_from_slice(with);
        bytes.extend_from_slice(&self.bytes[range.end..]);
        Document::new(bytes)
    }

    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("bytes", &self.bytes.len())
            .field("sections", &self.sections)
            .finish_non_exhaustive()
    }
}

impl SectionKind {
    fn of(header: &[u8]) -> SectionKind {
        match squeezed(header) {
            header if header.eq_ignore_ascii_case(b"[Interface]") => SectionKind::Interface,
            header if header.eq_ignore_ascii_case(b"[Peer]") => SectionKind::Peer,
            _ => SectionKind::Unknown,
        }
    }
}

impl Line {
    fn new(bytes: &[u8], range: Range<usize>) -> Line {
        let hash = position(bytes, &range, b'#');
        let text = trimmed(bytes, range.start..hash.unwrap_or(range.end));
        let content = if text.is_empty() {
            Content::Blank
        } else if bytes[text.start] == b'[' {
            Content::Header(text)
        } else if let Some(equals) = position(bytes, &text, b'=') {
            Content::Entry {
                key: trimmed(bytes, text.start..equals),
                value: trimmed(bytes, equals + 1..text.end),
            }
        } else {
            Content::Other(text)
        };
        Line {
            content,
            comment: hash.map(|hash| hash + 1..range.end),
            range,
        }
    }
}

fn position(bytes: &[u8], range: &Range<usize>, wanted: u8) -> Option<usize> {
    let found = bytes[range.clone()].iter().position(|byte| *byte == wanted);
    found.map(|index| range.start + index)
}

/// The bytes without any white space, as `wg` reads lines.
pub(super) fn squeezed(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().filter(|byte| !is_space(byte)).collect()
}

/// A vertical tab is white space to `wg`, and not to Rust.
pub(super) fn is_space(byte: &u8) -> bool {
    byte.is_ascii_whitespace() || *byte == 0x0b
}

/// The range without white space at its ends.
fn trimmed(bytes: &[u8], range: Range<usize>) -> Range<usize> {
    let text = &bytes[range.clone()];
    let Some(first) = text.iter().position(|byte| !is_space(byte)) else {
        return range.start..range.start;
    };
    let last = text.iter().rposition(|byte| !is_space(byte)).unwrap_or(first);
    range.start + first..range.start + last + 1
}
