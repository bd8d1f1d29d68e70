//! A connection as a task, for both runtimes of tokio.
//!
//! The code of a task reads as if it had a thread to itself: read, answer, read again. Where it would block it says `await`, and the
//! compiler cuts it there into a state machine that the runtime keeps until epoll tells that it can go on. So a task costs what its state takes,
//! not a stack.
//!
//! A broadcast is a tokio `broadcast` channel: a ring of the latest messages that every subscriber's task reads at its own pace.
//! Who falls behind by all of the ring has lost something (`Lagged`) and is closed as too slow; long before that,
//! as a rule, its unsent bytes have reached the limit. Whoever publishes waits while the ring is half full, so that a burst does not overrun it.

use std::cell::RefCell;
use std::future::{pending, poll_fn};
use std::io::{self, ErrorKind};
use std::net::Shutdown as Direction;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ::tokio::io::unix::AsyncFd;
use ::tokio::io::{AsyncRead, Interest, ReadBuf};
use ::tokio::net::TcpStream;
use ::tokio::runtime::Runtime;
use ::tokio::select;
use ::tokio::sync::broadcast::error::RecvError;
use ::tokio::sync::{Notify, broadcast};
use ::tokio::task::yield_now;
use ::tokio::time::sleep_until;
use socket2::SockRef;
use switchboard_proto::{App, CloseReason, Event, Outgoing, Session, Wants};

use crate::accept::Acceptor;
use crate::write::gather;
use crate::{Listener, Shutdown, Tally};

/// Messages that the channel holds for the slowest subscriber.
const RING: usize = 4096;

/// How often a publisher lets the subscribers run before it goes on whatever they do.
const YIELDS: usize = 64;

/// Bytes that one read takes. Each thread of the runtime has one such buffer: a task that waits owns none.
const SCRATCH_BYTES: usize = 64 << 10;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// What the tasks share.
struct Hub {
    app: Arc<App>,
    published: broadcast::Sender<Arc<Outgoing>>,
    open: AtomicUsize,
    /// Told when the server ends, and again when the grace is over.
    ending: Notify,
    over: Notify,
    /// Told when a connection has ended.
    left: Notify,
    tally: Mutex<Tally>,
}

/// Serves on a runtime.
pub(crate) fn serve(
    runtime: &Runtime,
    listener: Listener,
    app: &Arc<App>,
    shutdown: &Shutdown,
) -> io::Result<Tally> {
    let hub = Arc::new(Hub {
        app: app.clone(),
        published: broadcast::Sender::new(RING),
        open: AtomicUsize::new(0),
        ending: Notify::new(),
        over: Notify::new(),
        left: Notify::new(),
        tally: Mutex::default(),
    });
    let acceptor = Acceptor::new(listener.into_tcp()?, app, None)?;
    let refused = runtime.block_on(accept(acceptor, &hub, shutdown))?;
    let tally = *hub.tally.lock().expect("no task panics while it counts");
    Ok(Tally { refused: tally.refused + refused, ..tally })
}

/// Accepts until the server is to end, and then waits for the tasks. Returns how many were refused.
async fn accept(mut acceptor: Acceptor, hub: &Arc<Hub>, shutdown: &Shutdown) -> io::Result<u64> {
    let (listener, stop) = (watch(acceptor.as_fd())?, watch(shutdown.as_fd())?);
    loop {
        let due = acceptor.poll_timeout();
        let mut ready = None;
        select! {
            biased;
            _ = stop.readable() => break,
            guard = listener.readable(), if !acceptor.is_resting() => ready = Some(guard?),
            () = until(due) => {}
        }
        acceptor.accept(hub.open.load(Ordering::Relaxed), Instant::now(), |stream| {
            let entered = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            // A socket that cannot be set up is closed by being dropped.
            if let Ok(stream) = entered {
                hub.open.fetch_add(1, Ordering::Relaxed);
                hub.tally.lock().expect("no task panics while it counts").connections += 1;
                ::tokio::spawn(connection(stream, hub.clone()));
            }
            Ok(())
        });
        if let Some(mut guard) = ready
            && !acceptor.is_resting()
        {
            guard.clear_ready();
        }
    }
    drop(listener);
    let refused = acceptor.refused;
    drop(acceptor);
    hub.ending.notify_waiters();
    let patience = Instant::now() + hub.app.grace;
    let mut is_over = false;
    while hub.open.load(Ordering::Acquire) > 0 {
        let left = hub.left.notified();
        if hub.open.load(Ordering::Acquire) == 0 {
            break;
        }
        // A task that was just made, or had just looked, is told again.
        let again = Instant::now() + Duration::from_millis(10);
        select! {
            () = left => {}
            () = sleep_until(again.into()) => hub.ending.notify_waiters(),
        }
        if Instant::now() >= patience || is_over {
            is_over = true;
            hub.over.notify_waiters();
        }
    }
    Ok(refused)
}

/// The life of one connection.
async fn connection(mut stream: TcpStream, hub: Arc<Hub>) {
    let mut session = Session::server(&hub.app, Instant::now());
    // An error is the end of the connection, whoever's fault it is.
    let _ = talk(&mut stream, &mut session, &hub).await;
    drop(stream);
    hub.tally.lock().expect("no task panics while it counts").add(session.counts());
    hub.open.fetch_sub(1, Ordering::Release);
    hub.left.notify_one();
}

async fn talk(stream: &mut TcpStream, session: &mut Session, hub: &Hub) -> io::Result<()> {
    let mut published: Option<broadcast::Receiver<Arc<Outgoing>>> = None;
    let mut ending = pin!(hub.ending.notified());
    let mut over = pin!(hub.over.notified());
    let mut has_ended = false;
    loop {
        write(stream, session)?;
        let wants = session.wants();
        if !wants.read && !wants.write {
            return Ok(());
        }
        let due = session.poll_timeout();
        select! {
            done = poll_fn(|context| poll(context, stream, session, wants)) => {
                done?;
                handle_events(session, &mut published, hub).await;
            }
            message = next(&mut published) => deliver(message, &mut published, session),
            () = until(due) => session.handle_timeout(Instant::now()),
            () = &mut ending, if !has_ended => {
                has_ended = true;
                session.close(CloseReason::GoingAway, Instant::now());
            }
            () = &mut over => return Ok(()),
        }
    }
}

/// Reads once if the session wants to, into the buffer of the thread that the task is on right now; done as well when there is room to write.
fn poll(
    context: &mut Context<'_>,
    stream: &mut TcpStream,
    session: &mut Session,
    wants: Wants,
) -> Poll<io::Result<()>> {
    if wants.write && stream.poll_write_ready(context)?.is_ready() {
        return Poll::Ready(Ok(()));
    }
    if !wants.read {
        return Poll::Pending;
    }
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
        match buffer.filled_mut() {
            [] => session.receive_eof(Instant::now()),
            bytes => session.receive(bytes, Instant::now()),
        }
        Poll::Ready(Ok(()))
    })
}

/// Writes as much as the peer takes.
fn write(stream: &TcpStream, session: &mut Session) -> io::Result<()> {
    let output = session.output();
    while !output.is_empty() {
        match gather(output, |bytes| stream.try_write(bytes), |slices| stream.try_write_vectored(slices)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    if session.poll_finish() {
        // It fails when the peer is gone, and then the next read says so.
        let _ = SockRef::from(stream).shutdown(Direction::Write);
    }
    Ok(())
}

async fn handle_events(
    session: &mut Session,
    published: &mut Option<broadcast::Receiver<Arc<Outgoing>>>,
    hub: &Hub,
) {
    while let Some(event) = session.poll_event() {
        match event {
            Event::Subscribe => *published = Some(hub.published.subscribe()),
            Event::Publish(message) => {
                // This task is a subscriber as well: it must not be the one for which the ring has no room.
                for _ in 0..YIELDS {
                    drain(published, session);
                    if hub.published.len() < RING / 2 {
                        break;
                    }
                    yield_now().await;
                }
                // It fails when there is no subscriber.
                let _ = hub.published.send(message);
            }
        }
    }
}

/// Takes what waits in the channel.
fn drain(published: &mut Option<broadcast::Receiver<Arc<Outgoing>>>, session: &mut Session) {
    while let Some(receiver) = published
        && let Some(message) = receiver.try_recv().map(Some).unwrap_or(None)
    {
        session.deliver(&message, Instant::now());
    }
}

fn deliver(
    message: Result<Arc<Outgoing>, RecvError>,
    published: &mut Option<broadcast::Receiver<Arc<Outgoing>>>,
    session: &mut Session,
) {
    match message {
        // What has gathered leaves in one write.
        Ok(message) => {
            session.deliver(&message, Instant::now());
            drain(published, session);
        }
        Err(_) => {
            *published = None;
            session.close(CloseReason::TooSlow, Instant::now());
        }
    }
}

/// The next message for a subscriber; never for anybody else.
async fn next(
    published: &mut Option<broadcast::Receiver<Arc<Outgoing>>>,
) -> Result<Arc<Outgoing>, RecvError> {
    match published {
        Some(receiver) => receiver.recv().await,
        None => pending().await,
    }
}

/// A deadline that may not exist.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}

/// A second handle to a descriptor, for the runtime to wait for.
fn watch(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = fd.try_clone_to_owned()?;
    // SAFETY: it owns the descriptor, and closes it no sooner than the runtime has forgotten it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}
