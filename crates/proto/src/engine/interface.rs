//! What connections ask of [`Engines`](super::Engines), and what they are told. All of it can be serialized: where connections
//! live in processes of their own, requests and replies travel between them and the process that holds the sessions.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Address, Budget, Cursor, EventName, Kind, Port, TopicName};

/// What one server grants its sessions.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// From a handshake, or a pong, to the next ping.
    pub ping_interval: Duration,
    /// From a ping to the end of a session from which nothing was heard since.
    pub ping_timeout: Duration,
    /// Longest body of a POST and longest WebSocket message.
    pub max_payload_bytes: usize,
    /// How long a Socket.IO session may go without a CONNECT.
    pub connect_timeout: Duration,
    /// Bytes that may wait for a client that does not poll, or belong to an event whose attachments are still to come.
    pub max_unsent_bytes: usize,
    /// Sessions at once; one more handshake is answered 503. `None`: what memory allows.
    pub max_sessions: Option<usize>,
    /// Sessions that each address may have at once; one more handshake is answered 503. `None`: as many as there may be.
    pub max_per_address: Option<usize>,
    /// What sessions, and what waits for them, is charged to. An exchange puts its own here.
    pub memory: Budget,
}

impl Default for EngineSettings {
    /// The intervals of the reference server.
    fn default() -> EngineSettings {
        EngineSettings {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            max_payload_bytes: 1_000_000,
            connect_timeout: Duration::from_secs(45),
            max_unsent_bytes: 4 << 20,
            max_sessions: None,
            max_per_address: None,
            memory: Budget::new(1 << 30),
        }
    }
}

/// What a connection asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// A GET. It is answered when there is something to say.
    Get(Query),
    /// A POST whose body is still on its way. Answered only if it is refused; the body does not matter then. To leave this out
    /// costs no more than that a second POST at the same time goes unnoticed.
    PostBegun(Query),
    /// A POST with its body. Answered at once, but for one that closes: that may take 25 ms, in which a GET that was overtaken may come.
    Post {
        /// Its path and query.
        query: Query,
        /// The field `Content-Type` as it was sent.
        content_type: Option<String>,
        /// The body. One longer than [`EngineSettings::max_payload_bytes`] is answered 413, and may be cut off one byte behind that.
        body: Bytes,
    },
    /// The body of a POST that has begun is too long: it was answered 413 without being read to its end, and the session goes on.
    PostTooLong,
    /// A request with any other method: never right.
    OtherMethod(Query),
    /// A WebSocket handshake that is right as such (RFC 6455 section 4.2.1). Answered by [`Reply::Accept`] or a refusal.
    Upgrade(Query),
    /// A message on a WebSocket that was accepted.
    Message {
        /// Text is UTF-8.
        kind: Kind,
        /// All its fragments together.
        data: Bytes,
    },
    /// The ping that this connection was told to send waits behind output that its client has not taken yet.
    PingWaits,
    /// The ping that waited has been sent.
    PingSent,
    /// The connection has ended, or its request was abandoned.
    Gone,
}

/// Where a request goes: the path, and what its query must hold (protocol section "Query parameters").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// The path.
    pub endpoint: Endpoint,
    /// `sid`: which session; none asks for a new one.
    pub sid: Option<String>,
    /// `transport`: `polling` or `websocket`. Empty if it is missing.
    pub transport: String,
    /// `EIO`: the protocol's version. Empty if it is missing.
    pub eio: String,
    /// Where it comes from, if each address may have only so many sessions.
    pub from: Option<Address>,
}

/// What is spoken on top of Engine.IO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Endpoint {
    /// `/socket.io/`: Socket.IO.
    SocketIo,
    /// `/engine.io/`: nothing; each message comes back.
    Bare,
}

/// What a connection is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Answer the HTTP request.
    Answer {
        /// The status code.
        status: u16,
        /// What the body is.
        content_type: ContentType,
        /// The body.
        body: Bytes,
    },
    /// Answer the WebSocket handshake by 101; messages follow.
    Accept,
    /// Send a WebSocket message.
    Send {
        /// Text or binary frame.
        kind: Kind,
        /// The payload, shared with all other receivers.
        data: Bytes,
    },
    /// Close the WebSocket behind what was sent. Nothing that still comes from it is for the session any more.
    Close,
}

/// The media type of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContentType {
    /// `text/plain; charset=UTF-8`: packets.
    Text,
    /// `application/json`: an error.
    Json,
}

impl ContentType {
    /// The value of the field `Content-Type`.
    pub fn as_str(self) -> &'static str {
        match self {
            ContentType::Text => "text/plain; charset=UTF-8",
            ContentType::Json => "application/json",
        }
    }
}

/// What the server has to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Tell this connection.
    Reply(Port, Reply),
    /// Publish on a topic, then call [`Engines::published`](super::Engines::published) or
    /// [`Engines::not_published`](super::Engines::not_published) with its receipt.
    Publish(Box<Publish>),
    /// Look what there is on a topic, and call [`Engines::tell_since`](super::Engines::tell_since) before the next effect is taken.
    Since(Box<Since>),
}

/// What a Socket.IO client wants to know of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Since {
    /// The topic.
    pub topic: TopicName,
    /// The last event that it has had.
    pub since: Option<Cursor>,
    /// To be handed back.
    pub receipt: Receipt,
}

/// What a Socket.IO client publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The topic.
    pub topic: TopicName,
    /// The event's name, if it has one.
    pub event: Option<EventName>,
    /// Whether `data` is text.
    pub kind: Kind,
    /// The data.
    pub data: Bytes,
    /// To be handed back.
    pub receipt: Receipt,
}

/// Who published or asked, for the acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    pub(crate) session: u32,
    /// Told apart from a later session in the same place by the id of its socket.
    pub(crate) socket: std::num::NonZeroU64,
    pub(crate) namespace: crate::socketio_server::Namespace,
    pub(crate) ack: Option<u64>,
    /// The sockets of its namespace have been told already.
    pub(crate) is_chat: bool,
}

/// Something that was published on a topic, by whichever mechanism.
#[derive(Debug, Clone, Copy)]
pub struct Published<'a> {
    /// The topic: the sockets in the room of this name get it.
    pub topic: &'a str,
    /// Its number within the topic.
    pub id: u64,
    /// The event's name.
    pub event: &'a str,
    /// Whether `data` is text.
    pub kind: Kind,
    /// The data.
    pub data: &'a Bytes,
}
