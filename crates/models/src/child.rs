//! The life of one child of `fork`: one connection, served by blocking calls.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crossbeam::channel::{Receiver, Sender, bounded};
use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::socket::MsgFlags;
use nix::unistd::{Pid, getppid};
use switchboard_proto::{App, CloseReason, Guests, Lookout, Port, Request};

use crate::Tally;
use crate::blocking::{Line, Way};
use crate::hub::STACK_BYTES;
use crate::limits::Limit;
use crate::parent::DONE_BYTES;
use crate::relay::{self, Down, MAX_UNDER_WAY_BYTES, Relay};

/// Messages that are taken from the relay at once.
const BATCH: usize = 64;

/// Serves the connection. Returns the exit status.
pub(crate) fn run(stream: TcpStream, relay: Relay, app: &Arc<App>) -> i32 {
    match serve(stream, relay, app) {
        Ok(()) => 0,
        Err(error) => {
            switchboard_console::log!("a child could not serve its connection: {error}");
            1
        }
    }
}

fn serve(stream: TcpStream, relay: Relay, app: &Arc<App>) -> io::Result<()> {
    handle_signals()?;
    close_all_but([stream.as_raw_fd(), relay.as_fd().as_raw_fd()]);
    // The parent counts the connections of each address.
    let app = &Arc::new(App { guests: Guests::default(), ..App::clone(app) });
    let line = Arc::new(Line::new(stream, app)?);
    let up = Up {
        line: line.clone(),
        relay: Mutex::new(relay),
        under_way_bytes: AtomicUsize::new(0),
        // More than what the parent may keep to itself, or it would be waited for in vain.
        max_under_way_bytes: MAX_UNDER_WAY_BYTES.min(app.max_unsent_bytes / 2).max(2 * DONE_BYTES),
        is_deaf: AtomicBool::new(false),
        listener: Mutex::new(None),
        is_listening: AtomicBool::new(false),
    };
    let talk = Talk(Arc::new(up));
    line.serve(&talk);
    let mut tally = Tally::default();
    tally.add(line.counts());
    let relay = talk.0.relay.lock().expect("no thread panics while it sends");
    relay.say(&relay::Up::Tally(tally), |_| {})
}

/// Has this process end with its parent, which cannot tell its children when it is killed.
///
/// # Errors
/// The system's; or that the parent has died already, before the system could be asked to tell (PR_SET_PDEATHSIG in prctl(2)): then this process is
/// somebody else's child, and nobody will.
pub(crate) fn end_with(parent: Pid) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid() == parent {
        return Ok(());
    }
    Err(io::Error::other(format!("process {parent} has died before its child began")))
}

/// Set by SIGTERM.
static IS_STOPPING: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: libc::c_int) {
    IS_STOPPING.store(true, Ordering::Relaxed);
}

/// SIGTERM interrupts what this process is blocked in. SIGINT and SIGHUP from a terminal go to the parent as well, and
/// what follows from them is the parent's business.
fn handle_signals() -> nix::Result<()> {
    let stop = SigAction::new(SigHandler::Handler(on_signal), SaFlags::empty(), SigSet::empty());
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing but store an atomic, which is async-signal-safe.
    unsafe {
        sigaction(Signal::SIGTERM, &stop)?;
        sigaction(Signal::SIGINT, &ignore)?;
        sigaction(Signal::SIGHUP, &ignore)?;
    }
    Ok(())
}

/// Closes what the parent had open: its listeners, and its end of every other child's relay.
pub(crate) fn close_all_but<const N: usize>(mut kept: [RawFd; N]) {
    kept.sort_unstable();
    let mut first = 3;
    for last in kept.into_iter().map(|fd| fd as u32).chain([u32::MAX]) {
        // The last one itself is kept, but for the end of all numbers.
        let end = if last == u32::MAX { last } else { last.saturating_sub(1) };
        if first <= end {
            // SAFETY: this process ends without running the destructors of whoever owned these (see `Parent::make`).
            // An old kernel that does not know the call leaves them open, which only wastes them.
            unsafe { libc::syscall(libc::SYS_close_range, first, end, 0) };
        }
        first = last.saturating_add(1);
    }
}

/// This process's way to the exchange, which is the parent's.
struct Up {
    line: Arc<Line>,
    /// Locked while something is sent: what is long takes several packets, which must not mix with others.
    relay: Mutex<Relay>,
    /// Bytes of what was asked that the parent has not done, or whose consequences the client has not taken.
    under_way_bytes: AtomicUsize,
    max_under_way_bytes: usize,
    /// Nobody listens to the parent any more.
    is_deaf: AtomicBool,
    /// Dropped when the connection has ended. `None` before anything has been asked.
    listener: Mutex<Option<Sender<()>>>,
    /// There is one, which hears of the end from the parent, behind all that was published before it.
    is_listening: AtomicBool,
}

/// The same for the threads that have it.
#[derive(Clone)]
struct Talk(Arc<Up>);

impl Way for Talk {
    fn ask(&self, request: Request) {
        let up = &self.0;
        if self.listen().is_err() {
            // Whoever asks without being able to hear would wait for ever.
            return up.line.refuse(Limit::Processes);
        }
        let relay = up.relay.lock().expect("no thread panics while it sends");
        let said = relay.say(&relay::Up::Ask(Port(0), request), |bytes| {
            // Before it can be done.
            up.under_way_bytes.fetch_add(bytes, Ordering::Relaxed);
        });
        if said.is_err() {
            // The parent is gone: better no connection than a deaf one.
            up.line.hang_up();
        }
    }

    fn is_behind(&self) -> bool {
        let Up { under_way_bytes, max_under_way_bytes, is_deaf, .. } = &*self.0;
        under_way_bytes.load(Ordering::Relaxed) > *max_under_way_bytes && !is_deaf.load(Ordering::Acquire)
    }

    fn is_stopping(&self) -> bool {
        IS_STOPPING.load(Ordering::Relaxed) && !self.0.is_listening.load(Ordering::Relaxed)
    }
}

impl Talk {
    /// Makes the thread that hears what the parent says, if it is not there yet.
    fn listen(&self) -> io::Result<()> {
        let mut listener = self.0.listener.lock().expect("no thread panics while it makes another");
        if listener.is_some() {
            return Ok(());
        }
        let incoming = self.0.relay.lock().expect("no thread panics while it sends").try_clone()?;
        let (ended, has_ended) = bounded(0);
        let talk = self.clone();
        // The signal must interrupt the thread that reads from the client, not the one that is made here.
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTERM);
        stop.thread_block()?;
        let thread = thread::Builder::new().stack_size(STACK_BYTES);
        let spawned = thread.spawn(move || {
            hear(&talk, incoming, &has_ended);
            talk.0.is_deaf.store(true, Ordering::Release);
        });
        stop.thread_unblock()?;
        *listener = Some(ended);
        self.0.is_listening.store(spawned.is_ok(), Ordering::Relaxed);
        spawned.map(drop)
    }
}

/// Gives to this process's client what the parent has for it.
fn hear(talk: &Talk, mut relay: Relay, has_ended: &Receiver<()>) {
    let Up { line, under_way_bytes, is_deaf, .. } = &*talk.0;
    let mut lookout = Lookout::default();
    loop {
        if relay.wait(line.poll_timeout(&lookout)) {
            // What has gathered in the relay leaves in one write.
            for _ in 0..BATCH {
                match relay.next(MsgFlags::MSG_DONTWAIT) {
                    Ok(Some((Down::Effect(effect), _))) => line.take(effect),
                    Ok(Some((Down::Done(bytes), _))) => {
                        under_way_bytes.fetch_sub(bytes, Ordering::Relaxed);
                    }
                    Ok(Some((Down::Close, _))) => line.close(CloseReason::GoingAway),
                    // The parent has cut us off.
                    Ok(None) => {
                        is_deaf.store(true, Ordering::Release);
                        return line.close_slow(has_ended);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => return line.hang_up(),
                }
            }
        } else {
            line.expire(&mut lookout);
        }
        line.pass_on(talk);
        if line.flush(|| relay.is_cut_off().then_some(CloseReason::TooSlow)).is_err() {
            return;
        }
        line.end_if_over();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_notices_that_its_parent_died_before_it_began() {
        // SAFETY: what is forked does nothing but two system calls, and ends.
        let fork = |parent: Pid| match unsafe { nix::unistd::fork() } {
            Ok(nix::unistd::ForkResult::Child) => {
                let status = i32::from(end_with(parent).is_err());
                // SAFETY: it ends the process, and nothing of its parent's is touched.
                unsafe { libc::_exit(status) }
            }
            Ok(nix::unistd::ForkResult::Parent { child }) => nix::sys::wait::waitpid(child, None),
            Err(error) => Err(error),
        };
        let ended = |fate| matches!(fate, Ok(nix::sys::wait::WaitStatus::Exited(_, status)) if status == 1);
        assert!(!ended(fork(nix::unistd::getpid())), "its parent is there");
        // As after its parent's death: another process is its parent.
        assert!(ended(fork(getppid())));
    }
}
