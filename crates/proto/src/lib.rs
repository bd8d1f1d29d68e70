//! The protocols of Switchboard without any I/O: bytes in, bytes out, time as an argument.
//!
//! There is no socket, no clock and no thread in this crate, so each protocol is written once and works
//! on every concurrency model, and its timers are tested in virtual time. What a reader wants first:
//!
//! - [`Session`]: one connection as a server sees it, whatever it comes to speak.
//! - [`Client`]: one WebSocket as the load generator sees it.
//! - [`Responses`], [`EventStream`], [`PollingClient`], [`UpgradingClient`]: what a client hears over HTTP: answers, server-sent events, Socket.IO by
//!   long-polling, and how that becomes a WebSocket.
//! - [`Output`]: the bytes that a session wants written, small ones together, shared ones by reference.
//! - [`websocket`]: the assembler that turns frames into messages (RFC 6455).
//! - [`Exchange`]: what outlives a connection or belongs to several: topics, their history, sessions of Engine.IO.
//! - [`http`]: requests and answers (RFC 9110, RFC 9112).
//! - [`engine`]: all Engine.IO sessions of a server, with Socket.IO on top, whatever connections carry them.
//! - [`login`]: sign-in by a second device.
//! - [`datagram`]: what a server without connections has to remember about its senders.

mod app;
mod client;
mod cors;
mod cursor;
pub mod datagram;
pub mod engine;
mod exchange;
mod guests;
pub mod http;
pub mod login;
mod lookout;
mod memory;
mod message;
mod names;
mod output;
mod poll;
mod port;
mod session;
mod socketio;
mod socketio_server;
mod sse;
mod subscriptions;
mod topics;
pub mod websocket;
mod work;

pub use app::{App, PlainApp};
pub use client::event_stream::{EventStream, EventTooLong, ServerEvent};
pub use client::polling::{Heard as PollingHeard, PollingClient, PollingError, Side};
pub use client::response::{Content, Head, Part, Response, ResponseError, Responses};
pub use client::upgrade::{Opened, UpgradingClient};
pub use client::{Client, ClientError, ClientEvent, ClientPlan, Dialect, Rejection};
pub use cors::{AllowOrigin, CorsOrigins, NotAnOrigin};
pub use cursor::{Cursor, Epoch, NotACursor};
pub use exchange::{Effect, Exchange, Reply, Request};
pub use guests::{Address, Guest, Guests, TooManyGuests};
pub use lookout::Lookout;
pub use memory::{BLOCK_BYTES, Budget, Charge, Ledger, OverBudget};
pub use message::{Format, Kind, Outgoing};
pub use names::{EventName, MAX_NAME_BYTES, NameError, TopicName};
pub use output::{Lent, Output};
pub use port::Port;
pub use session::{CloseReason, Counts, LINGER, Session, Wants};
pub use topics::{PublishError, Since};
pub use work::Work;
