//! A connection that has become a WebSocket (RFC 6455).

use std::time::Instant;

use super::{CloseReason, Session, Stage};
use crate::engine;
use crate::http::Handshake;
use crate::message::websocket_frame;
use crate::topics::PublishError;
use crate::topics::Since;
use crate::websocket::{Assembler, Incoming, MAX_HEADER_BYTES, Opcode, Payload, Role, Violation};
use crate::websocket::{encode_close, encode_header};
use crate::{BLOCK_BYTES, Format, Kind, Output, OverBudget, Request, poll};

/// A payload that is echoed by reference from this size on; a shorter one is copied next to its header.
const SHARE_BYTES: usize = 4096;

#[derive(Debug)]
pub(super) struct WebSocket {
    assembler: Assembler,
    room: Room,
    pub(super) close_sent: bool,
    /// A ping was queued and nothing has come back since.
    pinged: bool,
    /// Output was waiting when the heartbeat last looked, and so much was written by then: a peer that
    /// works off a backlog is alive, even if it has not come to the ping at its end.
    behind: bool,
    /// Of which the lower half tells as well whether it has changed.
    written: u32,
    /// How often the output had stalled when the ping was queued. If it has stalled since, the ping may have been sent late.
    stalls: u32,
}

/// What happens to the messages of a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// `/echo`: each comes back.
    Echo,
    /// `/broadcast`: each is published on the topic that this connection has subscribed to.
    Topic,
    /// `/socket.io/` and `/engine.io/`: each is a packet of Engine.IO's.
    Engine,
}

impl WebSocket {
    /// What has arrived of a message that is not whole.
    pub(super) fn held_bytes(&self) -> usize {
        self.assembler.held_bytes()
    }

    /// Whether it gets what is published.
    pub(super) fn takes_publications(&self) -> bool {
        self.room == Room::Topic && !self.close_sent
    }
}

impl Session {
    pub(super) fn upgrade(&mut self, handshake: &Handshake, room: Room, now: Instant) {
        handshake.encode_answer(self.output.tail());
        let max_message_bytes = match room {
            Room::Engine => self.app.engine.max_payload_bytes,
            Room::Echo | Room::Topic => self.app.max_message_bytes,
        };
        self.stage = Stage::WebSocket(WebSocket {
            assembler: Assembler::new(Role::Server, max_message_bytes),
            room,
            close_sent: false,
            pinged: false,
            behind: false,
            written: 0,
            stalls: 0,
        });
        self.deadline = self.next_heartbeat(room, now);
    }

    /// Engine.IO has a heartbeat of its own.
    fn next_heartbeat(&self, room: Room, now: Instant) -> Option<Instant> {
        self.app.heartbeat.filter(|_| room != Room::Engine).and_then(|period| now.checked_add(period))
    }

    /// What a subscriber gets before all that is published from now on.
    pub(super) fn begin_topic(&mut self, found: &Since, now: Instant) {
        if let Some((topic, Format::JsonWebSocket)) = self.subscription() {
            let hello = poll::encode_hello(topic, found);
            self.output.share(&websocket_frame(Kind::Text, &hello));
        }
        self.replay(found, now);
    }

    pub(super) fn receive_frames(&mut self, mut input: &mut [u8], now: Instant) {
        let Stage::WebSocket(socket) = &mut self.stage else { return };
        if !socket.close_sent
            && socket.room != Room::Engine
            && let Some(period) = self.app.heartbeat
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
                    self.messages += 1;
                    self.bytes += payload.len() as u64;
                    self.app.work.perform();
                    let request = match socket.room {
                        Room::Echo => {
                            echo(&mut self.output, kind, payload, input.len());
                            continue;
                        }
                        Room::Topic => {
                            let Some(topic) = self.subscription.as_ref().map(|it| it.topic.clone()) else {
                                return;
                            };
                            let data = self.app.memory.keep(payload.into_bytes());
                            Request::Publish { topic, event: None, kind, data, is_answered: false }
                        }
                        Room::Engine => {
                            let data = self.app.memory.keep(payload.into_bytes());
                            Request::Engine(engine::Request::Message { kind, data })
                        }
                    };
                    self.questions.push(request);
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

    /// What Engine.IO has to say on this connection.
    pub(super) fn engine_says(&mut self, reply: engine::Reply, now: Instant) {
        let Stage::WebSocket(WebSocket { close_sent: false, room: Room::Engine, .. }) = &self.stage else {
            return;
        };
        match reply {
            engine::Reply::Send { kind, data } => {
                let is_behind = !self.output.is_empty();
                if is_behind && self.output.len() + data.len() > self.app.max_unsent_bytes {
                    return self.close_websocket(CloseReason::TooSlow, now);
                }
                encode_header(self.output.tail(), kind.into(), data.len(), None);
                // What is long is charged by itself.
                match data.len() > BLOCK_BYTES {
                    true => self.output.share_charged(&data),
                    false => self.output.share(&data),
                }
                if is_behind && data == engine::PING_PACKET {
                    self.engine_ping_waits(now);
                }
            }
            engine::Reply::Close => {
                self.has_engine = false;
                encode_close(self.output.tail(), None, "", None);
                self.drain(now);
            }
            engine::Reply::Accept | engine::Reply::Answer { .. } => {}
        }
    }

    /// A ping of Engine.IO's stands behind output that its client has not taken: the time for its answer has not begun.
    fn engine_ping_waits(&mut self, now: Instant) {
        let Stage::WebSocket(socket) = &mut self.stage else { return };
        socket.written = self.output.written() as u32;
        self.deadline = now.checked_add(self.app.engine.ping_timeout);
        self.ask(Request::Engine(engine::Request::PingWaits));
    }

    /// Looks whether a ping of Engine.IO's has been sent that had to wait. A client that takes nothing meanwhile is closed.
    fn look_after_engine_ping(&mut self, now: Instant) {
        let Stage::WebSocket(socket) = &mut self.stage else { return };
        let written = self.output.written() as u32;
        let period = self.app.engine.ping_timeout;
        if self.output.is_empty() {
            self.deadline = None;
            self.ask(Request::Engine(engine::Request::PingSent));
        } else if socket.written != written {
            socket.written = written;
            self.deadline = now.checked_add(period);
        } else {
            self.fail(1008, &format!("nothing was taken within {period:?}"), now);
        }
    }

    pub(super) fn close_websocket(&mut self, why: CloseReason, now: Instant) {
        let Stage::WebSocket(socket) = &mut self.stage else { return };
        if socket.close_sent {
            return;
        }
        match why {
            CloseReason::GoingAway => {
                socket.close_sent = true;
                encode_close(self.output.tail(), Some(1001), "the server is going away", None);
                self.deadline = now.checked_add(self.app.grace);
            }
            CloseReason::TooSlow => {
                self.is_dropped = true;
                let limit = self.app.max_unsent_bytes;
                let reason = format!("over {limit} bytes unsent: read faster or raise --max-unsent-bytes");
                self.fail(1013, &reason, now);
            }
            CloseReason::NoMemory => self.fail(1013, &OverBudget.to_string(), now),
        }
    }

    fn reject(&mut self, violation: Violation, now: Instant) {
        let Stage::WebSocket(socket) = &self.stage else { return };
        if socket.close_sent {
            return self.drain(now);
        }
        let reason = match (violation, socket.room) {
            (Violation::TooBig, Room::Engine) => {
                format!("messages are limited to {} bytes", self.app.engine.max_payload_bytes)
            }
            (Violation::TooBig, _) => format!("messages are limited to {} bytes", self.app.max_message_bytes),
            (other, _) => other.to_string(),
        };
        self.fail(violation.close_code(), &reason, now);
    }

    /// What was said on a topic cannot be published. Nobody would know which message it was, so that it ends.
    pub(super) fn not_published(&mut self, error: PublishError, now: Instant) {
        if let Stage::WebSocket(WebSocket { close_sent: false, .. }) = &self.stage {
            let code = match error {
                PublishError::TooManyTopics(_) => 1013,
                PublishError::TooLong(_) => 1009,
                PublishError::Reserved => 1008,
                PublishError::GoingAway => return self.close_websocket(CloseReason::GoingAway, now),
            };
            self.fail(code, &format!("not published: {error}"), now);
        }
    }

    pub(super) fn heartbeat(&mut self, now: Instant) {
        let Stage::WebSocket(socket) = &mut self.stage else { return };
        if socket.room == Room::Engine {
            return self.look_after_engine_ping(now);
        }
        let written = self.output.written() as u32;
        // A ping that was sent at once is the only thing that is written to a peer to which nothing else is said.
        let was_late = socket.pinged && socket.stalls != self.output.stalls();
        let is_reading = (socket.behind || was_late) && written != socket.written;
        socket.behind = !self.output.is_empty();
        socket.written = written;
        socket.stalls = self.output.stalls();
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
