//! One ring for each core, each with a listener and connections of its own.
//!
//! What `reactors` is to `epoll`, this is to `uring`: threads that share nothing but the port (SO_REUSEPORT) and, for broadcasts, a queue
//! into each loop. The eventfd that wakes a loop is one more thing that its ring is asked to look after.
//!
//! - Calls of one message: `io_uring_enter`, shared by all that is done and to be done on this ring at the time.
//! - Costs: as `uring`; a broadcast wakes each of the other loops that sleeps by a `write` to its eventfd.
//! - Limit: as `uring`, but for the one core.
//! - Choose it where `uring` is right and one core is not enough.

use std::io;
use std::sync::Arc;

use switchboard_proto::App;

use crate::crew::{self, Member};
use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers, completion, ring};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "uring-reactors",
    family: Family::Completion,
    after: Some("uring"),
    about: "a ring for each core, each with its own listener",
    waits_with: "io_uring_enter(2)",
    runs_as: "1 process, --workers threads",
    calls: &["io_uring_enter"],
    broadcast: "a queue into each loop, and an eventfd that wakes it",
    serves: Mechanism::SESSION,
    limits: &[
        "the kernel spreads connections by a hash: loops are loaded unevenly",
        "a loop that hangs keeps its connections, and publications for them fill the memory: threads cannot be killed",
        "Linux 6.1, and a container that allows it",
    ],
    failure_ends: "the whole server",
    workers: Workers::OnePerCore,
    reuses_port: true,
    busy_polls: true,
    hidden: false,
    source: include_str!("uring_reactors.rs"),
    obstacle: || ring::obstacle().or_else(Listener::obstacle),
    serve,
};

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    let workers = crew::workers(&app)?;
    let listeners = listener.times(workers)?;
    let parts = listeners.into_iter().zip(crew::members(&app, workers)?).collect();
    let (app, shutdown) = (&app, &shutdown);
    crew::run(app, shutdown, parts, |listener, member: Member| {
        let ring = completion::ring()?;
        Ok(move || completion::serve(ring, listener.into_tcp()?, app, shutdown, member.join()))
    })
}
