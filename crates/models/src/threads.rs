//! A thread per connection, blocking reads.
//!
//! The main thread accepts and gives each connection to a thread of its own, which reads, answers and reads again as if
//! there were nobody else; while it waits the kernel runs the others. What the connections share is memory (`hub`): a
//! broadcast goes through a queue for each subscriber to a second thread that writes, so that a subscriber which
//! does not read blocks nobody but itself.
//!
//! - Calls of one message: `recvfrom`, `sendto`; and two context switches.
//! - Costs: a stack and a kernel thread for each connection, a switch for each message; locks wherever state is shared.
//! - Limit: threads (`ulimit -u`, kernel.threads-max), mappings (vm.max_map_count), and the memory of their stacks.
//! - Choose it for some hundred connections whose work blocks anyway (databases, files).

use std::io;
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use switchboard_proto::App;

use crate::accept::Acceptor;
use crate::hub::{Hub, STACK_BYTES};
use crate::limits::{Limit, thread_ceiling};
use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "threads",
    family: Family::Thread,
    after: Some("fork"),
    about: "a thread per connection, blocking reads",
    waits_with: "recvfrom(2)",
    runs_as: "1 process, a thread for each connection",
    calls: &["recvfrom", "sendto"],
    broadcast: "a queue and a writing thread per subscriber",
    serves: Mechanism::SESSION,
    limits: &[
        "threads: ulimit -u and kernel.threads-max",
        "a stack per connection, a context switch per message",
        "a thread that hangs keeps its connection, because threads cannot be killed",
    ],
    failure_ends: "the whole server",
    workers: Workers::None,
    reuses_port: false,
    busy_polls: false,
    hidden: false,
    source: include_str!("threads.rs"),
    obstacle: Model::no_obstacle,
    serve,
};

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    let hub = Arc::new(Hub::new(&app));
    let ceiling = thread_ceiling();
    let mut acceptor = Acceptor::new(listener.into_tcp()?, &app, None)?;
    while acceptor.wait(&shutdown)? {
        acceptor.accept(hub.len(), Instant::now(), |stream| answer(&hub, ceiling, stream));
    }
    let refused = acceptor.refused;
    drop(acceptor);
    hub.say_goodbye();
    let tally = hub.counted();
    Ok(Tally { refused: tally.refused + refused, ..tally })
}

/// Gives a connection to a thread of its own.
fn answer(hub: &Arc<Hub>, ceiling: usize, stream: TcpStream) -> Result<(), (TcpStream, Limit)> {
    if hub.len() >= ceiling {
        return Err((stream, Limit::Threads));
    }
    let Some(entry) = hub.enter(stream) else { return Ok(()) };
    // A thread that cannot be made gives back what it was to have.
    let handed = Arc::new(Mutex::new(Some(entry)));
    let spawned = thread::Builder::new().stack_size(STACK_BYTES).spawn({
        let (hub, handed) = (hub.clone(), handed.clone());
        move || {
            let entry = handed.lock().expect("nobody panics here").take();
            entry.into_iter().for_each(|entry| hub.serve(entry));
        }
    });
    match spawned {
        Ok(_) => Ok(()),
        Err(_) => {
            let entry = handed.lock().expect("nobody panics here").take().expect("no thread took it");
            Err((hub.withdraw(entry), Limit::Threads))
        }
    }
}
