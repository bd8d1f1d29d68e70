//! One loop waits and moves bytes; a pool of threads computes.
//!
//! A loop that computes hears nobody meanwhile: one message that takes a millisecond delays everyone by a millisecond. So
//! the loop hands what it has read, with the session that it belongs to, to a thread of a pool (`handoff`), and goes on; the thread hands
//! the session back with its answer, and wakes the loop to write it. That costs a queue, a wake-up of the thread and
//! a wake-up of the loop for each message: far more than a small message is worth. `--work-us` shows from where on it pays.
//!
//! - Calls of one message: `epoll_wait`, `recvfrom`, `write` (wakes the loop), `epoll_wait`, `read`, `sendto`; and a `futex` that wakes a
//!   thread and one in which it slept, unless one is awake still: a thread looks around a little (`sched_yield`) before it sleeps.
//! - Costs: two hand-overs between threads for each message, whatever the message costs.
//! - Limit: one core for waiting and moving; as many as there are for computing.
//! - Choose it where a message takes far longer to answer than to move, and other clients must not feel it.

use std::io;
use std::sync::Arc;
use std::thread;

use switchboard_proto::App;

use crate::crew::{self, Crew};
use crate::desk::{Desk, Job};
use crate::epoll::Epoll;
use crate::sync::Bell;
use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers, readiness};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "epoll-workers",
    family: Family::Told,
    after: Some("epoll"),
    about: "one epoll loop waits and moves bytes, a pool of threads computes",
    waits_with: "epoll_wait(2)",
    runs_as: "1 process, 1 thread that waits and --workers that compute",
    calls: &["epoll_wait", "recvfrom", "write", "epoll_wait", "read", "sendto"],
    broadcast: "the loop's own table; it waits for sessions that are with the pool",
    serves: Mechanism::SESSION,
    limits: &[
        "one core for waiting",
        "two hand-overs between threads for each message",
        "a thread of the pool that hangs keeps its connection, because threads cannot be killed",
    ],
    failure_ends: "the whole server",
    workers: Workers::OnePerCore,
    reuses_port: false,
    busy_polls: true,
    hidden: false,
    source: include_str!("epoll_workers.rs"),
    obstacle: Model::no_obstacle,
    serve,
};

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    let workers = crew::workers(&app)?;
    let (desk, bench) = Desk::new(Bell::new()?);
    thread::scope(|scope| {
        for worker in 0..workers {
            let (bench, app) = (bench.clone(), &app);
            let compute = move || {
                if let Err(error) = crew::bind(app, worker) {
                    switchboard_console::log!("worker {worker} stays on any core: {error}");
                }
                bench.work(Job::perform);
            };
            thread::Builder::new().name(format!("worker-{worker}")).spawn_scoped(scope, compute)?;
        }
        // The threads end when the desk is gone, at the end of this call.
        readiness::serve_in(Epoll::new()?, listener.into_tcp()?, &app, &shutdown, Crew::default(), Some(desk))
    })
}
