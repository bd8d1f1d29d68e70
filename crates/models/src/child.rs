//! The life of one child of `fork`: one connection, served by blocking calls.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam::channel::{Receiver, Sender, bounded};
use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::socket::MsgFlags;
use switchboard_proto::{App, CloseReason, Event};

use crate::Tally;
use crate::blocking::{Exchange, Line};
use crate::hub::STACK_BYTES;
use crate::limits::Limit;
use crate::relay::{Packet, Relay};

/// Messages that are taken from the relay at once.
const BATCH: usize = 64;

/// Serves the connection. Returns the exit status.
pub(crate) fn run(stream: TcpStream, relay: Relay, app: &Arc<App>) -> i32 {
    match serve(stream, relay, app) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("a child could not serve its connection: {error}");
            1
        }
    }
}

fn serve(stream: TcpStream, relay: Relay, app: &Arc<App>) -> io::Result<()> {
    // A parent that was killed cannot tell its children.
    set_pdeathsig(Signal::SIGKILL)?;
    handle_signals()?;
    close_all_but([stream.as_raw_fd(), relay.as_fd().as_raw_fd()]);
    let line = Arc::new(Line::new(stream, app)?);
    let mut talk = Talk { line: &line, relay, subscription: None };
    line.serve(&mut talk);
    let mut tally = Tally::default();
    tally.add(line.counts());
    talk.relay.send_tally(tally)
}

/// Set by SIGTERM.
static IS_STOPPING: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: libc::c_int) {
    IS_STOPPING.store(true, Ordering::Relaxed);
}

/// SIGTERM interrupts what this process is blocked in. SIGINT from a terminal goes to the parent as well, and
/// what follows from it is the parent's business.
fn handle_signals() -> nix::Result<()> {
    let stop = SigAction::new(SigHandler::Handler(on_signal), SaFlags::empty(), SigSet::empty());
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing but store an atomic, which is async-signal-safe.
    unsafe {
        sigaction(Signal::SIGTERM, &stop)?;
        sigaction(Signal::SIGINT, &ignore)?;
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

/// This process's part in what is published.
struct Talk<'a> {
    line: &'a Arc<Line>,
    relay: Relay,
    /// Dropped when the connection has ended.
    subscription: Option<Sender<()>>,
}

impl Exchange for Talk<'_> {
    fn event(&mut self, event: Event) {
        let done = match event {
            Event::Subscribe => self.subscribe(),
            Event::Publish(message) => self.relay.publish(&message),
        };
        if done.is_err() {
            // The parent is gone: better no connection than a deaf one.
            self.line.hang_up();
        }
    }

    fn is_stopping(&self) -> bool {
        IS_STOPPING.load(Ordering::Relaxed)
    }
}

impl Talk<'_> {
    /// Asks the parent for what is published, and waits until it has agreed: whatever anybody publishes after
    /// this connection's upgrade is answered will come.
    fn subscribe(&mut self) -> io::Result<()> {
        let mut incoming = self.relay.try_clone()?;
        self.relay.send_subscribe(MsgFlags::empty())?;
        loop {
            match incoming.next(MsgFlags::empty()) {
                Ok(Some(Packet::Subscribe)) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        let (ended, has_ended) = bounded(0);
        let line = self.line.clone();
        // The signal must interrupt the thread that reads from the client, not the one that is made here.
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTERM);
        stop.thread_block()?;
        let writer = thread::Builder::new().stack_size(STACK_BYTES);
        let spawned = writer.spawn(move || write_messages(&line, &mut incoming, &has_ended));
        stop.thread_unblock()?;
        match spawned {
            Ok(_) => self.subscription = Some(ended),
            // A subscriber without a writer would hear nothing and not know why.
            Err(_) => self.line.refuse(Limit::Processes),
        }
        Ok(())
    }
}

/// Writes what is published to this process's client.
fn write_messages(line: &Line, relay: &mut Relay, has_ended: &Receiver<()>) {
    loop {
        match relay.next(MsgFlags::empty()) {
            Ok(Some(Packet::Message(message))) => line.deliver(&message),
            Ok(Some(_)) => {}
            // The parent has cut us off.
            Ok(None) => return line.close_slow(has_ended),
            Err(_) => return line.hang_up(),
        }
        // What has gathered in the relay leaves in one write.
        for _ in 0..BATCH {
            match relay.next(MsgFlags::MSG_DONTWAIT) {
                Ok(Some(Packet::Message(message))) => line.deliver(&message),
                _ => break,
            }
        }
        if line.flush(|| relay.is_cut_off().then_some(CloseReason::TooSlow)).is_err() {
            return;
        }
    }
}
