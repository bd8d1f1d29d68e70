//! A socket for each core, all on one port.
//!
//! A socket has one queue and one lock, and one thread at a time takes from it. With SO_REUSEPORT (socket(7)) each thread has a socket of its
//! own on the same port, and the kernel decides by a hash of the addresses which one a datagram goes to: whoever sends always reaches the same.
//! The threads share nothing, but for the table of recent senders in a broadcast.
//!
//! - Calls of one message: `recvfrom`, `sendto`.
//! - Costs: as `udp`; senders are spread by chance, so that one thread may have more to do than another.
//! - Limit: as `udp`, for each socket.
//! - Choose it where one core cannot take in what comes.

use std::io;
use std::sync::Arc;

use switchboard_proto::App;

use crate::datagrams::{Datagrams, LIMIT_ON_LOOPS, Senders, serve_blocking};
use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers, crew};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "udp-reuseport",
    family: Family::Datagram,
    after: Some("udp"),
    about: "a socket for each core, all on one port",
    waits_with: "recvfrom(2)",
    runs_as: "1 process, --workers threads",
    calls: &["recvfrom", "sendto"],
    broadcast: "a sendto for everyone heard from within 30 seconds; the table of them is shared",
    serves: Mechanism::DATAGRAMS,
    limits: &[
        "65,507 bytes per datagram",
        "a datagram that finds its socket's receive buffer full is lost, even if another socket's is empty",
        LIMIT_ON_LOOPS,
    ],
    failure_ends: "the whole server",
    workers: Workers::OnePerCore,
    reuses_port: true,
    busy_polls: false,
    hidden: false,
    source: include_str!("udp_reuseport.rs"),
    obstacle: Listener::obstacle,
    serve,
};

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    let listeners = listener.times(crew::workers(&app)?)?;
    let parts = listeners.into_iter().map(|listener| (listener, ())).collect();
    let senders = Senders::default();
    crew::run(&app, &shutdown, parts, |listener, ()| {
        let own = listener.local_addr();
        let (socket, datagrams) = (listener.into_udp()?, Datagrams::new(&app, senders.clone(), own));
        let shutdown = &shutdown;
        Ok(move || serve_blocking(&socket, datagrams, shutdown))
    })
}
