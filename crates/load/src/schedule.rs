//! When messages are due in an open loop: evenly, whatever comes back.

/// Due times in ns since the load began, one after the other.
#[derive(Debug)]
pub(crate) struct Schedule {
    start_ns: u64,
    rate_per_s: f64,
    /// Messages that were due already.
    sent: u64,
}

impl Schedule {
    pub(crate) fn new(start_ns: u64, rate_per_s: f64) -> Schedule {
        Schedule { start_ns, rate_per_s, sent: 0 }
    }

    /// Messages due from `open_ns` on and before `close_ns`, sent or not.
    pub(crate) fn due_between(&self, open_ns: u64, close_ns: u64) -> u64 {
        // The first message that is not due before `ns`; rounding may be one off either way.
        let first_from = |ns: u64| {
            let guess = (ns.saturating_sub(self.start_ns) as f64 * self.rate_per_s / 1e9) as u64;
            (guess.saturating_sub(1)..).find(|&number| self.due_ns(number) >= ns).unwrap_or(guess)
        };
        first_from(close_ns) - first_from(open_ns)
    }

    fn due_ns(&self, number: u64) -> u64 {
        self.start_ns + (number as f64 * 1e9 / self.rate_per_s) as u64
    }

    /// When the next message is due. Computed from the start each time, so that no rounding adds up.
    pub(crate) fn next_ns(&self) -> u64 {
        self.due_ns(self.sent)
    }

    /// The next message's due time, if that has come.
    pub(crate) fn take(&mut self, now_ns: u64) -> Option<u64> {
        let due = self.next_ns();
        (due <= now_ns).then(|| {
            self.sent += 1;
            due
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_look_finds_every_message_with_its_own_time() {
        let mut schedule = Schedule::new(1_000, 1e6);
        assert_eq!(schedule.take(999), None);
        assert_eq!(schedule.take(1_000), Some(1_000));
        assert_eq!(schedule.take(1_000), None);
        // A stall of 5 µs: the five messages that it kept back are due when they were due.
        let due: Vec<u64> = std::iter::from_fn(|| schedule.take(6_000)).collect();
        assert_eq!(due, [2_000, 3_000, 4_000, 5_000, 6_000]);
    }

    #[test]
    fn what_is_due_in_a_window_is_what_would_be_taken_in_it() {
        for rate in [1.0, 3.0, 999.9, 1e6, 1e9] {
            let (open, close) = (5_000_000, 5_700_000);
            let mut schedule = Schedule::new(1_000, rate);
            let due = schedule.due_between(open, close);
            let taken = std::iter::from_fn(|| schedule.take(close - 1));
            assert_eq!(due, taken.filter(|&due| due >= open).count() as u64, "{rate}");
        }
    }

    #[test]
    fn rounding_does_not_add_up() {
        let mut schedule = Schedule::new(0, 3.0);
        let last = std::iter::from_fn(|| schedule.take(1_000_000_000_000)).last();
        assert_eq!(last, Some(1_000_000_000_000));
    }
}
