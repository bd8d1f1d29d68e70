//! One connection of the load: how its bytes come and go.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};

use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};
use switchboard_proto::{Client, Kind, Output};

use crate::sequence::Sequence;
use crate::stamp::Stamp;

/// One connection.
pub(crate) struct Line {
    pub(crate) id: u32,
    pub(crate) stage: Stage,
    pub(crate) transport: Transport,
    /// Messages sent; the next one has this number.
    pub(crate) sent: u64,
    /// Messages that came back, or were given up, so that others may be sent in their place.
    pub(crate) answered: u64,
    /// What has come: of one's own messages, or of the publisher's.
    pub(crate) sequence: Sequence,
    /// Datagrams that are on their way and may be lost: number and time of sending. A connection loses nothing and needs no such
    /// list.
    pub(crate) under_way: VecDeque<(u64, u64)>,
    /// When the last message came.
    pub(crate) last_ns: u64,
    /// What it has heard of a broadcast within the window, and for how long it waited for that in all.
    pub(crate) heard: u64,
    pub(crate) waited_ns: u64,
    /// When it began to connect.
    pub(crate) since_ns: u64,
    /// Failures in a row, of connections that come and go.
    pub(crate) failures: u32,
}

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The kernel is connecting, since that time in ns.
    Connecting(u64),
    /// The upgrade is under way, since that time in ns.
    Upgrading(u64),
    /// Messages flow.
    Open,
    /// Its message has come back, and it is being closed to make room for the next one.
    Closing,
    /// It was refused, failed or ended.
    Gone,
}

/// What the bytes travel on.
pub(crate) enum Transport {
    WebSocket {
        stream: TcpStream,
        client: Box<Client>,
    },
    Tcp {
        stream: TcpStream,
        output: Output,
        partial: Vec<u8>,
    },
    Udp(UdpSocket),
    /// There is no connection yet.
    None,
}

impl Line {
    pub(crate) fn new(id: u32, transport: Transport, stage: Stage) -> Line {
        Line {
            id,
            stage,
            transport,
            sent: 0,
            answered: 0,
            sequence: Sequence::default(),
            under_way: VecDeque::new(),
            last_ns: 0,
            heard: 0,
            waited_ns: 0,
            since_ns: 0,
            failures: 0,
        }
    }

    /// Messages that have not come back.
    pub(crate) fn in_flight(&self) -> u64 {
        self.sent - self.answered
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match &mut self.transport {
            Transport::WebSocket { stream, .. } | Transport::Tcp { stream, .. } => {
                registry.register(stream, token, interest)
            }
            Transport::Udp(socket) => registry.register(socket, token, Interest::READABLE),
            Transport::None => Ok(()),
        }
    }

    /// Whether the kernel has finished to connect: an error says why it failed.
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        let (Transport::WebSocket { stream, .. } | Transport::Tcp { stream, .. }) = &self.transport else {
            return Ok(true);
        };
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads once. `Ok(0)` on a connection: the peer has ended.
    pub(crate) fn read(&mut self, scratch: &mut [u8]) -> io::Result<usize> {
        match &mut self.transport {
            Transport::WebSocket { stream, .. } | Transport::Tcp { stream, .. } => stream.read(scratch),
            Transport::Udp(socket) => socket.recv(scratch),
            Transport::None => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// Queues the next message, to leave with the next [`flush`](Line::flush). A datagram is made in `datagram`
    /// and leaves at once.
    pub(crate) fn send(&mut self, payload_bytes: usize, sent_ns: u64, datagram: &mut [u8]) -> io::Result<()> {
        let stamp = Stamp { connection: self.id, sequence: self.sent, sent_ns };
        match &mut self.transport {
            Transport::WebSocket { client, .. } => {
                client.send_with(Kind::Binary, payload_bytes, |space| stamp.write(space));
            }
            Transport::Tcp { output, .. } => {
                let tail = output.tail();
                let start = tail.len();
                tail.resize(start + payload_bytes, 0);
                stamp.write(&mut tail[start..]);
            }
            Transport::Udp(socket) => {
                stamp.write(datagram);
                match socket.send(datagram) {
                    // A full send buffer, or a port that was closed at the time: the datagram is lost.
                    Err(error)
                        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => {}
                    sent => drop(sent?),
                }
            }
            Transport::None => {}
        }
        self.sent += 1;
        Ok(())
    }

    /// Writes what is queued, as far as the peer takes it. Returns the number of bytes.
    pub(crate) fn flush(&mut self) -> io::Result<u64> {
        let (stream, output) = match &mut self.transport {
            Transport::WebSocket { stream, client } => (stream, client.output()),
            Transport::Tcp { stream, output, .. } => (stream, output),
            Transport::Udp(_) | Transport::None => return Ok(0),
        };
        let mut written = 0;
        while !output.is_empty() {
            let result = match output.single() {
                Some(bytes) => stream.write(bytes),
                None => {
                    let mut slices = [IoSlice::new(&[]); 16];
                    let used = output.slices(&mut slices);
                    stream.write_vectored(&slices[..used])
                }
            };
            match result {
                Ok(n) => {
                    output.consume(n);
                    written += n as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// Ends the connection.
    pub(crate) fn hang_up(&mut self, registry: &Registry) {
        // Either fails only where there is nothing left to end.
        match &mut self.transport {
            Transport::WebSocket { stream, .. } | Transport::Tcp { stream, .. } => {
                let _ = registry.deregister(stream);
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
            Transport::Udp(socket) => drop(registry.deregister(socket)),
            Transport::None => {}
        }
        // The socket itself goes, too: its place may be needed.
        self.transport = Transport::None;
    }

    /// Says that this socket is there, to a server that sends to whoever it has heard.
    pub(crate) fn announce(&self) {
        if let Transport::Udp(socket) = &self.transport {
            // An empty datagram. If it is lost the next one comes in time.
            let _ = socket.send(&[]);
        }
    }

    /// Queues a close frame, where there are such.
    pub(crate) fn say_goodbye(&mut self) {
        if let Transport::WebSocket { client, .. } = &mut self.transport {
            client.close(Some(1000));
        }
    }

    /// Says that nothing more will be sent, where there is no close frame for that.
    pub(crate) fn finish_sending(&mut self) {
        if let Transport::Tcp { stream, .. } = &mut self.transport {
            // It fails only where the connection is gone, which the next read finds.
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
    }

    /// Gives up on the oldest datagram if it is under way for longer than `patience_ns`, and returns when it was sent.
    pub(crate) fn give_up(&mut self, now_ns: u64, patience_ns: u64) -> Option<u64> {
        let (_, sent_ns) = *self.under_way.front()?;
        if now_ns.saturating_sub(sent_ns) <= patience_ns {
            return None;
        }
        self.under_way.pop_front();
        self.answered += 1;
        Some(sent_ns)
    }
}
