//! What follows from what a connection has heard: verified, counted, noted in its line.

use super::{Shared, Window};
use crate::line::{Line, Stage};
use crate::recorder::Recorder;
use crate::sequence::Arrival;
use crate::stamp::Stamp;
use crate::text;
use crate::trace::{Expected, Trace};
use crate::web::Heard;

/// How a connection ended.
pub(super) enum End {
    Refused(String),
    Failed(String),
}

/// One read's worth of messages.
pub(super) struct Receipt<'a> {
    pub(super) shared: &'a Shared,
    pub(super) recorder: &'a mut Recorder,
    pub(super) line: &'a mut Line,
    pub(super) workspace: &'a mut [u8],
    /// When they were read.
    pub(super) now: u64,
    pub(super) window: Option<Window>,
    pub(super) is_measured: bool,
    pub(super) is_counted: bool,
    /// Everybody has a published message now.
    pub(super) completed: bool,
    /// The connection has become one on which messages flow.
    pub(super) has_opened: bool,
    pub(super) end: Option<End>,
}

/// What a message was found to be.
enum Found {
    /// One that was waited for: its number, and from when it counts.
    Whole { number: u64, sent_ns: u64 },
    /// One that was waited for, and is not what was sent.
    Damaged { number: u64 },
    /// One of ours that nobody waits for.
    Surplus,
    /// Nobody has asked for it: a welcome, a tick, another's message.
    Unasked,
}

impl Receipt<'_> {
    /// Whether there is any sense in hearing more. What has come right behind the answer that opens a connection stays unread by those who do not
    /// read.
    pub(super) fn goes_on(&self) -> bool {
        self.end.is_none() && !(self.has_opened && self.shared.plan.is_slow(self.line.id))
    }

    /// Takes note of what has come.
    pub(super) fn hear(&mut self, heard: Heard<'_>) {
        match heard {
            Heard::Message(payload) => drop(self.message(payload)),
            Heard::Other => self.recorder.unasked += u64::from(self.is_counted),
            Heard::Answer { is_right } => self.answer(is_right),
            Heard::Open => {
                if let Stage::Upgrading(since) = self.line.stage {
                    let is_counted = !self.line.is_publisher && (!self.shared.plan.churn || self.is_measured);
                    if is_counted {
                        self.recorder.upgrade.record(self.now - since);
                    }
                    self.has_opened = true;
                }
                self.line.stage = Stage::Open;
            }
            Heard::Nothing => self.recorder.traffic.empty_answers += u64::from(self.is_measured),
            // What it has lost is counted by itself.
            Heard::Gap if self.shared.plan.reconnect.is_some() => {}
            Heard::Gap => self.recorder.error("the server no longer had all events (gap)"),
            Heard::Refused(answer) => self.end = Some(End::Refused(answer)),
            Heard::Failed(reason) => self.end = Some(End::Failed(reason)),
        }
    }

    /// Takes note of a message. `false`: there is nothing of a stamp in it, so that it need not even be one.
    pub(super) fn message(&mut self, payload: &[u8]) -> bool {
        if !self.is_counted {
            return true;
        }
        let (number, sent_ns) = match self.verify(payload) {
            Found::Whole { number, sent_ns } => (number, Some(sent_ns)),
            Found::Damaged { number } => (number, None),
            Found::Surplus => return true,
            Found::Unasked => return false,
        };
        let mechanism = self.shared.target.mechanism;
        if mechanism.is_broadcast() {
            // What the publisher may send next is decided by all receivers together.
            if let Some(sent_ns) = sent_ns.filter(|_| self.is_measured) {
                self.line.heard += 1;
                self.line.waited_ns += self.now.saturating_sub(sent_ns);
            }
            return true;
        }
        if let Some(sent_ns) = sent_ns {
            self.record_uncorrected(sent_ns.max(self.line.last_ns));
        }
        self.line.last_ns = self.now;
        let under_way = &mut self.line.under_way;
        if !mechanism.is_datagram() {
            // Another one was sent in the place of one that comes too late.
            let is_late = number < self.line.given_up;
            self.line.answered += u64::from(!is_late);
            self.recorder.late += u64::from(is_late);
        } else if let Some(place) = under_way.iter().position(|(sent, _)| *sent == number) {
            under_way.remove(place);
            self.line.answered += 1;
        } else {
            // It was given up before, and another was sent in its place.
            self.recorder.error("came after the timeout");
        }
        true
    }

    /// The answer to the oldest request: on a connection they come in the order in which was asked.
    fn answer(&mut self, is_right: bool) {
        let Some((number, sent_ns)) = self.line.under_way.pop_front() else {
            self.end = Some(End::Failed("an answer came without a request".into()));
            return;
        };
        if !self.is_counted {
            return;
        }
        self.recorder.seen += 1;
        self.line.sequence.arrived(number);
        self.line.answered += 1;
        let due_ns = sent_ns.max(self.line.last_ns);
        self.line.last_ns = self.now;
        if !is_right {
            self.recorder.corrupted += 1;
            return;
        }
        self.record_uncorrected(due_ns);
        self.recorder.longest_ns = self.recorder.longest_ns.max(self.now.saturating_sub(sent_ns));
        if self.is_measured {
            self.recorder.messages += 1;
            self.recorder.latency.record(self.now.saturating_sub(sent_ns));
        }
        self.recorder.in_flight_ns += self.within_window(sent_ns);
    }

    /// Verifies one message.
    fn verify(&mut self, payload: &[u8]) -> Found {
        let mechanism = self.shared.target.mechanism;
        // Everybody hears connection 0 in a broadcast, and only itself in an echo.
        let (sender, sent) = self.expected();
        let payload_bytes = self.shared.plan.payload_bytes;
        let is_text = self.shared.target.is_text();
        let (stamped, expected_bytes) = match is_text {
            true => (text::read(payload, payload_bytes, self.workspace), text::stamped_bytes(payload_bytes)),
            false => (payload, payload_bytes),
        };
        let sequence = &mut self.line.sequence;
        let stamp = Stamp::verify(stamped, expected_bytes, sequence.next(), self.now, self.shared.run)
            .filter(|stamp| stamp.connection == sender && stamp.sequence < sent);
        let Some(stamp) = stamp else { return self.unverified(payload) };
        self.recorder.seen += 1;
        match sequence.arrived(stamp.sequence) {
            Arrival::Duplicate => {
                self.recorder.duplicated += 1;
                return Found::Surplus;
            }
            Arrival::New { late } => self.recorder.reordered += u64::from(late),
        }
        let elapsed = self.now.saturating_sub(stamp.sent_ns);
        self.recorder.longest_ns = self.recorder.longest_ns.max(elapsed);
        if let Some(counts) = &mut self.recorder.again {
            if mechanism.is_datagram() {
                self.line.silence_ns = self.line.silence_ns.max(self.now - self.line.last_ns);
                self.line.last_ns = self.now;
            }
            let since_ns = self.line.since_ns;
            // What was due before may have been sent later.
            let is_older = self.line.has_come_again && stamp.sent_ns < since_ns;
            if is_older && self.shared.account.was_sent_before(stamp.sequence, since_ns) {
                counts.replayed.record(elapsed);
            }
        }
        if self.is_measured {
            self.recorder.messages += 1;
            self.recorder.latency.record(elapsed);
        }
        if !mechanism.is_broadcast() {
            self.recorder.in_flight_ns += self.within_window(stamp.sent_ns);
        }
        if mechanism.is_broadcast() {
            self.delivered(stamp.sequence, Some(stamp.sent_ns));
        }
        Found::Whole { number: stamp.sequence, sent_ns: stamp.sent_ns }
    }

    /// A receiver has a published message, whole if it is known when that was sent.
    fn delivered(&mut self, number: u64, sent_ns: Option<u64>) {
        let received = self.shared.board.received(number);
        if received.is_first && self.shared.plan.reconnect.is_some() {
            self.shared.account.taken(number);
        }
        self.completed |= received.is_last;
        let Some(sent_ns) = sent_ns else { return };
        let elapsed = self.now.saturating_sub(sent_ns);
        if received.is_first && self.is_measured {
            self.recorder.first_receiver.record(elapsed);
        }
        if received.is_last {
            self.recorder.in_flight_ns += self.within_window(sent_ns);
            if self.is_measured {
                self.recorder.last_receiver.record(elapsed);
            }
        }
    }

    /// Who sends what comes here, and how many messages it has sent.
    fn expected(&self) -> (u32, u64) {
        match self.shared.target.mechanism.is_broadcast() {
            true => (0, self.shared.board.published()),
            false => (self.line.id, self.line.sent),
        }
    }

    /// What a message was that is not as it was sent.
    #[cold]
    fn unverified(&mut self, payload: &[u8]) -> Found {
        let expected = self.trace_expected();
        let stamped = match self.shared.target.is_text() {
            true => text::salvage(payload, self.shared.plan.payload_bytes, self.workspace),
            false => payload,
        };
        let sequence = &mut self.line.sequence;
        let number = match expected.trace(stamped, sequence.open(expected.sent)) {
            Trace::None => {
                self.recorder.unasked += 1;
                return Found::Unasked;
            }
            Trace::Misplaced => None,
            Trace::Damaged(Some(number)) => {
                (sequence.arrived(number) != Arrival::Duplicate).then_some(number)
            }
            // A datagram may have been any.
            Trace::Damaged(None) if self.shared.target.mechanism.is_datagram() => None,
            // A connection keeps the order, so this was the next one.
            Trace::Damaged(None) => (sequence.next() < expected.sent).then(|| sequence.arrived_unreadable()),
        };
        self.recorder.seen += 1;
        self.recorder.corrupted += 1;
        let Some(number) = number else { return Found::Surplus };
        if self.shared.target.mechanism.is_broadcast() {
            self.delivered(number, None);
        }
        Found::Damaged { number }
    }

    /// What is known of the messages that may come now.
    pub(super) fn trace_expected(&self) -> Expected {
        let (connection, sent) = self.expected();
        let payload_bytes = self.shared.plan.payload_bytes;
        Expected {
            run: self.shared.run,
            payload_bytes: match self.shared.target.is_text() {
                true => text::stamped_bytes(payload_bytes),
                false => payload_bytes,
            },
            connection,
            sent,
            next: self.line.sequence.next(),
            now_ns: self.now,
        }
    }

    /// For how long of the window a message was under way that was sent at `sent_ns` and has come now.
    fn within_window(&self, sent_ns: u64) -> u64 {
        self.window.map_or(0, |window| window.overlap(sent_ns, self.now))
    }

    /// In an open loop, what a client would have measured that sends at `sent_ns`, because it waits for the answer to the message before.
    fn record_uncorrected(&mut self, sent_ns: u64) {
        if self.is_measured && self.shared.plan.rate_per_s.is_some() {
            self.recorder.uncorrected.record(self.now.saturating_sub(sent_ns));
        }
    }
}
