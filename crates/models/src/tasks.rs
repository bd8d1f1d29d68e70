//! A connection as a task, for both runtimes of tokio.
//!
//! The code of a task reads as if it had a thread to itself: read, answer, read again. Where it would block it says `await`, and the
//! compiler cuts it there into a state machine that the runtime keeps until epoll tells that it can go on. So a task costs what its state takes,
//! not a stack.
//!
//! A broadcast is a tokio `broadcast` channel for each topic: a ring of the latest messages that every subscriber's task reads at its own pace.
//! Who falls behind by all of the ring has lost something (`Lagged`) and is closed as too slow; long before that,
//! as a rule, its unsent bytes have reached the limit. Whoever publishes waits while the ring is half full, so that a burst does not overrun it.

use std::collections::HashMap;
use std::future::{pending, poll_fn};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;
use ::tokio::runtime::Runtime;
use ::tokio::select;
use ::tokio::sync::broadcast::error::{RecvError, TryRecvError};
use ::tokio::sync::{Notify, broadcast, mpsc};
use ::tokio::task::yield_now;
use ::tokio::time::sleep_until;
use switchboard_proto::{App, CloseReason, Effect, Exchange, Outgoing, Port, Reply, Request, Session};

use crate::accept::{Acceptor, address_of};
use crate::task_socket::Socket;
use crate::{Listener, Shutdown, Tally};

/// Messages that the channel holds for the slowest subscriber.
const RING: usize = 4096;

/// How often a publisher lets the subscribers run before it goes on whatever they do.
const YIELDS: usize = 64;

/// What the tasks share.
struct Hub {
    app: Arc<App>,
    /// Locked while what follows goes into the channels: all subscribers see one order.
    desk: Mutex<Desk>,
    /// Told when the exchange has something due earlier than it had.
    is_due: Notify,
    next_port: AtomicU64,
    open: AtomicUsize,
    /// Told when the server ends, and again when the grace is over.
    ending: Notify,
    over: Notify,
    /// Told when a connection has ended.
    left: Notify,
    tally: Mutex<Tally>,
}

/// The exchange, and the ways to those who wait for something of it.
struct Desk {
    exchange: Exchange,
    topics: HashMap<Arc<str>, broadcast::Sender<Arc<Outgoing>>>,
    /// The connections that are told something unasked.
    waiting: HashMap<Port, mpsc::UnboundedSender<Reply>>,
}

/// A connection's ends of those ways.
struct Ways {
    port: Port,
    published: Option<broadcast::Receiver<Arc<Outgoing>>>,
    replies: Option<mpsc::UnboundedReceiver<Reply>>,
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
        desk: Mutex::new(Desk {
            exchange: Exchange::shared(app, Instant::now()),
            topics: HashMap::new(),
            waiting: HashMap::new(),
        }),
        is_due: Notify::new(),
        next_port: AtomicU64::new(0),
        open: AtomicUsize::new(0),
        ending: Notify::new(),
        over: Notify::new(),
        left: Notify::new(),
        tally: Mutex::default(),
    });
    let acceptor = Acceptor::new(listener.into_tcp()?, app, None)?;
    let clock = runtime.spawn(keep_time(hub.clone()));
    let refused = runtime.block_on(accept(acceptor, &hub, shutdown))?;
    clock.abort();
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
            // A socket that cannot be set up is closed by being dropped.
            if let Ok(stream) = Socket::new(stream) {
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
    // What was acknowledged before is in the channels, and nothing more comes.
    hub.close();
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
async fn connection(stream: Socket, hub: Arc<Hub>) {
    let now = Instant::now();
    let mut session = Session::server(&hub.app, now);
    address_of(stream.stream(), &hub.app).into_iter().for_each(|address| session.came_from(address, now));
    let port = Port(hub.next_port.fetch_add(1, Ordering::Relaxed));
    let mut ways = Ways { port, published: None, replies: None };
    // An error is the end of the connection, whoever's fault it is.
    let _ = talk(&stream, &mut session, &mut ways, &hub).await;
    hub.leave(&mut session, &mut ways);
    drop(stream);
    hub.tally.lock().expect("no task panics while it counts").add(session.counts());
    hub.open.fetch_sub(1, Ordering::Release);
    hub.left.notify_one();
}

async fn talk(stream: &Socket, session: &mut Session, ways: &mut Ways, hub: &Hub) -> io::Result<()> {
    let mut ending = pin!(hub.ending.notified());
    let mut over = pin!(hub.over.notified());
    let mut has_ended = false;
    loop {
        handle_events(session, ways, hub).await;
        stream.write(session)?;
        if session.is_over() {
            return Ok(());
        }
        let wants = session.wants();
        let due = session.poll_timeout();
        select! {
            done = poll_fn(|context| stream.poll(context, session, wants)) => done?,
            message = next(&mut ways.published) => deliver(message, &mut ways.published, session),
            reply = reply(&mut ways.replies) => {
                session.reply(reply, Instant::now());
                // What has gathered leaves in one write.
                drain_replies(&mut ways.replies, session);
            }
            () = until(due) => stream.expire(session)?,
            () = &mut ending, if !has_ended => {
                has_ended = true;
                // The first of two things that are ready is any of them: what was said before is to be delivered before.
                drain_replies(&mut ways.replies, session);
                drain(&mut ways.published, session);
                session.close(CloseReason::GoingAway, Instant::now());
            }
            () = &mut over => return Ok(()),
        }
    }
}

/// Passes on what the session asks.
async fn handle_events(session: &mut Session, ways: &mut Ways, hub: &Hub) {
    while let Some(request) = session.poll_event() {
        if let Request::Publish { topic, .. } = &request {
            // This task may be a subscriber as well: it must not be the one for which the ring has no room.
            for _ in 0..YIELDS {
                drain(&mut ways.published, session);
                let is_half_full =
                    |desk: &Desk| desk.topics.get(&topic[..]).is_some_and(|ring| ring.len() >= RING / 2);
                if !is_half_full(&hub.desk()) {
                    break;
                }
                yield_now().await;
            }
        }
        let replies = hub.ask(request, session, ways);
        replies.into_iter().for_each(|reply| session.reply(reply, Instant::now()));
    }
}

impl Hub {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().expect("no task panics while it has the exchange")
    }

    /// Has nothing more published.
    fn close(&self) {
        let mut desk = self.desk();
        desk.exchange.close();
        desk.pass_on(None);
    }

    /// Asks the exchange, and returns the answers to a connection that only asks.
    fn ask(&self, request: Request, session: &Session, ways: &mut Ways) -> Vec<Reply> {
        let mut desk = self.desk();
        match &request {
            Request::Subscribe { .. } => {
                if let Some((topic, _)) = session.subscription() {
                    let ring =
                        desk.topics.entry(topic.clone()).or_insert_with(|| broadcast::Sender::new(RING));
                    ways.published = Some(ring.subscribe());
                }
            }
            Request::Unsubscribe { topic, .. } => {
                ways.published = None;
                desk.forget(topic);
            }
            request if !request.is_answered_at_once() && ways.replies.is_none() => {
                let (sender, receiver) = mpsc::unbounded_channel();
                desk.waiting.insert(ways.port, sender);
                ways.replies = Some(receiver);
            }
            _ => {}
        }
        let before = desk.exchange.poll_timeout();
        desk.exchange.handle(ways.port, request, Instant::now());
        let replies = desk.pass_on(Some(ways.port));
        let is_earlier =
            desk.exchange.poll_timeout().is_some_and(|due| before.is_none_or(|before| due < before));
        if is_earlier {
            self.is_due.notify_one();
        }
        replies
    }

    /// Forgets a connection that has ended.
    fn leave(&self, session: &mut Session, ways: &mut Ways) {
        ways.published = None;
        let farewell = session.poll_farewell();
        if farewell.is_none() && ways.replies.is_none() && session.subscription().is_none() {
            return;
        }
        let mut desk = self.desk();
        if let Some((topic, _)) = session.subscription() {
            desk.forget(topic);
        }
        desk.waiting.remove(&ways.port);
        if let Some(farewell) = farewell {
            desk.exchange.handle(ways.port, farewell, Instant::now());
            desk.pass_on(None);
        }
    }
}

impl Desk {
    /// Puts what follows into the channels of those whom it concerns. Returns what is for a connection that only asks, and whose answer nobody else waits for.
    fn pass_on(&mut self, asking: Option<Port>) -> Vec<Reply> {
        let mut answers = Vec::new();
        while let Some(effect) = self.exchange.poll_effect() {
            match effect {
                Effect::Publish(message) => {
                    if let Some(ring) = self.topics.get(message.topic()) {
                        // It fails when there is no subscriber.
                        let _ = ring.send(message);
                    }
                }
                Effect::Reply(port, reply) => match self.waiting.get(&port) {
                    // It fails when the connection has just ended.
                    Some(waiting) => drop(waiting.send(reply)),
                    None if Some(port) == asking => answers.push(reply),
                    None => {}
                },
            }
        }
        answers
    }

    /// Lets a ring go that nobody reads any more.
    fn forget(&mut self, topic: &Arc<str>) {
        if self.topics.get(topic).is_some_and(|ring| ring.receiver_count() == 0) {
            self.topics.remove(topic);
        }
    }
}

/// Looks after the exchange when it has something due.
async fn keep_time(hub: Arc<Hub>) {
    loop {
        let due = hub.desk().exchange.poll_timeout();
        select! {
            () = until(due) => {
                {
                    let mut desk = hub.desk();
                    desk.exchange.handle_timeout(Instant::now());
                    desk.pass_on(None);
                }
                // What was enough for once may go on at once, but others come first.
                yield_now().await;
            }
            () = hub.is_due.notified() => {}
        }
    }
}

/// Takes what waits in the channel.
fn drain(published: &mut Option<broadcast::Receiver<Arc<Outgoing>>>, session: &mut Session) {
    while let Some(receiver) = published {
        match receiver.try_recv() {
            Ok(message) => session.deliver(&message, Instant::now()),
            Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            Err(TryRecvError::Lagged(_)) => fall_behind(published, session),
        }
    }
}

/// Takes what else the exchange has said.
fn drain_replies(replies: &mut Option<mpsc::UnboundedReceiver<Reply>>, session: &mut Session) {
    while let Some(Ok(reply)) = replies.as_mut().map(mpsc::UnboundedReceiver::try_recv) {
        session.reply(reply, Instant::now());
    }
}

/// Something is lost, and what follows must not look as if it were not.
fn fall_behind(published: &mut Option<broadcast::Receiver<Arc<Outgoing>>>, session: &mut Session) {
    *published = None;
    session.close(CloseReason::TooSlow, Instant::now());
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
        Err(_) => fall_behind(published, session),
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

/// The next thing that the exchange has to say to a connection that is told something unasked.
async fn reply(replies: &mut Option<mpsc::UnboundedReceiver<Reply>>) -> Reply {
    match replies {
        Some(replies) => match replies.recv().await {
            Some(reply) => reply,
            None => pending().await,
        },
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
