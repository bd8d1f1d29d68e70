//! One socket for everybody, and an epoll that tells when something has come.
//!
//! With one socket there is nothing to choose from, so that epoll seems to add nothing but a system call a datagram; and that is the lesson:
//! being told is worth something only where there is more than one thing to wait for. A server that has timers, other sockets, or an
//! eventfd that tells it to stop pays that price; this one is told to stop at once, where `udp` has to look up ten times a second.
//!
//! - Calls of one message: `epoll_wait`, `recvfrom`, `sendto`.
//! - Costs: as `udp`, and a call more for each wake-up: level-triggered, one datagram each.
//! - Limit: as `udp`.
//! - Choose it where datagrams are one thing among others that a loop waits for.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{SockaddrStorage, recvfrom};
use switchboard_proto::App;

use crate::datagrams::{Datagrams, LIMIT_ON_LOOPS, Senders, is_passing};
use crate::epoll_level::EpollLevel;
use crate::readiness::{Interest, Poller, wait};
use crate::udp_mmsg::socket_address;
use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "udp-epoll",
    family: Family::Datagram,
    after: Some("udp"),
    about: "one socket for everybody; epoll tells when a datagram has come",
    waits_with: "epoll_wait(2)",
    runs_as: "1 process, 1 thread",
    calls: &["epoll_wait", "recvfrom", "sendto"],
    broadcast: "a sendto for everyone heard from within 30 seconds",
    serves: Mechanism::DATAGRAMS,
    limits: &[
        "65,507 bytes per datagram",
        "a datagram that finds the receive buffer full is lost",
        LIMIT_ON_LOOPS,
    ],
    failure_ends: "the whole server",
    workers: Workers::None,
    reuses_port: false,
    busy_polls: true,
    hidden: false,
    source: include_str!("udp_epoll.rs"),
    obstacle: Model::no_obstacle,
    serve,
};

const SOCKET: usize = 0;
const SHUTDOWN: usize = 1;

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    let own = listener.local_addr();
    let socket = listener.into_udp()?;
    let mut datagrams = Datagrams::new(&app, Senders::default(), own);
    let mut buffer = vec![0; datagrams.buffer_bytes()];
    let mut epoll = EpollLevel::new()?;
    let to_read = Interest { read: true, write: false };
    epoll.watch(SOCKET, socket.as_fd(), to_read)?;
    epoll.watch(SHUTDOWN, shutdown.as_fd(), to_read)?;
    let mut ready = Vec::new();
    // What a peer has made impossible is reported here too, and is not worth a wait.
    let forever: Option<Duration> = None;
    loop {
        wait(&mut epoll, forever, app.busy_poll, &mut ready)?;
        let now = Instant::now();
        for event in ready.drain(..) {
            if event.key == SHUTDOWN {
                return Ok(datagrams.tally);
            }
            match recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut buffer) {
                Ok((bytes, sender)) => {
                    let Some(sender) = sender.as_ref().and_then(socket_address) else { continue };
                    let send = |bytes: &[u8], to| socket.send_to(bytes, to).map(drop);
                    datagrams.answer(&buffer[..bytes], sender, now, send);
                }
                Err(error) if is_passing(&error.into()) || error == Errno::EAGAIN => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
