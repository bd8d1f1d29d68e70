//! A thread per connection, blocking reads.
//!
//! The main thread accepts and gives each connection to a thread of its own, which reads, answers and reads again as if
//! there were nobody else; while it waits the kernel runs the others. What the connections share is memory: a
//! broadcast goes through a queue for each subscriber to a second thread that writes, so that a subscriber which
//! does not read blocks nobody but itself.
//!
//! - Calls of one message: `recvfrom`, `sendto`; and two context switches.
//! - Costs: a stack and a kernel thread for each connection, a switch for each message; locks wherever state is shared.
//! - Limit: threads (`ulimit -u`, kernel.threads-max), mappings (vm.max_map_count), and the memory of their stacks.
//! - Choose it for some hundred connections whose work blocks anyway (databases, files).

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use slab::Slab;
use switchboard_proto::{App, CloseReason, Event, Outgoing};

use crate::accept::Acceptor;
use crate::blocking::{Exchange, Line};
use crate::limits::{Limit, thread_ceiling};
use crate::{Listener, Mechanism, Model, Shutdown, Tally};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "threads",
    about: "a thread per connection, blocking reads",
    waits_with: "recvfrom(2)",
    broadcast: "a queue and a writing thread per subscriber",
    serves: Mechanism::SESSION,
    limits: &[
        "threads: ulimit -u and kernel.threads-max",
        "a stack per connection, a context switch per message",
    ],
    hidden: false,
    serve,
};

/// Room for the stack of a connection's thread. Only the pages that are used take memory.
pub(crate) const STACK_BYTES: usize = 256 << 10;

/// Messages that a subscriber's thread takes at once.
const BATCH: usize = 64;

/// How often the lines are looked after while the server ends.
const LOOK_AFTER: Duration = Duration::from_millis(20);

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    let hub = Arc::new(Hub::new(&app));
    let mut acceptor = Acceptor::new(listener.into_tcp()?, &app, None)?;
    while acceptor.wait(&shutdown)? {
        let open = hub.lines().len();
        acceptor.accept(open, Instant::now(), |stream| answer(&hub, stream));
    }
    let refused = acceptor.refused;
    drop(acceptor);
    say_goodbye(&hub);
    let mut tally = *hub.tally();
    tally.refused += refused;
    Ok(tally)
}

/// Gives a connection to a thread of its own.
fn answer(hub: &Arc<Hub>, stream: TcpStream) -> Result<(), (TcpStream, Limit)> {
    if hub.lines().len() >= hub.ceiling {
        return Err((stream, Limit::Threads));
    }
    // A socket that cannot be set up is closed by being dropped.
    let Ok(line) = Line::new(stream, &hub.app) else { return Ok(()) };
    let line = Arc::new(line);
    let key = hub.lines().insert(line.clone());
    let spawned = thread::Builder::new().stack_size(STACK_BYTES).spawn({
        let (hub, line) = (hub.clone(), line.clone());
        move || {
            let mut talk = Talk { hub: &hub, line: &line, place: None, writer: None, ended: None };
            line.serve(&mut talk);
            talk.end();
            hub.tally().add(line.counts());
            hub.lines().remove(key);
        }
    });
    if spawned.is_ok() {
        hub.tally().connections += 1;
        return Ok(());
    }
    hub.lines().remove(key);
    let line = Arc::into_inner(line).expect("the thread that would share it was not made");
    Err((line.into_stream(), Limit::Threads))
}

/// Closes every WebSocket with 1001 and waits for the answers, as long as the grace lasts.
fn say_goodbye(hub: &Hub) {
    let patience = Instant::now() + hub.app.grace;
    let mut untold: Vec<Arc<Line>> = hub.lines().iter().map(|(_, line)| line.clone()).collect();
    let mut is_over = false;
    while !hub.lines().is_empty() {
        untold.retain(|line| !line.try_close(CloseReason::GoingAway));
        thread::sleep(LOOK_AFTER);
        let now = Instant::now();
        hub.lines().iter().for_each(|(_, line)| line.tend(now));
        if !is_over && now >= patience {
            is_over = true;
            hub.lines().iter().for_each(|(_, line)| line.hang_up());
        }
    }
}

/// What the threads share.
struct Hub {
    app: Arc<App>,
    /// Connections that there are threads for.
    ceiling: usize,
    lines: Mutex<Slab<Arc<Line>>>,
    /// Locked while a message goes into every queue: all subscribers see one order.
    subscribers: Mutex<Slab<Subscriber>>,
    tally: Mutex<Tally>,
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
    fn new(app: &Arc<App>) -> Hub {
        Hub {
            app: app.clone(),
            ceiling: thread_ceiling(),
            lines: Mutex::default(),
            subscribers: Mutex::default(),
            tally: Mutex::default(),
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
