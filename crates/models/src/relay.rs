//! What passes between processes that share no memory: by a relay in the parent, in two hops.
//!
//! Each child has a SOCK_SEQPACKET socket pair with the parent, which keeps the ends of packets as a pipe would not. What its connections ask
//! goes up; the parent has the exchange, and what follows comes down: an answer to the child that asked, what was published to every child whose
//! connections subscribed.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use switchboard_proto::{Budget, Effect, Port, Request};

use crate::crew::Elsewhere;
use crate::{Tally, readiness};

/// Payload of one packet; a longer message takes several.
const CHUNK_BYTES: usize = 32 << 10;

/// Longest packet: whether it is the last of its message, and its payload.
const PACKET_BYTES: usize = CHUNK_BYTES + 1;

const IS_LAST: u8 = 1;

/// What a child has asked and the parent has not done: with more it waits, or a client that sends faster than the parent works would fill the parent's
/// memory.
pub(crate) const MAX_UNDER_WAY_BYTES: usize = 1 << 20;

/// One end of the socket pair between a child and its parent.
pub(crate) struct Relay {
    socket: OwnedFd,
    /// What comes is charged to it.
    budget: Budget,
    /// The message whose last packet has not come.
    partial: Vec<u8>,
    /// Bytes of what a worker has asked that the parent has not done.
    under_way_bytes: usize,
    /// What came while a worker waited to send.
    early: VecDeque<Effect>,
    /// Nothing more is published, and all that was has come.
    is_closed: bool,
}

/// What a child has to say.
#[derive(Serialize, Deserialize)]
pub(crate) enum Up {
    /// What one of its connections asks.
    Ask(Port, Request),
    /// What was counted until the end.
    Tally(Tally),
}

/// What the parent has to say.
#[derive(Serialize, Deserialize)]
pub(crate) enum Down {
    /// Something for a connection, or for subscribers.
    Effect(Effect),
    /// So many more bytes of what this child asked are done, and all that followed from them has been sent before this.
    Done(usize),
    /// The server ends. Nothing more is published, and all that was has been sent before this.
    Close,
}

/// What a relay brings.
pub(crate) trait Message: DeserializeOwned {
    /// Charges what is long in it.
    fn charge(&mut self, budget: &Budget);
}

impl Message for Up {
    fn charge(&mut self, budget: &Budget) {
        if let Up::Ask(_, request) = self {
            request.charge(budget);
        }
    }
}

impl Message for Down {
    fn charge(&mut self, budget: &Budget) {
        if let Down::Effect(effect) = self {
            effect.charge(budget);
        }
    }
}

impl Relay {
    /// The two ends: the parent's and the child's.
    pub(crate) fn pair(budget: &Budget) -> io::Result<(Relay, Relay)> {
        let (one, other) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Relay::new(one, budget), Relay::new(other, budget)))
    }

    /// A second handle to the same end, for a thread that receives while another sends.
    pub(crate) fn try_clone(&self) -> io::Result<Relay> {
        Ok(Relay::new(self.socket.try_clone()?, &self.budget))
    }

    fn new(socket: OwnedFd, budget: &Budget) -> Relay {
        Relay {
            socket,
            budget: budget.clone(),
            partial: Vec::new(),
            under_way_bytes: 0,
            early: VecDeque::new(),
            is_closed: false,
        }
    }

    /// The next message, and how many bytes it has; `None` when the other side has ended. Blocks unless `flags` say otherwise.
    pub(crate) fn next<T: Message>(&mut self, flags: MsgFlags) -> io::Result<Option<(T, usize)>> {
        let mut packet = [0; PACKET_BYTES];
        loop {
            let received = match recv(self.socket.as_raw_fd(), &mut packet, flags) {
                Ok(received) => received,
                Err(Errno::ECONNRESET) => 0,
                Err(error) => return Err(error.into()),
            };
            let [flags, chunk @ ..] = &packet[..received] else { return Ok(None) };
            if flags & IS_LAST == 0 {
                self.partial.extend_from_slice(chunk);
                continue;
            }
            // The usual message is one packet, and is read where it lies.
            let whole = std::mem::take(&mut self.partial);
            let message: io::Result<T> = match whole.is_empty() {
                true => decode(chunk),
                false => decode(&[&whole[..], chunk].concat()),
            };
            return message.map(|mut message| {
                message.charge(&self.budget);
                Some((message, whole.len() + chunk.len()))
            });
        }
    }

    /// Sends a message. Blocks. `begins` is told before how many bytes it has.
    pub(crate) fn say(&self, message: &Up, begins: impl FnOnce(usize)) -> io::Result<()> {
        let bytes = encode(message);
        begins(bytes.len());
        self.send(&bytes, &mut 0, MsgFlags::empty()).map(drop)
    }

    /// Sends an encoded message from `offset` on, and moves `offset` behind what was sent. True when all of it was.
    pub(crate) fn send(&self, message: &[u8], offset: &mut usize, flags: MsgFlags) -> io::Result<bool> {
        loop {
            let end = message.len().min(*offset + CHUNK_BYTES);
            let is_last = end == message.len();
            let mark = [if is_last { IS_LAST } else { 0 }];
            let parts = [IoSlice::new(&mark), IoSlice::new(&message[*offset..end])];
            let flags = flags | MsgFlags::MSG_NOSIGNAL;
            match sendmsg::<()>(self.socket.as_raw_fd(), &parts, &[], flags, None) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
            *offset = end;
            if is_last {
                return Ok(true);
            }
        }
    }

    /// Waits until something can be received. False: it is `due` before that.
    pub(crate) fn wait(&self, due: Option<Instant>) -> bool {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        loop {
            let left = due.map(|due| due.saturating_duration_since(Instant::now()));
            match poll(&mut fds, readiness::milliseconds(left)) {
                Ok(0) => return false,
                Err(Errno::EINTR) => {}
                // What is wrong with it is told by receiving.
                Ok(_) | Err(_) => return true,
            }
        }
    }

    /// Whether the parent has cut this child off.
    pub(crate) fn is_cut_off(&self) -> bool {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::from_bits_retain(libc::POLLRDHUP))];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
    }

    /// Asks, and waits while too much is under way; what comes meanwhile is kept for later.
    fn ask_and_wait(&mut self, port: Port, request: Request) -> io::Result<()> {
        let mut bytes = 0;
        self.say(&Up::Ask(port, request), |length| bytes = length)?;
        self.under_way_bytes += bytes;
        while self.under_way_bytes > MAX_UNDER_WAY_BYTES {
            match self.next(MsgFlags::empty()) {
                Ok(Some((Down::Effect(effect), _))) => self.early.push_back(effect),
                Ok(Some((Down::Done(bytes), _))) => self.under_way_bytes -= bytes,
                Ok(Some((Down::Close, _))) => self.is_closed = true,
                Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A message as bytes.
pub(crate) fn encode(message: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(message).expect("memory takes what is said, and all of it has a length")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    postcard::from_bytes(bytes).map_err(io::Error::other)
}

impl AsFd for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A worker's way to the exchange and to the others: up to the parent, which sends to everybody. So all see one order.
impl Elsewhere for Relay {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn ask(&mut self, port: Port, request: Request, _now: Instant) {
        // Whatever fails here, the parent is gone, which ends this process as well.
        let _ = self.ask_and_wait(port, request);
    }

    /// The parent is told to end as well, and says so to all its workers.
    fn close(&mut self) {}

    fn is_closed(&self) -> bool {
        self.is_closed && self.early.is_empty()
    }

    fn receive(&mut self, is_called: bool, _now: Instant, take: &mut dyn FnMut(Effect)) {
        self.early.drain(..).for_each(&mut *take);
        if !is_called {
            return;
        }
        loop {
            match self.next(MsgFlags::MSG_DONTWAIT) {
                Ok(Some((Down::Effect(effect), _))) => take(effect),
                Ok(Some((Down::Done(bytes), _))) => {
                    self.under_way_bytes = self.under_way_bytes.saturating_sub(bytes);
                }
                Ok(Some((Down::Close, _))) => self.is_closed = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(None) | Err(_) => {
                    // Nothing comes any more from a parent that is gone.
                    self.is_closed = true;
                    return;
                }
            }
        }
    }
}
