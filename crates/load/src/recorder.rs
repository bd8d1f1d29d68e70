//! What one worker counts. Nothing here allocates once it is made, but for kinds of errors.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::again::Counts;
use crate::printable;

/// Longest time that is told apart, in ns: a hundred days, which is longer than any load lasts. What a histogram needs grows with the logarithm.
const LONGEST_NS: u64 = 100 * 24 * 3600 * 1_000_000_000;

/// Kinds of errors or refusals that are counted apart, and the longest text of one in bytes: both are a server's to choose.
const MOST_KINDS: usize = 100;
const LONGEST_KIND: usize = 300;

/// What all further kinds are counted as.
const OTHER_KINDS: &str = "others";

/// Slices of the window in which messages are counted apart, to see whether the rate was steady.
pub(crate) const SLICES: usize = 20;

/// Counts and times.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// Received within the window, and right.
    pub(crate) messages: u64,
    /// The same, in equal slices of the window.
    pub(crate) slices: [u64; SLICES],
    /// For how much of the window messages were under way, added up; of a broadcast until the last receiver had them.
    /// Those that were sent before the window or came back after it count with their part in it.
    pub(crate) in_flight_ns: u64,
    /// Messages of an open loop that were due in the window, and those of them that were sent in it.
    pub(crate) due: u64,
    pub(crate) sent: u64,
    /// Received at any time: for the progress bar, and for whoever counts what a server did in its whole life.
    pub(crate) seen: u64,
    /// Published within the window.
    pub(crate) published: u64,
    /// What went to and fro within the window: of those who hear or say messages, and of the one who publishes.
    pub(crate) traffic: Traffic,
    pub(crate) publisher: Traffic,
    /// Polls that the clock asked for within the window, and those of them that were left out because the answer to the one before was still on
    /// its way.
    pub(crate) polls_due: u64,
    pub(crate) polls_skipped: u64,
    /// What came of those who lost the server, if they come again.
    pub(crate) again: Option<Box<Counts>>,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) corrupted: u64,
    /// What has come without any stamp of this run.
    pub(crate) unasked: u64,
    /// Messages that came after others were sent in their place.
    pub(crate) late: u64,
    /// Connections that the server closed in order between two answers, and that were opened again.
    pub(crate) reopened: u64,
    /// The longest time for which a message was under way, within the window or not.
    pub(crate) longest_ns: u64,
    pub(crate) connected: u64,
    pub(crate) refused: BTreeMap<String, u64>,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) latency: Times,
    /// Latency as a client sees it that waits when the server does: from the time at which a message was due or, if that is later, the
    /// receipt of the one before it on the same connection.
    pub(crate) uncorrected: Times,
    /// How long after it was due a message was sent.
    pub(crate) lateness: Times,
    pub(crate) first_receiver: Times,
    pub(crate) last_receiver: Times,
    pub(crate) fairness: Fairness,
    /// Receivers that do not read and that the server has closed.
    pub(crate) slow_closed: u64,
    pub(crate) connect: Times,
    pub(crate) upgrade: Times,
}

/// Requests and bytes of some connections. Bytes are those of the connections, with heads of HTTP and of frames but without those of TCP and IP; of
/// datagrams those that they carry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // The names are the documentation: they are the JSON's keys.
pub struct Traffic {
    /// Those whose answers have begun.
    pub requests: u64,
    /// Those of them that brought nothing.
    pub empty_answers: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
}

impl Traffic {
    pub(crate) fn add(&mut self, other: Traffic) {
        self.requests += other.requests;
        self.empty_answers += other.empty_answers;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
    }
}

/// Jain's index (Jain, Chiu and Hawe 1984) of what several receivers got: 1 if all got the same, 1/n if one got all.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fairness {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Fairness {
    /// Takes note of one receiver's share.
    pub(crate) fn add(&mut self, share: f64) {
        self.merge(Fairness { count: 1.0, sum: share, squares: share * share });
    }

    fn merge(&mut self, other: Fairness) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// `None` if nobody got anything.
    pub(crate) fn index(&self) -> Option<f64> {
        (self.squares > 0.0).then(|| self.sum * self.sum / (self.count * self.squares))
    }
}

/// A histogram of times in ns, of fixed size, exact to three digits.
#[derive(Debug)]
pub(crate) struct Times(pub(crate) Histogram<u64>);

impl Times {
    pub(crate) fn new() -> Times {
        Times(Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are in order"))
    }

    /// Takes in what another has recorded.
    pub(crate) fn merge(&mut self, other: &Times) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// Records a time.
    pub(crate) fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }
}

impl Recorder {
    pub(crate) fn new() -> Recorder {
        Recorder {
            messages: 0,
            slices: [0; SLICES],
            in_flight_ns: 0,
            due: 0,
            sent: 0,
            seen: 0,
            published: 0,
            traffic: Traffic::default(),
            publisher: Traffic::default(),
            polls_due: 0,
            polls_skipped: 0,
            again: None,
            lost: 0,
            duplicated: 0,
            reordered: 0,
            corrupted: 0,
            unasked: 0,
            late: 0,
            reopened: 0,
            longest_ns: 0,
            connected: 0,
            refused: BTreeMap::new(),
            errors: BTreeMap::new(),
            latency: Times::new(),
            uncorrected: Times::new(),
            lateness: Times::new(),
            first_receiver: Times::new(),
            last_receiver: Times::new(),
            fairness: Fairness::default(),
            slow_closed: 0,
            connect: Times::new(),
            upgrade: Times::new(),
        }
    }

    pub(crate) fn error(&mut self, kind: impl AsRef<str>) {
        count(&mut self.errors, kind.as_ref(), 1);
    }

    pub(crate) fn refusal(&mut self, kind: impl AsRef<str>) {
        count(&mut self.refused, kind.as_ref(), 1);
    }

    /// Takes in what another worker counted.
    pub(crate) fn merge(&mut self, other: Recorder) {
        self.messages += other.messages;
        self.slices.iter_mut().zip(other.slices).for_each(|(ours, theirs)| *ours += theirs);
        self.in_flight_ns += other.in_flight_ns;
        self.due += other.due;
        self.sent += other.sent;
        self.seen += other.seen;
        self.published += other.published;
        self.traffic.add(other.traffic);
        self.publisher.add(other.publisher);
        self.polls_due += other.polls_due;
        self.polls_skipped += other.polls_skipped;
        match (&mut self.again, other.again) {
            (Some(ours), Some(theirs)) => ours.merge(*theirs),
            (ours, theirs) => *ours = ours.take().or(theirs),
        }
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupted += other.corrupted;
        self.unasked += other.unasked;
        self.late += other.late;
        self.reopened += other.reopened;
        self.longest_ns = self.longest_ns.max(other.longest_ns);
        self.connected += other.connected;
        self.slow_closed += other.slow_closed;
        self.fairness.merge(other.fairness);
        for (ours, theirs) in [(&mut self.refused, other.refused), (&mut self.errors, other.errors)] {
            theirs.iter().for_each(|(kind, times)| count(ours, kind, *times));
        }
        for (ours, theirs) in [
            (&mut self.latency, other.latency),
            (&mut self.uncorrected, other.uncorrected),
            (&mut self.lateness, other.lateness),
            (&mut self.first_receiver, other.first_receiver),
            (&mut self.last_receiver, other.last_receiver),
            (&mut self.connect, other.connect),
            (&mut self.upgrade, other.upgrade),
        ] {
            ours.merge(&theirs);
        }
    }
}

/// Counts what happened by its kind. A kind may hold a server's words: they are made safe to print, and neither their length nor their variety is the
/// server's to choose.
pub(crate) fn count(kinds: &mut BTreeMap<String, u64>, kind: &str, times: u64) {
    let kind = printable(kind);
    let end = kind.char_indices().map(|(at, letter)| at + letter.len_utf8()).take_while(|end| *end <= LONGEST_KIND);
    let kind = &kind[..end.last().unwrap_or(0)];
    if let Some(before) = kinds.get_mut(kind) {
        *before += times;
    } else if kinds.len() < MOST_KINDS {
        kinds.insert(kind.to_owned(), times);
    } else {
        *kinds.entry(OTHER_KINDS.to_owned()).or_default() += times;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_over_a_minute_is_told_as_it_was() {
        let mut times = Times::new();
        let ninety_seconds = 90_000_000_000;
        times.record(ninety_seconds);
        assert!(times.0.max().abs_diff(ninety_seconds) < ninety_seconds / 1000, "{}", times.0.max());
        let month = 30 * 24 * 3600 * 1_000_000_000;
        times.record(month);
        assert!(times.0.max().abs_diff(month) < month / 1000, "{}", times.0.max());
    }

    #[test]
    fn a_servers_words_are_neither_long_nor_many() {
        let mut kinds = BTreeMap::new();
        for number in 0..1000 {
            count(&mut kinds, &format!("{number} {}", "\u{1b}é".repeat(200)), 2);
        }
        assert_eq!((kinds.len(), kinds["others"], kinds.values().sum::<u64>()), (101, 1800, 2000));
        assert!(kinds.keys().all(|kind| kind.len() <= LONGEST_KIND && !kind.contains('\u{1b}')));
    }

    #[test]
    fn who_gets_the_same_is_treated_fairly() {
        let index = |shares: &[f64]| {
            let mut fairness = Fairness::default();
            shares.iter().for_each(|share| fairness.add(*share));
            fairness.index()
        };
        assert_eq!(index(&[]), None);
        assert_eq!(index(&[3.0; 5]), Some(1.0));
        assert_eq!(index(&[8.0, 0.0, 0.0, 0.0]), Some(0.25));
    }
}
