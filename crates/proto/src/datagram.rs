//! What a server without connections has to remember: who was heard from lately.

use std::hash::Hash;
use std::time::{Duration, Instant};

use indexmap::IndexMap;

/// How long a sender counts as present after its last datagram.
pub const PRESENCE: Duration = Duration::from_secs(30);

/// Senders remembered at once. Addresses can be forged, so the table is bounded; beyond it a new sender
/// takes the place of one of the others.
const MAX_SENDERS: usize = 1 << 16;

/// The senders heard from within [`PRESENCE`]: the subscribers of a datagram broadcast.
#[derive(Debug)]
pub struct RecentSenders<A> {
    heard: IndexMap<A, Instant>,
}

impl<A: Hash + Eq> Default for RecentSenders<A> {
    fn default() -> Self {
        RecentSenders { heard: IndexMap::new() }
    }
}

impl<A: Hash + Eq> RecentSenders<A> {
    /// Takes note of a datagram from `sender`; true when it was not present before.
    pub fn heard(&mut self, sender: A, now: Instant) -> bool {
        if self.heard.len() >= MAX_SENDERS && !self.heard.contains_key(&sender) {
            self.heard.swap_remove_index(0);
        }
        self.heard.insert(sender, now).is_none()
    }

    /// Everyone present at `now`; the others are forgotten.
    pub fn present(&mut self, now: Instant) -> impl ExactSizeIterator<Item = &A> {
        self.heard.retain(|_, heard| now.duration_since(*heard) <= PRESENCE);
        self.heard.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_present_for_thirty_seconds_after_its_last_datagram() {
        let start = Instant::now();
        let mut senders = RecentSenders::default();
        assert!(senders.heard("a", start));
        assert!(senders.heard("b", start));
        assert!(!senders.heard("b", start + Duration::from_secs(20)));
        assert_eq!(senders.present(start + PRESENCE).len(), 2);
        let later = start + PRESENCE + Duration::from_millis(1);
        assert_eq!(senders.present(later).collect::<Vec<_>>(), [&"b"]);
        assert!(senders.heard("a", later));
    }

    #[test]
    fn forged_addresses_do_not_fill_the_memory() {
        let start = Instant::now();
        let mut senders = RecentSenders::default();
        for sender in 0..2 * MAX_SENDERS {
            senders.heard(sender, start);
        }
        assert_eq!(senders.present(start).len(), MAX_SENDERS);
    }
}
