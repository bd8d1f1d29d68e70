//! Where a client is in a topic: the last event that it has had, and which run of the server gave that its number.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Which run of a server it is: when it was started, in milliseconds since 1970 began. Numbers of events begin again with each run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch(NonZeroU64);

/// The last event that a client has had, written `7`, or `7-19ac0f3b2d1` with the epoch in hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The event's number; 0: none of the topic's.
    pub id: u64,
    /// Which run has given it, if that is known.
    pub epoch: Option<Epoch>,
}

/// What was to be a cursor is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("is the number of an event, or that and the epoch: 7 or 7-19ac0f3b2d1")]
pub struct NotACursor;

impl Epoch {
    /// The epoch of a server that was started so long after 1970 began; `None` within its first millisecond.
    pub fn starting_at(unix_time: Duration) -> Option<Epoch> {
        u64::try_from(unix_time.as_millis()).ok().and_then(NonZeroU64::new).map(Epoch)
    }
}

impl Cursor {
    /// The number of the event behind which this one goes on where `newest` is a topic's latest; `None`: another run has given it, so that it says nothing
    /// of this one's events. A number that is still to come was given by a server before this one, whatever its epoch says.
    pub(crate) fn within(self, epoch: Option<Epoch>, newest: u64) -> Option<u64> {
        let is_of_this_run = self.epoch.is_none() || self.epoch == epoch;
        (is_of_this_run && self.id <= newest).then_some(self.id)
    }
}

impl From<u64> for Cursor {
    /// A cursor of which nobody knows whose it is.
    fn from(id: u64) -> Cursor {
        Cursor { id, epoch: None }
    }
}

impl FromStr for Epoch {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Epoch, NotACursor> {
        let is_hexadecimal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let value = u64::from_str_radix(text, 16).ok().filter(|_| text.bytes().all(is_hexadecimal));
        value.and_then(NonZeroU64::new).map(Epoch).ok_or(NotACursor)
    }
}

impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Cursor, NotACursor> {
        let (id, epoch) = match text.split_once('-') {
            Some((id, epoch)) => (id, Some(epoch.parse()?)),
            None => (text, None),
        };
        let number = id.parse().ok().filter(|_| id.bytes().all(|byte| byte.is_ascii_digit()));
        number.map(|id| Cursor { id, epoch }).ok_or(NotACursor)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)?;
        self.epoch.map_or(Ok(()), |epoch| write!(f, "-{epoch}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(milliseconds: u64) -> Option<Epoch> {
        Epoch::starting_at(Duration::from_millis(milliseconds))
    }

    #[test]
    fn both_forms_are_read_as_they_are_written() {
        for (text, id, of) in [
            ("0", 0, None),
            ("7", 7, None),
            ("7-19ac0f3b2d1", 7, epoch(0x19a_c0f3_b2d1)),
            ("18446744073709551615-ffffffffffffffff", u64::MAX, epoch(u64::MAX)),
        ] {
            let cursor = Cursor { id, epoch: of };
            assert_eq!((text.parse(), cursor.to_string()), (Ok(cursor), text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_cursor_is_none() {
        for text in [
            "",
            "-",
            "x",
            "+7",
            "-7",
            " 7",
            "7 ",
            "7-",
            "7-0",
            "7-+1",
            "7-19AC",
            "7-g",
            "7-1-1",
            "7--1",
            "0x7",
            "18446744073709551616",
            "7-10000000000000000",
            "٧",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(NotACursor), "{text:?}");
        }
    }

    #[test]
    fn a_cursor_is_of_this_run_unless_it_cannot_be() {
        let (this, other) = (epoch(2), epoch(1));
        let within = |id, epoch, newest| Cursor { id, epoch }.within(this, newest);
        assert_eq!((within(3, this, 5), within(5, this, 5), within(0, this, 0)), (Some(3), Some(5), Some(0)));
        assert_eq!((within(3, None, 5), within(3, other, 5), within(0, other, 5)), (Some(3), None, None));
        assert_eq!((within(6, this, 5), within(6, None, 5), within(6, other, 5)), (None, None, None));
        // A server without a clock knows no run but its own.
        assert_eq!(Cursor { id: 3, epoch: this }.within(None, 5), None);
        assert_eq!(epoch(0), None);
    }
}
