//! How long a closed loop waits for a message before it sends another one in its place.
//!
//! The message may still come; then it is counted as late. Only what has not come at the end is lost.

use std::collections::VecDeque;
use std::time::Duration;

use super::Worker;
use crate::line::Stage;

/// A message that takes so many times as long as the slowest so far is waited for no longer, and none is waited for less long than this.
const TIMES_LONGEST: u64 = 10;
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// Marks in the time that is waited: what is given up was waited for longer by one step at the most.
const STEPS: u64 = 4;
const MOST_MARKS: usize = 8;

/// How many messages each connection had sent at some times. Nothing has to be noted for each message.
#[derive(Debug, Default)]
pub(super) struct Marks {
    marks: VecDeque<Mark>,
    next_ns: u64,
}

#[derive(Debug, Default)]
struct Mark {
    at_ns: u64,
    sent: Vec<u64>,
}

impl Marks {
    /// Takes out the youngest mark that is at least `patience_ns` old. What is older is of no use.
    fn take(&mut self, now_ns: u64, patience_ns: u64) -> Option<Mark> {
        let is_old = |mark: &Mark| now_ns.saturating_sub(mark.at_ns) >= patience_ns;
        let count = self.marks.iter().take_while(|mark| is_old(mark)).count();
        self.marks.drain(..count).next_back()
    }

    /// Sets a mark, in the memory of one that is used up, if it is time for one.
    fn set(&mut self, now_ns: u64, used: Option<Mark>, sent: impl Iterator<Item = u64>) {
        if self.marks.len() == MOST_MARKS {
            return;
        }
        let mut mark = used.unwrap_or_default();
        mark.at_ns = now_ns;
        mark.sent.clear();
        mark.sent.extend(sent);
        self.marks.push_back(mark);
    }
}

impl Worker {
    /// How long a message of a closed loop may take before another one is sent in its place. A server that is slow for all is not taken for one that loses
    /// messages.
    pub(super) fn message_patience_ns(&self) -> u64 {
        let most = self.shared.plan.patience();
        let least = LEAST_PATIENCE.min(most).as_nanos() as u64;
        match self.recorder.longest_ns {
            0 => most.as_nanos() as u64,
            longest_ns => longest_ns.saturating_mul(TIMES_LONGEST).max(least),
        }
    }

    /// Gives up what was waited for too long, and sends what may be sent in its place.
    pub(super) fn lose_patience(&mut self, now: u64) {
        let mechanism = self.shared.target.mechanism;
        let waits = mechanism.is_request() || self.shared.plan.rate_per_s.is_none();
        let is_over = self.is_judged || !self.has_begun;
        if is_over || !waits || mechanism.is_datagram() || mechanism.is_broadcast() || self.shared.plan.churn {
            return;
        }
        if now < self.marks.next_ns {
            return;
        }
        let patience_ns = self.message_patience_ns();
        self.marks.next_ns = now + patience_ns / STEPS;
        let mark = self.marks.take(now, patience_ns);
        if let Some(mark) = &mark {
            self.now = now;
            for (index, sent) in mark.sent.iter().enumerate() {
                if self.lines[index].stage == Stage::Open {
                    self.give_up_before(index, *sent, patience_ns);
                }
            }
        }
        self.marks.set(now, mark, self.lines.iter().map(|line| line.sent));
    }

    /// Gives up the messages below `number` that have not come.
    fn give_up_before(&mut self, index: usize, number: u64, patience_ns: u64) {
        let line = &mut self.lines[index];
        let count = line.sequence.open_between(line.given_up, number);
        line.given_up = line.given_up.max(number);
        if count == 0 {
            return;
        }
        line.answered += count;
        if self.shared.target.mechanism.is_request() {
            // Answers come in order: on this connection none will come any more.
            line.under_way.retain(|(sent, _)| *sent >= number);
            let kind = format!("no answer within {:?}", Duration::from_millis(patience_ns / 1_000_000));
            self.recorder.error(&kind);
            if !self.reopen_stuck(index) {
                self.gone(index, kind);
            }
        }
        self.refill(index);
        self.flush(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_youngest_mark_that_is_old_enough_counts() {
        let mut marks = Marks::default();
        for at in [0, 10, 20, 30] {
            marks.set(at, None, [at, at + 1].into_iter());
        }
        assert!(marks.take(19, 20).is_none());
        assert_eq!(marks.take(29, 20).unwrap().at_ns, 0);
        assert!(marks.take(29, 20).is_none());
        let mark = marks.take(45, 20).unwrap();
        assert_eq!((mark.at_ns, &mark.sent[..], marks.marks.len()), (20, &[20, 21][..], 1));
        marks.set(50, Some(mark), [7].into_iter());
        assert_eq!(marks.take(90, 20).unwrap().sent, [7]);
        for at in 0..100 {
            marks.set(at, None, std::iter::empty());
        }
        assert_eq!(marks.marks.len(), MOST_MARKS);
    }
}
