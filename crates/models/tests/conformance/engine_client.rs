//! A client of Engine.IO v4, and of Socket.IO v5 on top of it, written by hand: packets are what they look like in a payload, on both transports.

use std::collections::VecDeque;

use serde_json::Value;

use crate::client::{Client, Response};
use crate::frames::{BINARY, TEXT, frame, text};
use crate::http::get;
use crate::server::Server;

pub(crate) const BARE: &str = "/engine.io/";
pub(crate) const SOCKETIO: &str = "/socket.io/";

/// What stands between two packets of a payload.
const SEPARATOR: char = '\u{1e}';

/// The binary packets of this suite, and how a payload has them. One holds the separator.
pub(crate) const BLOBS: [(&[u8], &str); 3] =
    [(b"\x00\xff\xfe\x1e", "bAP/+Hg=="), (b"switchboard", "bc3dpdGNoYm9hcmQ="), (b"", "b")];

/// The message that goes with each code.
const MESSAGES: [&str; 6] = [
    "Transport unknown",
    "Session ID unknown",
    "Bad handshake method",
    "Bad request",
    "All",
    "Unsupported protocol version",
];

pub(crate) const TRANSPORT_UNKNOWN: usize = 0;
pub(crate) const SESSION_UNKNOWN: usize = 1;
pub(crate) const BAD_HANDSHAKE_METHOD: usize = 2;
pub(crate) const BAD_REQUEST: usize = 3;
pub(crate) const UNSUPPORTED_VERSION: usize = 5;

impl Response {
    /// Expects the protocol's refusal with this code.
    pub(crate) fn expect_refusal(&self, code: usize) {
        assert_eq!(self.status, 400, "{self:?}");
        assert_eq!(self.json(), serde_json::json!({"code": code, "message": MESSAGES[code]}));
    }

    /// The packets of the answer to a GET.
    pub(crate) fn packets(&self) -> Vec<String> {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.header("Content-Type"), Some("text/plain; charset=UTF-8"));
        assert_eq!(self.header("Cache-Control"), Some("no-store"));
        self.body.split(SEPARATOR).map(str::to_owned).collect()
    }

    /// Expects that a POST was taken.
    pub(crate) fn expect_ok(&self) {
        assert_eq!((self.status, &self.body[..]), (200, "ok"), "{self:?}");
    }
}

pub(crate) fn target(endpoint: &str, transport: &str, sid: &str) -> String {
    let sid = if sid.is_empty() { String::new() } else { format!("&sid={sid}") };
    format!("{endpoint}?EIO=4&transport={transport}{sid}")
}

/// A POST of a payload.
pub(crate) fn post(target: &str, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let length = payload.len();
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: switchboard.test\r\nContent-Type: text/plain;charset=UTF-8\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), payload].concat()
}

/// Reads the packet that opens a session.
pub(crate) fn opening(packet: &str) -> Value {
    let json = packet.strip_prefix('0').unwrap_or_else(|| panic!("no packet that opens: {packet}"));
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {packet}"))
}

/// A session that polls: its GETs come on one connection, its POSTs on another.
pub(crate) struct Polling {
    pub(crate) endpoint: &'static str,
    pub(crate) sid: String,
    pub(crate) get: Client,
    pub(crate) post: Client,
    /// A GET has been sent that is not answered.
    is_held: bool,
    packets: VecDeque<String>,
}

impl Polling {
    pub(crate) fn open(server: &Server, endpoint: &'static str) -> Polling {
        let mut get_client = Client::connect(server);
        get_client.send(get(&target(endpoint, "polling", "")));
        let packets = get_client.response().packets();
        let [packet] = &packets[..] else { panic!("more than the packet that opens: {packets:?}") };
        let sid = opening(packet)["sid"].as_str().expect("a session has an id").to_owned();
        let post = Client::connect(server);
        Polling { endpoint, sid, get: get_client, post, is_held: false, packets: VecDeque::new() }
    }

    pub(crate) fn target(&self) -> String {
        target(self.endpoint, "polling", &self.sid)
    }

    /// The same session's place on the other transport.
    pub(crate) fn websocket_target(&self) -> String {
        target(self.endpoint, "websocket", &self.sid)
    }

    /// Sends a GET.
    pub(crate) fn hold(&mut self) {
        assert!(!std::mem::replace(&mut self.is_held, true), "one GET at a time");
        let request = get(&self.target());
        self.get.send(request);
    }

    /// The answer to the GET that was sent.
    pub(crate) fn answer(&mut self) -> Response {
        assert!(std::mem::take(&mut self.is_held), "there is no GET");
        self.get.response()
    }

    pub(crate) fn post(&mut self, payload: impl AsRef<[u8]>) -> Response {
        let request = post(&self.target(), payload);
        self.post.send(request);
        self.post.response()
    }

    pub(crate) fn next(&mut self) -> String {
        while self.packets.is_empty() {
            if !self.is_held {
                self.hold();
            }
            let packets = self.answer().packets();
            self.packets.extend(packets);
        }
        self.packets.pop_front().expect("it is not empty")
    }

    /// Expects that there is no such session any more.
    pub(crate) fn expect_unknown(&mut self, server: &Server) {
        for request in [get(&self.target()).into_bytes(), post(&self.target(), "6")] {
            let mut client = Client::connect(server);
            client.send(request);
            client.response().expect_refusal(SESSION_UNKNOWN);
        }
    }
}

/// A session on either transport.
pub(crate) enum Engine {
    Polling(Polling),
    WebSocket(Client),
}

impl Engine {
    pub(crate) fn polling(server: &Server, endpoint: &'static str) -> Engine {
        Engine::Polling(Polling::open(server, endpoint))
    }

    pub(crate) fn websocket(server: &Server, endpoint: &str) -> Engine {
        let mut client = Client::open(server, &target(endpoint, "websocket", ""));
        let (opcode, packet) = client.message();
        assert_eq!(opcode, TEXT);
        opening(&String::from_utf8(packet).expect("text"));
        Engine::WebSocket(client)
    }

    pub(crate) fn both(server: &Server, endpoint: &'static str) -> [Engine; 2] {
        [Engine::polling(server, endpoint), Engine::websocket(server, endpoint)]
    }

    pub(crate) fn send(&mut self, packets: &[&str]) {
        match self {
            Engine::Polling(polling) => {
                polling.post(packets.join(&SEPARATOR.to_string())).expect_ok();
            }
            Engine::WebSocket(client) => client.send(framed(packets)),
        }
    }

    pub(crate) fn next(&mut self) -> String {
        match self {
            Engine::Polling(polling) => polling.next(),
            Engine::WebSocket(client) => match client.message() {
                (BINARY, bytes) => {
                    let blob = BLOBS.iter().find(|(blob, _)| *blob == bytes);
                    blob.unwrap_or_else(|| panic!("nobody sent {bytes:?}")).1.to_owned()
                }
                (opcode, packet) => {
                    let packet = String::from_utf8(packet).expect("text");
                    assert_eq!(opcode, TEXT, "{packet:?}");
                    packet
                }
            },
        }
    }

    pub(crate) fn expect(&mut self, packets: &[&str]) {
        packets.iter().for_each(|packet| assert_eq!(self.next(), *packet));
    }

    /// Sends what ends the session, and expects that it has ended: not by and by, but with this.
    pub(crate) fn send_the_last(&mut self, server: &Server, packets: &[&str]) {
        match self {
            Engine::Polling(polling) => {
                polling.post(packets.join(&SEPARATOR.to_string())).expect_refusal(BAD_REQUEST);
            }
            Engine::WebSocket(client) => client.send(framed(packets)),
        }
        self.expect_end(server);
    }

    /// Expects that the server has ended the session.
    pub(crate) fn expect_end(&mut self, server: &Server) {
        match self {
            Engine::Polling(polling) => polling.expect_unknown(server),
            Engine::WebSocket(client) => client.expect_close(None),
        }
    }

    /// Connects to a namespace of Socket.IO; returns the id there. `prefix` is how packets name it.
    pub(crate) fn connect(&mut self, prefix: &str, auth: &str) -> String {
        self.send(&[&format!("40{prefix}{auth}")]);
        let packet = self.next();
        let json = packet.strip_prefix(&format!("40{prefix}")).unwrap_or_else(|| panic!("{packet}"));
        let welcome: Value = serde_json::from_str(json).expect("JSON");
        let auth = if auth.is_empty() { "{}" } else { auth };
        self.expect(&[&format!(r#"42{prefix}["auth",{auth}]"#)]);
        welcome["sid"].as_str().expect("a socket has an id").to_owned()
    }

    /// One that is connected to `/`.
    pub(crate) fn connected(mut self) -> Engine {
        self.connect("", "");
        self
    }
}

/// Packets as the frames of a client.
fn framed(packets: &[&str]) -> Vec<u8> {
    let frames = packets.iter().map(|packet| match BLOBS.iter().find(|(_, base64)| base64 == packet) {
        Some((blob, _)) => frame(BINARY, blob),
        None => text(packet),
    });
    frames.flatten().collect()
}
