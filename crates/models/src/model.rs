//! What can be said of a way of waiting without running it.

use std::io;
use std::sync::Arc;

use serde::Serialize;
use switchboard_proto::App;

use crate::{Listener, Shutdown, Tally, crew};

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
    /// What ends with the failure if its code panics, or if memory runs out and no single request can be refused.
    pub failure_ends: &'static str,
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
    pub(crate) const fn no_obstacle() -> Option<String> {
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
            Workers::OnePerCore => {
                let workers = crew::workers(app)?;
                crew::rehearse(workers)?;
                Ok(workers)
            }
            Workers::OneConnectionEach(usual) => crew::pool(app, usual),
        }
    }

    /// Whether each of its workers has a table of descriptors of its own, so that together they may hold several times `ulimit -n`: processes
    /// have, and threads with a listener each take one.
    pub fn has_descriptors_each(&self) -> bool {
        let are_processes = self.family == Family::Process && self.workers == Workers::OnePerCore;
        are_processes || self.reuses_port
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
    /// Events of a topic by asking again and again, and publishing by POST.
    Poll,
    /// Events of a topic by asking once for each.
    LongPoll,
    /// Events of a topic as a stream (server-sent events).
    EventStream,
    /// Socket.IO, over long polling and WebSocket, and bare Engine.IO.
    SocketIo,
    /// Pings for silent WebSockets.
    Heartbeat,
    /// Every datagram back to its sender.
    UdpEcho,
    /// Every datagram to everyone heard from lately.
    UdpBroadcast,
    /// Every byte back, without any protocol.
    TcpEcho,
    /// Every byte to everyone, without any protocol.
    TcpBroadcast,
}

impl Mechanism {
    /// What a model serves that carries the whole session.
    pub(crate) const SESSION: &'static [Mechanism] = &[
        Mechanism::Http,
        Mechanism::Echo,
        Mechanism::Together,
        Mechanism::Broadcast,
        Mechanism::Poll,
        Mechanism::LongPoll,
        Mechanism::EventStream,
        Mechanism::SocketIo,
        Mechanism::Heartbeat,
    ];

    /// What a model of datagrams serves.
    pub(crate) const DATAGRAMS: &'static [Mechanism] =
        &[Mechanism::Together, Mechanism::UdpEcho, Mechanism::UdpBroadcast];
}
