//! Payloads. Arguments stay the text that they came as: it is checked to be JSON, but no tree is built of it.

use std::borrow::Cow;
use std::ops::Range;

use serde::de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

/// Names that mean something to clients and servers themselves, and that no packet may use.
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
        let first = match attachments {
            0 => serde_json::from_str(payload).map(|Elements(first)| first),
            attachments => {
                let mut json = serde_json::Deserializer::from_str(payload);
                let first = (&mut json).deserialize_seq(FirstAndPlaces(Placeholders { attachments }));
                first.and_then(|first| json.end().map(|()| first))
            }
        };
        Some(Array { text: payload.trim(), first: first.ok()?.map(RawValue::get) })
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
    #[derive(Deserialize)]
    struct Place {
        #[serde(rename = "_placeholder")]
        is_placeholder: bool,
        num: usize,
    }
    serde_json::from_str(json).ok().filter(|place: &Place| place.is_placeholder).map(|place| place.num)
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

/// An array's first element, and a look at all for places of attachments.
struct FirstAndPlaces(Placeholders);

impl<'de> Visitor<'de> for FirstAndPlaces {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let first: Option<&RawValue> = array.next_element()?;
        // As a rule it is the name of an event. In an acknowledgement it may be anything.
        if let Some(first) = first.filter(|first| first.get().starts_with(['{', '['])) {
            let mut json = serde_json::Deserializer::from_str(first.get());
            de::DeserializeSeed::deserialize(self.0, &mut json).map_err(A::Error::custom)?;
        }
        while array.next_element_seed(self.0)?.is_some() {}
        Ok(first)
    }
}

/// Walks through JSON and fails where a placeholder stands for an attachment that does not exist.
#[derive(Clone, Copy)]
struct Placeholders {
    attachments: usize,
}

/// What a placeholder's members can be, and all else.
enum Seen {
    True,
    Number(u64),
    Other,
}

impl<'de> de::DeserializeSeed<'de> for Placeholders {
    type Value = Seen;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Seen, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Placeholders {
    type Value = Seen;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JSON with places for {} attachments", self.attachments)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Seen, E> {
        Ok(if value { Seen::True } else { Seen::Other })
    }

    fn visit_u64<E>(self, value: u64) -> Result<Seen, E> {
        Ok(Seen::Number(value))
    }

    fn visit_i64<E>(self, _value: i64) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_f64<E>(self, _value: f64) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_str<E>(self, _value: &str) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_unit<E>(self) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Seen, A::Error> {
        while array.next_element_seed(self)?.is_some() {}
        Ok(Seen::Other)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut object: A) -> Result<Seen, A::Error> {
        #[derive(Deserialize)]
        enum Key {
            #[serde(rename = "_placeholder")]
            Placeholder,
            #[serde(rename = "num")]
            Number,
            #[serde(other)]
            Other,
        }
        let (mut is_placeholder, mut number) = (false, None);
        while let Some(key) = object.next_key()? {
            match (key, object.next_value_seed(self)?) {
                (Key::Placeholder, Seen::True) => is_placeholder = true,
                (Key::Number, Seen::Number(value)) => number = Some(value),
                _ => {}
            }
        }
        if is_placeholder && number.is_none_or(|number| number >= self.attachments as u64) {
            return Err(A::Error::custom("a place for an attachment that does not exist"));
        }
        Ok(Seen::Other)
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
        assert_eq!(placeholder(r#"{"_placeholder":true,"num":3}"#), Some(3));
        assert_eq!(placeholder("3"), None);
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
