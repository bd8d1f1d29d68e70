//! What is answered to a datagram, and to whom: the same in every model that has one socket for everybody.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use switchboard_proto::datagram::RecentSenders;
use switchboard_proto::{App, PlainApp, Work};

use crate::limits::RepeatedLog;
use crate::loops::Loops;
use crate::{Shutdown, Tally};

/// How often a wait that nothing else can interrupt looks up to see whether the server is to stop.
pub(crate) const LOOK_UP: Duration = Duration::from_millis(100);

/// What a model of datagrams cannot do for the sake of what it must not do, among its limits.
pub(crate) const LIMIT_ON_LOOPS: &str = "datagrams from its own address or from ports below 1,024 are not answered, nor is one in 10,000 that a sender repeats: they may come from a loop of servers";

/// Longest datagram that there can be.
const MAX_DATAGRAM_BYTES: usize = 1 << 16;

/// The subscribers of a broadcast: whoever was heard from lately. Several workers share them.
pub(crate) type Senders = Arc<Mutex<RecentSenders<SocketAddr>>>;

/// One worker's view of the datagrams that come.
pub(crate) struct Datagrams {
    app: PlainApp,
    work: Work,
    /// Longest datagram that is answered.
    max_bytes: usize,
    senders: Senders,
    loops: Loops,
    pub(crate) tally: Tally,
    log: RepeatedLog,
}

impl Datagrams {
    /// For a socket that is bound to `own`.
    pub(crate) fn new(app: &App, senders: Senders, own: SocketAddr) -> Datagrams {
        Datagrams {
            app: app.plain,
            work: app.work,
            max_bytes: app.max_message_bytes.min(MAX_DATAGRAM_BYTES),
            senders,
            loops: Loops::new(own),
            tally: Tally::default(),
            log: RepeatedLog::default(),
        }
    }

    /// Room that a datagram needs: one byte more than is allowed, since the kernel cuts what does not fit and says nothing.
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.max_bytes + 1
    }

    /// Sends what a datagram asks for, to each receiver by `send`. One whose answer would come back for ever is dropped (see `loops.rs`).
    pub(crate) fn answer(
        &mut self,
        datagram: &[u8],
        sender: SocketAddr,
        now: Instant,
        mut send: impl FnMut(&[u8], SocketAddr) -> io::Result<()>,
    ) {
        if self.loops.is_service(sender) {
            self.log
                .log(now, &format!("a datagram names {sender} as its sender, which is no client: dropped"));
            return;
        }
        if datagram.len() > self.max_bytes {
            self.tally.truncated += 1;
            let max = self.max_bytes;
            self.log.log(now, &format!("a datagram from {sender} is longer than --max-message-bytes {max}"));
            return;
        }
        if self.loops.is_endless(datagram, sender) {
            self.log.log(now, &format!("the same datagram from {sender} again and again: dropped once"));
            return;
        }
        self.tally.messages += 1;
        self.tally.bytes += datagram.len() as u64;
        self.work.perform();
        if self.app == PlainApp::Echo {
            if let Err(error) = send(datagram, sender) {
                self.failed(sender, &error, now);
            }
            return;
        }
        let mut senders = self.senders.lock().expect("nobody panics while it holds the senders");
        if senders.heard(sender, now) {
            self.tally.connections += 1;
        }
        // An empty datagram says only that its sender is there: sent to all, it would cost N² sends to gather N
        // subscribers, and tell them nothing.
        if datagram.is_empty() {
            return;
        }
        let receivers: Vec<SocketAddr> = senders.present(now).copied().collect();
        drop(senders);
        for receiver in receivers {
            if let Err(error) = send(datagram, receiver) {
                self.failed(receiver, &error, now);
            }
        }
    }

    /// Takes note that a datagram could not be sent.
    pub(crate) fn failed(&mut self, receiver: SocketAddr, error: &io::Error, now: Instant) {
        self.tally.dropped += 1;
        self.log.log(now, &format!("cannot send to {receiver}: {error}"));
    }
}

/// Receives one datagram at a time from a socket that blocks, until the server is to stop.
pub(crate) fn serve_blocking(
    socket: &UdpSocket,
    mut datagrams: Datagrams,
    shutdown: &Shutdown,
) -> io::Result<Tally> {
    socket.set_read_timeout(Some(LOOK_UP))?;
    let mut buffer = vec![0; datagrams.buffer_bytes()];
    let mut looked_up = Instant::now();
    loop {
        let received = socket.recv_from(&mut buffer);
        let now = Instant::now();
        match received {
            Ok((bytes, sender)) => {
                datagrams
                    .answer(&buffer[..bytes], sender, now, |bytes, to| socket.send_to(bytes, to).map(drop));
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        if now.duration_since(looked_up) >= LOOK_UP {
            looked_up = now;
            if shutdown.is_triggered() {
                return Ok(datagrams.tally);
            }
        }
    }
}

/// The wait was interrupted, or somebody's port was closed when we answered; the socket is fine.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionRefused)
}
