//! Datagrams by completions: one multishot recvmsg and batched sends over a ring.
//!
//! The loop asks once for all datagrams that will ever come; each arrives in a buffer that the kernel chose, with the address of its sender in front. The answers
//! gather in the ring, and one system call sends them all and waits for the next. So it is `udp-mmsg` with one call in place of two, and a loop that can
//! wait for other things as well.
//!
//! - Calls of one message: `io_uring_enter`, shared by all that have come and all that is to be sent at the time.
//! - Costs: as `uring`; each answer is copied, since its buffer goes back to the kernel before it is sent.
//! - Limit: as `udp`, and a kernel that has io_uring and allows it.
//! - Choose it where a loop has a ring anyway.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Instant;

use io_uring::types::{Fd, RecvMsgOut};
use io_uring::{opcode, squeue};
use nix::libc;
use slab::Slab;
use socket2::{SockAddr, SockAddrStorage};
use switchboard_proto::App;

use crate::buffers::GROUP;
use crate::datagrams::{Datagrams, LIMIT_ON_LOOPS, Senders};
use crate::ring::{self, Ring, SEND_AT_ONCE};
use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "udp-uring",
    family: Family::Datagram,
    after: Some("udp-mmsg"),
    about: "one socket for everybody; completions bring datagrams and send answers",
    waits_with: "io_uring_enter(2)",
    runs_as: "1 process, 1 thread",
    calls: &["io_uring_enter"],
    broadcast: "a send in the ring for everyone heard from within 30 seconds",
    serves: Mechanism::DATAGRAMS,
    limits: &[
        "65,507 bytes per datagram",
        "a datagram that finds the receive buffer full is lost",
        "Linux 6.1, and a container that allows it",
        LIMIT_ON_LOOPS,
    ],
    failure_ends: "the whole server",
    workers: Workers::None,
    reuses_port: false,
    busy_polls: true,
    hidden: false,
    source: include_str!("udp_uring.rs"),
    obstacle: ring::obstacle,
    serve,
};

const RECEIVE: u64 = 1 << 60;
const SHUTDOWN: u64 = RECEIVE + 1;

/// Receive buffers, each for one datagram.
const BUFFERS: u16 = 64;

/// What the kernel puts before a datagram: lengths and flags (16 bytes) and the address of its sender.
const HEADER_BYTES: usize = 16 + size_of::<libc::sockaddr_storage>();

/// An answer that the kernel has not sent yet.
struct Answer {
    bytes: Vec<u8>,
    to: SockAddr,
}

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    let own = listener.local_addr();
    let socket = listener.into_udp()?;
    let fd = Fd(socket.as_raw_fd());
    let mut datagrams = Datagrams::new(&app, Senders::default(), own);
    // SAFETY: a header of zeros is one without buffers and without an address.
    let mut header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
    header.msg_namelen = size_of::<libc::sockaddr_storage>() as u32;
    // Boxed: what the kernel reads from must not move when the table grows. Dropped after the ring.
    let mut answers: Slab<Box<Answer>> = Slab::new();
    let mut ring = Ring::single_use(BUFFERS, HEADER_BYTES + datagrams.buffer_bytes())?;
    let stop = opcode::PollAdd::new(Fd(shutdown.as_fd().as_raw_fd()), libc::POLLIN as u32).build();
    // SAFETY: it points to nothing, and the descriptor stays open until the end.
    unsafe { ring.push(stop, SHUTDOWN) }?;
    let mut is_receiving = false;
    let mut done = Vec::new();
    loop {
        if !is_receiving {
            let receive = opcode::RecvMsgMulti::new(fd, &*header, GROUP).build();
            // SAFETY: the header stays where it is until the end, and is dropped after the ring.
            unsafe { ring.push(receive, RECEIVE) }?;
            is_receiving = true;
        }
        ring.wait(None, app.busy_poll)?;
        ring.done(&mut done);
        let now = Instant::now();
        for done in done.drain(..) {
            match done.number {
                SHUTDOWN => return Ok(datagrams.tally),
                RECEIVE => {
                    // It ends when there was no buffer for a datagram, which stays in the socket's queue.
                    is_receiving &= done.has_more();
                    let mut due = Vec::new();
                    ring.received(&done, |bytes| {
                        let Ok(message) = RecvMsgOut::parse(bytes, &header) else { return };
                        let Some(sender) = address(message.name_data()) else { return };
                        datagrams.answer(message.payload_data(), sender, now, |bytes, to| {
                            due.push(
                                answers.insert(Box::new(Answer { bytes: bytes.to_vec(), to: to.into() })),
                            );
                            Ok(())
                        });
                    });
                    for key in due {
                        let (send, length) = answers[key].send(fd, SEND_AT_ONCE);
                        // SAFETY: the answer is boxed and stays until its completion has come, or the ring is dropped.
                        unsafe { ring.push_at_once(send, key as u64, length) }?;
                    }
                }
                key if done.result == -libc::EAGAIN => {
                    let (send, _) = answers[key as usize].send(fd, 0);
                    // SAFETY: as above.
                    unsafe { ring.push(send, key) }?;
                }
                key => {
                    let answer = answers.remove(key as usize);
                    // A port that was closed when we answered earlier is reported to whoever sends next.
                    if done.result < 0
                        && done.result != -libc::ECONNREFUSED
                        && let Some(to) = answer.to.as_socket()
                    {
                        datagrams.failed(to, &io::Error::from_raw_os_error(-done.result), now);
                    }
                }
            }
        }
    }
}

impl Answer {
    fn send(&self, socket: Fd, flags: i32) -> (squeue::Entry, u32) {
        let length = u32::try_from(self.bytes.len()).expect("a datagram is short");
        let send = opcode::Send::new(socket, self.bytes.as_ptr(), length).flags(flags);
        (send.dest_addr(self.to.as_ptr().cast()).dest_addr_len(self.to.len()).build(), length)
    }
}

/// The address that the kernel wrote.
fn address(bytes: &[u8]) -> Option<SocketAddr> {
    let mut storage = SockAddrStorage::zeroed();
    let length = bytes.len().min(size_of::<libc::sockaddr_storage>());
    // SAFETY: the storage has room for so many bytes, and any bytes make an address, if only an unknown one.
    let address = unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), std::ptr::from_mut(&mut storage).cast(), length);
        SockAddr::new(storage, length as u32)
    };
    address.as_socket()
}
