//! Packets (protocol section "Packet encoding"), as the text after Engine.IO's `4` and with attachments in messages of their own.
//!
//! Arguments stay the text that they came as: it is checked to be JSON, but no tree is built of it.

use std::borrow::Cow;

use bytes::Bytes;
use serde::de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

use super::Namespace;

/// Attachments that an event may have. Each of them costs memory before it comes to anything.
const MAX_ATTACHMENTS: usize = 256;

/// Names that mean something to clients and servers themselves, and that no packet may use.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Connect,
    Disconnect,
    Event,
    Ack,
    ConnectError,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) packet_type: Type,
    /// How many binary messages follow that belong to it; only with an event or an acknowledgement.
    pub(super) attachments: usize,
    pub(super) namespace: &'a str,
    pub(super) id: Option<u64>,
    /// What follows, which should be JSON. Empty: nothing.
    pub(super) payload: &'a str,
}

impl<'a> Packet<'a> {
    /// Reads all but the payload. `None`: this is no packet.
    pub(super) fn parse(text: &'a str) -> Option<Packet<'a>> {
        let (packet_type, is_binary) = match text.as_bytes().first()? {
            b'0' => (Type::Connect, false),
            b'1' => (Type::Disconnect, false),
            b'2' => (Type::Event, false),
            b'3' => (Type::Ack, false),
            b'4' => (Type::ConnectError, false),
            b'5' => (Type::Event, true),
            b'6' => (Type::Ack, true),
            _ => return None,
        };
        let mut rest = &text[1..];
        let mut attachments = 0;
        if is_binary {
            let (digits, behind) = split_digits(rest);
            attachments = digits.parse().ok().filter(|count| (1..=MAX_ATTACHMENTS).contains(count))?;
            rest = behind.strip_prefix('-')?;
        }
        let mut namespace = "/";
        if rest.starts_with('/') {
            (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
        }
        let (digits, payload) = split_digits(rest);
        let id = if digits.is_empty() { None } else { Some(digits.parse().ok()?) };
        Some(Packet { packet_type, attachments, namespace, id, payload })
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// The payload of an event or an acknowledgement: an array, of which only the ends are looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Array<'a> {
    /// The text of the array.
    text: &'a str,
    /// The text of its first element.
    pub(super) first: Option<&'a str>,
}

impl<'a> Array<'a> {
    /// `None`: this is no array, or one whose placeholders stand for attachments that do not exist.
    pub(super) fn parse(payload: &'a str, attachments: usize) -> Option<Array<'a>> {
        let Elements(first) = serde_json::from_str(payload).ok()?;
        if attachments > 0 {
            let mut json = serde_json::Deserializer::from_str(payload);
            de::DeserializeSeed::deserialize(Placeholders { attachments }, &mut json).ok()?;
        }
        Some(Array { text: payload.trim(), first: first.map(RawValue::get) })
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

/// Writes a packet, with Engine.IO's `4` before it: `pieces` are what stands between the brackets, or all of the payload.
pub(super) fn encode<const N: usize>(
    packet_type: Type,
    namespace: Namespace,
    attachments: usize,
    id: Option<u64>,
    pieces: [&str; N],
) -> Bytes {
    // Type, count of attachments and id take 25 bytes at the most.
    let length = 32 + namespace.prefix().len() + pieces.iter().map(|piece| piece.len()).sum::<usize>();
    let mut text = String::with_capacity(length);
    let is_binary = attachments > 0;
    text.push_str(match packet_type {
        Type::Connect => "40",
        Type::Disconnect => "41",
        Type::Event if is_binary => "45",
        Type::Event => "42",
        Type::Ack if is_binary => "46",
        Type::Ack => "43",
        Type::ConnectError => "44",
    });
    if is_binary {
        push_number(&mut text, attachments as u64);
        text.push('-');
    }
    text.push_str(namespace.prefix());
    if let Some(id) = id {
        push_number(&mut text, id);
    }
    pieces.iter().for_each(|piece| text.push_str(piece));
    text.into()
}

fn push_number(text: &mut String, number: u64) {
    use std::fmt::Write as _;
    let _ = write!(text, "{number}");
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
    fn the_examples_of_the_protocol_are_read() {
        let packet = |packet_type, attachments, namespace, id, payload| {
            Some(Packet { packet_type, attachments, namespace, id, payload })
        };
        assert_eq!(Packet::parse("0"), packet(Type::Connect, 0, "/", None, ""));
        assert_eq!(Packet::parse("0/admin,{}"), packet(Type::Connect, 0, "/admin", None, "{}"));
        assert_eq!(Packet::parse("1/admin,"), packet(Type::Disconnect, 0, "/admin", None, ""));
        assert_eq!(Packet::parse("1/admin"), packet(Type::Disconnect, 0, "/admin", None, ""));
        assert_eq!(Packet::parse(r#"212["foo"]"#), packet(Type::Event, 0, "/", Some(12), r#"["foo"]"#));
        assert_eq!(Packet::parse(r#"52-/a,7["b"]"#), packet(Type::Event, 2, "/a", Some(7), r#"["b"]"#));
        assert_eq!(Packet::parse("61-15[1]"), packet(Type::Ack, 1, "/", Some(15), "[1]"));
    }

    #[test]
    fn what_is_no_packet_is_none() {
        for text in
            ["", "7", "abc", "é", "5[]", "5-[]", "50-[]", "5999-[]", "51[]", "299999999999999999999999[]"]
        {
            assert_eq!(Packet::parse(text), None, "{text}");
        }
    }

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
