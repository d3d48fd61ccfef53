//! Parses matches of connections and changes of marks from the output of `nft -j`.
//!
//! For `x & A | B` nft prints what the kernel stores, which is `x & (A | B) | B`, and no `&` if that masks
//! nothing.

use serde_json::Value;

use super::strings;
use crate::model::firewall::{Action, Match};
use crate::model::rule::Mark;

/// The key of a mark, `ct` or `meta`, and the action that sets it.
type MarkKind = (&'static str, fn(Mark) -> Action);

const MARKS: [MarkKind; 2] = [("ct", Action::MarkConnection), ("meta", Action::MarkPacket)];

/// A match on a connection.
pub(super) fn connection(found: &Value) -> Option<Match> {
    let (left, right) = (&found["left"], &found["right"]);
    let operator = found["op"].as_str()?;
    // A state is one of several bits; the rule matches only this one.
    if left["ct"]["key"] == "state" && matches!(operator, "in" | "==") {
        let states = strings(right)?;
        return (states.len() == 1 && states.contains("new")).then_some(Match::New);
    }
    if operator != "==" {
        return None;
    }
    if left["ct"]["key"] == "direction" {
        return (right == "reply").then_some(Match::Reply);
    }
    let [mark, mask] = operands(left, "&")?;
    if mark["ct"]["key"] != "mark" {
        return None;
    }
    // Adit has no match for the absence of a bit, or for bits beyond the mask.
    let (value, mask) = (number(right)?, number(mask)?);
    let exact = mask != 0 && value & !mask == 0;
    Mark::new(value, mask)
        .filter(|_| exact)
        .map(Match::ConnectionMark)
}

/// An action that sets bits of a mark.
pub(super) fn action(mangle: &Value) -> Option<Action> {
    for (of, action) in MARKS {
        if mangle["key"][of]["key"] != "mark" {
            continue;
        }
        let [kept, value] = operands(&mangle["value"], "|")?;
        let value = number(value)?;
        let (mark, kept) = match operands(kept, "&") {
            Some([mark, kept]) => (mark, number(kept)?),
            None => (kept, u32::MAX),
        };
        if mark[of]["key"] != "mark" {
            return None;
        }
        return Mark::new(value, !kept | value).map(action);
    }
    None
}

fn operands<'a>(value: &'a Value, operator: &str) -> Option<[&'a Value; 2]> {
    let [left, right] = value.get(operator)?.as_array()?.as_slice() else {
        return None;
    };
    Some([left, right])
}

fn number(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bits_that_are_kept_and_set_are_a_mark() {
        let ct = json!({"ct": {"key": "mark"}});
        let set = |value: Value| action(&json!({"key": ct, "value": value}));
        let mark = |value| Mark::new(value, 0x0f00_0000).map(Action::MarkConnection);
        let kept = |bits: u32, value: u32| json!({"|": [{"&": [ct, bits]}, value]});
        assert_eq!(set(kept(0xf1ff_ffff, 0x0100_0000)), mark(0x0100_0000));
        assert_eq!(set(kept(0xf0ff_ffff, 0x0100_0000)), mark(0x0100_0000));
        assert_eq!(set(json!({"|": [ct, 0x0f00_0000]})), mark(0x0f00_0000));
        // A whole mark, and bits of one mark in the other.
        assert_eq!(set(json!(7)), None);
        let other = json!({"|": [{"&": [{"meta": {"key": "mark"}}, 1]}, 2]});
        assert_eq!(set(other), None);
    }

    #[test]
    fn other_states_and_masks_are_not_managed() {
        let ct = |key: &str| json!({"ct": {"key": key}});
        let found = |op: &str, left: Value, right: Value| {
            connection(&json!({"op": op, "left": left, "right": right}))
        };
        assert_eq!(found("in", ct("state"), json!("new")), Some(Match::New));
        assert_eq!(found("in", ct("state"), json!(["new", "related"])), None);
        assert_eq!(found("!=", ct("state"), json!("new")), None);
        assert_eq!(found("==", ct("direction"), json!("reply")), Some(Match::Reply));
        assert_eq!(found("==", ct("direction"), json!("original")), None);
        let masked = |mask: u32| json!({"&": [ct("mark"), mask]});
        let mark = Mark::new(0x10, 0xf0).map(Match::ConnectionMark);
        assert_eq!(found("==", masked(0xf0), json!(0x10)), mark);
        assert_eq!(found("!=", masked(0xf0), json!(0x10)), None);
        assert_eq!(found("==", masked(0xf0), json!(0x01)), None);
        assert_eq!(found("==", ct("mark"), json!(0x10)), None);
    }
}
