//! One file per way in which a server waits for its connections, and the registry of them all.
//!
//! In reading order, each with one idea more than the one that it names in [`Model::after`]:
//!
//! | family | models |
//! |---|---|
//! | one at a time | [`iterative`] |
//! | processes | [`fork`](mod@fork), [`prefork`], [`prefork_reuseport`] |
//! | threads | [`threads`], [`threads_direct`], [`pool`] |
//! | asking | [`spin`], [`select`], [`poll`] |
//! | told | [`epoll_level`], [`epoll`], [`reactors`], [`epoll_workers`]; [`raw`] is their ceiling |
//! | tasks | [`mod@tokio`], [`tokio_multi`] |
//! | completion | [`uring`], [`uring_reactors`]; [`raw_uring`] is their ceiling |
//! | datagrams | [`udp`], [`udp_epoll`], [`udp_mmsg`], [`udp_reuseport`], [`udp_uring`] |
//!
//! What they share stands beside them:
//!
//! | module | what it holds |
//! |---|---|
//! | `listener`, `accept` | making the listening socket; taking connections from it, and refusing those that a limit forbids with an answer |
//! | `readiness` | the loop of the models that ask or are told who is ready: all but the waiting |
//! | `table`, `line` | the connections of one such loop, their timers and subscribers; reading and writing one |
//! | `blocking`, `hub` | one connection served by blocking calls; what the threads that do so share |
//! | `parent`, `child`, `relay` | the two kinds of process of `fork`, and how a broadcast travels between processes |
//! | `crew`, `places`, `mailbox`, `handoff` | several workers that are one server; the connections they may hold together; a queue that wakes a loop; work for a pool |
//! | `tasks` | a connection as a task, for both runtimes of `tokio` |
//! | `ring`, `completion` | a ring with its buffers; the loop over it |
//! | `datagrams` | what is answered to a datagram |
//! | `shutdown`, `limits`, `tally` | what their names say |
//!
//! To add a model: write one file with a `MODEL`, whose `serve` returns when [`Shutdown`] is triggered and every
//! client has been told; add it to [`MODELS`]. The command, the lab, the benchmarks and the conformance suite read
//! that list and nothing else.

mod accept;
mod blocking;
mod child;
mod completion;
mod crew;
mod datagrams;
mod desk;
mod handoff;
mod hub;
mod limits;
mod line;
mod listener;
mod mailbox;
mod parent;
mod places;
mod readiness;
mod relay;
mod ring;
mod roster;
mod shutdown;
mod sync;
mod table;
mod tally;
mod tasks;
mod write;

pub mod epoll;
pub mod epoll_level;
pub mod epoll_workers;
pub mod fork;
pub mod iterative;
pub mod poll;
pub mod pool;
pub mod prefork;
pub mod prefork_reuseport;
pub mod raw;
pub mod raw_uring;
pub mod reactors;
pub mod select;
pub mod spin;
pub mod threads;
pub mod threads_direct;
pub mod tokio;
pub mod tokio_multi;
pub mod udp;
pub mod udp_epoll;
pub mod udp_mmsg;
pub mod udp_reuseport;
pub mod udp_uring;
pub mod uring;
pub mod uring_reactors;

use std::io;
use std::sync::Arc;

use serde::Serialize;

pub use crew::confine;
pub use limits::raise_descriptor_limit;
pub use listener::Listener;
pub use shutdown::Shutdown;
pub use switchboard_proto::{App, UdpApp, Work};
pub use tally::Tally;

/// Every model, in reading order: family by family, and each after the one that it adds to.
pub const MODELS: &[Model] = &[
    iterative::MODEL,
    fork::MODEL,
    prefork::MODEL,
    prefork_reuseport::MODEL,
    threads::MODEL,
    threads_direct::MODEL,
    pool::MODEL,
    spin::MODEL,
    select::MODEL,
    poll::MODEL,
    epoll_level::MODEL,
    epoll::MODEL,
    reactors::MODEL,
    epoll_workers::MODEL,
    raw::MODEL,
    tokio::MODEL,
    tokio_multi::MODEL,
    uring::MODEL,
    uring_reactors::MODEL,
    raw_uring::MODEL,
    udp::MODEL,
    udp_epoll::MODEL,
    udp_mmsg::MODEL,
    udp_reuseport::MODEL,
    udp_uring::MODEL,
];

/// A way of waiting, and what can be said of it without running it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Model {
    /// Its name on the command line.
    pub name: &'static str,
    /// The kind of waiting.
    pub family: Family,
    /// The model that it differs from by one idea, if there is one.
    pub after: Option<&'static str>,
    /// How it waits, in one line.
    pub about: &'static str,
    /// The system call in which it waits.
    pub waits_with: &'static str,
    /// The processes and threads that it consists of.
    pub runs_as: &'static str,
    /// The system calls that its processes make for one echoed message of a single busy client, in order.
    pub calls: &'static [&'static str],
    /// How a broadcast reaches its receivers.
    pub broadcast: &'static str,
    /// What it speaks.
    pub serves: &'static [Mechanism],
    /// What it cannot do, a sentence each; the hardest limit first.
    pub limits: &'static [&'static str],
    /// What `--workers` means to it.
    pub workers: Workers,
    /// Whether its workers have a listener each, on one port (SO_REUSEPORT).
    pub reuses_port: bool,
    /// Whether `--busy-poll` means anything to it: whether it has an event loop of its own that blocks.
    pub busy_polls: bool,
    /// Left out of lists: not a server that anybody would use.
    pub hidden: bool,
    /// Its file, which is what there is to learn from it.
    #[serde(skip)]
    pub source: &'static str,
    /// What this kernel lacks for it, with the kernel's own error and the version that has it; `None`: nothing.
    #[serde(skip)]
    pub obstacle: fn() -> Option<String>,
    /// Serves until the shutdown is triggered and every client has been told.
    #[serde(skip)]
    pub serve: fn(Listener, Arc<App>, Shutdown) -> io::Result<Tally>,
}

impl Model {
    /// What is left out by most models: nothing stands in their way.
    const fn no_obstacle() -> Option<String> {
        None
    }

    /// Checks that the system has what a server with these settings needs to begin, and returns the number of its workers.
    ///
    /// # Errors
    /// A sentence that names what there is not, and what would do.
    pub fn check(&self, app: &App) -> io::Result<usize> {
        if let Some(obstacle) = (self.obstacle)() {
            return Err(io::Error::other(format!(
                "`{}` needs what this kernel does not have: {obstacle}",
                self.name
            )));
        }
        match self.workers {
            Workers::None => Ok(1),
            Workers::OnePerCore => crew::workers(app),
            Workers::OneConnectionEach(usual) => crew::pool(app, usual),
        }
    }

    /// The connections that a server with these settings serves at once because each takes a worker, if so.
    pub fn served_at_once(&self, workers: Option<usize>) -> Option<usize> {
        match self.workers {
            Workers::OneConnectionEach(default) => Some(workers.unwrap_or(default)),
            _ => None,
        }
    }
}

/// What a model has in common with its neighbours: how it learns that somebody has something to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// It serves one connection after the other.
    Iterative,
    /// It gives connections to processes.
    Process,
    /// It gives connections to threads that block.
    Thread,
    /// It asks about every connection, each time.
    Asking,
    /// It is told which connections are ready.
    Told,
    /// It gives each connection a task of a runtime.
    Tasks,
    /// It is told what has been done.
    Completion,
    /// It has no connections.
    Datagram,
}

impl Family {
    /// In words, for headings.
    pub fn title(self) -> &'static str {
        match self {
            Family::Iterative => "one at a time",
            Family::Process => "processes",
            Family::Thread => "threads",
            Family::Asking => "asking",
            Family::Told => "told",
            Family::Tasks => "tasks",
            Family::Completion => "completion",
            Family::Datagram => "datagrams",
        }
    }
}

/// What `--workers` means to a model, and how many there are if nobody says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workers {
    /// Nothing: it is one loop, or has as many processes or threads as connections.
    None,
    /// Processes or threads that hold many connections each; one for each core.
    OnePerCore,
    /// Threads that serve one connection each at a time; so many.
    OneConnectionEach(usize),
}

/// What a model can speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// Pages and errors as HTTP has them.
    Http,
    /// A WebSocket that returns every message.
    Echo,
    /// Several connections at the same time.
    Together,
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
        &[Mechanism::Http, Mechanism::Echo, Mechanism::Together, Mechanism::Broadcast, Mechanism::Heartbeat];

    /// What a model of datagrams serves.
    const DATAGRAMS: &'static [Mechanism] =
        &[Mechanism::Together, Mechanism::UdpEcho, Mechanism::UdpBroadcast];

    /// What a ceiling serves.
    const CEILING: &'static [Mechanism] = &[Mechanism::Together, Mechanism::TcpEcho];
}

/// The model of that name, hidden ones included.
pub fn find(name: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| model.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_stands_with_its_family_and_after_the_one_that_it_adds_to() {
        for (place, model) in MODELS.iter().enumerate() {
            let before = &MODELS[..place];
            assert!(!before.iter().any(|other| other.name == model.name), "{} stands twice", model.name);
            if let Some(after) = model.after {
                assert!(
                    before.iter().any(|other| other.name == after),
                    "{after} does not come before {}",
                    model.name
                );
            }
            assert!(model.source.contains(&format!("name: \"{}\"", model.name)), "{}", model.name);
        }
        assert!(MODELS.is_sorted_by_key(|model| model.family));
    }
}
