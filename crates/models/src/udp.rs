//! No connections at all: recvfrom(2) and sendto(2) on one socket.
//!
//! The kernel keeps one queue of datagrams for the socket, whoever sent them, so there is nobody to wait for in
//! particular and nothing to accept. Each datagram names its sender, and that is where the answer goes. Nothing is
//! promised: a datagram that finds the queue full is lost, and nobody is told.
//!
//! - Calls of one message: `recvfrom`, `sendto`.
//! - Costs: two calls a message, and nothing for a client that says nothing.
//! - A subscriber of a broadcast is whoever was heard from lately; an empty datagram announces and is not passed on.
//! - Limit: a datagram holds at most 65,507 bytes (IPv4); loss and order are the application's business.
//! - Choose it where a late message is worth nothing.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use switchboard_proto::datagram::RecentSenders;
use switchboard_proto::{App, UdpApp, Work};

use crate::limits::RepeatedLog;
use crate::{Listener, Mechanism, Model, Shutdown, Tally};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "udp",
    about: "one socket for everybody, no connections",
    waits_with: "recvfrom(2)",
    broadcast: "a sendto for everyone heard from within 30 seconds",
    serves: &[Mechanism::UdpEcho, Mechanism::UdpBroadcast],
    limits: &["65,507 bytes a datagram", "what finds the receive buffer full is lost"],
    hidden: false,
    serve,
};

/// How often the wait is interrupted to see whether the server is to stop.
const LOOK_UP: Duration = Duration::from_millis(100);

/// Longest datagram that there can be.
const MAX_DATAGRAM_BYTES: usize = 1 << 16;

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    let socket = listener.into_udp()?;
    socket.set_read_timeout(Some(LOOK_UP))?;
    let mut server = Server {
        socket,
        app: app.udp,
        work: app.work,
        max_bytes: app.max_message_bytes.min(MAX_DATAGRAM_BYTES),
        senders: RecentSenders::default(),
        tally: Tally::default(),
        log: RepeatedLog::default(),
    };
    // One byte more than is allowed: recvfrom cuts what does not fit, and says nothing.
    let mut buffer = vec![0; server.max_bytes + 1];
    let mut looked_up = Instant::now();
    loop {
        let received = server.socket.recv_from(&mut buffer);
        let now = Instant::now();
        match received {
            Ok((bytes, sender)) => server.answer(&buffer[..bytes], sender, now),
            // The wait was interrupted, or somebody's port was closed when we answered; the socket is fine.
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        if now.duration_since(looked_up) >= LOOK_UP {
            looked_up = now;
            if shutdown.is_triggered() {
                return Ok(server.tally);
            }
        }
    }
}

struct Server {
    socket: UdpSocket,
    app: UdpApp,
    work: Work,
    /// Longest datagram that is answered.
    max_bytes: usize,
    /// The subscribers of a broadcast.
    senders: RecentSenders<SocketAddr>,
    tally: Tally,
    log: RepeatedLog,
}

impl Server {
    fn answer(&mut self, datagram: &[u8], sender: SocketAddr, now: Instant) {
        if datagram.len() > self.max_bytes {
            self.tally.truncated += 1;
            let max = self.max_bytes;
            self.log.log(now, &format!("a datagram from {sender} is longer than --max-message-bytes {max}"));
            return;
        }
        self.tally.messages += 1;
        self.tally.bytes += datagram.len() as u64;
        self.work.perform();
        if self.app == UdpApp::Echo {
            self.send(datagram, sender, now);
            return;
        }
        if self.senders.heard(sender, now) {
            self.tally.connections += 1;
        }
        // An empty datagram says only that its sender is there: sent to all, it would cost N² sends to gather N
        // subscribers, and tell them nothing.
        if datagram.is_empty() {
            return;
        }
        let receivers: Vec<SocketAddr> = self.senders.present(now).copied().collect();
        for receiver in receivers {
            self.send(datagram, receiver, now);
        }
    }

    fn send(&mut self, datagram: &[u8], receiver: SocketAddr, now: Instant) {
        if let Err(error) = self.socket.send_to(datagram, receiver) {
            self.tally.dropped += 1;
            self.log.log(now, &format!("cannot send to {receiver}: {error}"));
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionRefused)
}
