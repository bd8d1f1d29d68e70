//! The parent of other processes: it makes them, has the exchange that they share, and buries them. In `fork` each has a connection, in
//! `prefork` each is a worker that has many.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::errno::Errno;
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::MsgFlags;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid};
use slab::Slab;
use switchboard_proto::{App, Effect, Exchange, Guest, Port, Reply, Request};

use crate::accept::address_of;
use crate::backlog::Backlog;
use crate::fork::CHILD_ENDED;
use crate::hub::counts;
use crate::ledger::SharedLedger;
use crate::limits::{Limit, RepeatedLog, no_descriptor_left};
use crate::relay::{Down, Relay, Up, encode};
use crate::{Tally, child, readiness};

/// How often children are told to end: a signal that comes just before a blocking call does not interrupt it.
const REPEAT: Duration = Duration::from_millis(50);

/// How much longer the parent's patience is than the children's, which end by themselves.
const LONGER: Duration = Duration::from_millis(300);

/// Packets that one child's relay may bring in one turn, before the others get theirs.
const PACKETS_PER_TURN: usize = 64;

/// What may wait for a worker. With more, nobody is told that what it asked is done, and who publishes waits for the worker that is behind: its queue here
/// would grow without end.
const MAX_BEHIND_BYTES: usize = 8 << 20;

/// What children are told at the latest when so many bytes of what they asked are done.
pub(crate) const DONE_BYTES: usize = 64 << 10;

/// A child's connection as the exchange names it: the child's own name for it, and the child above that.
const CHILD_SHIFT: u32 = 48;

/// The process that accepts, has the exchange, and buries.
pub(crate) struct Parent {
    pub(crate) app: Arc<App>,
    /// What its children have charged.
    ledger: SharedLedger,
    exchange: Exchange,
    pub(crate) epoll: Epoll,
    child_ended: SignalFd,
    pub(crate) children: Slab<Child>,
    keys: HashMap<Pid, usize>,
    pub(crate) tally: Tally,
    /// What each worker counted that has ended.
    pub(crate) buried_workers: Vec<(Pid, Tally)>,
    is_stopping: bool,
    /// A worker is too far behind for anybody to be told that what it asked is done.
    is_held: bool,
    /// When to look whether that worker takes anything at all.
    look_at: Option<Instant>,
    deaths: RepeatedLog,
}

/// What a child is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// One connection. It gets what is published when it asks for it, and is cut off when it falls behind.
    Connection,
    /// Many connections. It gets all that is published, and reads it in every turn of its loop.
    Worker,
}

/// What the parent knows of a child.
pub(crate) struct Child {
    pid: Pid,
    role: Role,
    tally: Tally,
    relay: Relay,
    /// What it gets of what is published.
    subscribed: Subscribed,
    /// Its connections that have a subscription or a session.
    known: HashSet<Port>,
    /// Bytes of what it asked that are done, and of which it has not been told.
    done_bytes: usize,
    backlog: Backlog,
    /// The connection's place among those of its address.
    guest: Option<Guest>,
    /// What the relay is watched for. Nothing once it has ended.
    watched: EpollFlags,
}

/// What a child gets of what is published.
#[derive(Debug, PartialEq, Eq)]
enum Subscribed {
    Nothing,
    To(Box<str>),
    ToAll,
}

impl Child {
    /// Whether so much waits for it that others have to wait as well.
    fn is_far_behind(&self) -> bool {
        self.role == Role::Worker && self.backlog.bytes() > MAX_BEHIND_BYTES
    }
}

impl Parent {
    /// What comes to serve in its children takes `app` from here: with a memory budget that all of them share.
    pub(crate) fn new(app: &App) -> io::Result<Parent> {
        let (app, ledger) = SharedLedger::open(app)?;
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGCHLD);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), None)?;
        let child_ended = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(child_ended.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, CHILD_ENDED))?;
        Ok(Parent {
            exchange: Exchange::shared(&app, Instant::now()),
            app,
            ledger,
            epoll,
            child_ended,
            children: Slab::new(),
            keys: HashMap::new(),
            tally: Tally::default(),
            buried_workers: Vec::new(),
            is_stopping: false,
            is_held: false,
            look_at: None,
            deaths: RepeatedLog::default(),
        })
    }

    /// Gives a connection to a process of its own.
    pub(crate) fn answer(&mut self, stream: TcpStream) -> Result<(), (TcpStream, Limit)> {
        let app = self.app.clone();
        let guest = match app.guests.admit(address_of(&stream, &app)) {
            Ok(guest) => guest,
            Err(error) => return Err((stream, Limit::PerAddress(error))),
        };
        let mut stream = Some(stream);
        let made = self
            .make(Role::Connection, |relay| child::run(stream.take().expect("it is run once"), relay, &app));
        match (made, stream) {
            (Err(limit), Some(stream)) => Err((stream, limit)),
            (made, _) => {
                if let Some(key) = made.ok().and_then(|pid| self.keys.get(&pid)) {
                    self.children[*key].guest = guest;
                }
                self.tally.connections += 1;
                Ok(())
            }
        }
    }

    /// Makes a child that runs `run`, with its end of the relay, and ends with the status that it returns.
    pub(crate) fn make(&mut self, role: Role, run: impl FnOnce(Relay) -> i32) -> Result<Pid, Limit> {
        let Ok((ours, theirs)) = Relay::pair(&self.app.memory) else { return Err(no_descriptor_left()) };
        let key = self.children.vacant_key();
        let parent = getpid();
        // SAFETY: the parent has one thread, so the child may use everything that its copy of the memory holds.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => {
                self.ledger.take_place(key);
                let status = match child::end_with(parent) {
                    Ok(()) => run(theirs),
                    Err(_) => 1,
                };
                // SAFETY: ends the process without running the parent's destructors on our copies of its descriptors.
                unsafe { libc::_exit(status) }
            }
            Ok(ForkResult::Parent { child: pid }) => {
                let watched = EpollFlags::EPOLLIN;
                let entry = self.children.vacant_entry();
                if self.epoll.add(ours.as_fd(), EpollEvent::new(watched, key as u64)).is_err() {
                    // Without a relay a child could neither publish nor subscribe.
                    let _ = kill(pid, Signal::SIGKILL);
                }
                entry.insert(Child {
                    pid,
                    role,
                    tally: Tally::default(),
                    relay: ours,
                    subscribed: if role == Role::Worker { Subscribed::ToAll } else { Subscribed::Nothing },
                    known: HashSet::new(),
                    done_bytes: 0,
                    backlog: Backlog::default(),
                    guest: None,
                    watched,
                });
                self.keys.insert(pid, key);
                Ok(pid)
            }
            Err(_) => Err(Limit::Processes),
        }
    }

    /// Whether a child is still there.
    pub(crate) fn has(&self, pid: Pid) -> bool {
        self.keys.contains_key(&pid)
    }

    pub(crate) fn wait(&self, due: Option<Instant>) -> io::Result<Vec<EpollEvent>> {
        let due = readiness::earliest(due, self.exchange.poll_timeout());
        let due = readiness::earliest(due, self.look_at);
        let left = due.map(|due| due.saturating_duration_since(Instant::now()));
        let timeout = i32::from(readiness::milliseconds(left));
        let timeout = EpollTimeout::try_from(timeout).unwrap_or(EpollTimeout::NONE);
        let mut ready = vec![EpollEvent::empty(); 256];
        match self.epoll.wait(&mut ready, timeout) {
            Ok(n) => ready.truncate(n),
            Err(Errno::EINTR) => ready.clear(),
            Err(error) => return Err(error.into()),
        }
        Ok(ready)
    }

    /// Does what children ask, tells them what follows, and buries those that have ended.
    pub(crate) fn handle(&mut self, ready: &[EpollEvent]) {
        let now = Instant::now();
        for event in ready.iter().filter(|event| event.data() < CHILD_ENDED) {
            let key = event.data() as usize;
            if event.events().contains(EpollFlags::EPOLLOUT) {
                let child = &mut self.children[key];
                child.backlog.flush(&child.relay);
                self.release();
            }
            self.receive(key, now);
            self.watch(key);
        }
        if ready.iter().any(|event| event.data() == CHILD_ENDED) {
            while let Ok(Some(_)) = self.child_ended.read_signal() {}
            self.bury();
        }
        // What has come comes first.
        if self.exchange.poll_timeout().is_some_and(|due| due <= now) {
            self.exchange.handle_timeout(now);
            self.pass_on();
        }
        self.end_the_stuck(now);
    }

    /// Ends the workers that have taken nothing for too long while others wait for them: one that is stopped, or has crashed without ending, must not
    /// stop the others. What a worker has taken is noted when it takes it, and a clock is looked at only while somebody waits.
    fn end_the_stuck(&mut self, now: Instant) {
        self.look_at = None;
        if !self.is_held {
            return;
        }
        let patience = self.app.worker_patience;
        for (_, child) in self.children.iter_mut().filter(|(_, child)| child.is_far_behind()) {
            let due = child.backlog.stuck_since(now).checked_add(patience);
            if due.is_none_or(|due| due > now) {
                self.look_at = readiness::earliest(self.look_at, due);
                continue;
            }
            let pid = child.pid;
            switchboard_console::log!(
                "worker process {pid} has taken nothing for {patience:?} while others waited for it: killed (--worker-patience)"
            );
            // It is buried when the system says that it has ended; nobody waits for that.
            let _ = kill(pid, Signal::SIGKILL);
            child.subscribed = Subscribed::Nothing;
            child.backlog = Backlog::default();
        }
        self.release();
    }

    /// Takes what one child sent, until it is the others' turn. True: there is more.
    fn receive(&mut self, key: usize, now: Instant) -> bool {
        for _ in 0..PACKETS_PER_TURN {
            let child = &mut self.children[key];
            match child.relay.next(MsgFlags::MSG_DONTWAIT) {
                Ok(Some((Up::Ask(port, request), bytes))) => {
                    child.done_bytes += bytes;
                    self.ask(key, port, request, now);
                }
                Ok(Some((Up::Tally(tally), _))) => child.tally = child.tally.plus(tally),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Ok(None) | Err(_) => {
                    child.subscribed = Subscribed::Nothing;
                    if !child.watched.is_empty() {
                        let _ = self.epoll.delete(child.relay.as_fd());
                        child.watched = EpollFlags::empty();
                    }
                    return false;
                }
            }
        }
        true
    }

    /// Does what a connection of a child asks.
    fn ask(&mut self, key: usize, port: Port, request: Request, now: Instant) {
        let child = &mut self.children[key];
        let name = Port((key as u64) << CHILD_SHIFT | port.0);
        match &request {
            Request::Subscribe { .. } | Request::Engine(_) if !request.is_farewell() => {
                child.known.insert(name);
            }
            // A connection has a subscription or a session, and not both.
            Request::Unsubscribe { .. } | Request::Engine(_) => drop(child.known.remove(&name)),
            _ => {}
        }
        if child.role == Role::Connection {
            match &request {
                Request::Subscribe { topic, .. } => child.subscribed = Subscribed::To(topic[..].into()),
                Request::Unsubscribe { .. } => child.subscribed = Subscribed::Nothing,
                _ => {}
            }
        }
        self.exchange.handle(name, request, now);
        self.pass_on();
        if !self.is_held {
            self.tell_done(key);
        }
    }

    /// Tells a child what is done of what it asked, if that is worth a message.
    fn tell_done(&mut self, key: usize) {
        let child = &mut self.children[key];
        if child.done_bytes >= DONE_BYTES {
            let done = std::mem::take(&mut child.done_bytes);
            self.send(key, encode(&Down::Done(done)).into(), true);
        }
    }

    /// Lets everybody go on for whom a worker was too far behind, if none is any more.
    fn release(&mut self) {
        if self.is_held && !self.children.iter().any(|(_, child)| child.is_far_behind()) {
            self.is_held = false;
            let keys: Vec<usize> = self.children.iter().map(|(key, _)| key).collect();
            keys.into_iter().for_each(|key| self.tell_done(key));
        }
    }

    /// Tells the children what follows from what was asked.
    fn pass_on(&mut self) {
        while let Some(effect) = self.exchange.poll_effect() {
            match effect {
                Effect::Publish(message) => {
                    let gets_it = |child: &Child| match &child.subscribed {
                        Subscribed::Nothing => false,
                        Subscribed::To(topic) => **topic == **message.topic(),
                        Subscribed::ToAll => true,
                    };
                    let mut subscribers = self
                        .children
                        .iter()
                        .filter(|(_, child)| gets_it(child))
                        .map(|(key, _)| key)
                        .peekable();
                    if subscribers.peek().is_some() {
                        let subscribers: Vec<usize> = subscribers.collect();
                        // Encoded once for all of them.
                        let bytes = Bytes::from(encode(&Down::Effect(Effect::Publish(message))));
                        let bytes = self.app.memory.keep(bytes);
                        subscribers.into_iter().for_each(|key| self.send(key, bytes.clone(), true));
                    }
                }
                Effect::Reply(name, reply) => self.tell(name, reply),
            }
        }
    }

    fn tell(&mut self, Port(name): Port, reply: Reply) {
        let key = (name >> CHILD_SHIFT) as usize;
        let port = Port(name & ((1 << CHILD_SHIFT) - 1));
        if self.children.contains(key) {
            let counts = counts(&reply);
            let bytes = Bytes::from(encode(&Down::Effect(Effect::Reply(port, reply))));
            self.send(key, self.app.memory.keep(bytes), counts);
        }
    }

    fn send(&mut self, key: usize, bytes: Bytes, counts: bool) {
        let child = &mut self.children[key];
        let max_bytes = match child.role {
            Role::Connection => self.app.max_unsent_bytes,
            Role::Worker => usize::MAX,
        };
        if !child.backlog.send(&child.relay, bytes, counts, max_bytes) {
            child.subscribed = Subscribed::Nothing;
        }
        self.is_held |= child.is_far_behind();
        self.watch(key);
    }

    /// Watches a relay for room as long as something waits for it.
    fn watch(&mut self, key: usize) {
        let child = &mut self.children[key];
        let mut wanted = EpollFlags::EPOLLIN;
        wanted.set(EpollFlags::EPOLLOUT, !child.backlog.is_empty());
        if !child.watched.is_empty() && child.watched != wanted {
            // Only a relay that has ended cannot be changed, and that one is about to be buried.
            let _ = self.epoll.modify(child.relay.as_fd(), &mut EpollEvent::new(wanted, key as u64));
            child.watched = wanted;
        }
    }

    /// Reaps the children that have ended, whatever ended them.
    fn bury(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let Some(pid) = status.pid() else { return };
            if !matches!(status, WaitStatus::Exited(..) | WaitStatus::Signaled(..)) {
                continue;
            }
            if let Some(key) = self.keys.remove(&pid) {
                // Its last packets are still there.
                let now = Instant::now();
                while self.receive(key, now) {}
                let known: Vec<Port> = self.children[key].known.drain().collect();
                known.into_iter().for_each(|name| self.exchange.handle(name, Request::FAREWELL, now));
                self.pass_on();
                let child = self.children.remove(key);
                self.ledger.clear(key);
                self.release();
                self.tally = self.tally.plus(child.tally);
                if child.role == Role::Worker {
                    self.buried_workers.push((pid, child.tally));
                }
                if !self.is_stopping && status != WaitStatus::Exited(pid, 0) {
                    self.deaths.log(Instant::now(), &format!("process {pid} has died: {}", fate(status)));
                }
            }
        }
    }

    /// Tells every child to close its connections with 1001 behind all that was published, and waits as long as the grace lasts.
    pub(crate) fn say_goodbye(&mut self) -> io::Result<()> {
        self.is_stopping = true;
        let patience = Instant::now() + self.app.grace + LONGER;
        self.exchange.close();
        self.pass_on();
        let close = Bytes::from(encode(&Down::Close));
        let keys: Vec<usize> = self.children.iter().map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.send(key, close.clone(), false));
        while !self.children.is_empty() {
            let is_over = Instant::now() >= patience;
            for (_, child) in &self.children {
                // One that has ended already is buried below.
                let _ = match child.role {
                    _ if is_over => kill(child.pid, Signal::SIGKILL),
                    // It may not have asked anything yet, and then hears only from its client.
                    Role::Connection => kill(child.pid, Signal::SIGTERM),
                    Role::Worker => Ok(()),
                };
            }
            let again = Instant::now() + REPEAT;
            while Instant::now() < again && !self.children.is_empty() {
                let ready = self.wait(Some(again))?;
                self.handle(&ready);
            }
        }
        Ok(())
    }
}

fn fate(status: WaitStatus) -> String {
    match status {
        WaitStatus::Exited(_, status) => format!("exit status {status}"),
        WaitStatus::Signaled(_, signal, _) => signal.to_string(),
        other => format!("{other:?}"),
    }
}
