//! Coming again: who has lost the server waits as its mechanism is used to, connects again, and goes on where it was if that is possible.
//!
//! | mechanism | waits | goes on |
//! |---|---|---|
//! | server-sent events | as the stream's `retry:` says | `Last-Event-ID` |
//! | long polls | [`LoadPlan::reconnect`](crate::LoadPlan::reconnect) | `since=CURSOR` |
//! | short polls | until the next poll is due | `since=CURSOR` |
//! | WebSocket | [`LoadPlan::reconnect`](crate::LoadPlan::reconnect) | `since=CURSOR` if it has `format=json`, else it cannot |
//! | Socket.IO | 1 s, and twice as long after each failure up to 5 s, each ± 50 %: the defaults of its client | it cannot |
//! | UDP | announces itself every [`LoadPlan::reconnect`](crate::LoadPlan::reconnect), server or not | it cannot |
//!
//! The publisher tries to connect every 10 ms, and what is due meanwhile is not published. All waits are kept to 5 ms.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::{Shared, Window, Worker};
use crate::again::Counts;
use crate::line::Stage;
use crate::recorder::count;
use crate::report::DATAGRAM_REFUSED;
use crate::schedule::Schedule;
use crate::target::Mechanism;

/// How often the publisher tries to connect while the server is away.
const PUBLISHER_DELAY: Duration = Duration::from_millis(10);

/// What socket.io-client waits before its first attempt, and at the most (`reconnectionDelay`, `reconnectionDelayMax`); each wait is up to half as long
/// again or less (`randomizationFactor`).
const SOCKETIO_DELAY: Duration = Duration::from_secs(1);
const SOCKETIO_MOST: Duration = Duration::from_secs(5);
const SOCKETIO_JITTER: f64 = 0.5;

/// Those of a worker's lines that come again.
pub(super) struct Again {
    /// How long to wait where the mechanism says nothing itself.
    delay: Duration,
    /// By the place of the line.
    absences: Vec<Absence>,
    /// When each of them is to try again, or to announce itself.
    due: BTreeSet<(u64, usize)>,
    /// Messages that were published and not answered, in order.
    sent: VecDeque<u64>,
    /// The server has taken at least one: it is one that takes them.
    has_published: bool,
}

/// What is known of a line that is not there, or was not.
#[derive(Debug, Default, Clone)]
struct Absence {
    /// Since when it has been blind, if it is.
    since_ns: Option<u64>,
    /// For how long it was blind before that.
    blind_ns: u64,
    /// Failures in a row.
    failures: u32,
    /// Where it goes on.
    cursor: Option<String>,
    /// How long the server has asked it to wait.
    retry: Option<Duration>,
}

impl Again {
    /// `None` if nobody comes again.
    pub(super) fn of(shared: &Shared) -> Option<Box<Again>> {
        let delay = shared.plan.reconnect?;
        let (absences, due, sent) = (Vec::new(), BTreeSet::new(), VecDeque::new());
        Some(Box::new(Again { delay, absences, due, sent, has_published: false }))
    }

    fn absence(&mut self, index: usize) -> &mut Absence {
        &mut self.absences[index]
    }

    /// A line `was_open` and is lost, or has failed to come again. Returns how long it waits before it tries again.
    fn wait(&mut self, mechanism: Mechanism, index: usize, was_open: bool) -> Duration {
        let absence = &mut self.absences[index];
        absence.failures = if was_open { 0 } else { absence.failures + 1 };
        match mechanism {
            Mechanism::Sse => absence.retry.unwrap_or(self.delay),
            mechanism if mechanism.is_socketio() => socketio_delay(absence.failures, fastrand::f64()),
            _ => self.delay,
        }
    }
}

/// `chance` from 0 to 1.
fn socketio_delay(failures: u32, chance: f64) -> Duration {
    // More doublings would change nothing.
    let doubled = SOCKETIO_DELAY * 2u32.pow(failures.min(8));
    doubled.mul_f64(1.0 + SOCKETIO_JITTER * (2.0 * chance - 1.0)).min(SOCKETIO_MOST)
}

impl Worker {
    /// Messages are about to flow: whoever is lost from now on comes again.
    pub(super) fn begin_again(&mut self, start_ns: u64) {
        let Some(again) = &mut self.again else { return };
        again.absences.resize(self.lines.len(), Absence::default());
        self.recorder.again = Some(Box::new(Counts::new()));
        if self.shared.target.mechanism.is_datagram() {
            // Not all at once, as nobody's clocks are set by each other.
            for (index, line) in self.lines.iter_mut().enumerate().filter(|(_, line)| !line.is_publisher) {
                line.last_ns = start_ns;
                let first = again.delay.mul_f64(fastrand::f64());
                again.due.insert((start_ns + first.as_nanos() as u64, index));
            }
        }
    }

    /// A line was lost, or has failed to come again. True: it will try again, and there is nothing else to be done about it.
    pub(super) fn has_lost(&mut self, index: usize, kind: &str) -> bool {
        let (Some(again), Some(counts)) = (&mut self.again, &mut self.recorder.again) else { return false };
        let line = &mut self.lines[index];
        let is_publisher = line.is_publisher;
        // Once all is judged nobody need come again, and who publishes has to have been welcome.
        if self.is_judged || is_publisher && !again.has_published {
            return false;
        }
        let now = self.shared.now_ns();
        let absence = again.absence(index);
        let (was_open, was_opening) = match line.stage {
            Stage::Open => (true, false),
            Stage::Connecting(_) | Stage::Upgrading(_) => (false, true),
            // What could not even be begun.
            Stage::Gone => (false, false),
            Stage::Closing => return false,
        };
        self.opening -= usize::from(was_opening);
        if was_open {
            absence.since_ns = Some(now);
        }
        absence.cursor = line.cursor().or(absence.cursor.take());
        absence.retry = line.retry().or(absence.retry);
        match is_publisher {
            // Whatever was not answered never will be.
            true => again.sent.clear(),
            false if was_open => count(&mut counts.disconnected, kind, 1),
            false => count(&mut counts.failed, kind, 1),
        }
        let wait = match is_publisher {
            true => PUBLISHER_DELAY,
            false => again.wait(self.shared.target.mechanism, index, was_open),
        };
        // A short poll comes when its turn has come.
        if self.polls.is_none() || is_publisher {
            again.due.insert((now + wait.as_nanos() as u64, index));
        }
        line.stage = Stage::Gone;
        line.hang_up(self.poll.registry());
        true
    }

    /// Opens again what is due, and announces who hears datagrams.
    pub(super) fn come_again(&mut self, now: u64) {
        while let Some(again) = &mut self.again
            && let Some(&(due, index)) = again.due.first()
            && due <= now
            && !self.is_judged
        {
            again.due.pop_first();
            if self.shared.target.mechanism.is_datagram() {
                self.lines[index].announce();
                again.due.insert((now + again.delay.as_nanos() as u64, index));
                continue;
            }
            self.open_again(index);
        }
    }

    /// The time has come at which a connection would poll. If it is lost, it comes again for that.
    pub(super) fn comes_in_turn(&mut self, index: usize) {
        let is_lost =
            |again: &Again| again.absences.get(index).is_some_and(|absence| absence.since_ns.is_some());
        if self.lines[index].stage == Stage::Gone && self.again.as_deref().is_some_and(is_lost) {
            self.open_again(index);
        }
    }

    fn open_again(&mut self, index: usize) {
        let Some(again) = &mut self.again else { return };
        let cursor = again.absence(index).cursor.clone();
        let line = &mut self.lines[index];
        line.has_come_again = true;
        if let Some(counts) = &mut self.recorder.again {
            counts.attempts += u64::from(!line.is_publisher);
        }
        self.open_at(index, cursor.as_deref());
    }

    /// Nobody was there to take a datagram.
    pub(super) fn datagram_refused(&mut self, index: usize) {
        match &mut self.recorder.again {
            Some(_) if self.lines[index].is_publisher => {}
            Some(counts) => count(&mut counts.failed, DATAGRAM_REFUSED, 1),
            None => self.recorder.error(DATAGRAM_REFUSED),
        }
    }

    /// A line is what it was before.
    pub(super) fn is_back(&mut self, index: usize) {
        let now = self.now;
        // Before messages flow there is nobody who could be back.
        let again = self.again.as_mut();
        let Some(absence) = again.and_then(|again| again.absences.get_mut(index)) else { return };
        if let Some(since_ns) = absence.since_ns.take() {
            absence.blind_ns += now - since_ns;
        }
    }

    /// The publisher has sent a message.
    pub(super) fn has_sent(&mut self) {
        if let Some(again) = &mut self.again {
            again.sent.push_back(self.shared.account.sent(self.now));
        }
    }

    /// The server has taken so many of the messages that were sent.
    pub(super) fn has_taken(&mut self, count: u64) {
        let Some(again) = &mut self.again else { return };
        again.has_published |= count > 0;
        for _ in 0..count {
            // More answers than messages are noticed elsewhere: no POST asked for them.
            let Some(number) = again.sent.pop_front() else { return };
            self.shared.account.taken(number);
        }
    }

    /// Passes over what is due while there is nobody to publish it.
    pub(super) fn pass_over(&mut self, schedule: &mut Schedule, now: u64) {
        let is_absent = self.again.is_some()
            && self.index == 0
            && self.lines.first().is_some_and(|line| line.is_publisher && line.stage != Stage::Open);
        while is_absent && let Some(due) = schedule.take(now) {
            let is_measured = self.window.is_some_and(|window| window.contains(due));
            if let Some(counts) = &mut self.recorder.again {
                counts.unpublished += u64::from(is_measured);
            }
        }
    }

    /// Whether somebody is still to come again, or to hear what was published last.
    pub(super) fn is_catching_up(&self) -> bool {
        let Some(again) = &self.again else { return false };
        let next = self.shared.account.next();
        let is_owed = |line: &crate::line::Line| !line.is_publisher && line.sequence.next() < next;
        let is_away = |absence: &Absence| absence.since_ns.is_some();
        !again.sent.is_empty() && !self.shared.target.mechanism.is_datagram()
            || again.absences.iter().any(is_away)
            || self.lines.iter().any(is_owed)
    }

    /// Counts for how long everybody was blind, and what they have lost. What the server may never have had was lost by nobody.
    pub(super) fn judge_again(&mut self, window: Window) {
        let (Some(again), Some(counts)) = (&mut self.again, &mut self.recorder.again) else { return };
        let (published, unknown) = (self.shared.board.published(), self.shared.account.unknown());
        let is_datagram = self.shared.target.mechanism.is_datagram();
        for (index, line) in self.lines.iter().enumerate().filter(|(_, line)| !line.is_publisher) {
            let absence = again.absence(index);
            if line.stage == Stage::Gone && absence.since_ns.is_none() {
                // It never was there.
                continue;
            }
            let never_sent =
                unknown.iter().filter(|&&number| line.sequence.is_missing(number)).count() as u64;
            let lost = line.sequence.lost(published) - never_sent;
            self.recorder.lost += lost;
            let (blind_ns, is_blind) = if is_datagram {
                let last_ns = window.close_ns.saturating_sub(line.last_ns);
                let is_last = last_ns > line.silence_ns && line.sequence.next() < self.shared.account.next();
                (line.silence_ns.max(if is_last { last_ns } else { 0 }), is_last)
            } else {
                let since = absence.since_ns.map(|since| window.close_ns.saturating_sub(since));
                (absence.blind_ns + since.unwrap_or(0), since.is_some())
            };
            if blind_ns > 0 {
                counts.blind.record(blind_ns);
            }
            counts.still_blind += u64::from(is_blind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socketio_waits_as_its_client_does() {
        let ms = |failures, chance| socketio_delay(failures, chance).as_millis();
        assert_eq!([ms(0, 0.0), ms(0, 0.5), ms(0, 1.0)], [500, 1000, 1500]);
        assert_eq!([ms(1, 0.0), ms(1, 1.0), ms(2, 0.0), ms(2, 1.0)], [1000, 3000, 2000, 5000]);
        assert_eq!([ms(3, 0.0), ms(100, 0.0), ms(100, 1.0)], [4000, 5000, 5000]);
    }

    #[test]
    fn each_mechanism_waits_as_it_is_used_to_and_a_failure_counts_before_the_next_wait() {
        let mut again = Again {
            delay: Duration::from_millis(7),
            absences: vec![Absence::default(); 2],
            due: BTreeSet::new(),
            sent: VecDeque::new(),
            has_published: false,
        };
        let mut ms = |mechanism, was_open| again.wait(mechanism, 0, was_open).as_millis();
        for _ in 0..2 {
            let room = Mechanism::SocketioBroadcast;
            assert!((500..=1500).contains(&ms(room, true)));
            assert!((1000..=3000).contains(&ms(room, false)));
            assert!((2000..=5000).contains(&ms(room, false)));
            assert!((4000..=5000).contains(&ms(room, false)));
        }
        assert_eq!([ms(Mechanism::Broadcast, true), ms(Mechanism::Longpoll, false)], [7, 7]);
        assert_eq!(ms(Mechanism::Sse, true), 7, "the stream has not said anything");
        again.absences[1].retry = Some(Duration::from_millis(1000));
        assert_eq!(again.wait(Mechanism::Sse, 1, true).as_millis(), 1000);
    }
}
