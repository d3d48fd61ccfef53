//! The ids of hub clients.

use std::fmt;

use crate::limits;

/// The id of a hub client: text on one line of the file, for example `laptop-7` or `alice's phone`; at most
/// 128 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceId(String);

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(String);

impl DeviceId {
    /// Checks the text.
    ///
    /// # Errors
    /// If the text is empty or too long, or if a file can't contain it unchanged: line breaks and other
    /// control characters, white space at its ends, `#`, `[` and `]`.
    pub fn new(text: &str) -> Result<DeviceId, InvalidId> {
        let error = |why: &str| Err(InvalidId(format!("{text:?} is not a device id: {why}")));
        if text.is_empty() {
            return error("it is empty");
        }
        if text.len() > limits::DEVICE_ID_BYTES {
            let length = text.len();
            return Err(InvalidId(format!(
                "a device id has at most {} bytes, this one has {length}",
                limits::DEVICE_ID_BYTES
            )));
        }
        if text.chars().any(char::is_control) {
            return error("it contains a line break or another control character");
        }
        if let Some(bad) = text.chars().find(|c| "#[]".contains(*c)) {
            return error(&format!(
                "it contains `{bad}`, which has another meaning in the file"
            ));
        }
        if text.trim() != text {
            return error("it begins or ends with white space");
        }
        Ok(DeviceId(text.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_on_lines_of_their_own() {
        for good in [
            "a",
            "laptop-7",
            "alice's phone",
            "büro:2",
            &"x".repeat(limits::DEVICE_ID_BYTES),
        ] {
            assert_eq!(DeviceId::new(good).unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", "empty"),
            ("a\n[Peer]", "line break"),
            ("a\rb", "line break"),
            ("a\0", "control"),
            ("a#b", "`#`"),
            ("[a", "`[`"),
            ("a]", "`]`"),
            (" a", "white space"),
            ("a ", "white space"),
            (
                &"x".repeat(limits::DEVICE_ID_BYTES + 1),
                "at most 128 bytes, this one has 129",
            ),
        ] {
            let said = DeviceId::new(bad).unwrap_err().to_string();
            assert!(said.contains(why) && !said.contains('\n'), "{said}");
        }
    }
}
