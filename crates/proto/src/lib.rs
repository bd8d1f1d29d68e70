//! The protocols of Switchboard without any I/O: bytes in, bytes out, time as an argument.
//!
//! There is no socket, no clock and no thread in this crate, so each protocol is written once and works
//! on every concurrency model, and its timers are tested in virtual time. What a reader wants first:
//!
//! - [`Session`]: one connection as a server sees it, whatever it comes to speak.
//! - [`Client`]: one connection as the load generator sees it.
//! - [`Output`]: the bytes that a session wants written, small ones together, shared ones by reference.
//! - [`websocket`]: the assembler that turns frames into messages (RFC 6455).
//! - [`http`]: requests and answers (RFC 9110, RFC 9112).
//! - [`datagram`]: what a server without connections has to remember about its senders.

mod app;
mod client;
mod cors;
pub mod datagram;
pub mod http;
mod message;
mod output;
mod route;
mod session;
mod socketio;
pub mod websocket;
mod work;

pub use app::{App, PlainApp};
pub use client::{Client, ClientError, ClientEvent, ClientPlan, Dialect, Rejection};
pub use cors::{AllowOrigin, CorsOrigins, NotAnOrigin};
pub use message::{Kind, Outgoing};
pub use output::{Lent, Output};
pub use session::{CloseReason, Counts, Event, LINGER, Session, Wants};
pub use work::Work;
