//! Which of the published messages everybody has.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Marks a message that was given up.
const GIVEN_UP: u32 = 1 << 31;

/// Which of the receivers of a message this was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) is_first: bool,
    pub(crate) is_last: bool,
}

/// A count of receivers for each message under way, shared by all workers.
pub(crate) struct Board {
    /// A ring: message `n` counts in slot `n % length`.
    slots: Box<[AtomicU32]>,
    receivers: AtomicU32,
    published: AtomicU64,
    /// Messages that everybody has, or that were given up.
    completed: AtomicU64,
}

impl Board {
    /// Room for `in_flight` messages at once.
    pub(crate) fn new(in_flight: usize) -> Board {
        Board {
            slots: (0..in_flight).map(|_| AtomicU32::new(0)).collect(),
            receivers: AtomicU32::new(0),
            published: AtomicU64::new(0),
            completed: AtomicU64::new(0),
        }
    }

    /// Messages that may be under way at once.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// How many receivers a message has. Set before the first is published.
    pub(crate) fn set_receivers(&self, receivers: u32) {
        self.receivers.store(receivers, Ordering::SeqCst);
    }

    /// A receiver that has gone is not waited for any longer.
    pub(crate) fn receiver_has_gone(&self) {
        self.receivers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether one more message may be under way.
    pub(crate) fn has_room(&self) -> bool {
        self.in_flight() < self.slots.len() as u64
    }

    /// Messages under way.
    pub(crate) fn in_flight(&self) -> u64 {
        self.published() - self.completed.load(Ordering::SeqCst)
    }

    /// Messages published so far.
    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::SeqCst)
    }

    /// Takes note of the next message, just before it is sent.
    pub(crate) fn publish(&self) {
        // Datagrams may complete in any order: whoever had the slot before is waited for no longer.
        if let Some(before) = self.published().checked_sub(self.slots.len() as u64) {
            self.give_up(before);
        }
        self.slot(self.published()).store(0, Ordering::SeqCst);
        self.published.fetch_add(1, Ordering::SeqCst);
    }

    /// One receiver has message `sequence`. One whose slot another has by now is waited for no longer.
    pub(crate) fn received(&self, sequence: u64) -> Received {
        if self.published().saturating_sub(sequence) > self.slots.len() as u64 {
            return Received { is_first: false, is_last: false };
        }
        let had = self.slot(sequence).fetch_add(1, Ordering::SeqCst);
        let is_last = had + 1 == self.receivers.load(Ordering::SeqCst);
        if is_last {
            self.completed.fetch_add(1, Ordering::SeqCst);
        }
        Received { is_first: had == 0, is_last }
    }

    /// Nobody waits for message `sequence` any longer. True: not everybody has it.
    pub(crate) fn give_up(&self, sequence: u64) -> bool {
        let had = self.slot(sequence).fetch_or(GIVEN_UP, Ordering::SeqCst);
        let is_incomplete = had & GIVEN_UP == 0 && had < self.receivers.load(Ordering::SeqCst);
        if is_incomplete {
            self.completed.fetch_add(1, Ordering::SeqCst);
        }
        is_incomplete
    }

    fn slot(&self, sequence: u64) -> &AtomicU32 {
        &self.slots[(sequence % self.slots.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_complete_when_the_last_receiver_has_it() {
        let board = Board::new(2);
        board.set_receivers(3);
        board.publish();
        board.publish();
        assert!(!board.has_room());
        assert_eq!(board.received(0), Received { is_first: true, is_last: false });
        assert_eq!(board.received(0), Received { is_first: false, is_last: false });
        assert_eq!(board.received(0), Received { is_first: false, is_last: true });
        assert_eq!(board.in_flight(), 1);
        assert!(!board.give_up(0));
        assert!(board.give_up(1));
        assert!(!board.give_up(1));
        assert!(!board.received(1).is_last);
        board.publish();
        // Of the message that had this slot before.
        assert_eq!(board.received(0), Received { is_first: false, is_last: false });
        assert!(board.received(2).is_first);
        assert_eq!(board.in_flight(), 1);
        board.give_up(2);
        assert_eq!((board.in_flight(), board.published()), (0, 3));
    }
}
