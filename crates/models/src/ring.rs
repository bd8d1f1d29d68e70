//! A ring (io_uring(7)).
//!
//! A ring is two queues in memory that this process and the kernel share: what is to be done goes into one, what has been done
//! comes out of the other, and one system call hands over all that has gathered and waits for what is done. A receive
//! names no buffer: the kernel takes one from a third queue when bytes arrive, so that those who are silent hold none.

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use nix::errno::Errno;
use nix::libc;

use crate::buffers::Buffers;

/// Places in the queue of what is to be done; more are submitted early.
const SUBMISSIONS: u32 = 4096;

/// Places in the queue of what is done. What finds it full waits in the kernel.
const COMPLETIONS: u32 = 4 * SUBMISSIONS;

/// The version of Linux that has all that is used here: multishot receives (6.0) and completions that wait until they are asked for (6.1).
const SINCE: &str = "Linux 6.1";

/// IORING_ENTER_GETEVENTS: let what is done be seen.
const GETEVENTS: u32 = 1;

/// IOU_PBUF_RING_INC: what is received goes behind what was received before, as long as a buffer has room (Linux 6.12).
const INCREMENTAL: u16 = 2;

/// So many times more buffers, and smaller ones, are there where receives cannot share one.
const WITHOUT_FLAGS: u16 = 8;

/// Why this kernel cannot serve with a ring, if it cannot.
pub(crate) fn obstacle() -> Option<String> {
    // In a thread of its own: a ring that is given up leaves something to do to the thread that made it, which interrupts whatever that waits for next.
    let made = std::thread::spawn(|| Ring::new(2, 4096).map(drop)).join();
    let error = made.ok()?.err()?;
    let hint = match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::EPERM | Errno::EACCES => {
            "it is forbidden here: see kernel.io_uring_disabled, or a seccomp filter such as a container's"
        }
        Errno::ENOMEM => "the memory that may be locked is used up: see ulimit -l",
        _ => "the kernel is too old, or built without it",
    };
    Some(format!("io_uring: {error}; {hint}; it needs {SINCE}"))
}

/// A ring with its buffers.
pub(crate) struct Ring {
    // Dropped before the buffers that the kernel writes to.
    ring: IoUring,
    buffers: Buffers,
    /// What was handed over that either succeeds without a word or fails at once: its number, and what success is.
    at_once: Vec<(u64, i32)>,
}

/// Something that has been done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    /// What it was known by.
    pub(crate) number: u64,
    /// As the system call of that name returns it, with a negative error number.
    pub(crate) result: i32,
    flags: u32,
}

impl Done {
    /// Whether more is to come of the same.
    pub(crate) fn has_more(&self) -> bool {
        cqueue::more(self.flags)
    }
}

/// What a send does that finds no room for all of its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It says so at once, and otherwise says nothing: for the last of what a session has to say, after which it only listens.
    None,
    /// It goes on when there is room.
    Waits,
}

/// The flags of a send for [`push_at_once`](Ring::push_at_once): all or an error, and now.
pub(crate) const SEND_AT_ONCE: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT | libc::MSG_WAITALL;

/// Set in the number of what is reported only if it fails.
const AT_ONCE: u64 = 1 << 63;

impl Ring {
    /// A ring for the thread that calls this, with `count` receive buffers (a power of two), in which small receives stand behind each
    /// other as far as the kernel can do that.
    pub(crate) fn new(count: u16, bytes: usize) -> io::Result<Ring> {
        Ring::with(count, bytes, INCREMENTAL)
    }

    /// A ring in which every receive has a buffer to itself.
    pub(crate) fn single_use(count: u16, bytes: usize) -> io::Result<Ring> {
        Ring::with(count, bytes, 0)
    }

    fn with(count: u16, bytes: usize, flags: u16) -> io::Result<Ring> {
        let ring = IoUring::builder()
            .setup_cqsize(COMPLETIONS)
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .build(SUBMISSIONS)?;
        // A kernel that does not know the flags gives each receive a buffer to itself: then there have to be more of them.
        let buffers = Buffers::new(&ring, count, bytes, flags).or_else(|error| match flags {
            0 => Err(error),
            _ => Buffers::new(&ring, count * WITHOUT_FLAGS, bytes / usize::from(WITHOUT_FLAGS), 0),
        })?;
        Ok(Ring { ring, buffers, at_once: Vec::new() })
    }

    /// Puts something in the queue of what is to be done.
    ///
    /// # Safety
    /// What the entry points to must stay where it is until its completion has come, or the ring is dropped.
    pub(crate) unsafe fn push(&mut self, entry: squeue::Entry, number: u64) -> io::Result<()> {
        let entry = entry.user_data(number);
        loop {
            // SAFETY: the caller's promise.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return Ok(());
            }
            ignore_passing(self.ring.submit())?;
        }
    }

    /// Sends to a connection.
    ///
    /// # Safety
    /// As for `push`.
    pub(crate) unsafe fn send(
        &mut self,
        fd: RawFd,
        bytes: &[u8],
        number: u64,
        patience: Patience,
    ) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let send = opcode::Send::new(Fd(fd), bytes.as_ptr(), length);
        // SAFETY: the caller's promise.
        unsafe {
            match patience {
                Patience::None => self.push_at_once(send.flags(SEND_AT_ONCE).build(), number, length),
                Patience::Waits => self.push(send.flags(libc::MSG_NOSIGNAL).build(), number),
            }
        }
    }

    /// Begins to send `bytes` all or in part, at once: only if not all are taken a completion tells of it.
    ///
    /// # Safety
    /// As for `push`, but that `bytes` need stay no longer than until [`hand_over`](Ring::hand_over) has returned.
    pub(crate) unsafe fn send_at_once(&mut self, fd: RawFd, bytes: &[u8], number: u64) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let send = opcode::Send::new(Fd(fd), bytes.as_ptr(), length).flags(SEND_AT_ONCE);
        // SAFETY: the caller's promise.
        unsafe { self.push(send.build().flags(squeue::Flags::SKIP_SUCCESS), number) }
    }

    /// Hands over all that is to be done, without waiting; what is done meanwhile and has no room left is put into `done`.
    pub(crate) fn hand_over(&mut self, done: &mut Vec<Done>) -> io::Result<()> {
        while !self.ring.submission().is_empty() {
            self.look()?;
            if !self.ring.submission().is_empty() {
                self.done(done);
            }
        }
        Ok(())
    }

    /// As `push`, for a send that does not wait (MSG_DONTWAIT | MSG_WAITALL): if all `length` bytes are taken no completion is made, and
    /// [`done`](Ring::done) tells of it with the next that is; or [`wait`](Ring::wait) would return at once for it, and each message cost two calls.
    /// Only for what nobody waits for.
    ///
    /// # Safety
    /// As for `push`.
    pub(crate) unsafe fn push_at_once(
        &mut self,
        entry: squeue::Entry,
        number: u64,
        length: u32,
    ) -> io::Result<()> {
        self.at_once.push((number, length.cast_signed()));
        // SAFETY: the caller's promise.
        unsafe { self.push(entry.flags(squeue::Flags::SKIP_SUCCESS), number | AT_ONCE) }
    }

    /// Hands over what is to be done and waits until something is done or the time is up; asks for the time of `busy_poll` before
    /// it blocks. False: it was interrupted, so that more may be done than can be seen.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>, busy_poll: Duration) -> io::Result<bool> {
        if !busy_poll.is_zero() {
            let begun = Instant::now();
            let long_enough = timeout.map_or(busy_poll, |timeout| timeout.min(busy_poll));
            loop {
                self.look()?;
                if !self.ring.completion().is_empty() {
                    return Ok(true);
                }
                if begun.elapsed() >= long_enough {
                    break;
                }
            }
        }
        self.enter(timeout)
    }

    /// Hands over what is to be done and lets the kernel do what it has left for this moment, without waiting. A wait of no time at all would not
    /// do: the kernel may sleep for some 50 µs to end it.
    fn look(&mut self) -> io::Result<()> {
        let submissions = self.ring.submission().len() as u32;
        // SAFETY: no argument is passed, so none has to be valid.
        let entered =
            unsafe { self.ring.submitter().enter::<libc::sigset_t>(submissions, 0, GETEVENTS, None) };
        ignore_passing(entered).map(drop)
    }

    fn enter(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let entered = match timeout {
            None => self.ring.submit_and_wait(1),
            Some(time) => {
                let time = Timespec::from(time);
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
        };
        ignore_passing(entered)
    }

    /// Takes what is done.
    pub(crate) fn done(&mut self, done: &mut Vec<Done>) {
        let first = done.len();
        let mut failed = Vec::new();
        for entry in self.ring.completion() {
            let number = entry.user_data() & !AT_ONCE;
            if number != entry.user_data() {
                failed.push(number);
            }
            done.push(Done { number, result: entry.result(), flags: entry.flags() });
        }
        if !failed.is_empty() {
            self.at_once.retain(|(number, _)| !failed.contains(number));
        }
        // As long as something waits to be handed over, it is not known what has succeeded.
        if self.ring.submission().is_empty() {
            let success = |(number, result)| Done { number, result, flags: 0 };
            done.splice(first..first, self.at_once.drain(..).map(success));
        }
    }

    /// The bytes that a receive brought, which the kernel may use again after `take`.
    pub(crate) fn received<T>(&mut self, done: &Done, take: impl FnOnce(&mut [u8]) -> T) -> Option<T> {
        let buffer = cqueue::buffer_select(done.flags)?;
        let taken = take(self.buffers.next(buffer, done.result.max(0) as usize));
        if !cqueue::buffer_more(done.flags) {
            self.buffers.give_back(buffer);
        }
        Some(taken)
    }
}

impl Drop for Ring {
    /// Cancels what is under way and lets the kernel finish it. When a ring is only closed the kernel does that by and by, and until then its sockets
    /// stay open, though nobody has them: the port of a server that has ended would not be free.
    fn drop(&mut self) {
        // What was not handed over yet is begun, to be given up like the rest.
        let _ = self.look();
        // It fails where nothing is under way.
        let timeout = Some(Timespec::from(GIVING_UP));
        let _ = self.ring.submitter().register_sync_cancel(timeout, CancelBuilder::any());
        // What was cancelled lets go of its socket when its completion is made, and some may take more than one look.
        for _ in 0..LAST_LOOKS {
            let looked = self.look();
            let is_quiet = self.ring.completion().count() == 0;
            if is_quiet || looked.is_err() {
                return;
            }
        }
    }
}

/// How long what is under way may take to be cancelled, and how often it is looked for its completions.
const GIVING_UP: Duration = Duration::from_millis(100);
const LAST_LOOKS: usize = 10_000;

/// Errors of io_uring_enter(2) after which it is to be called again: the time was up, a signal came, completions must be taken first. True: it did all
/// that it was to do.
fn ignore_passing(entered: io::Result<usize>) -> io::Result<bool> {
    match entered.map_err(|error| (Errno::from_raw(error.raw_os_error().unwrap_or(0)), error)) {
        Ok(_) | Err((Errno::ETIME, _)) => Ok(true),
        Err((Errno::EINTR | Errno::EBUSY | Errno::EAGAIN, _)) => Ok(false),
        Err((_, error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_does_not_know_shared_buffers_serves_as_well() {
        if obstacle().is_none() {
            // No kernel knows this flag.
            Ring::with(8, 64 << 10, 1 << 15).unwrap();
        }
    }
}
