//! What threads that block share: the connections, and the way from whoever publishes to every subscriber.
//!
//! A broadcast goes through a queue for each subscriber to a second thread that writes, so that a subscriber which does
//! not read blocks nobody but itself.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use slab::Slab;
use switchboard_proto::{App, CloseReason, Event, Outgoing};

use crate::Tally;
use crate::blocking::{Exchange, Line};
use crate::limits::Limit;

/// Room for the stack of a connection's thread. Only the pages that are used take memory.
pub(crate) const STACK_BYTES: usize = 256 << 10;

/// Messages that a subscriber's thread takes at once.
const BATCH: usize = 64;

/// How often the lines are looked after while the server ends.
const LOOK_AFTER: Duration = Duration::from_millis(20);

/// What the threads share.
pub(crate) struct Hub {
    app: Arc<App>,
    lines: Mutex<Slab<Arc<Line>>>,
    /// Locked while a message goes into every queue: all subscribers see one order.
    subscribers: Mutex<Slab<Subscriber>>,
    tally: Mutex<Tally>,
}

/// A connection that has been let in.
pub(crate) struct Entry {
    key: usize,
    line: Arc<Line>,
}

/// The way to a subscriber's writing thread.
struct Subscriber {
    queue: Sender<Arc<Outgoing>>,
    backlog: Arc<Backlog>,
}

/// What waits for one subscriber. The queue is bounded by bytes, not by messages: the limit is memory.
#[derive(Default)]
struct Backlog {
    unsent_bytes: AtomicUsize,
    is_too_slow: AtomicBool,
}

impl Hub {
    pub(crate) fn new(app: &Arc<App>) -> Hub {
        Hub {
            app: app.clone(),
            lines: Mutex::default(),
            subscribers: Mutex::default(),
            tally: Mutex::default(),
        }
    }

    /// Connections that are open.
    pub(crate) fn len(&self) -> usize {
        self.lines().len()
    }

    /// Takes in a connection that was just accepted. A socket that cannot be set up is closed by being dropped: `None`.
    pub(crate) fn enter(&self, stream: TcpStream) -> Option<Entry> {
        let line = Arc::new(Line::new(stream, &self.app).ok()?);
        let key = self.lines().insert(line.clone());
        self.tally().connections += 1;
        Some(Entry { key, line })
    }

    /// Serves a connection to its end, on the thread that calls this.
    pub(crate) fn serve(&self, entry: Entry) {
        let Entry { key, line } = entry;
        let mut talk = Talk { hub: self, line: &line, place: None, writer: None, ended: None };
        line.serve(&mut talk);
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
        let patience = Instant::now() + self.app.grace;
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
    }

    fn lines(&self) -> MutexGuard<'_, Slab<Arc<Line>>> {
        self.lines.lock().expect("no thread panics while it holds the lines")
    }

    fn subscribers(&self) -> MutexGuard<'_, Slab<Subscriber>> {
        self.subscribers.lock().expect("no thread panics while it holds the subscribers")
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().expect("no thread panics while it holds the tally")
    }

    /// Puts a message into every subscriber's queue. Never blocks: who is too far behind is cut off.
    fn publish(&self, message: &Arc<Outgoing>) {
        let bytes = message.websocket_frame().len();
        self.subscribers().retain(|_, subscriber| {
            let unsent = subscriber.backlog.unsent_bytes.load(Ordering::Relaxed);
            if unsent > 0 && unsent + bytes > self.app.max_unsent_bytes {
                subscriber.backlog.is_too_slow.store(true, Ordering::Release);
                return false;
            }
            subscriber.backlog.unsent_bytes.fetch_add(bytes, Ordering::Relaxed);
            subscriber.queue.send(message.clone()).is_ok()
        });
    }
}

/// One thread's part in what is published.
struct Talk<'a> {
    hub: &'a Hub,
    line: &'a Arc<Line>,
    /// The place among the subscribers, and whose it is: who was cut off has lost it to somebody else.
    place: Option<(usize, Arc<Backlog>)>,
    writer: Option<JoinHandle<()>>,
    /// Dropped when the connection has ended.
    ended: Option<Sender<()>>,
}

impl Exchange for Talk<'_> {
    fn event(&mut self, event: Event) {
        match event {
            Event::Subscribe => self.subscribe(),
            Event::Publish(message) => self.hub.publish(&message),
        }
    }
}

impl Talk<'_> {
    fn subscribe(&mut self) {
        let (queue, messages) = unbounded();
        let (ended, has_ended) = bounded(0);
        let backlog = Arc::new(Backlog::default());
        let (line, theirs) = (self.line.clone(), backlog.clone());
        let writer = thread::Builder::new().stack_size(STACK_BYTES);
        match writer.spawn(move || write_messages(&line, &messages, &theirs, &has_ended)) {
            Ok(writer) => {
                self.writer = Some(writer);
                self.ended = Some(ended);
                let place = self.hub.subscribers().insert(Subscriber { queue, backlog: backlog.clone() });
                self.place = Some((place, backlog));
            }
            // A subscriber without a writer would hear nothing and not know why.
            Err(_) => self.line.refuse(Limit::Threads),
        }
    }

    /// Leaves, and waits until the writing thread has left too.
    fn end(self) {
        drop(self.ended);
        if let Some((place, backlog)) = self.place {
            let mut subscribers = self.hub.subscribers();
            if subscribers.get(place).is_some_and(|there| Arc::ptr_eq(&there.backlog, &backlog)) {
                subscribers.remove(place);
            }
        }
        self.line.hang_up();
        if let Some(writer) = self.writer {
            // It panics only if the session does, and then the connection has ended all the same.
            let _ = writer.join();
        }
    }
}

/// Writes what is published to one subscriber.
fn write_messages(
    line: &Line,
    messages: &Receiver<Arc<Outgoing>>,
    backlog: &Backlog,
    has_ended: &Receiver<()>,
) {
    let too_slow = || backlog.is_too_slow.load(Ordering::Acquire).then_some(CloseReason::TooSlow);
    while let Ok(message) = messages.recv() {
        let mut bytes = 0;
        // What has gathered in the queue leaves in one write.
        for message in std::iter::once(message).chain(messages.try_iter().take(BATCH)) {
            line.deliver(&message);
            bytes += message.websocket_frame().len();
        }
        if line.flush(too_slow).is_err() {
            return;
        }
        backlog.unsent_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
    if too_slow().is_some() {
        line.close_slow(has_ended);
    }
}
