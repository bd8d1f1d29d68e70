//! What may be a topic, and what an event may be called: the one rule for every entrance.
//!
//! Requests carry [`TopicName`] and [`EventName`], and only the check makes one, also of bytes that come from another process. So an entrance
//! cannot forget the check, whatever it speaks. `docs/protocol.md` tells users the rule.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// Longest name of a topic or of an event, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// Event names that a client takes for its own, so that a published event of that name would mislead it.
///
/// Socket.IO's clients disconnect ("parse error") on the first six: socket.io-parser's `RESERVED_EVENTS`. An `EventSource` dispatches `open` and `error` itself
/// (WHATWG HTML, section 9.2), and this server says `gap` when a stream is not complete.
const RESERVED_EVENTS: [&str; 9] = [
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
    "open",
    "error",
    "gap",
];

/// The name of a topic: one line of 1 to [`MAX_NAME_BYTES`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Arc<str>);

/// The name of an event: one line of 1 to [`MAX_NAME_BYTES`] bytes, and not one that clients take for their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EventName(Box<str>);

/// Why something is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NameError {
    /// It is empty, too long, or has control characters.
    #[error(
        "the name of {0} has 1 to {MAX_NAME_BYTES} bytes, without line ends and other control characters"
    )]
    NotAName(&'static str),
    /// Clients take it for their own.
    #[error("an event cannot be called {0}: clients take that for their own; use another name")]
    Reserved(&'static str),
}

impl TopicName {
    /// The name, if it is one.
    pub fn new(name: &str) -> Result<TopicName, NameError> {
        check(name, "a topic").map(|()| TopicName(Arc::from(name)))
    }

    /// A name that the server itself has chosen.
    pub(crate) fn own(name: &str) -> TopicName {
        TopicName::new(name).expect("the server keeps to its own rule")
    }

    /// The name, shared with whoever holds it.
    pub fn shared(&self) -> &Arc<str> {
        &self.0
    }
}

impl EventName {
    /// The name, if it is one.
    pub fn new(name: &str) -> Result<EventName, NameError> {
        check(name, "an event")?;
        match RESERVED_EVENTS.into_iter().find(|reserved| *reserved == name) {
            Some(reserved) => Err(NameError::Reserved(reserved)),
            None => Ok(EventName(Box::from(name))),
        }
    }

    /// A name that the server itself has chosen.
    pub(crate) fn own(name: &str) -> EventName {
        EventName::new(name).expect("the server keeps to its own rule")
    }
}

fn check(name: &str, of: &'static str) -> Result<(), NameError> {
    let is_name = (1..=MAX_NAME_BYTES).contains(&name.len()) && is_one_line(name);
    if is_name { Ok(()) } else { Err(NameError::NotAName(of)) }
}

/// Whether `text` has no line end, whoever reads it, and no other control character.
pub(crate) fn is_one_line(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
}

/// What both names have in common: they are text for everybody, and are checked again where they arrive.
macro_rules! name {
    ($Name:ident) => {
        impl Deref for $Name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $Name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $Name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $Name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $Name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$Name, D::Error> {
                struct Text;

                impl de::Visitor<'_> for Text {
                    type Value = $Name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a name")
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$Name, E> {
                        $Name::new(text).map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(Text)
            }
        }
    };
}

name!(TopicName);
name!(EventName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_line_that_is_not_empty_and_not_too_long() {
        let longest = "é".repeat(127) + "x";
        for name in
            ["a", " ", "a b", "röom 🦀", "\"<&\\", "__proto__", "\u{feff}x", &longest, "Connect", "errors"]
        {
            assert_eq!(TopicName::new(name).as_deref(), Ok(name));
            assert_eq!(EventName::new(name).as_deref(), Ok(name));
        }
        let too_long = longest + "x";
        let controls = (0..0x20_u8).chain(0x7f..0xa0).map(|code| format!("a{}b", char::from(code)));
        let others = ["", "\u{2028}", "\u{2029}", &too_long].map(str::to_owned);
        for name in controls.chain(others) {
            assert_eq!(TopicName::new(&name), Err(NameError::NotAName("a topic")), "{name:?}");
            assert_eq!(EventName::new(&name), Err(NameError::NotAName("an event")), "{name:?}");
        }
    }

    #[test]
    fn an_event_is_not_called_what_clients_take_for_their_own() {
        for name in RESERVED_EVENTS {
            assert_eq!(EventName::new(name), Err(NameError::Reserved(name)));
            assert!(TopicName::new(name).is_ok());
        }
        // What everything is called that has no name, and what the sign-in and the chat are told by.
        for name in ["message", "confirmed", "expired", "chat message - server"] {
            assert!(EventName::new(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_name_from_another_process_is_checked_again() {
        let read = |json: &str| serde_json::from_str::<EventName>(json);
        assert_eq!(serde_json::to_string(&EventName::own("a\"b")).unwrap(), r#""a\"b""#);
        assert_eq!(&*read(r#""a\"b""#).unwrap(), "a\"b");
        assert!(read(r#""a\nb""#).is_err() && read(r#""gap""#).is_err() && read("1").is_err());
        assert!(serde_json::from_str::<TopicName>(r#""""#).is_err());
    }
}
