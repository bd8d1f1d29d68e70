//! A server as its clients see it: over a WebSocket, and over HTTP.

pub(crate) mod event_stream;
mod head;
pub(crate) mod polling;
mod pong;
pub(crate) mod response;
pub(crate) mod upgrade;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use self::head::has_token;
use self::pong::Pongs;
use crate::http::REFUSED_HEADER;
use crate::socketio::{self, ANNOUNCEMENT, Heard, SocketIo};
use crate::websocket::{self, Assembler, Incoming, Opcode, Payload, Role, Violation};
use crate::{Kind, Output};

/// What a client asks for.
#[derive(Debug, Clone)]
pub struct ClientPlan {
    /// The `Host` header: host and port.
    pub host: String,
    /// The request target, `/echo`.
    pub path: String,
    /// Longest message that is accepted from the server, in bytes.
    pub max_message_bytes: usize,
    /// What is spoken over the WebSocket.
    pub dialect: Dialect,
}

/// What messages look like on a WebSocket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Dialect {
    /// A message is a message.
    #[default]
    Plain,
    /// A message is the attachment of a Socket.IO event `message`, on the namespace `/`.
    SocketIo,
    /// What is heard is the text of Socket.IO events `message` in this room, which the client has asked for by an event `join` (with an
    /// acknowledgement, as our own server has it). What is sent is as above.
    SocketIoRoom(String),
}

/// One WebSocket connection as a client sees it: the upgrade, then messages.
///
/// Once open it allocates nothing per message, as long as messages arrive whole.
#[derive(Debug)]
pub struct Client {
    stage: Stage,
    output: Output,
    masks: Masks,
    socketio: Option<SocketIo>,
    pongs: Pongs,
    /// A close frame has been queued; there is never a second one.
    has_closed: bool,
}

#[derive(Debug)]
enum Stage {
    /// Waiting for the answer to the upgrade, of which this has arrived.
    Upgrading {
        accept: String,
        received: Vec<u8>,
        max_message_bytes: usize,
    },
    Open(Assembler),
    /// The server closed or refused: nothing more is read.
    Closed,
}

/// What happened on a client's connection.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientEvent<'b> {
    /// The connection is a WebSocket now, and messages may be sent.
    Upgraded,
    /// The server answered with something else than an upgrade.
    Rejected(Rejection),
    /// A message.
    Message(Kind, Payload<'b>),
    /// An event of Socket.IO that is no message: of another name, or with other arguments.
    Other,
    /// The server closed, with its code where it gave one; the answer is in the output.
    Closed(Option<u16>),
}

/// An answer that is not an upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The status code.
    pub status: u16,
    /// What stands behind it: the limit that a Switchboard server names, else the reason phrase.
    pub reason: String,
}

/// Why a client's connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClientError {
    /// The answer is not HTTP, or longer than any answer should be.
    #[error("the answer to the upgrade is not HTTP: {0}")]
    NotHttp(String),
    /// The answer says 101 without the accept key that belongs to our request.
    #[error("the answer to the upgrade has the wrong Sec-WebSocket-Accept")]
    WrongAccept,
    /// The answer says 101, but does not agree to what was asked for, or to more than that (RFC 6455, 4.1).
    #[error("the answer to the upgrade is 101 {0}")]
    NotAgreed(&'static str),
    /// The server broke the WebSocket protocol.
    #[error("the server broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// What stands in a frame is not what was asked for.
    #[error("the server does not speak Socket.IO: {0}")]
    NotSocketIo(String),
}

impl Client {
    /// A connection that was just opened; its upgrade request is in the output. `seed` makes the key and the
    /// masks, and should differ between connections.
    pub fn new(plan: &ClientPlan, seed: u64) -> Client {
        let mut masks = Masks(seed | 1);
        let nonce: [u8; 16] = std::array::from_fn(|_| masks.next_key()[0]);
        let key = STANDARD.encode(nonce);
        let mut output = Output::retaining();
        output.copy(
            format!(
                "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n",
                plan.path, plan.host
            )
            .as_bytes(),
        );
        let accept = websocket::accept_key(key.as_bytes());
        let max_message_bytes = plan.max_message_bytes;
        let socketio = SocketIo::new(&plan.dialect);
        Client {
            stage: Stage::Upgrading { accept, received: Vec::new(), max_message_bytes },
            output,
            masks,
            socketio,
            pongs: Pongs::default(),
            has_closed: false,
        }
    }

    /// A connection that goes on with a session of Engine.IO that was opened by polling; the plan's path names that.
    pub(crate) fn upgrading(plan: &ClientPlan, seed: u64) -> Client {
        let mut client = Client::new(plan, seed);
        if let Some(socketio) = &mut client.socketio {
            socketio.expect_probe();
        }
        client
    }

    /// Takes bytes from the start of `input` until something happened; `None` when `input` is used up.
    ///
    /// # Errors
    /// What the server did wrong. The connection cannot go on.
    pub fn next<'b>(&mut self, input: &mut &'b mut [u8]) -> Result<Option<ClientEvent<'b>>, ClientError> {
        loop {
            let assembler = match &mut self.stage {
                Stage::Upgrading { .. } => match self.upgrade(input)? {
                    // There is more to be agreed upon.
                    Some(ClientEvent::Upgraded) if self.socketio.is_some() => {
                        if self.socketio.as_ref().is_some_and(SocketIo::is_probing) {
                            self.packet(socketio::PROBE);
                        }
                        continue;
                    }
                    event => return Ok(event),
                },
                Stage::Open(assembler) => assembler,
                Stage::Closed => {
                    *input = &mut [];
                    return Ok(None);
                }
            };
            match assembler.next(input)? {
                None => return Ok(None),
                Some(Incoming::Message(kind, payload)) => {
                    let Some(socketio) = &mut self.socketio else {
                        return Ok(Some(ClientEvent::Message(kind, payload)));
                    };
                    let not_socketio = || ClientError::NotSocketIo(socketio::shown(&payload));
                    match socketio.receive(kind, &payload).ok_or_else(not_socketio)? {
                        Heard::Answer(text) => self.packet(&text),
                        Heard::Ping => self.pong(Opcode::Text, socketio::PONG.as_bytes()),
                        Heard::Probed => socketio::UPGRADE.into_iter().for_each(|packet| self.packet(packet)),
                        Heard::Connected => return Ok(Some(ClientEvent::Upgraded)),
                        Heard::Attachment => return Ok(Some(ClientEvent::Message(kind, payload))),
                        Heard::Text(range) => {
                            return Ok(Some(ClientEvent::Message(kind, payload.part(range))));
                        }
                        Heard::Escaped(text) => {
                            return Ok(Some(ClientEvent::Message(kind, Payload::owned(text.as_bytes()))));
                        }
                        Heard::Other => return Ok(Some(ClientEvent::Other)),
                        Heard::Nothing => {}
                        Heard::Refused => {
                            let reason = format!("Switching Protocols, then {}", socketio::shown(&payload));
                            self.close(None);
                            self.stage = Stage::Closed;
                            return Ok(Some(ClientEvent::Rejected(Rejection { status: 101, reason })));
                        }
                        Heard::End => {
                            self.close(None);
                            self.stage = Stage::Closed;
                            return Ok(Some(ClientEvent::Closed(None)));
                        }
                    }
                }
                Some(Incoming::Ping(payload)) => {
                    self.pong(Opcode::Pong, &payload);
                }
                Some(Incoming::Pong) => {}
                Some(Incoming::Close(code)) => {
                    self.close(code);
                    self.stage = Stage::Closed;
                    return Ok(Some(ClientEvent::Closed(code)));
                }
            }
        }
    }

    /// Queues a message of `payload_bytes` bytes that `fill` writes.
    pub fn send_with(&mut self, kind: Kind, payload_bytes: usize, fill: impl FnOnce(&mut [u8])) {
        if self.socketio.is_some() {
            self.packet(ANNOUNCEMENT);
            return self.frame(Opcode::Binary, payload_bytes, fill);
        }
        self.frame(kind.into(), payload_bytes, fill);
    }

    /// Queues a close frame, unless there has been one.
    pub fn close(&mut self, code: Option<u16>) {
        if std::mem::replace(&mut self.has_closed, true) {
            return;
        }
        let key = self.masks.next_key();
        websocket::encode_close(self.output.tail(), code, "", Some(key));
    }

    /// The bytes to write.
    pub fn output(&mut self) -> &mut Output {
        if let Some((opcode, payload)) = self.pongs.due(&self.output) {
            self.queue_pong(opcode, &payload);
        }
        &mut self.output
    }

    /// Answers a ping, now or when the pong before it is written.
    fn pong(&mut self, opcode: Opcode, payload: &[u8]) {
        if let Some((opcode, payload)) = self.pongs.answer(&self.output, opcode, payload) {
            self.queue_pong(opcode, &payload);
        }
    }

    fn queue_pong(&mut self, opcode: Opcode, payload: &[u8]) {
        self.frame(opcode, payload.len(), |space| space.copy_from_slice(payload));
        self.pongs.queued(&self.output);
    }

    /// Queues a packet of Engine.IO that is text.
    fn packet(&mut self, packet: &str) {
        self.frame(Opcode::Text, packet.len(), |space| space.copy_from_slice(packet.as_bytes()));
    }

    fn frame(&mut self, opcode: Opcode, payload_bytes: usize, fill: impl FnOnce(&mut [u8])) {
        let key = self.masks.next_key();
        let out = self.output.tail();
        websocket::encode_header(out, opcode, payload_bytes, Some(key));
        let start = out.len();
        out.resize(start + payload_bytes, 0);
        fill(&mut out[start..]);
        websocket::mask(&mut out[start..], key);
    }

    fn upgrade<'b>(&mut self, input: &mut &'b mut [u8]) -> Result<Option<ClientEvent<'b>>, ClientError> {
        let Stage::Upgrading { accept, received, max_message_bytes } = &mut self.stage else {
            return Ok(None);
        };
        let before = received.len();
        received.extend_from_slice(input);
        let mut start = 0;
        let (answer, head_bytes) = loop {
            let answer = head::parse(&received[start..], |response, head_bytes| {
                (Answer::of(response, accept.as_bytes()), head_bytes)
            });
            match answer.map_err(ClientError::NotHttp)? {
                None => {
                    received.drain(..start);
                    *input = &mut [];
                    return Ok(None);
                }
                Some((Answer::Interim, head_bytes)) => start += head_bytes,
                Some((answer, head_bytes)) => break (answer, start + head_bytes),
            }
        };
        match answer {
            Answer::Interim | Answer::Agreed => {}
            Answer::Rejected(rejection) => {
                self.stage = Stage::Closed;
                return Ok(Some(ClientEvent::Rejected(rejection)));
            }
            Answer::Failed(error) => return Err(error),
        }
        // Frames may stand right behind the head: leave them in the input.
        *input = &mut std::mem::take(input)[head_bytes - before..];
        self.stage = Stage::Open(Assembler::new(Role::Client, *max_message_bytes));
        Ok(Some(ClientEvent::Upgraded))
    }
}

/// What the head of an answer to an upgrade says.
enum Answer {
    /// The answer itself is still to come.
    Interim,
    Agreed,
    Rejected(Rejection),
    Failed(ClientError),
}

impl Answer {
    /// `accept`: what belongs to the key that was sent.
    fn of(response: &httparse::Response<'_, '_>, accept: &[u8]) -> Answer {
        let values = |name: &'static str| {
            let named = response.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
            named.map(|header| header.value.trim_ascii())
        };
        let status = response.code.unwrap_or_default();
        if status != 101 {
            if (100..200).contains(&status) {
                return Answer::Interim;
            }
            let phrase = response.reason.unwrap_or_default();
            let reason = values(REFUSED_HEADER).next().and_then(|value| std::str::from_utf8(value).ok());
            let reason = reason.unwrap_or(phrase).to_owned();
            return Answer::Rejected(Rejection { status, reason });
        }
        let has = |name, token: &[u8]| values(name).any(|value| has_token(value, token));
        // Nothing was offered, so nothing can have been chosen.
        let is_empty = |name| values(name).all(<[u8]>::is_empty);
        if !values("Sec-WebSocket-Accept").eq([accept]) {
            return Answer::Failed(ClientError::WrongAccept);
        }
        for (is_so, wrong) in [
            (has("Upgrade", b"websocket"), "without Upgrade: websocket"),
            (has("Connection", b"upgrade"), "without Connection: Upgrade"),
            (is_empty("Sec-WebSocket-Extensions"), "with an extension that was not offered"),
            (is_empty("Sec-WebSocket-Protocol"), "with a subprotocol that was not offered"),
        ] {
            if !is_so {
                return Answer::Failed(ClientError::NotAgreed(wrong));
            }
        }
        Answer::Agreed
    }
}

/// Mask keys by xorshift (Marsaglia, 2003). Masks protect proxies from chosen bytes, which a load generator
/// does not send; they need to differ, not to be secret.
#[derive(Debug)]
struct Masks(u64);

impl Masks {
    fn next_key(&mut self) -> [u8; 4] {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 32) as u32).to_ne_bytes()
    }
}
