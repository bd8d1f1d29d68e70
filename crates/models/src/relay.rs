//! How a broadcast travels between processes that share no memory: by a relay in the parent, in two hops.
//!
//! Each child has a SOCK_SEQPACKET socket pair with the parent, which keeps the ends of packets as a pipe would not. A
//! message goes up in packets, and down to every child that subscribed.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, recv, sendmsg, shutdown, socketpair,
};
use switchboard_proto::{Kind, Outgoing};

use crate::Tally;
use crate::crew::Elsewhere;

/// Payload of one packet; a longer message takes several.
const CHUNK_BYTES: usize = 32 << 10;

/// Longest packet: its tag, its flags, its payload.
const PACKET_BYTES: usize = CHUNK_BYTES + 2;

const SUBSCRIBE: u8 = 1;
const MESSAGE: u8 = 2;
const TALLY: u8 = 3;

const IS_TEXT: u8 = 1;
const IS_LAST: u8 = 2;

/// Downwards: this is what the child itself has published.
const IS_YOURS: u8 = 4;

/// What a worker has published and not got back itself: with more it waits, or a client that sends faster than the parent relays
/// would fill the parent's memory.
const MAX_UNDER_WAY_BYTES: usize = 1 << 20;

/// One end of the socket pair between a child and its parent.
pub(crate) struct Relay {
    socket: OwnedFd,
    /// The message whose last packet has not come.
    partial: Vec<u8>,
    /// Bytes of a worker's own messages that have not come back.
    under_way_bytes: usize,
    /// What came while a worker waited to send.
    early: VecDeque<Arc<Outgoing>>,
}

/// What came through a relay.
pub(crate) enum Packet {
    /// Upwards: this child wants what is published. Downwards: it will get it from now on.
    Subscribe,
    /// A message, whole.
    Message(Arc<Outgoing>),
    /// Upwards: what was counted until the end.
    Tally(Tally),
}

impl Relay {
    /// The two ends: the parent's and the child's.
    pub(crate) fn pair() -> io::Result<(Relay, Relay)> {
        let (one, other) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Relay::new(one), Relay::new(other)))
    }

    /// A second handle to the same end, for a thread that receives while another sends.
    pub(crate) fn try_clone(&self) -> io::Result<Relay> {
        Ok(Relay::new(self.socket.try_clone()?))
    }

    fn new(socket: OwnedFd) -> Relay {
        Relay { socket, partial: Vec::new(), under_way_bytes: 0, early: VecDeque::new() }
    }

    /// The next packet; `None` when the other side has ended. Blocks unless `flags` say otherwise.
    pub(crate) fn next(&mut self, flags: MsgFlags) -> io::Result<Option<Packet>> {
        let mut packet = [0; PACKET_BYTES];
        loop {
            let received = match recv(self.socket.as_raw_fd(), &mut packet, flags) {
                Ok(received) => received,
                Err(Errno::ECONNRESET) => 0,
                Err(error) => return Err(error.into()),
            };
            match &packet[..received] {
                [SUBSCRIBE] => return Ok(Some(Packet::Subscribe)),
                [MESSAGE, flags, chunk @ ..] => {
                    self.partial.extend_from_slice(chunk);
                    if flags & IS_YOURS != 0 {
                        self.under_way_bytes = self.under_way_bytes.saturating_sub(chunk.len());
                    }
                    if flags & IS_LAST != 0 {
                        let kind = if flags & IS_TEXT != 0 { Kind::Text } else { Kind::Binary };
                        let payload = Bytes::from(std::mem::take(&mut self.partial));
                        return Ok(Some(Packet::Message(Arc::new(Outgoing::new(kind, payload)))));
                    }
                }
                [TALLY, numbers @ ..] => {
                    let mut numbers =
                        numbers.as_chunks::<8>().0.iter().map(|bytes| u64::from_ne_bytes(*bytes));
                    let mut next = || numbers.next().unwrap_or_default();
                    return Ok(Some(Packet::Tally(Tally {
                        connections: next(),
                        messages: next(),
                        bytes: next(),
                        refused: next(),
                        dropped: next(),
                        truncated: next(),
                    })));
                }
                _ => return Ok(None),
            }
        }
    }

    /// Sends a subscription upwards or its acknowledgement downwards. Blocks.
    pub(crate) fn send_subscribe(&self) -> io::Result<()> {
        self.send(&[&[SUBSCRIBE]], MsgFlags::empty())
    }

    /// Sends what was counted. Blocks.
    pub(crate) fn send_tally(&self, tally: Tally) -> io::Result<()> {
        let Tally { connections, messages, bytes, refused, dropped, truncated } = tally;
        let numbers = [connections, messages, bytes, refused, dropped, truncated].map(u64::to_ne_bytes);
        self.send(&[&[TALLY], numbers.as_flattened()], MsgFlags::empty())
    }

    /// Sends a message upwards. Blocks.
    pub(crate) fn publish(&self, message: &Outgoing) -> io::Result<()> {
        self.send_message(message, 0, &mut 0, MsgFlags::empty()).map(drop)
    }

    /// Sends a message with these marks from `offset` on, and moves `offset` behind what was sent. True when all of it was.
    fn send_message(
        &self,
        message: &Outgoing,
        marks: u8,
        offset: &mut usize,
        flags: MsgFlags,
    ) -> io::Result<bool> {
        let payload = message.payload();
        loop {
            let end = payload.len().min(*offset + CHUNK_BYTES);
            let is_last = end == payload.len();
            let mark = if message.kind() == Kind::Text { IS_TEXT } else { 0 }
                | if is_last { IS_LAST } else { 0 }
                | marks;
            match self.send(&[&[MESSAGE, mark], &payload[*offset..end]], flags) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                sent => sent?,
            }
            *offset = end;
            if is_last {
                return Ok(true);
            }
        }
    }

    /// Whether the parent has cut this child off.
    pub(crate) fn is_cut_off(&self) -> bool {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::from_bits_retain(libc::POLLRDHUP))];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
    }

    fn send(&self, parts: &[&[u8]], flags: MsgFlags) -> io::Result<()> {
        let parts: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        loop {
            match sendmsg::<()>(self.socket.as_raw_fd(), &parts, &[], flags | MsgFlags::MSG_NOSIGNAL, None) {
                Err(Errno::EINTR) => {}
                sent => return sent.map(drop).map_err(io::Error::from),
            }
        }
    }
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A worker's way to the others: up to the parent, which sends it to everybody. So all see one order.
impl Elsewhere for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn subscribe(&mut self) {
        // Whatever fails here, the parent is gone, which ends this process as well.
        let mut is_waiting = self.send_subscribe().is_ok();
        while is_waiting {
            match self.next(MsgFlags::empty()) {
                Ok(Some(Packet::Message(message))) => self.early.push_back(message),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => is_waiting = false,
            }
        }
    }

    fn publish(&mut self, message: &Arc<Outgoing>) {
        // Whatever fails here, the parent is gone, which ends this process as well.
        let _ = Relay::publish(self, message);
        self.under_way_bytes += message.payload().len();
        while self.under_way_bytes > MAX_UNDER_WAY_BYTES {
            match self.next(MsgFlags::empty()) {
                Ok(Some(Packet::Message(message))) => self.early.push_back(message),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn receive(&mut self, is_called: bool, deliver: &mut dyn FnMut(&Arc<Outgoing>)) {
        self.early.drain(..).for_each(|message| deliver(&message));
        while is_called && let Ok(Some(packet)) = self.next(MsgFlags::MSG_DONTWAIT) {
            if let Packet::Message(message) = packet {
                deliver(&message);
            }
        }
    }
}

/// What waits in the parent for a child that does not keep up.
#[derive(Default)]
pub(crate) struct Backlog {
    /// Messages with their marks, and how much of the first has been sent. `None`: a subscription is acknowledged.
    queue: VecDeque<Option<(Arc<Outgoing>, u8)>>,
    offset: usize,
    bytes: usize,
}

impl Backlog {
    /// Sends a message, or keeps it for later. A child that is more than `max_bytes` behind is cut off: false.
    /// `is_its_own`: it is this child that has published it.
    pub(crate) fn send(
        &mut self,
        relay: &Relay,
        message: &Arc<Outgoing>,
        is_its_own: bool,
        max_bytes: usize,
    ) -> bool {
        let bytes = message.payload().len();
        if self.bytes > 0 && self.bytes + bytes > max_bytes {
            *self = Backlog::default();
            // It fails when the child has ended, and then there is nobody to tell.
            let _ = shutdown(relay.socket.as_raw_fd(), Shutdown::Write);
            return false;
        }
        self.bytes += bytes;
        self.queue.push_back(Some((message.clone(), if is_its_own { IS_YOURS } else { 0 })));
        self.flush(relay);
        true
    }

    /// Tells the child, behind all that was published before, that it will get what follows.
    pub(crate) fn acknowledge(&mut self, relay: &Relay) {
        self.queue.push_back(None);
        self.flush(relay);
    }

    /// Sends what the child takes now.
    pub(crate) fn flush(&mut self, relay: &Relay) {
        while let Some(entry) = self.queue.front() {
            let Some((message, marks)) = entry else {
                match relay.send(&[&[SUBSCRIBE]], MsgFlags::MSG_DONTWAIT) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                    // If it has ended, its process will be reaped.
                    _ => drop(self.queue.pop_front()),
                }
                continue;
            };
            match relay.send_message(message, *marks, &mut self.offset, MsgFlags::MSG_DONTWAIT) {
                Ok(false) => return,
                Ok(true) => {
                    self.bytes -= message.payload().len();
                    self.queue.pop_front();
                    self.offset = 0;
                }
                // The child has ended: its process will be reaped.
                Err(_) => *self = Backlog::default(),
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
