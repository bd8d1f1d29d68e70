//! What comes back: taken apart, verified, counted.

use std::io::ErrorKind;
use std::sync::atomic::Ordering;

use switchboard_proto::ClientEvent;

use super::{Shared, Window, Worker};
use crate::connect;
use crate::line::{Line, Stage, Transport};
use crate::recorder::Recorder;
use crate::sequence::{Arrival, Sequence};
use crate::stamp::Stamp;

/// Reads from one connection before it is the others' turn.
const READS_PER_TURN: usize = 16;

/// How a connection ended.
enum End {
    Refused(String),
    Failed(String),
}

impl Worker {
    /// Reads what there is, verifies it, and sends what may be sent in its place.
    pub(super) fn read(&mut self, index: usize) {
        let is_datagram = self.shared.target.mechanism.is_datagram();
        if self.shared.plan.is_slow(self.lines[index].id) && self.lines[index].stage == Stage::Open {
            return self.drain(index);
        }
        // Taken out, so that what is read can be looked at while the rest of the worker changes.
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut reads = 0;
        while self.lines[index].stage != Stage::Gone {
            if reads == READS_PER_TURN {
                self.unread.push(index);
                break;
            }
            reads += 1;
            match self.lines[index].read(&mut scratch) {
                Ok(0) if !is_datagram => self.gone(index, "closed".into()),
                Ok(n) => {
                    self.received(index, &mut scratch[..n]);
                    // A connection that is being closed may end right behind its last bytes, of which nothing more would tell.
                    let is_closing = self.lines[index].stage == Stage::Closing;
                    if n < scratch.len() && !is_datagram && !is_closing {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Somebody's closed port refused a datagram: that says nothing about the next one.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused && is_datagram => {
                    self.recorder.error("datagram refused");
                }
                Err(error) => self.gone(index, connect::kind(&error)),
            }
        }
        self.scratch = scratch;
        self.refill(index);
        self.flush(index);
    }

    /// A receiver that does not read. Only when all is over what it has missed is looked at, to see whether the server has closed it.
    fn drain(&mut self, index: usize) {
        if !self.is_judged {
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let is_closed = loop {
            match self.lines[index].read(&mut scratch) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break true,
            }
        };
        self.scratch = scratch;
        if is_closed {
            self.recorder.slow_closed += 1;
            self.end(index);
        }
    }

    /// Whether a receiver that does not read is still open.
    pub(super) fn has_slow(&self) -> bool {
        let plan = &self.shared.plan;
        plan.slow > 0 && self.lines.iter().any(|line| line.stage == Stage::Open && plan.is_slow(line.id))
    }

    /// Looks at all receivers that do not read.
    pub(super) fn drain_slow(&mut self) {
        for index in 0..self.lines.len() {
            if self.lines[index].stage == Stage::Open && self.shared.plan.is_slow(self.lines[index].id) {
                self.drain(index);
            }
        }
    }

    /// Takes what was read apart into messages.
    fn received(&mut self, index: usize, bytes: &mut [u8]) {
        let now = self.shared.now_ns();
        self.now = now;
        let slice = self.window.filter(|window| window.contains(now)).map(|window| window.slice(now));
        let is_measured = slice.is_some();
        self.recorder.bytes_received += if is_measured { bytes.len() as u64 } else { 0 };
        let counted_before = self.recorder.messages;
        let is_counted = !self.is_judged;
        let mut receipt = Receipt {
            shared: &self.shared,
            recorder: &mut self.recorder,
            now,
            window: self.window,
            is_measured,
            is_counted,
            completed: false,
        };
        let payload_bytes = receipt.shared.plan.payload_bytes;
        let Line {
            id, stage, transport, sequence, answered, under_way, sent, last_ns, heard, waited_ns, ..
        } = &mut self.lines[index];
        let mut end = None;
        let mut is_upgraded = false;
        let answered_before = *answered;
        let mut message = |receipt: &mut Receipt<'_>, payload: &[u8]| {
            let Some(Message { number, sent_ns }) = receipt.message(*id, *sent, sequence, payload) else {
                return;
            };
            let mechanism = receipt.shared.target.mechanism;
            if mechanism.is_broadcast() {
                // What the publisher may send next is decided by all receivers together.
                if receipt.is_measured {
                    *heard += 1;
                    *waited_ns += receipt.now.saturating_sub(sent_ns);
                }
                return;
            }
            receipt.record_uncorrected(sent_ns.max(*last_ns));
            *last_ns = receipt.now;
            if !mechanism.is_datagram() {
                *answered += 1;
            } else if let Some(place) = under_way.iter().position(|(sent, _)| *sent == number) {
                under_way.remove(place);
                *answered += 1;
            } else {
                // It was given up before, and another was sent in its place.
                receipt.recorder.error("came after the timeout");
            }
        };
        match transport {
            Transport::None => {}
            Transport::Udp(_) if bytes.is_empty() => {}
            Transport::Udp(_) => message(&mut receipt, bytes),
            Transport::Tcp { partial, .. } => {
                let mut input = &*bytes;
                if !partial.is_empty() {
                    let missing = (payload_bytes - partial.len()).min(input.len());
                    partial.extend_from_slice(&input[..missing]);
                    input = &input[missing..];
                    if partial.len() == payload_bytes {
                        message(&mut receipt, partial);
                        partial.clear();
                    }
                }
                let messages = input.chunks_exact(payload_bytes);
                partial.extend_from_slice(messages.remainder());
                messages.for_each(|payload| message(&mut receipt, payload));
            }
            Transport::WebSocket { client, .. } => {
                let mut input = bytes;
                while end.is_none() {
                    match client.next(&mut input) {
                        Ok(None) => break,
                        Ok(Some(ClientEvent::Message(_, payload))) => message(&mut receipt, &payload),
                        Ok(Some(ClientEvent::Upgraded)) => {
                            if let Stage::Upgrading(since) = *stage {
                                if !receipt.shared.plan.churn || is_measured {
                                    receipt.recorder.upgrade.record(now - since);
                                }
                                self.opening -= 1;
                            }
                            *stage = Stage::Open;
                            is_upgraded = true;
                            // Whatever has come with the answer stays unread.
                            if receipt.shared.plan.is_slow(*id) {
                                break;
                            }
                        }
                        Ok(Some(ClientEvent::Rejected(rejection))) => {
                            end = Some(End::Refused(format!("{} {}", rejection.status, rejection.reason)));
                        }
                        Ok(Some(ClientEvent::Closed(code))) => {
                            let code = code.map_or_else(|| "without a code".into(), |code| code.to_string());
                            end = Some(End::Failed(format!("closed {code}")));
                        }
                        Err(error) => end = Some(End::Failed(error.to_string())),
                    }
                }
            }
        }
        let completed = receipt.completed;
        let is_answered = *answered > answered_before;
        if let Some(slice) = slice {
            self.recorder.slices[slice] += self.recorder.messages - counted_before;
        }
        match end {
            None if is_upgraded => self.say_something(index),
            None if is_answered && self.shared.plan.churn => self.close(index),
            // The server has answered the close of a connection that has done its work, and will end it.
            Some(End::Failed(_)) if self.lines[index].stage == Stage::Closing => {}
            None => {}
            Some(End::Refused(kind)) => self.refused(index, kind),
            Some(End::Failed(kind)) => self.gone(index, kind),
        }
        if completed {
            self.tell_publisher();
        }
    }

    /// A connection that comes and goes has done its work. The server is to close it first, so that the minute for which the address stays
    /// taken afterwards is spent on its side, where it takes no port.
    fn close(&mut self, index: usize) {
        let line = &mut self.lines[index];
        line.failures = 0;
        line.stage = Stage::Closing;
        line.say_goodbye();
        self.flush(index);
        self.lines[index].finish_sending();
    }

    /// The server answered with something else than an upgrade.
    fn refused(&mut self, index: usize, kind: String) {
        self.recorder.refusal(kind);
        self.lines[index].failures += 1;
        self.end(index);
    }

    /// The connection failed or ended before its time.
    pub(super) fn gone(&mut self, index: usize, kind: String) {
        if self.lines[index].stage == Stage::Closing {
            return self.end(index);
        }
        self.lines[index].failures += 1;
        if !self.is_judged {
            let kind = match self.lines[index].stage {
                Stage::Open | Stage::Closing | Stage::Gone => kind,
                Stage::Connecting(_) => format!("connecting: {kind}"),
                Stage::Upgrading(_) => format!("upgrading: {kind}"),
            };
            self.recorder.error(kind);
        }
        if self.lines[index].stage == Stage::Open {
            // A close is answered before the socket goes, if that is still possible.
            let _ = self.lines[index].flush();
        }
        self.end(index);
    }

    pub(super) fn end(&mut self, index: usize) {
        let line = &mut self.lines[index];
        match std::mem::replace(&mut line.stage, Stage::Gone) {
            Stage::Connecting(_) | Stage::Upgrading(_) => self.opening -= 1,
            // The place of one that comes and goes stays, and nobody waits for one that does not read.
            Stage::Open if self.shared.plan.churn || self.shared.plan.is_slow(line.id) => {}
            Stage::Open => {
                self.shared.open.fetch_sub(usize::from(self.is_counted_open), Ordering::SeqCst);
                if self.has_begun {
                    self.shared.board.receiver_has_gone();
                }
            }
            Stage::Closing | Stage::Gone => {}
        }
        line.hang_up(self.poll.registry());
        self.vacate(index);
    }
}

/// A message that was waited for.
struct Message {
    number: u64,
    /// From when it counts.
    sent_ns: u64,
}

/// One read's worth of messages.
struct Receipt<'a> {
    shared: &'a Shared,
    recorder: &'a mut Recorder,
    /// When they were read.
    now: u64,
    window: Option<Window>,
    is_measured: bool,
    is_counted: bool,
    /// Everybody has a published message now.
    completed: bool,
}

impl Receipt<'_> {
    /// Verifies one message on connection `id`, which has sent `sent`. The message, if it is one that was waited for.
    fn message(&mut self, id: u32, sent: u64, sequence: &mut Sequence, payload: &[u8]) -> Option<Message> {
        if !self.is_counted {
            return None;
        }
        self.recorder.seen += 1;
        let mechanism = self.shared.target.mechanism;
        // Everybody hears connection 0 in a broadcast, and only itself in an echo.
        let (sender, sent) =
            if mechanism.is_broadcast() { (0, self.shared.board.published()) } else { (id, sent) };
        let stamp = Stamp::verify(payload, self.shared.plan.payload_bytes, sequence.next(), self.now)
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
        if self.is_measured {
            self.recorder.messages += 1;
            self.recorder.latency.record(elapsed);
        }
        if !mechanism.is_broadcast() {
            self.recorder.in_flight_ns += self.within_window(stamp.sent_ns);
        }
        if mechanism.is_broadcast() {
            let received = self.shared.board.received(stamp.sequence);
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
