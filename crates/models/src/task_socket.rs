//! The socket of a task: what the runtime knows of its readiness, and reading and writing.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown as Direction, TcpStream};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;
use switchboard_proto::{Output, Session, Wants};

use crate::write::gather;

/// Bytes that one read takes. Each thread of the runtime has one such buffer: a task that waits owns none.
const SCRATCH_BYTES: usize = 64 << 10;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// A connection's socket. The runtime's own would not do: it is not told of urgent data, and takes any short read for the last.
pub(crate) struct Socket(AsyncFd<TcpStream>);

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Socket> {
        stream.set_nonblocking(true)?;
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        // SAFETY: it owns the descriptor, and closes it no sooner than the runtime has forgotten it.
        Ok(Socket(unsafe { AsyncFd::register_with_interest(stream, interest) }?))
    }

    /// What the runtime watches.
    pub(crate) fn stream(&self) -> &TcpStream {
        self.0.get_ref()
    }

    /// Reads once if the session wants to, into the buffer of the thread that the task is on right now; done as well when there is room to write.
    pub(crate) fn poll(
        &self,
        context: &mut Context<'_>,
        session: &mut Session,
        wants: Wants,
    ) -> Poll<io::Result<()>> {
        if wants.write && self.0.poll_write_ready(context)?.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if !wants.read {
            return Poll::Pending;
        }
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let has_ended = guard.ready().is_read_closed();
            match self.read(session) {
                // As in `line.rs`: a short read means that there is no more, but where the peer has ended or has sent urgent data.
                Ok(Length::Short) if !has_ended && !self.has_urgent() => guard.clear_ready(),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    guard.clear_ready();
                    self.forget_urgent();
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Poll::Ready(Err(error)),
            }
            return Poll::Ready(Ok(()));
        }
    }

    /// Reads once, whatever the runtime knows.
    fn read(&self, session: &mut Session) -> io::Result<Length> {
        SCRATCH.with_borrow_mut(|scratch| {
            let length = self.0.get_ref().read(scratch)?;
            match &mut scratch[..length] {
                [] => session.receive_eof(Instant::now()),
                bytes => session.receive(bytes, Instant::now()),
            }
            Ok(if (1..scratch.len()).contains(&length) { Length::Short } else { Length::Other })
        })
    }

    /// Whether the runtime was told of urgent data. This is a look at what it knows, and no system call.
    fn has_urgent(&self) -> bool {
        self.0.try_io(Interest::PRIORITY, |_| Ok(())).is_ok()
    }

    fn forget_urgent(&self) {
        let _ = self.0.try_io(Interest::PRIORITY, |_| io::Result::<()>::Err(ErrorKind::WouldBlock.into()));
    }

    /// Writes as much as the peer takes.
    pub(crate) fn write(&self, session: &mut Session) -> io::Result<()> {
        self.write_by(session, |output| self.0.try_io(Interest::WRITABLE, |stream| gather_to(stream, output)))
    }

    fn write_by(
        &self,
        session: &mut Session,
        mut write: impl FnMut(&mut Output) -> io::Result<()>,
    ) -> io::Result<()> {
        let output = session.output();
        while !output.is_empty() {
            match write(output) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    output.stalled();
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if session.poll_finish() {
            // It fails when the peer is gone, and then the next read says so.
            let _ = self.0.get_ref().shutdown(Direction::Write);
        }
        Ok(())
    }

    /// Does what is due, after what can be written is written and what lies in the socket is read: the runtime may know of the time before it
    /// knows of that, and a server that was stopped finds both at once.
    pub(crate) fn expire(&self, session: &mut Session) -> io::Result<()> {
        let now = Instant::now();
        self.write_by(session, |output| gather_to(self.0.get_ref(), output))?;
        while session.wants().read && session.poll_timeout().is_some_and(|due| due <= now) {
            match self.read(session) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        session.handle_timeout(now);
        Ok(())
    }
}

/// What a read has brought: less than there was room for, though something; or a full buffer, or the end.
enum Length {
    Short,
    Other,
}

fn gather_to(mut stream: &TcpStream, output: &mut Output) -> io::Result<()> {
    let mut again = stream;
    gather(output, |bytes| stream.write(bytes), |slices| again.write_vectored(slices))
}
