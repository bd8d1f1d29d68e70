//! No connections at all: recvfrom(2) and sendto(2) on one socket.
//!
//! The kernel keeps one queue of datagrams for the socket, whoever sent them, so there is nobody to wait for in
//! particular and nothing to accept. Each datagram names its sender, and that is where the answer goes. Nothing is
//! promised: a datagram that finds the queue full is lost, and nobody is told.
//!
//! - Calls of one message: `recvfrom`, `sendto`.
//! - Costs: two calls a message, and nothing for a client that says nothing.
//! - A subscriber of a broadcast is whoever was heard from lately; an empty datagram announces and is not passed on.
//! - Limit: a datagram holds at most 65,507 bytes (IPv4); loss and order are the application's business.
//! - Choose it where a late message is worth nothing.

use std::io;
use std::sync::Arc;

use switchboard_proto::App;

use crate::datagrams::{Datagrams, LIMIT_ON_LOOPS, Senders, serve_blocking};
use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "udp",
    family: Family::Datagram,
    after: None,
    about: "one socket for everybody, no connections",
    waits_with: "recvfrom(2)",
    runs_as: "1 process, 1 thread",
    calls: &["recvfrom", "sendto"],
    broadcast: "a sendto for everyone heard from within 30 seconds",
    serves: Mechanism::DATAGRAMS,
    limits: &[
        "65,507 bytes per datagram",
        "a datagram that finds the receive buffer full is lost",
        LIMIT_ON_LOOPS,
    ],
    failure_ends: "the whole server",
    workers: Workers::None,
    reuses_port: false,
    busy_polls: false,
    hidden: false,
    source: include_str!("udp.rs"),
    obstacle: Model::no_obstacle,
    serve,
};

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    let own = listener.local_addr();
    serve_blocking(&listener.into_udp()?, Datagrams::new(&app, Senders::default(), own), &shutdown)
}
