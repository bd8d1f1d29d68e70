//! One connection at a time: nothing waits for anyone else.
//!
//! The loop of every first lesson: accept, serve to the end, accept the next. While somebody is served all others wait in the
//! kernel's queue of connections that nobody has accepted; they believe that they are connected, and hear nothing. It is the zero of the
//! series: whatever the other models spend on waiting for many, this one does not spend, and has nothing for it.
//!
//! - Calls of one message: `recvfrom`, `sendto`. A connection: `poll`, `accept4`, some to set it up, `close`.
//! - Costs: nothing but the work, for the one who is served; for everybody else, all the time that this one takes.
//! - Limit: one connection. A broadcast has nobody else to go to, so there is none.
//! - Choose it where a connection is one short question, and its answer needs no waiting (UNP, 30.5).

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::SockRef;
use switchboard_proto::App;

use crate::accept::Acceptor;
use crate::hub::Hub;
use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "iterative",
    family: Family::Iterative,
    after: None,
    about: "one connection after the other, each served to its end",
    waits_with: "recvfrom(2)",
    runs_as: "1 process, 1 thread; a second one waits for the end",
    calls: &["recvfrom", "sendto"],
    broadcast: "nothing: there is nobody else",
    serves: &[Mechanism::Http, Mechanism::Echo, Mechanism::Poll, Mechanism::Heartbeat],
    limits: &[
        "one connection at a time; the others wait unanswered",
        "no broadcast, event stream or long poll: a waiting subscriber would keep the publisher out",
        "no Socket.IO: its sessions need two connections at a time",
    ],
    failure_ends: "the whole server",
    workers: Workers::None,
    reuses_port: false,
    busy_polls: false,
    hidden: false,
    source: include_str!("iterative.rs"),
    obstacle: Model::no_obstacle,
    serve,
};

/// How soon a connection is told goodbye that was let in at the very end.
const GLANCE: Duration = Duration::from_millis(5);

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    let listener = listener.into_tcp()?;
    let theirs = listener.try_clone()?;
    let hub = Hub::new(&app);
    let is_over = AtomicBool::new(false);
    let mut acceptor = Acceptor::new(listener, &app, None)?;
    // The next one is looked at when this one has ended, and with it the question whether to go on.
    acceptor.batch = 1;
    thread::scope(|scope| {
        // Whoever is served blocks this thread, so that another must hear of the end.
        let ending = thread::Builder::new().spawn_scoped(scope, || {
            let mut fds = [PollFd::new(shutdown.as_fd(), PollFlags::POLLIN)];
            while poll(&mut fds, PollTimeout::NONE).is_err() {}
            // Nobody is let in any more, though the other thread still has the listener open.
            let _ = SockRef::from(&theirs).shutdown(std::net::Shutdown::Both);
            while !is_over.load(Ordering::Acquire) {
                hub.say_goodbye();
                thread::sleep(GLANCE);
            }
        })?;
        while acceptor.wait(&shutdown)? {
            acceptor.accept(0, Instant::now(), |stream| {
                if let Some(entry) = hub.enter(stream) {
                    hub.serve(entry);
                }
                Ok(())
            });
        }
        is_over.store(true, Ordering::Release);
        ending.join().expect("the goodbye does not panic");
        let tally = hub.counted();
        Ok(Tally { refused: tally.refused + acceptor.refused, ..tally })
    })
}
