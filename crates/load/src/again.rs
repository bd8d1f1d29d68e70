//! What a lost server costs those who come again: who was blind for how long, and which messages nobody could have had.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard};

use serde::Serialize;

use crate::recorder::{Times, count};
use crate::report::{Percentiles, grouped, kinds, readable};

/// What came of those who lost the server, with [`LoadPlan::reconnect`](crate::LoadPlan::reconnect). Times in nanoseconds.
///
/// A subscriber is **blind** from the moment at which its connection was found to be lost until it was subscribed again: until the answer 101 of a
/// WebSocket, the head of an event stream, the first answer to a poll, the join of a Socket.IO client. Several absences of a
/// subscriber add up. Who hears by UDP has no connection that could be lost: there it is the longest silence between two datagrams.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reconnect {
    /// How long was waited where the mechanism says nothing itself.
    pub delay_ns: u64,
    /// How subscribers lost their connections, by kind.
    pub disconnected: BTreeMap<String, u64>,
    /// Times that a subscriber tried to come again.
    pub attempts: u64,
    /// Those of them that failed, by kind. Of UDP: announcements that were refused.
    pub failed: BTreeMap<String, u64>,
    /// For how long each subscriber was blind that was so at all.
    pub blind_ns: Option<Percentiles>,
    /// Subscribers that were blind when the load ended; their time counts up to the end of the window.
    pub still_blind: u64,
    /// Deliveries of messages that had been published before the subscriber began to come again: the server had kept them.
    pub replayed: u64,
    /// How old those were.
    pub replayed_age_ns: Option<Percentiles>,
    /// Messages that were due while the publisher had no connection. They are not lost: nobody was told that they were taken.
    pub unpublished: u64,
    /// Messages that were sent, that the server did not answer before its connection was lost, and that nobody has heard. They are not lost either.
    pub unknown: u64,
}

/// What a worker counts of that.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) disconnected: BTreeMap<String, u64>,
    pub(crate) attempts: u64,
    pub(crate) failed: BTreeMap<String, u64>,
    pub(crate) blind: Times,
    pub(crate) still_blind: u64,
    pub(crate) replayed: Times,
    pub(crate) unpublished: u64,
}

impl Counts {
    pub(crate) fn new() -> Counts {
        Counts {
            disconnected: BTreeMap::new(),
            attempts: 0,
            failed: BTreeMap::new(),
            blind: Times::new(),
            still_blind: 0,
            replayed: Times::new(),
            unpublished: 0,
        }
    }

    /// Takes in what another worker counted.
    pub(crate) fn merge(&mut self, other: Counts) {
        self.attempts += other.attempts;
        self.still_blind += other.still_blind;
        self.unpublished += other.unpublished;
        self.blind.merge(&other.blind);
        self.replayed.merge(&other.replayed);
        for (ours, theirs) in [(&mut self.disconnected, other.disconnected), (&mut self.failed, other.failed)]
        {
            theirs.iter().for_each(|(kind, times)| count(ours, kind, *times));
        }
    }

    pub(crate) fn report(self, delay_ns: u64, unknown: u64) -> Reconnect {
        Reconnect {
            delay_ns,
            attempts: self.attempts,
            blind_ns: Percentiles::of(&self.blind),
            still_blind: self.still_blind,
            replayed: self.replayed.0.len(),
            replayed_age_ns: Percentiles::of(&self.replayed),
            unpublished: self.unpublished,
            unknown,
            disconnected: self.disconnected,
            failed: self.failed,
        }
    }
}

impl fmt::Display for Reconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |kinds: &BTreeMap<String, u64>| grouped(kinds.values().sum());
        if !self.disconnected.is_empty() {
            let (lost, how) = (sum(&self.disconnected), kinds(&self.disconnected));
            write!(f, "disconnected {lost}: {how}; {} attempts to come again", grouped(self.attempts))?;
            if !self.failed.is_empty() {
                write!(f, ", {} failed: {}", sum(&self.failed), kinds(&self.failed))?;
            }
            writeln!(f)?;
        }
        if let Some(Percentiles { p50, p99, max, .. }) = self.blind_ns {
            let [p50, p99, max] = [p50, p99, max].map(readable);
            write!(f, "blind        p50 {p50}   p99 {p99}   max {max}")?;
            match self.still_blind {
                0 => writeln!(f)?,
                blind => writeln!(f, "; {} did not come back", grouped(blind))?,
            }
        }
        if let Some(Percentiles { p50, max, .. }) = self.replayed_age_ns {
            let (replayed, p50, max) = (grouped(self.replayed), readable(p50), readable(max));
            writeln!(
                f,
                "replayed     {replayed} deliveries from the history, their age p50 {p50}   max {max}"
            )?;
        }
        let (unpublished, unknown) = (grouped(self.unpublished), grouped(self.unknown));
        writeln!(
            f,
            "not taken    {unpublished} could not be published, {unknown} were sent and never answered"
        )
    }
}

/// Which of the published messages the server has taken. Shared by all workers.
#[derive(Debug, Default)]
pub(crate) struct Account(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// Sent, not answered, and heard by nobody.
    unknown: BTreeSet<u64>,
    /// One more than the highest that was taken.
    next: u64,
    /// When each of them was sent, in ns since the load began: not when it was due.
    sent_ns: Vec<u64>,
}

impl Account {
    /// The next message is about to be sent. Returns its number.
    pub(crate) fn sent(&self, now_ns: u64) -> u64 {
        let mut entries = self.entries();
        let sequence = entries.sent_ns.len() as u64;
        entries.sent_ns.push(now_ns);
        entries.unknown.insert(sequence);
        sequence
    }

    /// Whether a message was on its way before that time.
    pub(crate) fn was_sent_before(&self, sequence: u64, ns: u64) -> bool {
        self.entries().sent_ns.get(sequence as usize).is_some_and(|sent_ns| *sent_ns < ns)
    }

    /// The server has said that it has it, or somebody has heard it.
    pub(crate) fn taken(&self, sequence: u64) {
        let mut entries = self.entries();
        entries.unknown.remove(&sequence);
        entries.next = entries.next.max(sequence + 1);
    }

    /// Those that may never have reached the server.
    pub(crate) fn unknown(&self) -> Vec<u64> {
        self.entries().unknown.iter().copied().collect()
    }

    /// One more than the highest that was taken.
    pub(crate) fn next(&self) -> u64 {
        self.entries().next
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_answered_or_heard_was_taken_and_the_rest_is_unknown() {
        let account = Account::default();
        assert_eq!([10, 20, 30, 40].map(|ns| account.sent(ns)), [0, 1, 2, 3]);
        account.taken(2);
        account.taken(0);
        account.taken(2);
        assert_eq!((account.unknown(), account.next()), (vec![1, 3], 3));
        assert!(account.was_sent_before(1, 21) && !account.was_sent_before(1, 20));
        assert!(!account.was_sent_before(4, u64::MAX), "nobody has sent it");
    }

    #[test]
    fn a_report_says_who_was_blind_and_what_came_of_it() {
        let mut counts = Counts::new();
        counts.disconnected.insert("closed".into(), 2);
        let mut other = Counts::new();
        other.disconnected.insert("closed".into(), 1);
        (other.attempts, other.still_blind, other.unpublished) = (5, 1, 7);
        other.failed.insert("connection refused".into(), 2);
        other.blind.record(1_000_000_000);
        other.replayed.record(3_000_000);
        counts.merge(other);
        let text = counts.report(1, 4).to_string();
        for line in [
            "disconnected 3: closed; 5 attempts to come again, 2 failed: connection refused\n",
            "blind        p50 1.00 s   p99 1.00 s   max 1.00 s; 1 did not come back\n",
            "replayed     1 deliveries from the history, their age p50 3.00 ms   max 3.00 ms\n",
            "not taken    7 could not be published, 4 were sent and never answered\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
