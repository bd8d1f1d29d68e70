//! Socket.IO by long-polling as its client speaks it: Engine.IO v4 over two HTTP connections, one for a GET that the server holds until it has
//! something to say, the other for POSTs (<https://socket.io/docs/v4/engine-io-protocol/#http-long-polling>).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use thiserror::Error;

use crate::socketio::{self, ANNOUNCEMENT, SocketIo};
use crate::{ClientPlan, Kind, Output, ResponseError, Responses};

/// What stands between two packets of a payload.
const SEPARATOR: u8 = 0x1e;

/// What a packet of bytes begins with; base64 follows.
const BINARY: u8 = b'b';

/// One Socket.IO connection by long-polling: both handshakes, then events.
///
/// Once open it allocates nothing per message.
#[derive(Debug)]
pub struct PollingClient {
    socketio: SocketIo,
    get: Channel,
    post: Channel,
    host: String,
    path: String,
    /// The request that is sent again and again, once it is known.
    get_request: Vec<u8>,
    post_head: Vec<u8>,
    /// Packets that wait for the POST before them to be answered.
    waiting: Vec<u8>,
    is_posting: bool,
    /// The answer to a ping is among them: one is enough.
    has_pong: bool,
    /// Where a packet of bytes is put together or taken apart.
    scratch: Vec<u8>,
    has_closed: bool,
}

/// Which of the two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The server answers here when it has something to say.
    Get,
    /// The client says something here.
    Post,
}

#[derive(Debug)]
struct Channel {
    output: Output,
    responses: Responses,
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// Events may be sent.
    Open,
    /// The server does not let us in, or speaks something else: what came instead.
    Rejected(String),
    /// The attachment of an event, or the text of one in a room.
    Message(&'a [u8]),
    /// An event that is no message: of another name, or with other arguments.
    Other,
    /// The server has ended it.
    Closed,
}

/// Why a connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PollingError {
    /// What came is not an answer.
    #[error(transparent)]
    Response(#[from] ResponseError),
    /// It is an answer that none of ours should get.
    #[error("{method} was answered with {answer}")]
    Answer {
        /// What was asked.
        method: &'static str,
        /// What came.
        answer: String,
    },
    /// A packet that no server of Socket.IO would send here.
    #[error("the server does not speak Socket.IO: {0}")]
    NotSocketIo(String),
    /// An answer to what was not asked.
    #[error("an answer came without a request")]
    Unasked,
}

impl PollingClient {
    /// Two connections that were just opened; the first request is in the output. The plan's path ends with a query that has `transport=polling`.
    ///
    /// # Panics
    /// The plan's dialect is not Socket.IO.
    pub fn new(plan: &ClientPlan) -> PollingClient {
        let channel =
            || Channel { output: Output::retaining(), responses: Responses::new(plan.max_message_bytes) };
        let mut client = PollingClient {
            socketio: SocketIo::new(&plan.dialect).expect("nobody polls for what is not Socket.IO"),
            get: channel(),
            post: channel(),
            host: plan.host.clone(),
            path: plan.path.clone(),
            get_request: format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", plan.path, plan.host).into_bytes(),
            post_head: Vec::new(),
            waiting: Vec::new(),
            is_posting: false,
            has_pong: false,
            scratch: Vec::new(),
            has_closed: false,
        };
        client.get.output.copy(&client.get_request);
        client
    }

    /// Takes what has come on one of the connections.
    ///
    /// # Errors
    /// What the server did wrong. The connection cannot go on.
    pub fn receive(
        &mut self,
        side: Side,
        mut input: &[u8],
        mut heard: impl FnMut(Heard<'_>),
    ) -> Result<(), PollingError> {
        let channel = if side == Side::Get { &mut self.get } else { &mut self.post };
        // Taken out, so that an answer can be looked at while the rest changes.
        let mut responses = std::mem::replace(&mut channel.responses, Responses::new(0));
        let mut rejected = None;
        while let Some(response) = responses.next(&mut input)? {
            let (status, body) = (response.head.status, response.body);
            let is_opening = self.socketio.is_opening();
            if status != 200 || (is_opening && body.first() != Some(&b'0')) {
                rejected = Some(socketio::shown(body));
                break;
            }
            match side {
                Side::Post if !std::mem::take(&mut self.is_posting) => return Err(PollingError::Unasked),
                Side::Post => {}
                Side::Get => {
                    self.payload(body, &mut heard)?;
                    self.get.output.copy(&self.get_request);
                }
            }
        }
        if let Some(body) = rejected {
            let method = if side == Side::Get { "GET" } else { "POST" };
            let answer = format!("{}: {}", responses.described(), body.escape_debug());
            if self.socketio.is_connected() {
                return Err(PollingError::Answer { method, answer });
            }
            heard(Heard::Rejected(answer));
        }
        let channel = if side == Side::Get { &mut self.get } else { &mut self.post };
        channel.responses = responses;
        Ok(())
    }

    /// One of the connections has ended. An answer without a length ends with it, and what that says is heard.
    ///
    /// # Errors
    /// What the server did wrong.
    pub fn end(&mut self, side: Side, heard: impl FnMut(Heard<'_>)) -> Result<(), PollingError> {
        let channel = if side == Side::Get { &mut self.get } else { &mut self.post };
        channel.responses.finish()?;
        self.receive(side, &[], heard)
    }

    /// Sends a message of `payload_bytes` bytes that `fill` writes with the next POST, as the attachment of an event `message`.
    pub fn send_with(&mut self, payload_bytes: usize, fill: impl FnOnce(&mut [u8])) {
        self.scratch.resize(payload_bytes, 0);
        fill(&mut self.scratch);
        self.packet(ANNOUNCEMENT.as_bytes());
        self.packet(&[BINARY]);
        let start = self.waiting.len();
        let most_bytes = payload_bytes.div_ceil(3) * 4;
        self.waiting.resize(start + most_bytes, 0);
        let encoded = STANDARD.encode_slice(&self.scratch, &mut self.waiting[start..]);
        self.waiting.truncate(start + encoded.expect("base64 makes four bytes of three"));
    }

    /// Ends it, unless that has been done.
    pub fn close(&mut self) {
        if !std::mem::replace(&mut self.has_closed, true) && !self.post_head.is_empty() {
            self.packet(b"41");
            self.packet(b"1");
        }
    }

    /// Requests that were answered so far.
    pub fn answers(&self) -> u64 {
        self.get.responses.answers() + self.post.responses.answers()
    }

    /// The bytes to write on one of the connections.
    pub fn output(&mut self, side: Side) -> &mut Output {
        match side {
            Side::Get => &mut self.get.output,
            Side::Post => {
                self.post_what_waits();
                &mut self.post.output
            }
        }
    }

    fn post_what_waits(&mut self) {
        if self.is_posting || self.waiting.is_empty() || self.post_head.is_empty() {
            return;
        }
        self.is_posting = true;
        self.has_pong = false;
        let tail = self.post.output.tail();
        tail.extend_from_slice(&self.post_head);
        push_number(tail, self.waiting.len());
        tail.extend_from_slice(b"\r\n\r\n");
        tail.append(&mut self.waiting);
    }

    fn packet(&mut self, packet: &[u8]) {
        if !self.waiting.is_empty() {
            self.waiting.push(SEPARATOR);
        }
        self.waiting.extend_from_slice(packet);
    }

    /// Takes what the server has said in answer to a GET.
    fn payload(&mut self, body: &[u8], heard: &mut impl FnMut(Heard<'_>)) -> Result<(), PollingError> {
        for packet in body.split(|byte| *byte == SEPARATOR) {
            let not_socketio = || PollingError::NotSocketIo(socketio::shown(packet));
            if let Some((&BINARY, encoded)) = packet.split_first() {
                self.scratch.resize(encoded.len() / 4 * 3 + 3, 0);
                let decoded =
                    STANDARD.decode_slice(encoded, &mut self.scratch).map_err(|_| not_socketio())?;
                if self.socketio.receive(Kind::Binary, &[]).ok_or_else(not_socketio)?
                    == socketio::Heard::Attachment
                {
                    heard(Heard::Message(&self.scratch[..decoded]));
                }
                continue;
            }
            let is_opening = self.socketio.is_opening();
            match self.socketio.receive(Kind::Text, packet).ok_or_else(not_socketio)? {
                socketio::Heard::Answer(text) => {
                    if is_opening {
                        self.enter(packet).ok_or_else(not_socketio)?;
                    }
                    self.packet(text.as_bytes());
                }
                socketio::Heard::Ping => {
                    if !std::mem::replace(&mut self.has_pong, true) {
                        self.packet(socketio::PONG.as_bytes());
                    }
                }
                socketio::Heard::Connected => heard(Heard::Open),
                socketio::Heard::Text(range) => heard(Heard::Message(&packet[range])),
                socketio::Heard::Escaped(text) => heard(Heard::Message(text.as_bytes())),
                socketio::Heard::Other => heard(Heard::Other),
                socketio::Heard::Refused => heard(Heard::Rejected(socketio::shown(packet))),
                socketio::Heard::End if self.socketio.is_connected() => heard(Heard::Closed),
                socketio::Heard::End => heard(Heard::Rejected(socketio::shown(packet))),
                // What polls has nothing to probe.
                socketio::Heard::Probed | socketio::Heard::Attachment | socketio::Heard::Nothing => {}
            }
        }
        Ok(())
    }

    /// Takes the session's id from the packet that opens it.
    fn enter(&mut self, packet: &[u8]) -> Option<()> {
        let sid = session_id(packet)?;
        let (path, host) = (&self.path, &self.host);
        self.get_request = format!("GET {path}&sid={sid} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
        self.post_head = format!(
            "POST {path}&sid={sid} HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: "
        )
        .into_bytes();
        Some(())
    }
}

/// The session's id in the packet that opens it, if that is one that can stand in a URL as it is.
pub(super) fn session_id(packet: &[u8]) -> Option<&str> {
    let key = br#""sid":""#;
    let behind = &packet[memmem::find(packet, key)? + key.len()..];
    let sid = std::str::from_utf8(behind.split(|byte| *byte == b'"').next()?).ok()?;
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.~".contains(letter);
    (!sid.is_empty() && sid.chars().all(is_plain)).then_some(sid)
}

/// Appends a number as text.
fn push_number(out: &mut Vec<u8>, number: usize) {
    use std::io::Write;
    // Writing to a vector does not fail.
    let _ = write!(out, "{number}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> PollingClient {
        PollingClient::new(&ClientPlan {
            host: "h:1".into(),
            path: "/socket.io/?EIO=4&transport=polling".into(),
            max_message_bytes: 1 << 20,
            dialect: crate::Dialect::SocketIo,
        })
    }

    fn answer(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    fn written(client: &mut PollingClient, side: Side) -> String {
        let output = client.output(side);
        let bytes = output.single().unwrap().to_vec();
        output.consume(bytes.len());
        String::from_utf8(bytes).unwrap()
    }

    /// What was heard, in words.
    fn receive(client: &mut PollingClient, side: Side, bytes: &str) -> Result<Vec<String>, PollingError> {
        let mut all = Vec::new();
        client.receive(side, bytes.as_bytes(), |heard| all.push(format!("{heard:?}")))?;
        Ok(all)
    }

    #[test]
    fn two_handshakes_and_an_echo_take_the_requests_that_they_need() {
        let mut client = client();
        assert_eq!(
            written(&mut client, Side::Get),
            "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: h:1\r\n\r\n"
        );
        assert_eq!(written(&mut client, Side::Post), "");
        let open = answer(r#"0{"sid":"a_1","upgrades":["websocket"],"pingInterval":25000}"#);
        assert!(receive(&mut client, Side::Get, &open).unwrap().is_empty());
        let get = "GET /socket.io/?EIO=4&transport=polling&sid=a_1 HTTP/1.1\r\nHost: h:1\r\n\r\n";
        assert_eq!(written(&mut client, Side::Get), get);
        assert!(written(&mut client, Side::Post).ends_with("Content-Length: 2\r\n\r\n40"));
        assert!(receive(&mut client, Side::Post, &answer("ok")).unwrap().is_empty());
        let connected = answer("40{\"sid\":\"b\"}\u{1e}42[\"auth\",{}]\u{1e}2");
        assert_eq!(receive(&mut client, Side::Get, &connected).unwrap(), ["Open", "Other"]);
        assert_eq!(written(&mut client, Side::Get), get);
        client.send_with(3, |space| space.copy_from_slice(b"abc"));
        let post = written(&mut client, Side::Post);
        let body = format!("3\u{1e}{ANNOUNCEMENT}\u{1e}bYWJj");
        assert!(post.ends_with(&format!("Content-Length: {}\r\n\r\n{body}", body.len())), "{post}");
        // One POST at a time.
        client.send_with(1, |space| space[0] = b'x');
        assert_eq!(written(&mut client, Side::Post), "");
        receive(&mut client, Side::Post, &answer("ok")).unwrap();
        assert!(written(&mut client, Side::Post).ends_with("beA=="));
        let event = answer(&format!("{}\u{1e}bYWJj", ANNOUNCEMENT.replace("message", "message-back")));
        assert_eq!(receive(&mut client, Side::Get, &event).unwrap(), ["Message([97, 98, 99])"]);
        assert_eq!(receive(&mut client, Side::Get, &answer("41")).unwrap(), ["Closed"]);
    }

    #[test]
    fn what_is_no_such_server_is_told_by_what_it_said() {
        let html = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
        assert_eq!(
            receive(&mut client(), Side::Get, html).unwrap(),
            ["Rejected(\"200 OK (text/html): <html>\")"]
        );
        let wrong = "HTTP/1.1 400 Bad Request\r\nContent-Length: 10\r\n\r\n{\"code\":0}";
        let heard = receive(&mut client(), Side::Get, wrong).unwrap();
        assert!(heard[0].contains("400 Bad Request") && heard[0].contains("code"), "{heard:?}");
        let error = receive(&mut client(), Side::Get, &answer("0{\"sid\":\"a b\"}")).unwrap_err();
        assert!(error.to_string().starts_with("the server does not speak Socket.IO: 0{"), "{error}");
        let mut posting = client();
        receive(&mut posting, Side::Get, &answer("0{\"sid\":\"a\"}")).unwrap();
        assert_eq!(receive(&mut posting, Side::Post, &answer("ok")), Err(PollingError::Unasked));
    }
}
