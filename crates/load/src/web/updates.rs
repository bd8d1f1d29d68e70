//! What a poll is answered with: `{"topic":"T","newest":7,"events":[{"id":7,"event":"message","data":"…"}]}`.

use std::borrow::Cow;

use serde::Deserialize;
use switchboard_proto::Cursor;

#[derive(Deserialize)]
struct Updates<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    newest: u64,
    /// The run of the server, where it says so.
    #[serde(borrow, default)]
    epoch: Option<Text<'a>>,
    /// Left out or empty: nothing is new.
    #[serde(borrow, default)]
    events: Vec<Event<'a>>,
}

/// One event of an answer.
#[derive(Deserialize)]
pub(super) struct Event<'a> {
    pub(super) id: u64,
    #[serde(borrow, default)]
    data: Option<Text<'a>>,
    #[serde(borrow, default)]
    base64: Option<Text<'a>>,
}

/// In a type of its own, since text in an option would be copied (<https://serde.rs/lifetimes.html>).
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// What an event carries.
pub(super) enum Data<'a> {
    Text(&'a str),
    Base64(&'a str),
    None,
}

impl Event<'_> {
    pub(super) fn data(&self) -> Data<'_> {
        match (&self.data, &self.base64) {
            (Some(text), _) => Data::Text(&text.0),
            (None, Some(text)) => Data::Base64(&text.0),
            (None, None) => Data::None,
        }
    }
}

/// Hands each event to `see` and returns the newest of the topic.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn read(json: &[u8], topic: &str, mut see: impl FnMut(&Event<'_>)) -> Result<Cursor, String> {
    let updates: Updates<'_> = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    // A name that had to be encoded in the URL is not decoded only to be compared.
    if !topic.is_empty() && !topic.contains(['%', '+']) && updates.topic != topic {
        return Err(format!("its topic is {:?}", updates.topic));
    }
    updates.events.iter().for_each(&mut see);
    let epoch = updates.epoch.and_then(|epoch| epoch.0.parse().ok());
    Ok(Cursor { id: updates.newest, epoch })
}

/// Hands an event that stands by itself to `see`.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn read_event(json: &[u8], see: impl FnOnce(&Event<'_>)) -> Result<(), String> {
    serde_json::from_slice(json).map(|event: Event<'_>| see(&event)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(json: &str) -> Result<(u64, Vec<String>), String> {
        let mut events = Vec::new();
        let newest = read(json.as_bytes(), "T", |event| {
            events.push(match event.data() {
                Data::Text(text) => format!("{} {text}", event.id),
                Data::Base64(text) => format!("{} base64 {text}", event.id),
                Data::None => event.id.to_string(),
            });
        })?;
        Ok((newest.id, events))
    }

    #[test]
    fn what_is_news_is_read_and_what_is_not_is_told() {
        let all = r#"{"topic":"T","newest":9,"events":[{"id":7,"event":"message","data":"a\"b"},
            {"id":8,"event":"x","base64":"/w=="},{"id":9}],"more":1}"#;
        let events = ["7 a\"b", "8 base64 /w==", "9"].map(str::to_owned).to_vec();
        assert_eq!(news(all), Ok((9, events)));
        assert_eq!(news(r#"{"topic":"T","newest":7}"#), Ok((7, vec![])));
        for (json, word) in [
            (r#"{"topic":"U","newest":7}"#, "its topic is \"U\""),
            (r#"{"topic":"T"}"#, "missing field `newest`"),
            (r#"{"topic":"T","newest":7"#, "EOF"),
            ("<html>", "expected value"),
        ] {
            let error = news(json).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
