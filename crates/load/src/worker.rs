//! One loop over many connections, on a thread of its own.

mod receive;
mod send;

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use switchboard_proto::{Client, ClientPlan, Dialect, Output};

use crate::connect;
use crate::line::{Line, Stage, Transport};
use crate::plan::{LoadPlan, Mechanism, Target};
use crate::publish::Board;
use crate::recorder::{Recorder, SLICES};
use crate::schedule::Schedule;

/// The loop's one read buffer.
const SCRATCH_BYTES: usize = 256 << 10;

/// Connections that one worker opens at the same time, so that the server's accept queue is not overrun.
const OPENING: usize = 128;

/// How long a wait lasts at the most: the phases begin by the clock, not by an event.
const LOOK_UP: Duration = Duration::from_millis(5);

/// How often timeouts are looked for.
const TIMEOUTS_EVERY_NS: u64 = 20_000_000;

/// The receive buffer of a receiver that does not read, so that it fills up soon.
const SLOW_RECEIVE_BYTES: usize = 4096;

/// How long those that did not read are watched at the end for being closed.
const DRAIN: Duration = Duration::from_millis(300);

/// A place in which so many connections failed in a row is given up.
const MOST_FAILURES: u32 = 1000;

const WAKER: Token = Token(usize::MAX);
const ALARM: Token = Token(usize::MAX - 1);

/// The measured part of a run, in ns since the load began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// Measuring begins.
    pub(crate) open_ns: u64,
    /// Measuring ends; no more messages are sent.
    pub(crate) close_ns: u64,
    /// Connections may be closed.
    pub(crate) end_ns: u64,
}

impl Window {
    fn contains(&self, ns: u64) -> bool {
        (self.open_ns..self.close_ns).contains(&ns)
    }

    /// How much of the time between two moments lies in the window.
    fn overlap(&self, from_ns: u64, to_ns: u64) -> u64 {
        to_ns.min(self.close_ns).saturating_sub(from_ns.max(self.open_ns))
    }

    /// The slice that a time within the window falls into.
    fn slice(&self, ns: u64) -> usize {
        let length = (self.close_ns - self.open_ns).max(1);
        ((ns - self.open_ns) as u128 * SLICES as u128 / u128::from(length)) as usize
    }
}

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) plan: LoadPlan,
    pub(crate) target: Target,
    /// When the load began: all times in ns count from here.
    pub(crate) epoch: Instant,
    /// When messages begin to flow. Set when every worker is ready.
    pub(crate) start_ns: OnceLock<u64>,
    /// Set when the warm-up has done its work, shortly before the window opens.
    pub(crate) window: OnceLock<Window>,
    /// Workers whose connections are all open or gone.
    pub(crate) ready: AtomicUsize,
    /// Connections that are open.
    pub(crate) open: AtomicUsize,
    /// Set when nobody is left to measure.
    pub(crate) is_abandoned: AtomicBool,
    pub(crate) board: Board,
    /// Wakes the worker that publishes.
    pub(crate) publisher: OnceLock<Waker>,
    /// Messages that came back so far, for the progress bar.
    pub(crate) progress: AtomicU64,
}

impl Shared {
    fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }
}

/// One loop over every `threads`-th connection.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    index: usize,
    poll: Poll,
    lines: Vec<Line>,
    scratch: Vec<u8>,
    /// Where a datagram is put together.
    datagram: Vec<u8>,
    recorder: Recorder,
    schedule: Option<Schedule>,
    /// Rings when the next message of an open loop is due: epoll alone counts in milliseconds.
    alarm: TimerFd,
    /// The open connections are in `shared.open`.
    is_counted_open: bool,
    /// Messages flow.
    has_begun: bool,
    window: Option<Window>,
    /// Connections that are not open yet.
    opening: usize,
    /// Connections with input that an edge-triggered wait will not report again.
    unread: Vec<usize>,
    /// The connections that talk.
    talkers: Vec<usize>,
    /// Whose turn it is of them in an open loop.
    turn: usize,
    /// Connections whose place is free for the next one.
    vacant: Vec<usize>,
    /// Connections opened so far.
    attempts: u32,
    next_timeouts_ns: u64,
    next_announce_ns: u64,
    /// The time at which bytes were read last: what is sent in their place is sent then.
    now: u64,
    /// When each published message was sent, in a ring as long as the board's.
    published_at: Vec<u64>,
    /// The oldest published message that may be incomplete.
    oldest: u64,
    /// What is lost has been counted: what comes now comes too late.
    is_judged: bool,
    /// Messages that the progress bar knows of.
    shown: u64,
}

impl Worker {
    pub(crate) fn new(shared: &Arc<Shared>, index: usize) -> io::Result<Worker> {
        let poll = Poll::new()?;
        if index == 0 {
            let waker = Waker::new(poll.registry(), WAKER)?;
            let _ = shared.publisher.set(waker);
        }
        let payload_bytes = shared.plan.payload_bytes;
        let alarm =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let alarm_fd = alarm.as_fd().as_raw_fd();
        // Edge-triggered: it need not be read to ring again.
        poll.registry().register(&mut SourceFd(&alarm_fd), ALARM, Interest::READABLE)?;
        Ok(Worker {
            shared: shared.clone(),
            index,
            poll,
            lines: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES],
            datagram: vec![0; if shared.target.mechanism.is_datagram() { payload_bytes } else { 0 }],
            recorder: Recorder::new(),
            schedule: None,
            alarm,
            is_counted_open: false,
            has_begun: false,
            window: None,
            opening: 0,
            unread: Vec::new(),
            talkers: Vec::new(),
            turn: 0,
            vacant: Vec::new(),
            attempts: 0,
            next_timeouts_ns: 0,
            next_announce_ns: 0,
            now: 0,
            published_at: vec![0; shared.board.slots()],
            oldest: 0,
            is_judged: false,
            shown: 0,
        })
    }

    /// Opens the connections, sends and verifies until the window is over, and says what came of it.
    pub(crate) fn run(mut self) -> io::Result<Recorder> {
        let mut events = Events::with_capacity(1024);
        self.connect(&mut events)?;
        let is_open = |line: &&Line| line.stage == Stage::Open;
        let open = self.lines.iter().filter(is_open).count();
        let slow = self.lines.iter().filter(is_open).filter(|line| self.shared.plan.is_slow(line.id)).count();
        self.recorder.connected = open as u64;
        let plan = &self.shared.plan;
        let is_talker = |(_, line): &(usize, &Line)| line.stage == Stage::Open && plan.is_active(line.id);
        self.talkers = self.lines.iter().enumerate().filter(is_talker).map(|(index, _)| index).collect();
        // Of connections that come and go none is open yet, and all places count.
        let counted = if plan.churn { self.lines.len() } else { open - slow };
        self.shared.open.fetch_add(counted, Ordering::SeqCst);
        self.is_counted_open = true;
        self.shared.ready.fetch_add(1, Ordering::SeqCst);
        let start_ns = loop {
            if let Some(start_ns) = self.shared.start_ns.get() {
                break *start_ns;
            }
            self.turn(&mut events, LOOK_UP)?;
        };
        self.begin(start_ns);
        while self.window.is_none_or(|window| self.shared.now_ns() < window.close_ns) && !self.is_abandoned()
        {
            let wait = self.send_due();
            self.turn(&mut events, wait)?;
        }
        if self.shared.plan.churn {
            let has_worked = |line: &&Line| line.answered > 0;
            self.recorder.connected = self.lines.iter().filter(has_worked).count() as u64;
        }
        let Some(window) = self.window else { return Ok(self.recorder) };
        let patience_ns = window.close_ns + self.shared.plan.patience.as_nanos() as u64;
        while self.is_waiting() && self.shared.now_ns() < patience_ns {
            self.turn(&mut events, LOOK_UP)?;
        }
        self.judge(window);
        self.drain_slow();
        // What the kernel has kept for them comes before the news that they were closed.
        let drained_ns = self.shared.now_ns() + DRAIN.as_nanos() as u64;
        while self.has_slow() && self.shared.now_ns() < drained_ns {
            self.turn(&mut events, LOOK_UP)?;
        }
        while self.shared.now_ns() < window.end_ns && !self.is_abandoned() {
            self.turn(&mut events, LOOK_UP)?;
        }
        self.say_goodbye();
        Ok(self.recorder)
    }

    fn is_abandoned(&self) -> bool {
        self.shared.is_abandoned.load(Ordering::Relaxed)
    }

    /// Opens this worker's share of the connections.
    fn connect(&mut self, events: &mut Events) -> io::Result<()> {
        let plan = &self.shared.plan;
        let (threads, total) = (plan.threads, plan.connections);
        if plan.churn {
            // They are opened when the load begins.
            for id in (self.index..total).step_by(threads) {
                self.vacant.push(self.lines.len());
                self.lines.push(Line::new(id as u32, Transport::None, Stage::Gone));
            }
            return Ok(());
        }
        let rate = plan.connect_rate_per_s.map(|rate| rate / threads as f64);
        let mut pace = rate.map(|rate| Schedule::new(self.shared.now_ns(), rate));
        let mut wanted = (self.index..total).step_by(threads).peekable();
        while wanted.peek().is_some() || self.opening > 0 {
            while self.opening < OPENING
                && wanted.peek().is_some()
                && pace.as_mut().is_none_or(|pace| pace.take(self.shared.now_ns()).is_some())
            {
                let id = wanted.next().expect("there is one more") as u32;
                self.open(id);
            }
            let is_paced = pace.is_some() && wanted.peek().is_some();
            let is_idle = self.opening == 0 && !is_paced;
            let wait = if is_idle { Duration::ZERO } else { Duration::from_millis(1) };
            self.turn(events, wait)?;
        }
        Ok(())
    }

    fn open(&mut self, id: u32) {
        let index = self.lines.len();
        self.lines.push(Line::new(id, Transport::None, Stage::Gone));
        self.open_at(index);
    }

    /// Opens a connection in a place that is free.
    fn open_at(&mut self, index: usize) {
        let now = self.shared.now_ns();
        let Shared { plan, target, .. } = &*self.shared;
        let id = self.lines[index].id;
        let source = if plan.churn { self.attempts % connect::SOURCES } else { connect::source_of(id) };
        self.attempts = self.attempts.wrapping_add(1);
        let receive_bytes = plan.is_slow(id).then_some(SLOW_RECEIVE_BYTES);
        let opened = match target.mechanism {
            Mechanism::Echo | Mechanism::Broadcast | Mechanism::Socketio => {
                connect::tcp(target, source, receive_bytes).map(|stream| {
                    let plan = ClientPlan {
                        host: target.host.clone(),
                        path: target.path.clone(),
                        max_message_bytes: plan.payload_bytes.max(1 << 20),
                        dialect: match target.mechanism {
                            Mechanism::Socketio => Dialect::SocketIo,
                            _ => Dialect::Plain,
                        },
                    };
                    let client = Box::new(Client::new(&plan, fastrand::u64(..)));
                    (Transport::WebSocket { stream, client }, Stage::Connecting(now))
                })
            }
            Mechanism::TcpEcho | Mechanism::TcpBroadcast => {
                connect::tcp(target, source, None).map(|stream| {
                    let transport =
                        Transport::Tcp { stream, output: Output::retaining(), partial: Vec::new() };
                    (transport, Stage::Connecting(now))
                })
            }
            Mechanism::UdpEcho | Mechanism::UdpBroadcast => {
                connect::udp(target, id).map(|socket| (Transport::Udp(socket), Stage::Open))
            }
        };
        let line = &mut self.lines[index];
        line.since_ns = now;
        let registered = opened.and_then(|(transport, stage)| {
            line.transport = transport;
            line.register(self.poll.registry(), Token(index)).map(|()| stage)
        });
        match registered {
            Ok(stage) => {
                line.stage = stage;
                self.opening += usize::from(matches!(stage, Stage::Connecting(_)));
            }
            Err(error) => {
                let kind = connect::kind(&error);
                self.failed(index, kind);
            }
        }
    }

    /// A connection could not even be begun.
    fn failed(&mut self, index: usize, kind: String) {
        self.recorder.error(kind);
        self.lines[index].failures += 1;
        self.vacate(index);
    }

    /// Leaves a place to the next connection, if there is to be one.
    fn vacate(&mut self, index: usize) {
        if self.shared.plan.churn && self.lines[index].failures < MOST_FAILURES {
            self.vacant.push(index);
        }
    }

    /// Opens the next connections in the places that have become free.
    fn fill_vacant(&mut self) {
        if !self.has_begun || !self.is_sending() {
            return;
        }
        for index in std::mem::take(&mut self.vacant) {
            self.open_at(index);
        }
    }

    /// Waits for at most `wait` and handles what is ready.
    fn turn(&mut self, events: &mut Events, wait: Duration) -> io::Result<()> {
        if self.window.is_none() {
            self.window = self.shared.window.get().copied();
        }
        let wait = if self.unread.is_empty() { wait } else { Duration::ZERO };
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for index in std::mem::take(&mut self.unread) {
            self.read(index);
        }
        for event in events.iter() {
            match event.token() {
                ALARM => {}
                WAKER => {
                    self.now = self.shared.now_ns();
                    self.publish_more();
                }
                Token(index) => self.ready(index, event),
            }
        }
        let now = self.shared.now_ns();
        if now >= self.next_timeouts_ns {
            self.next_timeouts_ns = now + TIMEOUTS_EVERY_NS;
            self.time_out(now);
        }
        self.now = now;
        self.fill_vacant();
        self.shared.progress.fetch_add(self.recorder.seen - self.shown, Ordering::Relaxed);
        self.shown = self.recorder.seen;
        Ok(())
    }

    fn ready(&mut self, index: usize, event: &Event) {
        let line = &mut self.lines[index];
        if let Stage::Connecting(since) = line.stage {
            match line.is_connected() {
                Ok(false) => return,
                Ok(true) => {
                    let now = self.shared.now_ns();
                    self.now = now;
                    let is_websocket = matches!(line.transport, Transport::WebSocket { .. });
                    line.stage = if is_websocket { Stage::Upgrading(now) } else { Stage::Open };
                    self.opening -= usize::from(!is_websocket);
                    if !self.shared.plan.churn || self.is_measured() {
                        self.recorder.connect.record(now - since);
                    }
                    if !is_websocket {
                        self.say_something(index);
                    }
                }
                Err(error) => return self.gone(index, connect::kind(&error)),
            }
        }
        if self.lines[index].stage == Stage::Gone {
            return;
        }
        if event.is_writable() {
            self.flush(index);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(index);
        }
    }
}
