//! What follows from what a connection has heard: verified, counted, noted in its line.

use super::{Shared, Window};
use crate::line::{Line, Stage};
use crate::recorder::Recorder;
use crate::sequence::Arrival;
use crate::stamp::Stamp;
use crate::text;
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

/// A message that was waited for.
struct Message {
    number: u64,
    /// From when it counts.
    sent_ns: u64,
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
            Heard::Message(payload) => self.message(payload),
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

    fn message(&mut self, payload: &[u8]) {
        let Some(Message { number, sent_ns }) = self.verify(payload) else { return };
        let mechanism = self.shared.target.mechanism;
        if mechanism.is_broadcast() {
            // What the publisher may send next is decided by all receivers together.
            if self.is_measured {
                self.line.heard += 1;
                self.line.waited_ns += self.now.saturating_sub(sent_ns);
            }
            return;
        }
        self.record_uncorrected(sent_ns.max(self.line.last_ns));
        self.line.last_ns = self.now;
        let under_way = &mut self.line.under_way;
        if !mechanism.is_datagram() {
            self.line.answered += 1;
        } else if let Some(place) = under_way.iter().position(|(sent, _)| *sent == number) {
            under_way.remove(place);
            self.line.answered += 1;
        } else {
            // It was given up before, and another was sent in its place.
            self.recorder.error("came after the timeout");
        }
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
        self.record_uncorrected(sent_ns.max(self.line.last_ns));
        self.line.last_ns = self.now;
        if !is_right {
            self.recorder.corrupted += 1;
            return;
        }
        if self.is_measured {
            self.recorder.messages += 1;
            self.recorder.latency.record(self.now.saturating_sub(sent_ns));
        }
        self.recorder.in_flight_ns += self.within_window(sent_ns);
    }

    /// Verifies one message. The message, if it is one that was waited for.
    fn verify(&mut self, payload: &[u8]) -> Option<Message> {
        if !self.is_counted {
            return None;
        }
        self.recorder.seen += 1;
        let mechanism = self.shared.target.mechanism;
        // Everybody hears connection 0 in a broadcast, and only itself in an echo.
        let (sender, sent) = match mechanism.is_broadcast() {
            true => (0, self.shared.board.published()),
            false => (self.line.id, self.line.sent),
        };
        let payload_bytes = self.shared.plan.payload_bytes;
        let (payload, expected_bytes) = match self.shared.target.is_text() {
            true => (text::read(payload, payload_bytes, self.workspace), text::stamped_bytes(payload_bytes)),
            false => (payload, payload_bytes),
        };
        let sequence = &mut self.line.sequence;
        let stamp = Stamp::verify(payload, expected_bytes, sequence.next(), self.now)
            .filter(|stamp| stamp.connection == sender && stamp.sequence < sent);
        let Some(stamp) = stamp else {
            self.recorder.corrupted += 1;
            // A connection keeps the order, so this was the next one. A datagram may have been any.
            let number = || Message { number: sequence.arrived_unreadable(), sent_ns: self.now };
            return (!mechanism.is_datagram()).then(number);
        };
        match sequence.arrived(stamp.sequence) {
            Arrival::Duplicate => {
                self.recorder.duplicated += 1;
                return None;
            }
            Arrival::New { late } => self.recorder.reordered += u64::from(late),
        }
        let elapsed = self.now.saturating_sub(stamp.sent_ns);
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
            let received = self.shared.board.received(stamp.sequence);
            if received.is_first && self.shared.plan.reconnect.is_some() {
                self.shared.account.taken(stamp.sequence);
            }
            if received.is_first && self.is_measured {
                self.recorder.first_receiver.record(elapsed);
            }
            if received.is_last {
                self.completed = true;
                self.recorder.in_flight_ns += self.within_window(stamp.sent_ns);
                if self.is_measured {
                    self.recorder.last_receiver.record(elapsed);
                }
            }
        }
        Some(Message { number: stamp.sequence, sent_ns: stamp.sent_ns })
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
