use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The word to stop, as a descriptor: an eventfd that is written once and never read, so that from then on
/// it is readable for every waiter, whatever it waits with.
#[derive(Debug, Clone)]
pub struct Shutdown {
    event: Arc<EventFd>,
}

impl Shutdown {
    /// A shutdown that only [`trigger`](Shutdown::trigger) sets off.
    ///
    /// # Errors
    /// The system's, when it has no descriptor left.
    pub fn new() -> io::Result<Shutdown> {
        let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Shutdown { event: Arc::new(event) })
    }

    /// A shutdown that SIGTERM, SIGINT and SIGHUP set off. There is one for the whole process.
    ///
    /// SIGTERM or SIGINT after that ends the process at once, by the signal itself: a shell shows the status 143 or 130. SIGHUP does not: a
    /// terminal that is closed sends it twice, once by the kernel and once by the shell. Where SIGHUP is ignored from the start, as with nohup(1), it
    /// stays ignored.
    ///
    /// # Errors
    /// The system's, when it has no descriptor left.
    pub fn on_signals() -> io::Result<Shutdown> {
        let shutdown = Shutdown::new()?;
        SIGNALLED.store(shutdown.event.as_raw_fd(), Ordering::SeqCst);
        // The handler uses the descriptor for as long as the process lives.
        std::mem::forget(shutdown.event.clone());
        let action = SigAction::new(SigHandler::Handler(on_signal), SaFlags::SA_RESTART, SigSet::empty());
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            // SAFETY: the handler does nothing but use atomics, write(2), signal(2) and raise(3), which are async-signal-safe.
            let before = unsafe { sigaction(signal, &action) }?;
            if signal == Signal::SIGHUP && matches!(before.handler(), SigHandler::SigIgn) {
                // SAFETY: it is what was set before.
                unsafe { sigaction(signal, &before) }?;
            }
        }
        Ok(shutdown)
    }

    /// Sets it off. Doing so twice changes nothing.
    pub fn trigger(&self) {
        // It fails only when the counter is full, and then it is readable already.
        let _ = self.event.write(1);
    }

    /// Whether it was set off.
    pub fn is_triggered(&self) -> bool {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
    }
}

impl AsFd for Shutdown {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// The eventfd that the signal handler writes.
static SIGNALLED: AtomicI32 = AtomicI32::new(-1);

/// Whether a signal has set off the end already.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(signal: libc::c_int) {
    if IS_ENDING.swap(true, Ordering::SeqCst) && signal != libc::SIGHUP {
        // SAFETY: both are async-signal-safe. The signal is blocked while its handler runs, and ends the process when that returns.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }
    let one = 1_u64.to_ne_bytes();
    // SAFETY: write(2) is async-signal-safe and the buffer lives on this stack.
    unsafe { libc::write(SIGNALLED.load(Ordering::SeqCst), one.as_ptr().cast(), one.len()) };
}
