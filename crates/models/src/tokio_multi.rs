//! A task for each connection, on a runtime whose threads steal work from each other.
//!
//! The tasks are those of `tokio`, to the letter. The runtime has a thread for each core, each with a queue of tasks that can go on; one that
//! has nothing to do takes half of another's queue. So no core is idle while another has a queue, which `reactors` cannot promise;
//! in return a connection moves between cores, and everything that tasks share must bear it.
//!
//! - Calls of one message: `epoll_wait` (shared by all that are ready), `recvfrom`, `sendto`; and now and then a `futex` or a `write` that wakes another thread.
//! - Costs: as `tokio`, and atomics and wake-ups between threads.
//! - Limit: none but the descriptors of the process.
//! - Choose it where messages take different times, and nobody can say beforehand which connections will be busy.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::tokio::runtime::Builder;
use switchboard_proto::App;

use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers, crew, tasks};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "tokio-multi",
    family: Family::Tasks,
    after: Some("tokio"),
    about: "a task per connection, on a runtime whose threads steal work from each other",
    waits_with: "epoll_wait(2), in the runtime",
    runs_as: "1 process, --workers threads and one that accepts",
    calls: &["epoll_wait", "recvfrom", "sendto"],
    broadcast: "a channel from which each subscriber's task reads at its own pace",
    serves: Mechanism::SESSION,
    limits: &[
        "state shared between tasks must be thread-safe",
        "a task that hangs keeps a thread of the runtime, because neither can be killed",
    ],
    failure_ends: "the whole server",
    workers: Workers::OnePerCore,
    reuses_port: false,
    busy_polls: false,
    hidden: false,
    source: include_str!("tokio_multi.rs"),
    obstacle: Model::no_obstacle,
    serve,
};

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    let (next, theirs) = (AtomicUsize::new(0), app.clone());
    let runtime = Builder::new_multi_thread()
        .worker_threads(crew::workers(&app)?)
        .on_thread_start(move || {
            let worker = next.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = crew::bind(&theirs, worker) {
                switchboard_console::log!("worker {worker} stays on any core: {error}");
            }
        })
        .enable_io()
        .enable_time()
        .build()?;
    tasks::serve(&runtime, listener, &app, &shutdown)
}
