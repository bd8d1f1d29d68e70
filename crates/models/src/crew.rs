//! Several workers that are one server: how many there are, where they run, and how they share an exchange.

use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crossbeam::channel::bounded;
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::unistd::{Pid, close};
use switchboard_proto::{App, Effect, Port, Request};

use crate::limits::soft_limit;
use crate::places::Places;
use crate::post::{Post, PostOffice};
use crate::{Listener, Shutdown, Tally};

/// Descriptors that a worker takes for itself: a listener, what it waits with, what wakes it, and what that leaves open.
const DESCRIPTORS_PER_WORKER: u64 = 4;

const REHEARSAL_STACK_BYTES: usize = 16 << 10;

/// What one worker has of the others. A loop that is the whole server has nothing of this.
#[derive(Default)]
pub(crate) struct Crew {
    /// The way to the exchange that all share.
    pub(crate) elsewhere: Option<Box<dyn Elsewhere>>,
    /// The worker's number and the places that all share, if connections are limited.
    pub(crate) seat: Option<Seat>,
    /// The number by which the exchange knows this worker, where it has to know it.
    pub(crate) worker: usize,
}

/// A worker's part in the connections that all hold together.
#[derive(Clone)]
pub(crate) struct Seat {
    pub(crate) places: Places,
    pub(crate) worker: usize,
    /// Whether what this worker leaves in the queue another can take.
    pub(crate) shares_listener: bool,
}

/// How a worker reaches the exchange that it shares with others. Every worker gets everything that is published, in one order, and the answers to what its
/// own connections ask.
pub(crate) trait Elsewhere {
    /// What is readable when something has come.
    fn as_fd(&self) -> BorrowedFd<'_>;

    /// Asks on behalf of a connection. What follows is to be received.
    fn ask(&mut self, port: Port, request: Request, now: Instant);

    /// Hands over what came. `is_called`: the descriptor was readable.
    fn receive(&mut self, is_called: bool, now: Instant, take: &mut dyn FnMut(Effect));

    /// When [`handle_timeout`](Elsewhere::handle_timeout) has something to do, if that is this worker's business.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Lets the exchange do what is due.
    fn handle_timeout(&mut self, _now: Instant) {}
}

/// What each of several loops in one process has of the others.
///
/// # Errors
/// The system's, when it has no descriptor left.
pub(crate) fn members(app: &Arc<App>, workers: usize) -> io::Result<Vec<Member>> {
    let post = Post::new(app, workers)?;
    let places = app.max_connections.map(|max| Places::new(workers, max)).transpose()?;
    let member = |worker| Member { post: post.clone(), places: places.clone(), worker };
    Ok((0..workers).map(member).collect())
}

/// What a thread takes with it to become one of the crew.
pub(crate) struct Member {
    post: Arc<Post>,
    places: Option<Places>,
    worker: usize,
}

impl Member {
    pub(crate) fn join(self) -> Crew {
        let Member { post, places, worker } = self;
        // A loop that is alone delivers by itself, at once.
        let is_alone = post.workers() == 1;
        let office = || Box::new(PostOffice::new(post, worker)) as Box<dyn Elsewhere>;
        Crew {
            elsewhere: (!is_alone).then(office),
            seat: places.map(|places| Seat { places, worker, shares_listener: false }),
            worker,
        }
    }
}

/// How many workers there are to be: `--workers`, or one for each core that the process may use.
///
/// # Errors
/// More than there are descriptors for.
pub(crate) fn workers(app: &App) -> io::Result<usize> {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    let workers = app.workers.unwrap_or_else(cores);
    let descriptors = soft_limit() as u64;
    let most = (descriptors / (2 * DESCRIPTORS_PER_WORKER)).max(1);
    if workers as u64 > most {
        return Err(io::Error::other(format!(
            "{workers} workers need {} descriptors and leave none for connections: ulimit -n is {descriptors}; --workers {most} or fewer",
            workers as u64 * DESCRIPTORS_PER_WORKER
        )));
    }
    Ok(workers)
}

/// Makes a thread for each worker and lets it go again: so that a server that cannot have them says so before it promises anything.
///
/// # Errors
/// Fewer than these can be made, whether as threads or as processes, since the system counts both alike (RLIMIT_NPROC in getrlimit(2)).
pub(crate) fn rehearse(workers: usize) -> io::Result<()> {
    // Nothing is ever sent: what is heard is that the sender is gone.
    let (may_end, end) = bounded::<()>(0);
    let mut threads = Vec::new();
    let mut made = Ok(());
    while made.is_ok() && threads.len() < workers {
        let end = end.clone();
        let rest = move || end.recv().unwrap_or_default();
        made = match thread::Builder::new().stack_size(REHEARSAL_STACK_BYTES).spawn(rest) {
            Ok(thread) => {
                threads.push(thread);
                Ok(())
            }
            Err(error) => Err(too_few(threads.len(), workers, &error)),
        };
    }
    drop(may_end);
    threads.into_iter().for_each(|thread| thread.join().expect("no thread panics that does nothing"));
    made
}

fn too_few(made: usize, wanted: usize, error: &dyn Display) -> io::Error {
    let enough = made.max(1);
    io::Error::other(format!(
        "only {made} of {wanted} workers can be made: {error}; see ulimit -u, or --workers {enough}"
    ))
}

/// How many threads a pool may have that serve a connection each: `--workers`, or `usual` as far as the system allows.
///
/// # Errors
/// More than the process can have.
pub(crate) fn pool(app: &App, usual: usize) -> io::Result<usize> {
    let most = crate::limits::thread_ceiling();
    let workers = app.workers.unwrap_or(usual.min(most));
    if workers > most {
        return Err(io::Error::other(format!(
            "{workers} workers need more memory mappings than vm.max_map_count allows; --workers {most} or fewer"
        )));
    }
    Ok(workers)
}

/// Binds the thread that calls this to the core that is this worker's, if cores were named.
pub(crate) fn bind(app: &App, worker: usize) -> io::Result<()> {
    let Some(cpu) = app.cpus.get(worker % app.cpus.len().max(1)) else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(*cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Keeps this process, and all that it makes, on these cores.
///
/// # Errors
/// A sentence that names the one that it may not use, and those that it may; or the system's.
pub fn confine(cpus: &[usize]) -> Result<(), String> {
    let allowed = sched_getaffinity(Pid::from_raw(0))
        .map_err(|error| format!("cannot tell which cores there are: {error}"))?;
    let is_there = |cpu: usize| cpu < CpuSet::count() && allowed.is_set(cpu).unwrap_or(false);
    if let Some(cpu) = cpus.iter().find(|cpu| !is_there(**cpu)) {
        let there: Vec<String> =
            (0..CpuSet::count()).filter(|cpu| is_there(*cpu)).map(|cpu| cpu.to_string()).collect();
        let there = there.join(", ");
        return Err(format!("core {cpu} does not exist, or this process may not use it; it may use {there}"));
    }
    let mut set = CpuSet::new();
    let kept = cpus
        .iter()
        .try_for_each(|cpu| set.set(*cpu))
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    kept.map_err(|error| format!("cannot keep to these cores: {error}"))
}

/// Runs a thread for each worker until all have ended, and adds up what they counted. If one fails the others are told to stop.
///
/// `prepare` makes what a worker needs, and what it returns serves: nobody is served before all are prepared, or the connections
/// of the first could take the descriptors that the last needs to begin.
///
/// Each worker has a table of descriptors of its own, so that `ulimit -n` is what each may hold and not all together: what a thread opens is
/// known to no other. Of the listeners it keeps its own, or a port would stay open for as long as anybody has a copy.
///
/// # Errors
/// The first worker's that failed; or that a thread cannot be made, with the limit.
pub(crate) fn run<T: Send, S: FnOnce() -> io::Result<Tally>>(
    app: &App,
    shutdown: &Shutdown,
    parts: Vec<(Listener, T)>,
    prepare: impl Fn(Listener, T) -> io::Result<S> + Sync,
) -> io::Result<Tally> {
    let prepare = &prepare;
    let listeners: Vec<RawFd> = parts.iter().map(|(listener, _)| listener.as_fd().as_raw_fd()).collect();
    let listeners = &listeners;
    // Nothing is ever sent: what is heard is that the last sender is gone.
    let (is_prepared, all_are_prepared) = bounded(parts.len());
    let (may_begin, begin) = bounded::<()>(0);
    let tallies: Vec<io::Result<Tally>> = thread::scope(|scope| {
        let wanted = parts.len();
        let mut threads = Vec::new();
        for (worker, (listener, part)) in parts.into_iter().enumerate() {
            let (is_prepared, begin) = (is_prepared.clone(), begin.clone());
            let spawned =
                thread::Builder::new().name(format!("worker-{worker}")).spawn_scoped(scope, move || {
                    let others = listeners.iter().enumerate().filter(|(other, _)| *other != worker);
                    let has_own_table = wanted > 1 && own_descriptors(others.map(|(_, fd)| *fd));
                    let prepared = bind(app, worker).and_then(|()| prepare(listener, part));
                    is_prepared
                        .send(has_own_table)
                        .expect("the receiver is in the function that waits for this thread");
                    drop(is_prepared);
                    let _ = begin.recv();
                    let result = prepared.and_then(|serve| serve());
                    if result.is_err() {
                        shutdown.trigger();
                    }
                    result
                });
            match spawned {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    shutdown.trigger();
                    drop(may_begin);
                    let mut results: Vec<io::Result<Tally>> = vec![Err(too_few(worker, wanted, &error))];
                    results
                        .extend(threads.into_iter().map(|thread| thread.join().expect("no worker panics")));
                    return results;
                }
            }
        }
        drop(is_prepared);
        // Where one shares this thread's table its listener must stay.
        if all_are_prepared.iter().all(|has_own_table| has_own_table) {
            close_copies(listeners.iter().copied());
        } else if wanted > 1 {
            switchboard_console::log!(
                "unshare(CLONE_FILES) is not permitted: all workers together may hold {} descriptors",
                soft_limit()
            );
        }
        drop(may_begin);
        threads.into_iter().map(|thread| thread.join().expect("no worker panics")).collect()
    });
    let tallies = tallies.into_iter().collect::<io::Result<Vec<Tally>>>()?;
    log_balance(&tallies);
    Ok(tallies.into_iter().fold(Tally::default(), Tally::plus))
}

/// Gives the thread that calls this a table of descriptors of its own (unshare(2)), without `others`. False: the system does not let it, as in
/// some containers.
fn own_descriptors(others: impl Iterator<Item = RawFd>) -> bool {
    let is_alone = unshare(CloneFlags::CLONE_FILES).is_ok();
    if is_alone {
        close_copies(others);
    }
    is_alone
}

/// Whether threads may have tables of descriptors of their own here.
pub fn threads_may_have_descriptors_each() -> bool {
    let thread = thread::Builder::new().spawn(|| own_descriptors(std::iter::empty()));
    thread.is_ok_and(|thread| thread.join().is_ok_and(|is_alone| is_alone))
}

/// Closes descriptors in this thread's table that belong to threads with tables of their own.
fn close_copies(fds: impl Iterator<Item = RawFd>) {
    // It fails only where there is nothing to close.
    fds.for_each(|fd| {
        let _ = close(fd);
    });
}

/// Says how connections were spread over the workers, which nobody decided but the kernel.
pub(crate) fn log_balance(tallies: &[Tally]) {
    let counts: Vec<String> = tallies.iter().map(|tally| tally.connections.to_string()).collect();
    switchboard_console::log!("connections by worker: {}", counts.join(" "));
}
