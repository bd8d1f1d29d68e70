//! A fixed number of processes with a listener each, all on one port.
//!
//! In `prefork` the workers wait for one listener, and whoever is woken first takes what comes. With SO_REUSEPORT (socket(7)) each has a
//! listener of its own on the same port, and the kernel decides by a hash of the addresses and ports which queue a new connection stands in.
//! So connections are spread by chance and evenly, whoever is busy; a connection in the queue of a worker that is stuck waits for that worker,
//! though others have nothing to do. The log says at the end how many each had.
//!
//! - Calls of one message: `epoll_wait` (shared by all that are ready), `recvfrom`, `sendto`. A broadcast: as `prefork`.
//! - Costs: as `prefork`.
//! - Limit: as `prefork`. The listeners are the parent's, so that those who wait for a worker that died find the next one.
//! - Choose it over `prefork` where many short connections come: nobody fights over one queue.

use std::io;
use std::sync::Arc;

use switchboard_proto::App;

use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers, crew, prefork};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "prefork-reuseport",
    family: Family::Process,
    after: Some("prefork"),
    about: "a fixed number of processes with a listener each on one port, an epoll loop in each",
    waits_with: "epoll_wait(2)",
    runs_as: "--workers processes, and one that relays and makes new ones",
    calls: &["epoll_wait", "recvfrom", "sendto"],
    broadcast: "a relay in the parent: socket pairs, two hops for each worker",
    serves: Mechanism::SESSION,
    limits: &[
        "the kernel spreads connections by a hash: a connection that waits for a busy worker is not given to an idle one",
        "a worker that takes nothing holds up all publishers, for at most --worker-patience",
        "each worker counts the connections of an address by itself (--max-per-address)",
    ],
    failure_ends: "the connections of that worker, which is replaced; if the parent fails, the whole server",
    workers: Workers::OnePerCore,
    reuses_port: true,
    busy_polls: true,
    hidden: false,
    source: include_str!("prefork_reuseport.rs"),
    obstacle: Listener::obstacle,
    serve,
};

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    let listeners = listener.times(crew::workers(&app)?)?;
    let listeners = listeners.into_iter().map(Listener::into_tcp).collect::<io::Result<_>>()?;
    prefork::serve_with(listeners, false, &app, &shutdown)
}
