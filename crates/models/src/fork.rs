//! A process per connection, blocking reads.
//!
//! The parent accepts and forks; the child has the connection to itself, reads, answers and reads again as if there were
//! nobody else. Nothing is shared, so nothing needs a lock, and a child that crashes takes one connection with it. The
//! price is that a broadcast must travel: up a socket pair to the parent, and down another to every child.
//!
//! - Calls of one message: `recvfrom`, `sendto`; and two context switches. A broadcast: `sendmsg` upwards, then for each
//!   subscriber `sendmsg` in the parent and `recvfrom` and `sendto` in its child.
//! - Costs: a `fork` for each connection (its page tables are copied), an address space for each connection.
//! - Limit: processes (`ulimit -u`, kernel.pid_max), and a descriptor in the parent for each child.
//! - Choose it where connections must not be able to harm each other.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use nix::sys::epoll::{EpollEvent, EpollFlags};
use switchboard_proto::App;

use crate::accept::Acceptor;
use crate::parent::Parent;
use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "fork",
    family: Family::Process,
    after: Some("iterative"),
    about: "a process per connection, blocking reads",
    waits_with: "recvfrom(2)",
    runs_as: "a process for each connection, and one that accepts",
    calls: &["recvfrom", "sendto"],
    broadcast: "a relay in the parent: socket pairs, two hops",
    serves: Mechanism::SESSION,
    limits: &[
        "processes: ulimit -u and kernel.pid_max",
        "an address space per connection, a fork per accept",
    ],
    failure_ends: "that connection, which is a process; if the parent fails, the whole server",
    workers: Workers::None,
    reuses_port: false,
    busy_polls: false,
    hidden: false,
    source: include_str!("fork.rs"),
    obstacle: Model::no_obstacle,
    serve,
};

const LISTENER: u64 = u64::MAX;
const SHUTDOWN: u64 = u64::MAX - 1;
/// Below this an event's number is a child's.
pub(crate) const CHILD_ENDED: u64 = u64::MAX - 2;

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    let mut acceptor = Acceptor::new(listener.into_tcp()?, &app, None)?;
    let mut parent = Parent::new(&app)?;
    parent.epoll.add(acceptor.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    parent.epoll.add(shutdown.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, SHUTDOWN))?;
    let mut is_listening = true;
    loop {
        let due = acceptor.poll_timeout();
        let ready = parent.wait(due)?;
        let now = Instant::now();
        if ready.iter().any(|event| event.data() == SHUTDOWN) {
            break;
        }
        parent.handle(&ready);
        let is_due = acceptor.poll_timeout().is_some_and(|due| due <= now);
        if is_due || ready.iter().any(|event| event.data() == LISTENER) {
            let open = parent.children.len();
            acceptor.accept(open, now, |stream| parent.answer(stream));
        }
        if is_listening == acceptor.is_resting() {
            is_listening = !is_listening;
            let flags = if is_listening { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
            parent.epoll.modify(acceptor.as_fd(), &mut EpollEvent::new(flags, LISTENER))?;
        }
    }
    parent.epoll.delete(shutdown.as_fd())?;
    let refused = acceptor.refused;
    drop(acceptor);
    parent.say_goodbye()?;
    parent.tally.refused += refused;
    Ok(parent.tally)
}
