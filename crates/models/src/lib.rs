//! One file per way in which a server waits for its connections, and the registry of them all.
//!
//! In reading order: [`fork`](mod@fork), [`threads`], [`threads_direct`], [`select`], [`poll`], [`epoll`], [`udp`]; [`raw`]
//! is the ceiling that the others are held against. What they share stands beside them:
//!
//! | module | what it holds |
//! |---|---|
//! | `listener` | making the listening socket |
//! | `accept` | taking connections from it, and refusing those that a limit forbids with an answer |
//! | `readiness` | the loop of `select`, `poll` and `epoll`: all but the waiting |
//! | `table`, `line` | the connections of one such loop, their timers and subscribers; reading and writing one |
//! | `blocking` | one connection served by blocking calls, for `fork` and `threads` |
//! | `parent`, `child`, `relay` | the two kinds of process of `fork`, and how a broadcast travels between them |
//! | `shutdown`, `limits`, `tally` | what their names say |
//!
//! To add a model: write one file with a `MODEL`, whose `serve` returns when [`Shutdown`] is triggered and every
//! client has been told; add it to [`MODELS`]. The command, the lab, the benchmarks and the conformance suite read
//! that list and nothing else.

mod accept;
mod blocking;
mod child;
mod limits;
mod line;
mod listener;
mod parent;
mod readiness;
mod relay;
mod shutdown;
mod table;
mod tally;
mod write;

pub mod epoll;
pub mod fork;
pub mod poll;
pub mod raw;
pub mod select;
pub mod threads;
pub mod threads_direct;
pub mod udp;

use std::io;
use std::sync::Arc;

use serde::Serialize;

pub use limits::raise_descriptor_limit;
pub use listener::Listener;
pub use shutdown::Shutdown;
pub use switchboard_proto::{App, UdpApp, Work};
pub use tally::Tally;

/// Every model, in reading order.
pub const MODELS: &[Model] = &[
    fork::MODEL,
    threads::MODEL,
    threads_direct::MODEL,
    select::MODEL,
    poll::MODEL,
    epoll::MODEL,
    udp::MODEL,
    raw::MODEL,
];

/// A way of waiting, and what can be said of it without running it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Model {
    /// Its name on the command line.
    pub name: &'static str,
    /// How it waits, in one line.
    pub about: &'static str,
    /// The system call in which it waits.
    pub waits_with: &'static str,
    /// How a broadcast reaches its receivers.
    pub broadcast: &'static str,
    /// What it speaks.
    pub serves: &'static [Mechanism],
    /// What it cannot do, a sentence each.
    pub limits: &'static [&'static str],
    /// Left out of lists: not a server that anybody would use.
    pub hidden: bool,
    /// Serves until the shutdown is triggered and every client has been told.
    #[serde(skip)]
    pub serve: fn(Listener, Arc<App>, Shutdown) -> io::Result<Tally>,
}

/// What a model can speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// Pages and errors as HTTP has them.
    Http,
    /// A WebSocket that returns every message.
    Echo,
    /// A WebSocket on which every message goes to everyone.
    Broadcast,
    /// Pings for silent WebSockets.
    Heartbeat,
    /// Every datagram back to its sender.
    UdpEcho,
    /// Every datagram to everyone heard from lately.
    UdpBroadcast,
    /// Every byte back, without any protocol.
    TcpEcho,
}

impl Mechanism {
    /// What a model serves that carries the whole session.
    const SESSION: &'static [Mechanism] =
        &[Mechanism::Http, Mechanism::Echo, Mechanism::Broadcast, Mechanism::Heartbeat];
}

/// The model of that name, hidden ones included.
pub fn find(name: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| model.name == name)
}
