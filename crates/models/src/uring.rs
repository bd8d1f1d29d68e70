//! One loop that is told what has been done: io_uring(7).
//!
//! `epoll` tells who is ready, and then each read and each write is a call of its own. Here the loop says once what it wants (receive on this
//! connection until further notice, accept until further notice), the kernel does it when it can, and puts the result in
//! a queue that both can see. Answers gather in another queue, and one system call hands over all of them and waits for the next results.
//! With a thousand busy connections that is one call for a thousand messages.
//!
//! - Calls of one message: `io_uring_enter`, shared by all that is done and to be done at the time.
//! - Costs: an entry in each queue for each message; the kernel's work for a read and a write is the same as ever.
//!   Buffers belong to the kernel until their completion: what is sent must stay where it is, and what is received must be taken out soon.
//! - Limit: descriptors, and a kernel that has it and allows it (many containers do not).
//! - Choose it for many connections that are busy at the same time.

use std::io;
use std::sync::Arc;

use switchboard_proto::App;

use crate::crew::Crew;
use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers, completion, ring};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "uring",
    family: Family::Completion,
    after: Some("epoll"),
    about: "one loop that is told what has been done: multishot receives, batched sends",
    waits_with: "io_uring_enter(2)",
    runs_as: "1 process, 1 thread",
    calls: &["io_uring_enter"],
    broadcast: "the loop's own table, no locks; buffers are the kernel's until their completion",
    serves: Mechanism::SESSION,
    limits: &["one core", "Linux 6.1, and a container that allows it"],
    failure_ends: "the whole server",
    workers: Workers::None,
    reuses_port: false,
    busy_polls: true,
    hidden: false,
    source: include_str!("uring.rs"),
    obstacle: ring::obstacle,
    serve,
};

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    completion::serve(completion::ring()?, listener.into_tcp()?, &app, &shutdown, Crew::default())
}
