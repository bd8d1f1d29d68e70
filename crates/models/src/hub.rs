//! What threads that block share: the connections, the exchange, and the way to whoever waits for something of it.
//!
//! A connection that has only questions gets its answers at once, on the thread that asked. One that waits for what others do gets a queue and a
//! second thread that writes, so that a subscriber which does not read blocks nobody but itself.

use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use slab::Slab;
use switchboard_proto::{App, CloseReason, Effect, Exchange, Format, Port, Reply, Request};

use crate::Tally;
use crate::blocking::{Line, Way};
use crate::clock::Clock;
use crate::limits::Limit;

/// Room for the stack of a connection's thread. Only the pages that are used take memory.
pub(crate) const STACK_BYTES: usize = 256 << 10;

/// Messages that a subscriber's thread takes at once, and bytes, unless that is a single one.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 64 << 10;

/// How often the lines are looked after while the server ends.
const LOOK_AFTER: Duration = Duration::from_millis(20);

/// What the threads share.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Shared>);

struct Shared {
    app: Arc<App>,
    lines: Mutex<Slab<Arc<Line>>>,
    /// Locked while something goes into every queue that it concerns: all subscribers see one order.
    desk: Mutex<Desk>,
    clock: Clock,
    next_port: AtomicU64,
    tally: Mutex<Tally>,
}

/// The exchange, and who waits for what of it.
struct Desk {
    exchange: Exchange,
    waiting: HashMap<Port, Arc<Queue>>,
    subscribers: HashMap<Box<str>, HashMap<Port, Arc<Queue>>>,
}

/// A connection that has been let in.
pub(crate) struct Entry {
    key: usize,
    line: Arc<Line>,
}

/// The way to a connection's writing thread. It is bounded by bytes, not by messages: the limit is memory.
struct Queue {
    effects: Sender<Effect>,
    pressure: Arc<Pressure>,
}

/// How far a connection's writing thread is behind.
#[derive(Default)]
struct Pressure {
    /// What the writer has not taken yet. What it has, it may have written, and the client read, before anything here could be changed: whoever
    /// keeps up would be taken for slow.
    waiting_bytes: AtomicUsize,
    is_too_slow: AtomicBool,
    /// There was a writer, and it takes nothing any more.
    has_ended: AtomicBool,
}

impl Hub {
    pub(crate) fn new(app: &Arc<App>) -> Hub {
        let exchange = Exchange::new(app, Instant::now());
        let hub = Hub(Arc::new(Shared {
            app: app.clone(),
            lines: Mutex::default(),
            desk: Mutex::new(Desk { exchange, waiting: HashMap::new(), subscribers: HashMap::new() }),
            clock: Clock::default(),
            next_port: AtomicU64::new(0),
            tally: Mutex::default(),
        }));
        hub.set_clock(&hub.desk());
        hub
    }

    /// Connections that are open.
    pub(crate) fn len(&self) -> usize {
        self.lines().len()
    }

    /// Takes in a connection that was just accepted. A socket that cannot be set up is closed by being dropped: `None`.
    pub(crate) fn enter(&self, stream: TcpStream) -> Option<Entry> {
        let line = Arc::new(Line::new(stream, &self.0.app).ok()?);
        let key = self.lines().insert(line.clone());
        self.tally().connections += 1;
        Some(Entry { key, line })
    }

    /// Serves a connection to its end, on the thread that calls this.
    pub(crate) fn serve(&self, entry: Entry) {
        let Entry { key, line } = entry;
        let port = Port(self.0.next_port.fetch_add(1, Ordering::Relaxed));
        let (hub, attendance, pressure) = (self.clone(), Mutex::new(Attendance::None), Arc::default());
        let talk = Talk(Arc::new(Part { hub, line: line.clone(), port, pressure, attendance }));
        line.serve(&talk);
        talk.end();
        self.tally().add(line.counts());
        self.lines().remove(key);
    }

    /// Gives back a connection that could not be served after all.
    pub(crate) fn withdraw(&self, entry: Entry) -> TcpStream {
        self.lines().remove(entry.key);
        self.tally().connections -= 1;
        Arc::into_inner(entry.line).expect("nobody serves it").into_stream()
    }

    /// What was counted, over all connections that have ended.
    pub(crate) fn counted(&self) -> Tally {
        *self.tally()
    }

    /// Closes every WebSocket with 1001 and waits for the answers, as long as the grace lasts.
    pub(crate) fn say_goodbye(&self) {
        let patience = Instant::now() + self.0.app.grace;
        let mut untold: Vec<Arc<Line>> = self.lines().iter().map(|(_, line)| line.clone()).collect();
        let mut is_over = false;
        while !self.lines().is_empty() {
            untold.retain(|line| !line.try_close(CloseReason::GoingAway));
            thread::sleep(LOOK_AFTER);
            let now = Instant::now();
            self.lines().iter().for_each(|(_, line)| line.tend(now));
            if !is_over && now >= patience {
                is_over = true;
                self.lines().iter().for_each(|(_, line)| line.hang_up());
            }
        }
        self.0.clock.stop();
    }

    fn lines(&self) -> MutexGuard<'_, Slab<Arc<Line>>> {
        self.0.lines.lock().expect("no thread panics while it holds the lines")
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.desk.lock().expect("no thread panics while it holds the exchange")
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.0.tally.lock().expect("no thread panics while it holds the tally")
    }

    /// Has the exchange looked after when it has something due.
    fn set_clock(&self, desk: &Desk) {
        let hub = self.clone();
        self.0.clock.set(desk.exchange.poll_timeout(), move || {
            let mut desk = hub.desk();
            desk.exchange.handle_timeout(Instant::now());
            let max_bytes = hub.0.app.max_unsent_bytes;
            while let Some(effect) = desk.exchange.poll_effect() {
                desk.pass_on(effect, max_bytes);
            }
            desk.exchange.poll_timeout()
        });
    }
}

impl Desk {
    /// Puts something into the queue of everybody whom it concerns; what is for somebody who has none comes back. Never blocks: who is too far behind is cut
    /// off.
    fn pass_on(&mut self, effect: Effect, max_bytes: usize) -> Option<Effect> {
        match &effect {
            Effect::Publish(message) => {
                if let Some(subscribers) = self.subscribers.get_mut(&**message.topic()) {
                    let bytes = counted_bytes(&effect);
                    subscribers.retain(|_, queue| queue.push(effect.clone(), bytes, max_bytes));
                }
            }
            Effect::Reply(port, _) => {
                let port = *port;
                let Some(queue) = self.waiting.get(&port) else { return Some(effect) };
                let bytes = counted_bytes(&effect);
                if !queue.push(effect, bytes, max_bytes) {
                    self.waiting.remove(&port);
                }
            }
        }
        None
    }

    fn unsubscribe(&mut self, port: Port, topic: &str) {
        if let Some(subscribers) = self.subscribers.get_mut(topic) {
            subscribers.remove(&port);
            if subscribers.is_empty() {
                self.subscribers.remove(topic);
            }
        }
    }
}

/// Whether an answer makes its connection one that is behind. What was published before it came does not, however much there is: nobody has read
/// that in the moment in which it asks.
pub(crate) fn counts(reply: &Reply) -> bool {
    !matches!(reply, Reply::Since(_))
}

/// What an effect adds to what waits for its connection.
fn counted_bytes(effect: &Effect) -> usize {
    match effect {
        Effect::Publish(message) => message.encoded(Format::WebSocket).len(),
        Effect::Reply(_, reply) if counts(reply) => reply.held_bytes(),
        Effect::Reply(..) => 0,
    }
}

impl Queue {
    fn push(&self, effect: Effect, bytes: usize, max_bytes: usize) -> bool {
        let waiting = self.pressure.waiting_bytes.load(Ordering::Relaxed);
        if waiting > 0 && waiting + bytes > max_bytes {
            self.pressure.is_too_slow.store(true, Ordering::Release);
            return false;
        }
        self.pressure.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.effects.send(effect).is_ok()
    }
}

/// One connection's part in what others do, for its two threads.
#[derive(Clone)]
struct Talk(Arc<Part>);

struct Part {
    hub: Hub,
    line: Arc<Line>,
    port: Port,
    pressure: Arc<Pressure>,
    attendance: Mutex<Attendance>,
}

/// Whether a connection has a writing thread.
enum Attendance {
    /// It has only asked so far.
    None,
    Writer(Writer),
    /// It has ended.
    Over,
}

/// A connection's writing thread.
struct Writer {
    thread: JoinHandle<()>,
    queue: Arc<Queue>,
    topic: Option<String>,
    /// Dropped when the connection has ended.
    _ended: Sender<()>,
}

impl Way for Talk {
    fn ask(&self, request: Request) {
        let Part { hub, line, port, .. } = &*self.0;
        if !request.is_answered_at_once() && self.attend().is_err() {
            // Whoever waits for something without a writer would hear nothing and not know why.
            return line.refuse(Limit::Threads);
        }
        let is_mine = |effect: &Effect| matches!(effect, Effect::Reply(whose, _) if whose == port);
        let mut desk = hub.desk();
        self.note_subscription(&request, &mut desk);
        desk.exchange.handle(*port, request, Instant::now());
        let max_bytes = hub.0.app.max_unsent_bytes;
        let mut answers = Vec::new();
        while let Some(effect) = desk.exchange.poll_effect() {
            answers.extend(desk.pass_on(effect, max_bytes).filter(is_mine));
        }
        hub.set_clock(&desk);
        drop(desk);
        // A connection that only asks has no queue.
        answers.into_iter().for_each(|answer| line.take(answer));
    }

    fn is_behind(&self) -> bool {
        let Part { hub, pressure, .. } = &*self.0;
        let waiting = pressure.waiting_bytes.load(Ordering::Relaxed);
        waiting > hub.0.app.max_unsent_bytes / 2
            && !pressure.is_too_slow.load(Ordering::Acquire)
            && !pressure.has_ended.load(Ordering::Acquire)
    }
}

impl Talk {
    /// Makes the writing thread, if it is not there yet.
    fn attend(&self) -> std::io::Result<()> {
        let Part { hub, port, pressure, .. } = &*self.0;
        let mut attendance = self.attendance();
        if matches!(*attendance, Attendance::None) {
            let (effects, received) = unbounded();
            let (ended, has_ended) = bounded(0);
            let queue = Arc::new(Queue { effects, pressure: pressure.clone() });
            let talk = self.clone();
            let thread = thread::Builder::new().stack_size(STACK_BYTES);
            let thread = thread.spawn(move || {
                write_effects(&talk, &received, &has_ended);
                talk.0.pressure.has_ended.store(true, Ordering::Release);
            })?;
            hub.desk().waiting.insert(*port, queue.clone());
            *attendance = Attendance::Writer(Writer { thread, queue, topic: None, _ended: ended });
        }
        Ok(())
    }

    fn attendance(&self) -> MutexGuard<'_, Attendance> {
        self.0.attendance.lock().expect("no thread panics while it makes another")
    }

    fn note_subscription(&self, request: &Request, desk: &mut Desk) {
        let mut attendance = self.attendance();
        let Attendance::Writer(Writer { queue, topic, .. }) = &mut *attendance else { return };
        let wanted = match request {
            Request::Subscribe { topic, .. } => Some(topic.to_string()),
            Request::Unsubscribe { .. } => None,
            _ => return,
        };
        if let Some(topic) = std::mem::replace(topic, wanted) {
            desk.unsubscribe(self.0.port, &topic);
        }
        if let Some(topic) = topic {
            let subscribers = desk.subscribers.entry(topic[..].into()).or_default();
            subscribers.insert(self.0.port, queue.clone());
        }
    }

    /// Leaves, and waits until the writing thread has left too.
    fn end(self) {
        let Part { hub, line, port, .. } = &*self.0;
        let attendance = std::mem::replace(&mut *self.attendance(), Attendance::Over);
        line.hang_up();
        if let Attendance::Writer(Writer { thread, queue, topic, _ended }) = attendance {
            drop(_ended);
            let mut desk = hub.desk();
            desk.waiting.remove(port);
            if let Some(topic) = topic {
                desk.unsubscribe(*port, &topic);
            }
            drop(desk);
            drop(queue);
            // It panics only if the session does, and then the connection has ended all the same.
            let _ = thread.join();
        }
    }
}

/// Writes what comes through the queue to one client.
fn write_effects(talk: &Talk, effects: &Receiver<Effect>, has_ended: &Receiver<()>) {
    let Part { line, pressure, .. } = &*talk.0;
    let too_slow = || pressure.is_too_slow.load(Ordering::Acquire).then_some(CloseReason::TooSlow);
    // More at once would be more than may be unsent, though nobody is slow.
    let batch_bytes = BATCH_BYTES.min(talk.0.hub.0.app.max_unsent_bytes / 2);
    loop {
        let first = match line.poll_timeout() {
            Some(due) => effects.recv_deadline(due),
            None => effects.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match first {
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => line.expire(),
            Ok(first) => {
                // What has gathered in the queue leaves in one write.
                let mut batch = 0;
                for effect in std::iter::once(first).chain(effects.try_iter().take(BATCH)) {
                    let bytes = counted_bytes(&effect);
                    if batch > 0 && batch + bytes > batch_bytes {
                        line.pass_on(talk);
                        if line.flush(too_slow).is_err() {
                            return;
                        }
                        batch = 0;
                    }
                    batch += bytes;
                    pressure.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
                    line.take(effect);
                }
            }
        }
        line.pass_on(talk);
        if line.flush(too_slow).is_err() {
            return;
        }
        line.end_if_over();
        if too_slow().is_some() {
            return line.close_slow(has_ended);
        }
    }
}
