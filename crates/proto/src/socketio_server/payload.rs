//! Payloads. Arguments stay the text that they came as: it is checked to be JSON, but no tree is built of it.

use std::borrow::Cow;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::places;

/// Names that mean something to clients and servers themselves, and that no packet may use. What may be published is narrower still: `names.rs`.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// The payload of an event or an acknowledgement: an array, of which only the ends are looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Array<'a> {
    /// The text of the array.
    text: &'a str,
    /// The text of its first element.
    pub(super) first: Option<&'a str>,
}

/// Where an array's first element stands, if it has one.
pub(super) type Place = Option<Range<usize>>;

impl<'a> Array<'a> {
    /// `None`: this is no array, or one whose placeholders stand for attachments that do not exist.
    pub(super) fn parse(payload: &'a str, attachments: usize) -> Option<Array<'a>> {
        let Elements(first) = serde_json::from_str(payload).ok()?;
        // With attachments it may hold all that it may without, and places for them.
        let is_complete =
            attachments == 0 || places::all(payload).iter().all(|place| place.is_one_of(attachments));
        is_complete.then(|| Array { text: payload.trim(), first: first.map(RawValue::get) })
    }

    /// Where the first element stands in `payload`, of which this is the array: all that is needed to see it [again](Array::again).
    pub(super) fn place(&self, payload: &str) -> Place {
        self.first.map(|first| {
            let start = first.as_ptr() as usize - payload.as_ptr() as usize;
            start..start + first.len()
        })
    }

    /// An array that was parsed before.
    pub(super) fn again(payload: &'a str, place: &Place) -> Array<'a> {
        Array { text: payload.trim(), first: place.as_ref().and_then(|place| payload.get(place.clone())) }
    }

    /// The arguments as text, without the brackets; of an event without its name.
    pub(super) fn tail(&self) -> &'a str {
        let inner = &self.text[1..self.text.len() - 1];
        let Some(first) = self.first else { return "" };
        let behind = first.as_ptr() as usize + first.len() - inner.as_ptr() as usize;
        inner[behind..].trim_start().strip_prefix(',').unwrap_or_default()
    }

    /// All that stands between the brackets.
    pub(super) fn inner(&self) -> &'a str {
        &self.text[1..self.text.len() - 1]
    }

    /// The elements behind the first, each by itself.
    pub(super) fn arguments(&self) -> Vec<&'a RawValue> {
        let mut elements: Vec<&RawValue> = serde_json::from_str(self.text).unwrap_or_default();
        if !elements.is_empty() {
            elements.remove(0);
        }
        elements
    }

    /// The event that the first element names: a string that is not reserved, or a number, which has no name here. `None`: it is no event.
    pub(super) fn event_name(&self) -> Option<Option<Cow<'a, str>>> {
        let first = self.first?;
        if !first.starts_with('"') {
            return first.starts_with(|c: char| c == '-' || c.is_ascii_digit()).then_some(None);
        }
        let name = string(first);
        let is_reserved = name.as_ref().is_some_and(|name| RESERVED.contains(&&**name));
        (!is_reserved).then_some(name)
    }
}

/// A JSON string's value. `None` if this is something else, or half of a surrogate pair, which JavaScript lets pass.
pub(super) fn string(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(json).ok().map(Cow::Owned)
}

/// A string as JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}

/// Whether this is the text of a JSON object.
pub(super) fn is_object(json: &str) -> bool {
    json.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(json).is_ok()
}

/// The number of the attachment that this argument is nothing but a place for.
pub(super) fn placeholder(json: &str) -> Option<usize> {
    places::only(json).and_then(places::Place::index)
}

/// An array's first element; the others are only checked.
struct Elements<'a>(Option<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Elements<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Elements<'a>, D::Error> {
        struct First;

        impl<'de> Visitor<'de> for First {
            type Value = Option<&'de RawValue>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                let first = array.next_element()?;
                while let Some(IgnoredAny) = array.next_element()? {}
                Ok(first)
            }
        }

        deserializer.deserialize_seq(First).map(Elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_seen_by_its_ends() {
        let array = |text| Array::parse(text, 0).unwrap();
        assert_eq!(array(r#"["a",1,[2]]"#).tail(), "1,[2]");
        assert_eq!(array(r#" [ "a" , 1 ] "#).tail().trim(), "1");
        assert_eq!(array(r#"["a"]"#).tail(), "");
        assert_eq!(array("[]").tail(), "");
        assert_eq!(array("[1,2]").inner(), "1,2");
        assert_eq!(
            array(r#"["a",1,[2]]"#).arguments().iter().map(|raw| raw.get()).collect::<Vec<_>>(),
            ["1", "[2]"]
        );
        for text in ["", "{}", "[", "[1,]", "[1] 2", "1", "[\"\n\"]", "[nul]", "[01]"] {
            assert!(Array::parse(text, 0).is_none(), "{text}");
        }
        assert!(Array::parse(&"[".repeat(1 << 20), 0).is_none(), "depth costs no stack");
    }

    #[test]
    fn a_placeholder_needs_its_attachment() {
        let good = r#"["m",{"x":[{"_placeholder":true,"num":1}]},{"num":9},{"_placeholder":false,"num":9}]"#;
        assert!(Array::parse(good, 2).is_some());
        assert!(Array::parse(good, 1).is_none());
        assert!(Array::parse(r#"["m",{"_placeholder":true,"num":-1}]"#, 1).is_none());
        assert!(Array::parse(r#"["m",{"_placeholder":true}]"#, 1).is_none());
        assert!(Array::parse(&"[".repeat(1 << 20), 1).is_none());
        let deep = format!("[{}{}]", "[".repeat(1 << 18), "]".repeat(1 << 18));
        for fits in [r#"["m",1e999,"\ud800",{"_placeholder":true,"num":-0}]"#, &deep] {
            assert!(Array::parse(fits, 0).is_some() && Array::parse(fits, 1).is_some());
        }
    }

    #[test]
    fn a_name_is_a_string_that_is_not_reserved_or_a_number() {
        let name = |text| Array::parse(text, 0).unwrap().event_name();
        assert_eq!(name(r#"["mess\u0061ge"]"#), Some(Some("message".into())));
        assert_eq!(name("[5]"), Some(None));
        assert_eq!(name(r#"["\ud800"]"#), Some(None));
        for text in ["[]", "[null]", "[{}]", r#"["connect"]"#, r#"["disc\u006fnnect"]"#, r#"["newListener"]"#]
        {
            assert_eq!(name(text), None, "{text}");
        }
    }
}
