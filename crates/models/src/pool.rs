//! A fixed pool of threads, blocking reads.
//!
//! Making a thread for each connection costs time at the moment when somebody waits for it, and there is no end to how many
//! there may be. A pool has so many threads and no more: a connection goes through a queue to one that is free, which
//! serves it to its end and then takes the next. The bound is the point: the server knows what it can hold, and says no
//! at once to whoever is too much, instead of taking everybody in and serving nobody well.
//!
//! - Calls of one message: `recvfrom`, `sendto`; and two context switches. A connection: one `futex` to wake a thread.
//! - Costs: as `threads`, but a thread is made once, not for each connection; it is made when it is first needed.
//! - Limit: `--workers` connections at once (default: 512); one more is refused. A subscriber takes a second thread, to write.
//! - Choose it for many short connections whose work blocks. For long ones, as WebSockets are, it is `threads` with a lower limit.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender, unbounded};
use switchboard_proto::App;

use crate::accept::Acceptor;
use crate::hub::{Entry, Hub, STACK_BYTES};
use crate::limits::Limit;
use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers, crew};

/// Default number of threads of the pool.
const WORKERS: usize = 512;

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "pool",
    family: Family::Thread,
    after: Some("threads"),
    about: "a fixed pool of threads, each serves one connection at a time",
    waits_with: "recvfrom(2)",
    runs_as: "1 process, --workers threads at most",
    calls: &["recvfrom", "sendto"],
    broadcast: "a queue and a writing thread per subscriber",
    serves: Mechanism::SESSION,
    limits: &[
        "--workers connections at once (default: 512)",
        "threads: ulimit -u and kernel.threads-max",
        "a thread that hangs keeps its connection and its place in the pool, because threads cannot be killed",
    ],
    failure_ends: "the whole server",
    workers: Workers::OneConnectionEach(WORKERS),
    reuses_port: false,
    busy_polls: false,
    hidden: false,
    source: include_str!("pool.rs"),
    obstacle: Model::no_obstacle,
    serve,
};

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    let mut acceptor = Acceptor::new(listener.into_tcp()?, &app, None)?;
    let size = crew::pool(&app, WORKERS)?;
    let (queue, entries) = unbounded();
    let hub = Arc::new(Hub::new(&app));
    let mut pool = Pool { hub: hub.clone(), app, size, made: 0, busy: Arc::default(), queue, entries };
    while acceptor.wait(&shutdown)? {
        acceptor.accept(hub.len(), Instant::now(), |stream| pool.answer(stream));
    }
    let refused = acceptor.refused;
    drop(acceptor);
    hub.say_goodbye();
    let tally = hub.counted();
    Ok(Tally { refused: tally.refused + refused, ..tally })
}

struct Pool {
    hub: Arc<Hub>,
    app: Arc<App>,
    /// Threads that there may be.
    size: usize,
    /// Threads that there are.
    made: usize,
    /// Threads that have a connection, or are about to get the one in the queue.
    busy: Arc<AtomicUsize>,
    queue: Sender<Entry>,
    entries: Receiver<Entry>,
}

impl Pool {
    /// Gives a connection to a thread that is free, if there is one or can be one.
    fn answer(&mut self, stream: TcpStream) -> Result<(), (TcpStream, Limit)> {
        // Only this thread makes the number rise, so that what is free now is still free below.
        if self.busy.load(Ordering::Acquire) >= self.made {
            if self.made >= self.size {
                return Err((stream, Limit::Workers(self.size)));
            }
            if self.spawn().is_err() {
                return Err((stream, Limit::Threads));
            }
            self.made += 1;
        }
        if let Some(entry) = self.hub.enter(stream) {
            self.busy.fetch_add(1, Ordering::AcqRel);
            // It fails when no thread is left to receive, and this one holds a receiver itself.
            let _ = self.queue.send(entry);
        }
        Ok(())
    }

    fn spawn(&self) -> io::Result<()> {
        let (hub, app, worker) = (self.hub.clone(), self.app.clone(), self.made);
        let (entries, busy) = (self.entries.clone(), self.busy.clone());
        let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            if let Err(error) = crew::bind(&app, worker) {
                switchboard_console::log!("worker {worker} stays on any core: {error}");
            }
            while let Ok(entry) = entries.recv() {
                hub.serve(entry);
                busy.fetch_sub(1, Ordering::AcqRel);
            }
        });
        thread.map(drop)
    }
}
