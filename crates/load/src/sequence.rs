//! What became of a sequence of numbered messages: which were lost, came twice, or came late.

/// The fate of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The first time it is seen; after some that were sent later, if `late`.
    New {
        /// One that was sent after it had come before it.
        late: bool,
    },
    /// It had come already.
    Duplicate,
}

/// Follows one sender's messages as one receiver gets them.
#[derive(Debug, Default)]
pub(crate) struct Sequence {
    /// One more than the highest that has come.
    next: u64,
    /// Those below `next` that have not come, in order. Empty as long as nothing goes wrong.
    missing: Vec<u64>,
}

impl Sequence {
    /// Takes note of a message.
    pub(crate) fn arrived(&mut self, sequence: u64) -> Arrival {
        if sequence >= self.next {
            self.missing.extend(self.next..sequence);
            self.next = sequence + 1;
            return Arrival::New { late: false };
        }
        match self.missing.binary_search(&sequence) {
            Ok(place) => {
                self.missing.remove(place);
                Arrival::New { late: true }
            }
            Err(_) => Arrival::Duplicate,
        }
    }

    /// The number that comes next if nothing goes wrong.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Takes note of a message that cannot be read, on a connection that keeps the order. Returns its number.
    pub(crate) fn arrived_unreadable(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Whether a message has not come.
    pub(crate) fn is_missing(&self, sequence: u64) -> bool {
        sequence >= self.next || self.missing.binary_search(&sequence).is_ok()
    }

    /// The numbers below `sent` that have not come.
    pub(crate) fn open(&self, sent: u64) -> impl Iterator<Item = u64> + Clone {
        self.missing.iter().copied().chain(self.next..sent)
    }

    /// How many of the numbers from `from` on and below `to` have not come.
    pub(crate) fn open_between(&self, from: u64, to: u64) -> u64 {
        let below = |number: u64| self.missing.partition_point(|missing| *missing < number);
        (below(to).saturating_sub(below(from))) as u64 + to.saturating_sub(self.next.max(from))
    }

    /// Messages that have not come, if `sent` were sent.
    pub(crate) fn lost(&self, sent: u64) -> u64 {
        self.missing.len() as u64 + sent.saturating_sub(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(arrivals: &[u64]) -> (Vec<Arrival>, Sequence) {
        let mut sequence = Sequence::default();
        (arrivals.iter().map(|number| sequence.arrived(*number)).collect(), sequence)
    }

    const FINE: Arrival = Arrival::New { late: false };
    const LATE: Arrival = Arrival::New { late: true };

    #[test]
    fn each_fate_has_its_name() {
        let (fates_seen, sequence) = fates(&[0, 1, 2, 3]);
        assert_eq!((fates_seen, sequence.lost(4)), (vec![FINE; 4], 0));
        let (fates_seen, sequence) = fates(&[0, 2, 3]);
        assert_eq!((fates_seen, sequence.lost(5)), (vec![FINE; 3], 2));
        assert_eq!(
            [0, 1, 2, 3, 4].map(|number| sequence.is_missing(number)),
            [false, true, false, false, true]
        );
        assert_eq!(sequence.open(6).collect::<Vec<_>>(), [1, 4, 5]);
        let between = |from, to| sequence.open_between(from, to);
        assert_eq!([between(0, 1), between(0, 2), between(2, 4), between(1, 6), between(5, 6)], [0, 1, 0, 3, 1]);
        assert_eq!([between(5, 2), between(2, 2)], [0, 0]);
        let (fates_seen, sequence) = fates(&[0, 2, 1, 3]);
        assert_eq!((fates_seen, sequence.lost(4)), (vec![FINE, FINE, LATE, FINE], 0));
        let (fates_seen, sequence) = fates(&[0, 1, 1, 2, 0]);
        let expected = vec![FINE, FINE, Arrival::Duplicate, FINE, Arrival::Duplicate];
        assert_eq!((fates_seen, sequence.lost(3)), (expected, 0));
    }
}
