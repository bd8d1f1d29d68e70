//! A fixed number of processes that accept from one listener, each with an epoll loop.
//!
//! The parent opens the listener and forks before anybody comes; each worker inherits it, and waits for it as for any other
//! descriptor. Whoever is woken first takes the connection and keeps it. Nothing is shared but the listener, so that nothing needs a lock,
//! a worker that dies takes only its own connections with it, and the parent makes another in its place. A broadcast has to travel: up a
//! socket pair to the parent and down to every worker.
//!
//! - Calls of one message: `epoll_wait` (shared by all that are ready), `recvfrom`, `sendto`. A broadcast: `sendmsg` to the parent,
//!   and there a `recvfrom` and a `sendmsg` for each worker.
//! - Costs: as `epoll-level`, and a process for each worker. The kernel wakes one waiter for a new connection (EPOLLEXCLUSIVE), as
//!   a rule the one that began to wait last: a worker with little to do gets little more.
//! - Limit: processes for workers, and each has its own descriptors.
//! - Choose it where workers must not be able to harm each other, or where one process has too few descriptors.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::unistd::Pid;
use switchboard_proto::App;

use crate::crew::{self, Crew, Elsewhere, Seat};
use crate::epoll_level::EpollLevel;
use crate::parent::{Parent, Role};
use crate::places::Places;
use crate::relay::{Relay, Up};
use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers, child, readiness};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "prefork",
    family: Family::Process,
    after: Some("fork"),
    about: "a fixed number of processes that accept from one listener, an epoll loop in each",
    waits_with: "epoll_wait(2)",
    runs_as: "--workers processes, and one that relays and makes new ones",
    calls: &["epoll_wait", "recvfrom", "sendto"],
    broadcast: "a relay in the parent: socket pairs, two hops for each worker",
    serves: Mechanism::SESSION,
    limits: &[
        "the worker that is woken takes the connection: workers are loaded unevenly",
        "a worker that takes nothing holds up all publishers, for at most --worker-patience",
        "each worker counts the connections of an address by itself (--max-per-address)",
    ],
    failure_ends: "the connections of that worker, which is replaced; if the parent fails, the whole server",
    workers: Workers::OnePerCore,
    reuses_port: false,
    busy_polls: true,
    hidden: false,
    source: include_str!("prefork.rs"),
    obstacle: Model::no_obstacle,
    serve,
};

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    let listener = listener.into_tcp()?;
    let listeners = (0..crew::workers(&app)?).map(|_| listener.try_clone()).collect::<io::Result<_>>()?;
    drop(listener);
    serve_with(listeners, true, &app, &shutdown)
}

/// What the parent's epoll calls the word to stop.
const SHUTDOWN: u64 = u64::MAX;

/// A worker that lived no longer than this is not replaced at once: what killed it will most likely kill the next.
const REST: Duration = Duration::from_secs(1);

/// Serves with a process for each listener; they may all be copies of one.
pub(crate) fn serve_with(
    listeners: Vec<TcpListener>,
    shares_listener: bool,
    app: &Arc<App>,
    shutdown: &Shutdown,
) -> io::Result<Tally> {
    // Who knows how many the others have can leave it to them when it has no descriptor left; and of a worker that dies it is known what goes with it.
    let places = Places::new(listeners.len(), app.max_connections.unwrap_or(usize::MAX))?;
    let mut parent = Parent::new(app)?;
    let app = &parent.app.clone();
    parent.epoll.add(shutdown.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, SHUTDOWN))?;
    let mut workers: Vec<(Pid, Instant)> = Vec::new();
    loop {
        let mut due = None;
        for (worker, listener) in listeners.iter().enumerate() {
            match workers.get(worker) {
                Some((pid, _)) if parent.has(*pid) => continue,
                Some((_, born)) if born.elapsed() < REST => {
                    due = readiness::earliest(due, Some(*born + REST));
                    continue;
                }
                _ => {}
            }
            if worker < workers.len() {
                let lost = places.clear(worker);
                parent.tally.lost += lost as u64;
                switchboard_console::log!("worker {worker} is replaced; {lost} connections ended with it");
            }
            let seat = Seat { places: places.clone(), worker, shares_listener };
            let is_alone = listeners.len() == 1;
            let made = parent.make(Role::Worker, |relay| {
                run(worker, listener, relay, Some(seat), is_alone, app, shutdown)
            });
            match made {
                Ok(pid) if worker < workers.len() => workers[worker] = (pid, Instant::now()),
                Ok(pid) => workers.push((pid, Instant::now())),
                // One that died is tried again later; but a server does not begin with fewer than it was told.
                Err(_) if worker < workers.len() => {
                    workers[worker].1 = Instant::now();
                    due = Some(Instant::now() + REST);
                }
                Err(limit) => {
                    parent.say_goodbye()?;
                    let wanted = listeners.len();
                    let sentence = limit.sentence(listener.as_raw_fd());
                    return Err(io::Error::other(format!(
                        "only {worker} of {wanted} workers can be made: {sentence}, or --workers {}",
                        worker.max(1)
                    )));
                }
            }
        }
        let ready = parent.wait(due)?;
        if ready.iter().any(|event| event.data() == SHUTDOWN) {
            break;
        }
        parent.handle(&ready);
    }
    drop(listeners);
    let is_gone = |worker: &usize| !parent.has(workers[*worker].0);
    let lost: usize = (0..workers.len()).filter(is_gone).map(|worker| places.clear(worker)).sum();
    parent.tally.lost += lost as u64;
    parent.epoll.delete(shutdown.as_fd())?;
    parent.say_goodbye()?;
    let tally =
        |pid| parent.buried_workers.iter().find(|(buried, _)| *buried == pid).map(|(_, tally)| *tally);
    let tallies: Vec<Tally> = workers.iter().map(|(pid, _)| tally(*pid).unwrap_or_default()).collect();
    crew::log_balance(&tallies);
    Ok(parent.tally)
}

/// The life of a worker. Returns the exit status.
fn run(
    worker: usize,
    listener: &TcpListener,
    relay: Relay,
    seat: Option<Seat>,
    is_alone: bool,
    app: &Arc<App>,
    shutdown: &Shutdown,
) -> i32 {
    let work = || -> io::Result<()> {
        let up = Elsewhere::as_fd(&relay).as_raw_fd();
        // A copy that the loop closes when nobody more is to be let in; the one that it was made from is closed here.
        let listener = listener.try_clone()?;
        child::close_all_but([listener.as_raw_fd(), up, shutdown.as_fd().as_raw_fd()]);
        crew::bind(app, worker)?;
        let report = relay.try_clone()?;
        let elsewhere = || Box::new(relay) as Box<dyn Elsewhere>;
        // The parent tells its children apart by itself.
        let crew = Crew { elsewhere: (!is_alone).then(elsewhere), seat, worker: 0 };
        let tally = readiness::serve_in(EpollLevel::new()?, listener, app, shutdown, crew, None)?;
        report.say(&Up::Tally(tally), |_| {})
    };
    match work() {
        Ok(()) => 0,
        Err(error) => {
            switchboard_console::log!("worker {worker} could not go on: {error}");
            1
        }
    }
}
