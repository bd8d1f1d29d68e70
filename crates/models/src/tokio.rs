//! A task for each connection, on a runtime of one thread.
//!
//! It is `epoll` again, with the loop out of sight: the runtime waits, and resumes the tasks whose connections are ready. What a connection does
//! stands in one function from its first byte to its last (`tasks`), as in `threads`; what it costs is its state, as in `epoll`. The price is
//! what the runtime does between the two: a queue of tasks, a timer wheel, a waker for each wait.
//!
//! - Calls of one message: `epoll_wait` (shared by all that are ready), `recvfrom`, `sendto`.
//! - Costs: as `epoll`, and for each message a task is woken, queued and resumed.
//! - Limit: none but the descriptors of the process; one core.
//! - Choose it where what happens on a connection is a story with several steps, and one core is enough.

use std::io;
use std::sync::Arc;

use ::tokio::runtime::Builder;
use switchboard_proto::App;

use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers, tasks};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "tokio",
    family: Family::Tasks,
    after: Some("epoll"),
    about: "a task per connection, on a runtime of one thread",
    waits_with: "epoll_wait(2), in the runtime",
    runs_as: "1 process, 1 thread",
    calls: &["epoll_wait", "recvfrom", "sendto"],
    broadcast: "a channel from which each subscriber's task reads at its own pace",
    serves: Mechanism::SESSION,
    limits: &["one core"],
    failure_ends: "the whole server",
    workers: Workers::None,
    reuses_port: false,
    busy_polls: false,
    hidden: false,
    source: include_str!("tokio.rs"),
    obstacle: Model::no_obstacle,
    serve,
};

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    tasks::serve(&runtime, listener, &app, &shutdown)
}
