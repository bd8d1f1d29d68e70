//! The protocols of Switchboard without any I/O: bytes in, bytes out, time as an argument.
//!
//! There is no socket, no clock and no thread in this crate, so each protocol is written once and works
//! on every concurrency model, and its timers are tested in virtual time. What a reader wants first:
//!
//! - [`Session`]: one connection as a server sees it, whatever it comes to speak.
//! - [`Client`]: one connection as the load generator sees it.
//! - [`Output`]: the bytes that a session wants written, small ones together, shared ones by reference.
//! - [`websocket`]: the assembler that turns frames into messages (RFC 6455).
//! - [`engine`]: all Engine.IO sessions of a server, with Socket.IO on top, whatever connections carry them.
//! - [`datagram`]: what a server without connections has to remember about its senders.

mod app;
mod client;
pub mod datagram;
pub mod engine;
pub mod http;
mod message;
mod output;
mod port;
mod session;
mod socketio;
mod socketio_server;
pub mod websocket;
mod work;

pub use app::{App, PlainApp};
pub use client::{Client, ClientError, ClientEvent, ClientPlan, Dialect, Rejection};
pub use message::{Kind, Outgoing};
pub use output::{Lent, Output};
pub use port::Port;
pub use session::{CloseReason, Counts, Event, LINGER, Session, Wants};
pub use work::Work;
