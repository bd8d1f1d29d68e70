//! Many datagrams in one system call: recvmmsg(2) and sendmmsg(2).
//!
//! A datagram is a message, so that `udp` pays two system calls for each, however many wait in the queue. Here one call takes all that
//! have come, up to a batch, and one call sends all the answers. Under load that shares the price of entering the kernel; when datagrams come one by one it is `udp`.
//! The way through the network stack is shared only by those that go to one receiver and are equally long: they leave as one (UDP_SEGMENT, udp(7)) and are
//! taken apart as late as can be. The other direction, UDP_GRO, puts together what a network card has received; over loopback nothing does.
//!
//! - Calls of one message: `recvmmsg`, `sendmmsg`, each shared by all that have come at the time; or a `sendmsg` for several to one receiver.
//! - Costs: room for a batch of the longest datagrams, of which only what is used takes memory.
//! - Limit: as `udp`.
//! - Choose it over `udp` wherever it is to be had.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, sendmsg,
};
use switchboard_proto::App;

use crate::datagrams::{Datagrams, LIMIT_ON_LOOPS, LOOK_UP, Senders, is_passing};
use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "udp-mmsg",
    family: Family::Datagram,
    after: Some("udp"),
    about: "one socket for everybody, many datagrams a system call",
    waits_with: "recvmmsg(2)",
    runs_as: "1 process, 1 thread",
    calls: &["recvmmsg", "sendmmsg"],
    broadcast: "a sendmmsg for every batch of those heard from within 30 seconds",
    serves: Mechanism::DATAGRAMS,
    limits: &[
        "65,507 bytes per datagram",
        "a datagram that finds the receive buffer full is lost",
        LIMIT_ON_LOOPS,
    ],
    failure_ends: "the whole server",
    workers: Workers::None,
    reuses_port: false,
    busy_polls: false,
    hidden: false,
    source: include_str!("udp_mmsg.rs"),
    obstacle: Model::no_obstacle,
    serve,
};

/// Datagrams in one call. The kernel does not take apart more than these either (UDP_MAX_SEGMENTS, until Linux 6.8).
const BATCH: usize = 64;

/// Longest datagram that leaves together with others: what fits a frame of Ethernet behind the headers of IPv6 and UDP.
const MAX_SEGMENT_BYTES: usize = 1452;

/// Bytes that leave as one.
const MAX_SEGMENTED_BYTES: usize = 65_000;

/// A datagram and its receiver.
type Answer<'a> = (&'a [u8], SocketAddr);

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    let own = listener.local_addr();
    let socket = listener.into_udp()?;
    socket.set_read_timeout(Some(LOOK_UP))?;
    let mut datagrams = Datagrams::new(&app, Senders::default(), own);
    let mut buffers = vec![0; BATCH * datagrams.buffer_bytes()];
    let room = datagrams.buffer_bytes();
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
    let mut sending = Sending { fd: socket.as_raw_fd(), headers: MultiHeaders::preallocate(BATCH, None) };
    let mut looked_up = Instant::now();
    loop {
        let mut received = [(0, None); BATCH];
        let result = {
            let mut slices: Vec<[IoSliceMut<'_>; 1]> =
                buffers.chunks_exact_mut(room).map(|buffer| [IoSliceMut::new(buffer)]).collect();
            // It blocks for the first one and takes those that are there already.
            recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), MsgFlags::MSG_WAITFORONE, None).map(
                |messages| {
                    messages
                        .zip(&mut received)
                        .map(|(message, place)| *place = (message.bytes, message.address))
                        .count()
                },
            )
        };
        let now = Instant::now();
        match result {
            Ok(count) => {
                let mut answers = Vec::with_capacity(count);
                for ((bytes, sender), buffer) in received[..count].iter().zip(buffers.chunks_exact(room)) {
                    let Some(sender) = sender.as_ref().and_then(socket_address) else { continue };
                    datagrams.answer(&buffer[..*bytes], sender, now, |_, to| {
                        answers.push((&buffer[..*bytes], to));
                        Ok(())
                    });
                }
                answers.chunks(BATCH).for_each(|answers| sending.send(answers, &mut datagrams, now));
            }
            Err(error) if is_passing(&error.into()) => {}
            Err(error) => return Err(error.into()),
        }
        if now.duration_since(looked_up) >= LOOK_UP {
            looked_up = now;
            if shutdown.is_triggered() {
                return Ok(datagrams.tally);
            }
        }
    }
}

struct Sending {
    fd: i32,
    headers: MultiHeaders<SockaddrStorage>,
}

impl Sending {
    /// Sends in order: those that can leave as one do, the others in batches.
    fn send(&mut self, mut answers: &[Answer<'_>], datagrams: &mut Datagrams, now: Instant) {
        while !answers.is_empty() {
            let alone = (0..answers.len()).find(|&at| together(&answers[at..]) > 1).unwrap_or(answers.len());
            self.send_batch(&answers[..alone], datagrams, now);
            let (one, rest) = answers[alone..].split_at(together(&answers[alone..]));
            // It fails where an earlier answer found a closed port, or the way to this receiver takes no segments.
            if !one.is_empty() && self.send_as_one(one).is_err() {
                self.send_batch(one, datagrams, now);
            }
            answers = rest;
        }
    }

    fn send_as_one(&self, answers: &[Answer<'_>]) -> nix::Result<()> {
        let slices: Vec<IoSlice<'_>> = answers.iter().map(|(bytes, _)| IoSlice::new(bytes)).collect();
        let (bytes, to) = answers[0];
        let length = u16::try_from(bytes.len()).expect("segments are short");
        let segments = [ControlMessage::UdpGsoSegments(&length)];
        sendmsg(self.fd, &slices, &segments, MsgFlags::empty(), Some(&SockaddrStorage::from(to))).map(drop)
    }

    /// Sends a batch. A call ends at the first one that fails: that one is counted, and the rest goes into another call.
    fn send_batch(&mut self, mut answers: &[Answer<'_>], datagrams: &mut Datagrams, now: Instant) {
        while !answers.is_empty() {
            let slices: Vec<[IoSlice<'_>; 1]> =
                answers.iter().map(|(bytes, _)| [IoSlice::new(bytes)]).collect();
            let addresses: Vec<Option<SockaddrStorage>> =
                answers.iter().map(|(_, to)| Some((*to).into())).collect();
            let sent =
                sendmmsg(self.fd, &mut self.headers, slices.iter(), addresses.iter(), [], MsgFlags::empty());
            match sent.map(Iterator::count) {
                Ok(sent @ 1..) => answers = &answers[sent..],
                // A signal, or somebody's port that was closed when we answered earlier: nothing is wrong with this one.
                Err(Errno::EINTR | Errno::ECONNREFUSED) => {}
                failed => {
                    let error = failed.err().unwrap_or(Errno::EIO).into();
                    datagrams.failed(answers[0].1, &error, now);
                    answers = &answers[1..];
                }
            }
        }
    }
}

/// How many of these, from the first on, can leave as one.
fn together(answers: &[Answer<'_>]) -> usize {
    let Some((first, to)) = answers.first() else { return 0 };
    if first.is_empty() || first.len() > MAX_SEGMENT_BYTES {
        return 1;
    }
    let alike = answers.iter().take_while(|(bytes, other)| bytes.len() == first.len() && other == to);
    alike.count().min(BATCH).min(MAX_SEGMENTED_BYTES / first.len())
}

/// An address as the standard library has it.
pub(crate) fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4(SocketAddrV4::from(*v4)));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6))))
}
