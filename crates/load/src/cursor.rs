//! Where a subscriber goes on: the last event that it has had, and the run of the server that numbered it.

use std::fmt;

/// `7`, or `7-19ac0f3b2d1`, as `since=` has it. Numbers begin again when the server does, and the epoch tells its runs apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) id: u64,
    /// When the server began, as it says so itself; `None` where it does not.
    pub(crate) epoch: Option<u64>,
}

impl Cursor {
    /// `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Cursor> {
        let (id, epoch) = text.split_once('-').map_or((text, None), |(id, epoch)| (id, Some(epoch)));
        let epoch = match epoch {
            Some(epoch) => Some(epoch_of(epoch)?),
            None => None,
        };
        Some(Cursor { id: id.parse().ok()?, epoch })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)?;
        self.epoch.map_or(Ok(()), |epoch| write!(f, "-{epoch:x}"))
    }
}

/// An epoch as it stands in an answer.
pub(crate) fn epoch_of(hexadecimal: &str) -> Option<u64> {
    u64::from_str_radix(hexadecimal, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_written_as_it_is_read() {
        for text in ["0", "7", "7-19ac0f3b2d1", "18446744073709551615-0"] {
            assert_eq!(Cursor::parse(text).map(|cursor| cursor.to_string()).as_deref(), Some(text));
        }
        for text in ["", "-", "7-", "-1", "x", "7-g", "7 "] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }
}
