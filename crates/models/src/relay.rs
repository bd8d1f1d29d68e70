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
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair};
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
pub(crate) const IS_YOURS: u8 = 4;

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

    /// Sends a subscription upwards or its acknowledgement downwards. Blocks unless `flags` say otherwise.
    pub(crate) fn send_subscribe(&self, flags: MsgFlags) -> io::Result<()> {
        self.send(&[&[SUBSCRIBE]], flags)
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
    pub(crate) fn send_message(
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

    /// Keeps what comes for later until `is_enough`, which is told whether a subscription has been acknowledged.
    fn wait_until(&mut self, is_enough: impl Fn(&Relay, bool) -> bool) -> io::Result<()> {
        let mut is_acknowledged = false;
        while !is_enough(self, is_acknowledged) {
            match self.next(MsgFlags::empty()) {
                Ok(Some(Packet::Message(message))) => self.early.push_back(message),
                Ok(Some(packet)) => is_acknowledged |= matches!(packet, Packet::Subscribe),
                Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
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
        let _ = self
            .send_subscribe(MsgFlags::empty())
            .and_then(|()| self.wait_until(|_, is_acknowledged| is_acknowledged));
    }

    fn publish(&mut self, message: &Arc<Outgoing>) {
        self.under_way_bytes += message.payload().len();
        // As above.
        let _ = Relay::publish(self, message)
            .and_then(|()| self.wait_until(|relay, _| relay.under_way_bytes <= MAX_UNDER_WAY_BYTES));
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
