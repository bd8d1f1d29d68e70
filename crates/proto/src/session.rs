use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::http::{self, Answer, Head, Room};
use crate::websocket::{Assembler, Incoming, MAX_HEADER_BYTES, Opcode, Payload, Role, Violation};
use crate::websocket::{encode_close, encode_header};
use crate::{App, Kind, Outgoing, Output};

/// Unsent output above which a session stops reading, until its peer takes some of it: backpressure.
const HIGH_WATER_BYTES: usize = 64 << 10;

/// How long a connection whose last answer is written goes on reading, and discarding, what its peer still
/// sends. A close with unread input would turn into a reset, and a reset overtakes the answer.
pub const LINGER: Duration = Duration::from_secs(2);

/// A payload that is echoed by reference from this size on; a shorter one is copied next to its header.
const SHARE_BYTES: usize = 4096;

/// One connection as a server sees it, whatever it comes to speak.
///
/// Feed it with [`receive`](Session::receive), [`receive_eof`](Session::receive_eof) and
/// [`handle_timeout`](Session::handle_timeout); after each of these take its events, write its output and do
/// as [`wants`](Session::wants) says.
#[derive(Debug)]
pub struct Session {
    app: Arc<App>,
    stage: Stage,
    output: Output,
    /// In a box of its own, since hardly anybody ever has one.
    #[expect(clippy::box_collection, reason = "8 bytes of every idle connection in place of 32")]
    events: Option<Box<VecDeque<Event>>>,
    /// When `handle_timeout` has something to do. What that is depends on the stage.
    deadline: Option<Instant>,
    counts: Counts,
}

/// Where a connection is in its life. It only ever moves downwards in this list.
#[derive(Debug)]
enum Stage {
    /// Reading a request head, of which this has arrived. Deadline: the handshake timeout.
    Head(Vec<u8>),
    /// Deadline: the heartbeat, or the end of the patience for an answer to our close.
    WebSocket(WebSocket),
    /// The last answer is in the output; input is discarded until the peer ends. Deadline: `LINGER`.
    Drain { finished: bool },
    /// The close handshake is complete: write the rest, then close at once. Deadline: `LINGER`.
    Flush,
    /// Close the socket.
    Done,
}

#[derive(Debug)]
struct WebSocket {
    assembler: Assembler,
    room: Room,
    close_sent: bool,
    /// A ping was sent and nothing has come back since.
    pinged: bool,
    /// Output was waiting when the heartbeat last looked, and so much was written by then: a peer that
    /// works off a backlog is alive, even if it has not come to the ping at its end.
    behind: bool,
    written: u64,
}

/// What a session tells the server that holds it.
#[derive(Debug, Clone)]
pub enum Event {
    /// Deliver to this connection what anyone publishes from now on.
    Subscribe,
    /// Deliver this to every subscriber, this one included.
    Publish(Arc<Outgoing>),
}

/// What the session would do next with its socket. Neither: close it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wants {
    /// Read, and hand over what comes.
    pub read: bool,
    /// Write what the output holds.
    pub write: bool,
}

/// Why the server closes a WebSocket of its own accord.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The server is about to end: 1001.
    GoingAway,
    /// A subscriber that does not read as fast as others publish: 1013.
    TooSlow,
}

/// What one session contributes to the server's tally.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Data messages received.
    pub messages: u64,
    /// Payload bytes of those messages.
    pub bytes: u64,
    /// This subscriber was closed because it did not read.
    pub is_dropped: bool,
    /// This connection was let in but could not become what it asked for.
    pub is_refused: bool,
}

impl Session {
    /// A connection that was just accepted.
    pub fn server(app: &Arc<App>, now: Instant) -> Session {
        Session {
            app: app.clone(),
            stage: Stage::Head(Vec::new()),
            output: Output::default(),
            events: None,
            deadline: now.checked_add(app.handshake_timeout),
            counts: Counts::default(),
        }
    }

    /// Takes the bytes that were read. They are unmasked in place; only what is incomplete is kept.
    pub fn receive(&mut self, bytes: &mut [u8], now: Instant) {
        match &mut self.stage {
            Stage::Head(_) => self.receive_head(bytes, now),
            Stage::WebSocket(_) => self.receive_frames(bytes, now),
            Stage::Drain { .. } | Stage::Flush | Stage::Done => {}
        }
    }

    /// Takes note that the peer will send no more. What was promised to it is still written.
    pub fn receive_eof(&mut self, now: Instant) {
        if self.output.is_empty() {
            self.stage = Stage::Done;
        } else {
            self.flush(now);
        }
    }

    /// Does what is due at `now`. Harmless when nothing is.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        match &self.stage {
            Stage::Head(_) => {
                let limit = self.app.handshake_timeout;
                self.answer(
                    &Answer::new(408, format!("The request head took longer than {limit:?}.\n")),
                    now,
                );
            }
            Stage::WebSocket(socket) if !socket.close_sent => self.heartbeat(now),
            _ => self.stage = Stage::Done,
        }
    }

    /// Queues a message that somebody published. A peer that is too far behind is closed instead.
    pub fn deliver(&mut self, message: &Outgoing, now: Instant) {
        let Stage::WebSocket(WebSocket { close_sent: false, room: Room::Broadcast, .. }) = self.stage else {
            return;
        };
        let frame = message.websocket_frame();
        // A single message may be longer than the limit: somebody who keeps up is never dropped for it.
        if !self.output.is_empty() && self.output.len() + frame.len() > self.app.max_unsent_bytes {
            self.close(CloseReason::TooSlow, now);
        } else {
            self.output.share(frame);
        }
    }

    /// Whether it takes what is published and has nothing to write before it: then the server may write frames itself, and tell of them by
    /// [`Output::begun`].
    pub fn is_up_to_date(&self) -> bool {
        let Stage::WebSocket(WebSocket { close_sent: false, room: Room::Broadcast, .. }) = self.stage else {
            return false;
        };
        self.output.is_empty()
    }

    /// Begins to close: a WebSocket by a close frame, anything else at once.
    pub fn close(&mut self, why: CloseReason, now: Instant) {
        match (&mut self.stage, why) {
            (Stage::WebSocket(socket), CloseReason::GoingAway) if !socket.close_sent => {
                socket.close_sent = true;
                encode_close(self.output.tail(), Some(1001), "the server is going away", None);
                self.deadline = now.checked_add(self.app.grace);
            }
            (Stage::WebSocket(socket), CloseReason::TooSlow) if !socket.close_sent => {
                self.counts.is_dropped = true;
                let limit = self.app.max_unsent_bytes;
                let reason = format!("over {limit} bytes unsent: read faster or raise --max-unsent-bytes");
                self.fail(1013, &reason, now);
            }
            (Stage::Head(received), _) if received.is_empty() => self.stage = Stage::Done,
            (Stage::Head(_), _) => {
                self.answer(&Answer::new(503, "The server is going away.\n".into()), now);
            }
            _ => {}
        }
    }

    /// Answers an upgrade with a refusal after all: to be called on [`Event::Subscribe`], before any output is
    /// written, by a server that has not the means to deliver.
    pub fn refuse(&mut self, limit: &'static str, sentence: &str, now: Instant) {
        self.counts.is_refused = true;
        self.output.clear();
        self.output.copy(&http::refusal(limit, sentence));
        self.drain(now);
    }

    /// The next thing that the server must know, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.as_mut()?.pop_front();
        self.events.take_if(|events| events.is_empty());
        event
    }

    /// When [`handle_timeout`](Session::handle_timeout) should be called, if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// True once, when the last byte of the output is written and no more will follow while the peer may
    /// still send: the moment for `shutdown(SHUT_WR)`.
    pub fn poll_finish(&mut self) -> bool {
        match &mut self.stage {
            Stage::Drain { finished } if !*finished && self.output.is_empty() => {
                *finished = true;
                true
            }
            _ => false,
        }
    }

    /// The bytes to write.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// What to do next with the socket. Neither: close it.
    pub fn wants(&self) -> Wants {
        let write = !self.output.is_empty();
        match self.stage {
            Stage::Head(_) | Stage::Drain { .. } => Wants { read: true, write },
            Stage::WebSocket(_) => Wants { read: self.output.len() <= HIGH_WATER_BYTES, write },
            Stage::Flush => Wants { read: false, write },
            Stage::Done => Wants { read: false, write: false },
        }
    }

    /// Whether nothing follows from its output's being written: it goes on reading, and neither finishes nor ends.
    pub fn only_listens(&self) -> bool {
        matches!(self.stage, Stage::WebSocket(_) | Stage::Head(_)) && self.wants().read
    }

    /// What this session contributes to the tally.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn receive_head(&mut self, bytes: &mut [u8], now: Instant) {
        let Stage::Head(received) = &mut self.stage else { return };
        if received.is_empty() {
            match http::read_head(bytes, &self.app) {
                Head::Incomplete => received.extend_from_slice(bytes),
                Head::Answer(answer) => self.answer(&answer, now),
                Head::Upgrade { accept, room, head_bytes } => {
                    self.upgrade(&accept, room, now);
                    self.receive_frames(&mut bytes[head_bytes..], now);
                }
            }
            return;
        }
        received.extend_from_slice(bytes);
        // Only a line's end can finish a head: a head that comes byte by byte is not parsed at every byte.
        if memchr::memchr(b'\n', bytes).is_none() && received.len() <= http::MAX_HEAD_BYTES {
            return;
        }
        match http::read_head(received, &self.app) {
            Head::Incomplete => {}
            Head::Answer(answer) => self.answer(&answer, now),
            Head::Upgrade { accept, room, head_bytes } => {
                let mut received = std::mem::take(received);
                self.upgrade(&accept, room, now);
                self.receive_frames(&mut received[head_bytes..], now);
            }
        }
    }

    fn upgrade(&mut self, accept: &str, room: Room, now: Instant) {
        self.output.copy(http::switching_protocols(accept).as_bytes());
        let assembler = Assembler::new(Role::Server, self.app.max_message_bytes);
        self.stage = Stage::WebSocket(WebSocket {
            assembler,
            room,
            close_sent: false,
            pinged: false,
            behind: false,
            written: 0,
        });
        self.deadline = self.app.heartbeat.and_then(|period| now.checked_add(period));
        if room == Room::Broadcast {
            self.events.get_or_insert_default().push_back(Event::Subscribe);
        }
    }

    fn receive_frames(&mut self, mut input: &mut [u8], now: Instant) {
        let Stage::WebSocket(socket) = &mut self.stage else { return };
        if let Some(period) = self.app.heartbeat
            && !socket.close_sent
        {
            socket.pinged = false;
            self.deadline = now.checked_add(period);
        }
        loop {
            match socket.assembler.next(&mut input) {
                Ok(None) => return,
                Ok(Some(Incoming::Close(code))) => {
                    if !socket.close_sent {
                        encode_close(self.output.tail(), code, "", None);
                    }
                    return self.flush(now);
                }
                Ok(Some(_)) if socket.close_sent => {}
                Ok(Some(Incoming::Message(kind, payload))) => {
                    self.counts.messages += 1;
                    self.counts.bytes += payload.len() as u64;
                    self.app.work.perform();
                    match socket.room {
                        Room::Echo => echo(&mut self.output, kind, payload, input.len()),
                        Room::Broadcast => {
                            let message = Outgoing::new(kind, payload.into_bytes());
                            self.events.get_or_insert_default().push_back(Event::Publish(Arc::new(message)));
                        }
                    }
                }
                Ok(Some(Incoming::Ping(payload))) => {
                    encode_header(self.output.tail(), Opcode::Pong, payload.len(), None);
                    self.output.copy(&payload);
                }
                Ok(Some(Incoming::Pong)) => {}
                Err(violation) => return self.reject(violation, now),
            }
        }
    }

    fn reject(&mut self, violation: Violation, now: Instant) {
        if let Stage::WebSocket(WebSocket { close_sent: true, .. }) = self.stage {
            return self.drain(now);
        }
        let reason = match violation {
            Violation::TooBig => format!("messages are limited to {} bytes", self.app.max_message_bytes),
            other => other.to_string(),
        };
        self.fail(violation.close_code(), &reason, now);
    }

    fn heartbeat(&mut self, now: Instant) {
        let Stage::WebSocket(socket) = &mut self.stage else { return };
        let is_reading = socket.behind && self.output.written() != socket.written;
        socket.behind = !self.output.is_empty();
        socket.written = self.output.written();
        let period = self.app.heartbeat.unwrap_or_default();
        self.deadline = now.checked_add(period);
        if is_reading {
            socket.pinged = false;
        } else if socket.pinged {
            self.fail(1008, &format!("nothing came back within {period:?}"), now);
        } else {
            socket.pinged = true;
            encode_header(self.output.tail(), Opcode::Ping, 0, None);
        }
    }

    /// Ends a WebSocket with a close frame that expects no answer.
    fn fail(&mut self, code: u16, reason: &str, now: Instant) {
        encode_close(self.output.tail(), Some(code), reason, None);
        self.drain(now);
    }

    /// Ends a connection that is still HTTP with an answer.
    fn answer(&mut self, answer: &Answer, now: Instant) {
        answer.encode(self.output.tail());
        self.drain(now);
    }

    fn drain(&mut self, now: Instant) {
        self.stage = Stage::Drain { finished: false };
        self.deadline = now.checked_add(LINGER);
    }

    fn flush(&mut self, now: Instant) {
        self.stage = Stage::Flush;
        self.deadline = now.checked_add(LINGER);
    }
}

/// Queues a message for the one who sent it. `behind` bytes of input are still to be answered: the room for
/// their answers is made with the first.
fn echo(output: &mut Output, kind: Kind, payload: Payload<'_>, behind: usize) {
    match payload {
        Payload::Owned(assembled) if assembled.len() >= SHARE_BYTES => {
            output.push(assembled.into_frame(kind.into()));
        }
        payload => {
            let (tail, payload) = (output.tail(), &*payload);
            if tail.capacity() - tail.len() < MAX_HEADER_BYTES + payload.len() {
                tail.reserve(MAX_HEADER_BYTES + payload.len() + behind);
            }
            encode_header(tail, kind.into(), payload.len(), None);
            tail.extend_from_slice(payload);
        }
    }
}
