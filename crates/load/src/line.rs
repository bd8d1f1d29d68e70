//! One connection of the load: how its bytes come and go.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::time::Duration;

use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};
use switchboard_proto::{Client, Kind, Output, PollingClient, Side, UpgradingClient};

use crate::sequence::Sequence;
use crate::stamp::Stamp;
use crate::text;
use crate::web::{Feed, Web};

/// Stands in the token of events on the second of two connections.
pub(crate) const POST_SIDE: usize = 1 << 62;

/// One connection.
pub(crate) struct Line {
    pub(crate) id: u32,
    /// It publishes and is none of those that were asked for: they cannot.
    pub(crate) is_publisher: bool,
    pub(crate) stage: Stage,
    pub(crate) transport: Transport,
    /// Messages sent; the next one has this number.
    pub(crate) sent: u64,
    /// Messages that came back, or were given up, so that others may be sent in their place.
    pub(crate) answered: u64,
    /// Others were sent in the place of the messages below this number that had not come back by then.
    pub(crate) given_up: u64,
    /// Which of the server's addresses it connects to.
    pub(crate) address: usize,
    /// What has come: of one's own messages, or of the publisher's.
    pub(crate) sequence: Sequence,
    /// Datagrams that are on their way and may be lost, or requests whose answers do not say when they were made: number and time of
    /// sending. Other connections lose nothing and need no such list.
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
    /// What a WebSocket has said of where the topic stands, if it says that.
    pub(crate) feed: Option<Box<Feed>>,
    /// It had lost the server; `since_ns` is when it began to come again.
    pub(crate) has_come_again: bool,
    /// The longest time for which a receiver of datagrams heard nothing.
    pub(crate) silence_ns: u64,
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
    Web {
        stream: TcpStream,
        client: Box<Web>,
    },
    /// Two connections, in the order of [`Side`].
    Polling {
        streams: Box<[TcpStream; 2]>,
        client: Box<PollingClient>,
    },
    /// Two connections: the one that is to become a WebSocket, and the one on which the session is opened. This becomes the first of all.
    Upgrading {
        streams: Box<[TcpStream; 2]>,
        client: Box<UpgradingClient>,
    },
    /// There is no connection yet.
    None,
}

impl Line {
    pub(crate) fn new(id: u32, transport: Transport, stage: Stage) -> Line {
        Line {
            id,
            is_publisher: false,
            stage,
            transport,
            sent: 0,
            answered: 0,
            given_up: 0,
            address: 0,
            sequence: Sequence::default(),
            under_way: VecDeque::new(),
            last_ns: 0,
            heard: 0,
            waited_ns: 0,
            since_ns: 0,
            failures: 0,
            feed: None,
            has_come_again: false,
            silence_ns: 0,
        }
    }

    /// Where the connection would go on if it were lost.
    pub(crate) fn cursor(&self) -> Option<String> {
        match (&self.transport, &self.feed) {
            (Transport::Web { client, .. }, _) => client.cursor(),
            (_, Some(feed)) => feed.cursor().map(|cursor| cursor.to_string()),
            _ => None,
        }
    }

    /// How long the server wants it to wait if it is lost.
    pub(crate) fn retry(&self) -> Option<Duration> {
        match &self.transport {
            Transport::Web { client, .. } => client.retry(),
            _ => None,
        }
    }

    /// Messages that have not come back.
    pub(crate) fn in_flight(&self) -> u64 {
        self.sent.saturating_sub(self.answered)
    }

    /// Asks to be told of what happens on it. What happens on the second of two connections is told with [`POST_SIDE`] in the token.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Transport::Udp(socket) = &mut self.transport {
            return registry.register(socket, token, Interest::READABLE);
        }
        for (place, stream) in self.transport.streams().iter_mut().enumerate() {
            registry.register(stream, Token(token.0 | if place == 0 { 0 } else { POST_SIDE }), interest)?;
        }
        Ok(())
    }

    /// Whether the kernel has finished to connect: an error says why it failed.
    pub(crate) fn is_connected(&mut self) -> io::Result<bool> {
        for stream in self.transport.streams() {
            if let Some(error) = stream.take_error()? {
                return Err(error);
            }
            match stream.peer_addr() {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads once. `Ok(0)` on a connection: the peer has ended.
    pub(crate) fn read(&mut self, side: Side, scratch: &mut [u8]) -> io::Result<usize> {
        match &mut self.transport {
            Transport::WebSocket { stream, .. }
            | Transport::Tcp { stream, .. }
            | Transport::Web { stream, .. } => stream.read(scratch),
            Transport::Polling { streams, .. } | Transport::Upgrading { streams, .. } => {
                streams[side as usize].read(scratch)
            }
            Transport::Udp(socket) => socket.recv(scratch),
            Transport::None => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// Queues the next message, to leave with the next [`flush`](Line::flush). A datagram is made in `workspace`
    /// and leaves at once.
    ///
    /// # Errors
    /// The connection has failed; of datagrams: nobody was there to take one.
    pub(crate) fn send(
        &mut self,
        run: u64,
        payload_bytes: usize,
        sent_ns: u64,
        workspace: &mut [u8],
    ) -> io::Result<()> {
        let stamp = Stamp { run, connection: self.id, sequence: self.sent, sent_ns };
        self.sent += 1;
        match &mut self.transport {
            Transport::WebSocket { client, .. } if self.is_publisher => {
                client.send_with(Kind::Text, payload_bytes, |space| text::write(stamp, space, workspace));
            }
            Transport::Web { client, .. } => client.send(stamp, workspace),
            Transport::Polling { client, .. } => {
                client.send_with(payload_bytes, |space| stamp.write(space));
            }
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
                stamp.write(workspace);
                match socket.send(workspace) {
                    // A full send buffer: the datagram is lost.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    // The answer to an earlier datagram, which kept this one from being sent.
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                        let _ = socket.send(workspace);
                        return Err(error);
                    }
                    sent => drop(sent?),
                }
            }
            // Nothing is sent on what is not open.
            Transport::Upgrading { .. } | Transport::None => {}
        }
        Ok(())
    }

    /// Writes what is queued, as far as the peer takes it. Returns the number of bytes.
    pub(crate) fn flush(&mut self) -> io::Result<u64> {
        match &mut self.transport {
            Transport::WebSocket { stream, client } => {
                let mut written = 0;
                // Once all is written, the answer to the latest ping may be next.
                loop {
                    let output = client.output();
                    if output.is_empty() {
                        return Ok(written);
                    }
                    written += write(stream, output)?;
                    if !output.is_empty() {
                        return Ok(written);
                    }
                }
            }
            Transport::Tcp { stream, output, .. } => write(stream, output),
            Transport::Web { stream, client } => write(stream, client.output()),
            Transport::Polling { streams, client } => {
                let [get, post] = &mut **streams;
                Ok(write(get, client.output(Side::Get))? + write(post, client.output(Side::Post))?)
            }
            Transport::Upgrading { streams, client } => write(&mut streams[1], client.output()),
            Transport::Udp(_) | Transport::None => Ok(0),
        }
    }

    /// Asks what is new, if it is one that does so by the clock. `false`: the answer to the last request is still on its way.
    pub(crate) fn ask(&mut self) -> bool {
        match &mut self.transport {
            Transport::Web { client, .. } => client.ask(),
            _ => false,
        }
    }

    /// Ends the connection.
    pub(crate) fn hang_up(&mut self, registry: &Registry) {
        // Either fails only where there is nothing left to end.
        if let Transport::Udp(socket) = &mut self.transport {
            let _ = registry.deregister(socket);
        }
        for stream in self.transport.streams() {
            let _ = registry.deregister(stream);
            let _ = stream.shutdown(std::net::Shutdown::Both);
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

    /// Queues a close frame, or what stands for it, where there are such.
    pub(crate) fn say_goodbye(&mut self) {
        match &mut self.transport {
            Transport::WebSocket { client, .. } => client.close(Some(1000)),
            Transport::Polling { client, .. } => client.close(),
            _ => {}
        }
    }

    /// Says that nothing more will be sent, where there is no close frame for that.
    pub(crate) fn finish_sending(&mut self) {
        if let Transport::Tcp { stream, .. } = &mut self.transport {
            // It fails only where the connection is gone, which the next read finds.
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
    }

    /// Another connection is to take the place of one that the server has closed in order, or (`is_stuck`) on which it does not answer: asks again what was
    /// not answered. `false`: that cannot be done, as what it was asked last may have been carried out.
    pub(crate) fn begin_again(&mut self, is_stuck: bool) -> bool {
        match &mut self.transport {
            Transport::Web { client, .. } => client.begin_again(self.under_way.len(), is_stuck),
            _ => false,
        }
    }

    /// Changes the connection under what is spoken on it.
    pub(crate) fn replace_stream(
        &mut self,
        registry: &Registry,
        token: Token,
        new: TcpStream,
    ) -> io::Result<()> {
        if let Transport::Web { stream, .. } = &mut self.transport {
            // It fails only where nothing is registered any more.
            let _ = registry.deregister(stream);
            *stream = new;
        }
        self.register(registry, token)
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

impl Transport {
    /// The TCP connections that it consists of.
    fn streams(&mut self) -> &mut [TcpStream] {
        match self {
            Transport::WebSocket { stream, .. }
            | Transport::Tcp { stream, .. }
            | Transport::Web { stream, .. } => std::slice::from_mut(stream),
            Transport::Polling { streams, .. } | Transport::Upgrading { streams, .. } => &mut **streams,
            Transport::Udp(_) | Transport::None => &mut [],
        }
    }

    /// The session is open, and goes on over the WebSocket. The connection on which it was opened has done its work.
    pub(crate) fn upgrade(&mut self, client: Box<Client>) {
        if let Transport::Upgrading { streams, .. } = std::mem::replace(self, Transport::None) {
            let [stream, _] = *streams;
            *self = Transport::WebSocket { stream, client };
        }
    }

    /// Whether it is open only when the server has answered something, and not as soon as there is a connection.
    pub(crate) fn is_opened_by_an_answer(&self) -> bool {
        match self {
            Transport::WebSocket { .. } | Transport::Polling { .. } | Transport::Upgrading { .. } => true,
            Transport::Web { client, .. } => !matches!(**client, Web::Post(_)),
            Transport::Tcp { .. } | Transport::Udp(_) | Transport::None => false,
        }
    }

    /// Requests that were answered so far.
    pub(crate) fn answers(&self) -> u64 {
        match self {
            Transport::Web { client, .. } => client.answers(),
            Transport::Polling { client, .. } => client.answers(),
            Transport::Upgrading { client, .. } => client.answers(),
            _ => 0,
        }
    }

    /// Whether the server has said that it closes the connection behind the answer that has come.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Transport::Web { client, .. } if client.is_over())
    }

    /// What to call the end of the connection by the server.
    pub(crate) fn ended(&self) -> String {
        match self {
            Transport::Web { client, .. } => client.ended(),
            _ => "closed".into(),
        }
    }
}

/// Writes as much of `output` as the peer takes. Returns the number of bytes.
fn write(stream: &mut TcpStream, output: &mut Output) -> io::Result<u64> {
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
