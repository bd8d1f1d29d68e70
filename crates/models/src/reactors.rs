//! One epoll loop for each core, each with a listener and connections of its own.
//!
//! One loop uses one core. Several loops that share nothing use several: each thread is an `epoll` server by itself, on the
//! same port (SO_REUSEPORT: the kernel spreads new connections over the listeners by a hash of their addresses), and a connection stays where it
//! was accepted. Only a broadcast concerns the others: it goes through a queue into each loop, whose eventfd wakes it.
//!
//! - Calls of one message: `epoll_wait` (shared by all that are ready), `recvfrom`, `sendto`. A broadcast: a `write` to each other
//!   loop's eventfd that is not awake already, and a `read` of it there.
//! - Costs: as `epoll`; connections are spread by chance, so that one loop may have more to do than another.
//! - Limit: none but the descriptors of each loop, which has a table of its own (`unshare(CLONE_FILES)`): so many loops hold so many times `ulimit -n`.
//! - Choose it where one core is not enough, and connections have little to do with each other.

use std::io;
use std::sync::Arc;

use switchboard_proto::App;

use crate::crew::{self, Member};
use crate::epoll::Epoll;
use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers, readiness};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "reactors",
    family: Family::Told,
    after: Some("epoll"),
    about: "an epoll loop for each core, each with its own listener",
    waits_with: "epoll_wait(2)",
    runs_as: "1 process, --workers threads",
    calls: &["epoll_wait", "recvfrom", "sendto"],
    broadcast: "a queue into each loop, and an eventfd that wakes it",
    serves: Mechanism::SESSION,
    limits: &[
        "the kernel spreads connections by a hash: loops are loaded unevenly",
        "a loop that hangs keeps its connections, and publications for them fill the memory: threads cannot be killed",
    ],
    failure_ends: "the whole server",
    workers: Workers::OnePerCore,
    reuses_port: true,
    busy_polls: true,
    hidden: false,
    source: include_str!("reactors.rs"),
    obstacle: Listener::obstacle,
    serve,
};

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    let workers = crew::workers(&app)?;
    let listeners = listener.times(workers)?;
    let parts = listeners.into_iter().zip(crew::members(&app, workers)?).collect();
    let (app, shutdown) = (&app, &shutdown);
    crew::run(app, shutdown, parts, |listener, member: Member| {
        let epoll = Epoll::new()?;
        Ok(move || readiness::serve_in(epoll, listener.into_tcp()?, app, shutdown, member.join(), None))
    })
}
