//! What comes back: taken apart, verified, counted.

use std::io::ErrorKind;
use std::sync::atomic::Ordering;

use switchboard_proto::{ClientEvent, Opened, PollingError, PollingHeard, Side};

use super::Worker;
use super::receipt::{End, Receipt};
use super::stream;
use crate::connect;
use crate::line::{POST_SIDE, Stage, Transport};
use crate::web::Heard;

/// Reads from one connection before it is the others' turn.
const READS_PER_TURN: usize = 16;

impl Worker {
    /// Reads what there is, verifies it, and sends what may be sent in its place. `has_ended`: nothing will tell of the end once more, so that it has to
    /// be read now.
    pub(super) fn read(&mut self, index: usize, side: Side, has_ended: bool) {
        let is_datagram = self.shared.target.mechanism.is_datagram();
        if self.shared.plan.is_slow(self.lines[index].id) && self.lines[index].stage == Stage::Open {
            return self.drain(index);
        }
        // Taken out, so that what is read can be looked at while the rest of the worker changes.
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut reads = 0;
        while self.lines[index].stage != Stage::Gone {
            if reads == READS_PER_TURN {
                self.unread.push(if side == Side::Get { index } else { index | POST_SIDE });
                break;
            }
            reads += 1;
            match self.lines[index].read(side, &mut scratch) {
                Ok(0) if !is_datagram => {
                    if self.ended(index, side) {
                        break;
                    }
                }
                Ok(n) => {
                    self.received(index, side, &mut scratch[..n]);
                    // A connection that is being closed may end right behind its last bytes, of which nothing more would tell.
                    let is_closing = self.lines[index].stage == Stage::Closing;
                    if n < scratch.len() && !is_datagram && !is_closing && !has_ended {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Somebody's closed port refused a datagram: that says nothing about the next one.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused && is_datagram => {
                    self.datagram_refused(index);
                }
                // The server has closed it in order, and something was on its way to it at that time.
                Err(error) if error.kind() == ErrorKind::ConnectionReset && self.reopen(index) => break,
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
            match self.lines[index].read(Side::Get, &mut scratch) {
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
    fn received(&mut self, index: usize, side: Side, bytes: &mut [u8]) {
        let length = bytes.len() as u64;
        self.take_in(index, length, |transport, receipt| hear(transport, side, bytes, receipt));
        if self.lines[index].transport.is_over() {
            self.reopen(index);
        }
    }

    /// The server has ended a connection. True: another one has taken its place.
    fn ended(&mut self, index: usize, side: Side) -> bool {
        let is_open = |worker: &Worker| !matches!(worker.lines[index].stage, Stage::Closing | Stage::Gone);
        if is_open(self) {
            self.take_in(index, 0, |transport, receipt| hear_end(transport, side, receipt));
            if is_open(self) && self.reopen(index) {
                return true;
            }
        }
        if self.lines[index].stage != Stage::Gone {
            self.gone(index, self.lines[index].transport.ended());
        }
        false
    }

    /// Notes what `hear` makes of what has come, in so many bytes.
    fn take_in(
        &mut self,
        index: usize,
        length: u64,
        hear: impl FnOnce(&mut Transport, &mut Receipt<'_>),
    ) {
        let now = self.shared.now_ns();
        self.now = now;
        let slice = self.window.filter(|window| window.contains(now)).map(|window| window.slice(now));
        let is_measured = slice.is_some();
        let (counted_before, answered_before) = (self.recorder.messages, self.lines[index].answered);
        // Taken out, so that what it says can be noted in the rest of the line.
        let mut transport = std::mem::replace(&mut self.lines[index].transport, Transport::None);
        let answers_before = transport.answers();
        let mut receipt = Receipt {
            shared: &self.shared,
            recorder: &mut self.recorder,
            line: &mut self.lines[index],
            workspace: &mut self.workspace,
            now,
            window: self.window,
            is_measured,
            is_counted: !self.is_judged,
            completed: false,
            has_opened: false,
            end: None,
        };
        hear(&mut transport, &mut receipt);
        let Receipt { completed, has_opened, end, .. } = receipt;
        if let Some(slice) = slice {
            self.recorder.slices[slice] += self.recorder.messages - counted_before;
            let is_publisher = self.lines[index].is_publisher;
            let traffic =
                if is_publisher { &mut self.recorder.publisher } else { &mut self.recorder.traffic };
            traffic.bytes_received += length;
            traffic.requests += transport.answers().saturating_sub(answers_before);
        }
        let is_refused = matches!(end, Some(End::Refused(_)));
        let answers = transport.answers().saturating_sub(answers_before);
        self.lines[index].transport = transport;
        self.opening -= usize::from(has_opened);
        if has_opened {
            self.is_back(index);
        }
        if self.lines[index].is_publisher {
            self.has_taken(answers.saturating_sub(u64::from(is_refused)));
        }
        let is_answered = self.lines[index].answered > answered_before;
        match end {
            None if has_opened => self.say_something(index),
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
        if self.has_lost(index, &kind) {
            return;
        }
        let is_publisher = self.lines[index].is_publisher;
        self.recorder.refusal(if is_publisher { format!("publishing: {kind}") } else { kind });
        self.lines[index].failures += 1;
        self.end(index);
    }

    /// The connection failed or ended before its time.
    pub(super) fn gone(&mut self, index: usize, kind: String) {
        if self.has_lost(index, &kind) {
            return;
        }
        if self.lines[index].stage == Stage::Closing {
            return self.end(index);
        }
        self.lines[index].failures += 1;
        if !self.is_judged {
            let kind = match self.lines[index].stage {
                _ if self.lines[index].is_publisher => format!("publishing: {kind}"),
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
            stage if line.is_publisher => {
                self.opening -= usize::from(matches!(stage, Stage::Connecting(_) | Stage::Upgrading(_)));
                self.shared.is_abandoned.fetch_or(!self.is_judged, Ordering::Relaxed);
            }
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

/// Takes bytes apart as the connection's protocol says.
fn hear(transport: &mut Transport, side: Side, bytes: &mut [u8], receipt: &mut Receipt<'_>) {
    match transport {
        Transport::None => {}
        Transport::Udp(_) if bytes.is_empty() || receipt.line.is_publisher => {}
        Transport::Udp(_) => receipt.hear(Heard::Message(bytes)),
        Transport::Tcp { partial, .. } => stream::hear(partial, bytes, receipt),
        Transport::WebSocket { client, .. } => {
            let mut input = bytes;
            while receipt.goes_on() {
                match client.next(&mut input) {
                    Ok(None) => break,
                    // A publisher that hears itself is not one of those who are to hear it.
                    Ok(Some(ClientEvent::Message(..))) if receipt.line.is_publisher => {}
                    Ok(Some(ClientEvent::Message(_, payload))) => match receipt.line.feed.take() {
                        Some(mut feed) => {
                            feed.receive(&payload, &mut |heard| receipt.hear(heard));
                            receipt.line.feed = Some(feed);
                        }
                        None => receipt.hear(Heard::Message(&payload)),
                    },
                    Ok(Some(ClientEvent::Other)) => receipt.hear(Heard::Other),
                    Ok(Some(ClientEvent::Upgraded)) => receipt.hear(Heard::Open),
                    Ok(Some(ClientEvent::Rejected(rejection))) => {
                        receipt.hear(Heard::Refused(format!("{} {}", rejection.status, rejection.reason)));
                    }
                    Ok(Some(ClientEvent::Closed(code))) => {
                        let code = code.map_or_else(|| "without a code".into(), |code| code.to_string());
                        receipt.hear(Heard::Failed(format!("closed {code}")));
                    }
                    Err(error) => receipt.hear(Heard::Failed(error.to_string())),
                }
            }
        }
        Transport::Web { client, .. } => client.receive(bytes, &mut |heard| receipt.hear(heard)),
        Transport::Upgrading { .. } if side == Side::Get => {
            receipt.hear(Heard::Failed("something came before it was asked for".into()));
        }
        Transport::Upgrading { client, .. } => {
            let opened = client.receive(bytes, fastrand::u64(..));
            opened_by_polling(transport, opened, receipt);
        }
        Transport::Polling { client, .. } => {
            let done = client.receive(side, bytes, |heard| receipt.hear(polling_heard(heard)));
            if let Err(error) = done {
                receipt.hear(Heard::Failed(error.to_string()));
            }
        }
    }
}

/// The connection has ended: an answer without a length ends with it.
fn hear_end(transport: &mut Transport, side: Side, receipt: &mut Receipt<'_>) {
    match transport {
        Transport::Web { client, .. } => client.end(&mut |heard| receipt.hear(heard)),
        Transport::Upgrading { client, .. } if side == Side::Post => {
            let opened = client.end(fastrand::u64(..));
            opened_by_polling(transport, opened, receipt);
        }
        Transport::Polling { client, .. } => {
            if let Err(error) = client.end(side, |heard| receipt.hear(polling_heard(heard))) {
                receipt.hear(Heard::Failed(error.to_string()));
            }
        }
        _ => {}
    }
}

fn polling_heard(heard: PollingHeard<'_>) -> Heard<'_> {
    match heard {
        PollingHeard::Open => Heard::Open,
        PollingHeard::Message(payload) => Heard::Message(payload),
        PollingHeard::Other => Heard::Other,
        PollingHeard::Rejected(answer) => Heard::Refused(answer),
        PollingHeard::Closed => Heard::Failed("closed".into()),
    }
}

/// A session was opened by polling, or was not.
fn opened_by_polling(
    transport: &mut Transport,
    opened: Result<Option<Opened>, PollingError>,
    receipt: &mut Receipt<'_>,
) {
    match opened {
        Ok(None) => {}
        Ok(Some(Opened::Client(client))) => transport.upgrade(client),
        Ok(Some(Opened::Rejected(answer))) => receipt.hear(Heard::Refused(answer)),
        Err(error) => receipt.hear(Heard::Failed(error.to_string())),
    }
}
