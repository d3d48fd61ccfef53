//! Values as their text, for fields of serde's whose types know nothing of it: `#[serde(with = "crate::as_text")]`.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer, Serializer};

/// The text of a value.
///
/// # Errors
/// The serializer's own.
pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// The value of a text.
///
/// # Errors
/// The deserializer's own, or when the text is none of such a value.
pub fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(D::Error::custom)
}

/// The same for values that may be missing: `#[serde(with = "crate::as_text::optional")]`.
pub mod optional {
    use super::*;

    /// The text of a value, or null.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    /// The value of a text or of null.
    ///
    /// # Errors
    /// The deserializer's own, or when the text is none of such a value.
    pub fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }
}
