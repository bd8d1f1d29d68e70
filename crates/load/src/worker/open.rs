//! How connections come to be open: begun in so many at a time, and ready when the server has said so.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Token};
use switchboard_proto::{Client, ClientPlan, Dialect, Output, PollingClient, Side, UpgradingClient};

use super::{Shared, Worker};
use crate::connect::{self, Route};
use crate::line::{Line, POST_SIDE, Stage, Transport};
use crate::plan::LoadPlan;
use crate::schedule::{Schedule, Slots};
use crate::target::{Mechanism, Publisher, Publishing, Target};
use crate::web::Web;

/// Connections that one worker opens at the same time, so that the server's accept queue is not overrun.
const OPENING: usize = 128;

/// The receive buffer of a receiver that does not read, so that it fills up soon.
const SLOW_RECEIVE_BYTES: usize = 4096;

/// A place in which so many connections failed in a row is given up.
const MOST_FAILURES: u32 = 1000;

impl Worker {
    /// Opens this worker's share of the connections.
    pub(super) fn connect(&mut self, events: &mut Events) -> io::Result<()> {
        let plan = &self.shared.plan;
        let (threads, total) = (plan.threads, plan.connections);
        // Connection n is due in slot n, whichever thread opens it.
        let slots = Slots::every(threads, self.index);
        self.pace = plan.connect_rate_per_s.map(|rate| {
            let start_ns = *self.shared.connect_ns.get_or_init(|| self.shared.now_ns());
            Schedule::new(start_ns, rate).taking(slots)
        });
        if plan.churn {
            // They are opened when the load begins.
            for id in (self.index..total).step_by(threads) {
                self.vacant.push_back(self.lines.len());
                self.lines.push(Line::new(id as u32, Transport::None, Stage::Gone));
            }
            return Ok(());
        }
        let has_publisher = self.index == 0 && self.shared.target.publisher.is_some();
        if has_publisher {
            // In the place of connection 0, which publishes where those who receive can.
            self.lines.push(Line { is_publisher: true, ..Line::new(0, Transport::None, Stage::Gone) });
            self.open_at(0, None);
        }
        let mut wanted = (self.index..total).step_by(threads).peekable();
        while (wanted.peek().is_some() || self.opening > 0) && !self.is_abandoned() {
            while self.opening < OPENING && wanted.peek().is_some() && self.may_open() {
                let id = wanted.next().expect("there is one more") as u32;
                self.open(id);
            }
            self.keep_pace();
            let is_paced = self.pace.is_some() && wanted.peek().is_some();
            let is_idle = self.opening == 0 && !is_paced;
            let wait = if is_idle { Duration::ZERO } else { Duration::from_millis(1) };
            self.turn(events, wait)?;
        }
        Ok(())
    }

    /// Whether the rate of connections allows one more.
    fn may_open(&mut self) -> bool {
        let now = self.shared.now_ns();
        self.pace.as_mut().is_none_or(|pace| pace.take(now).is_some())
    }

    /// What could not be opened when it was due is not made up for: more at once would be more than the rate.
    fn keep_pace(&mut self) {
        let now = self.shared.now_ns();
        if let Some(pace) = &mut self.pace {
            pace.pass_over(now);
        }
    }

    fn open(&mut self, id: u32) {
        let index = self.lines.len();
        self.lines.push(Line::new(id, Transport::None, Stage::Gone));
        self.open_at(index, None);
    }

    /// Opens a connection in a place that is free. `since`: where it is to go on.
    pub(super) fn open_at(&mut self, index: usize, since: Option<&str>) {
        let now = self.shared.now_ns();
        let Shared { plan, target, .. } = &*self.shared;
        let id = self.lines[index].id;
        let source = match plan.churn {
            true => self.attempts % connect::SOURCES,
            false => connect::source_of(id) + source_apart(plan),
        };
        self.attempts = self.attempts.wrapping_add(1);
        let is_publisher = self.lines[index].is_publisher;
        let (place, address) = route(target, is_publisher).current();
        let opened = match &target.publisher {
            Some(publisher) if is_publisher => publishing(plan, publisher, address),
            _ => transport(plan, target, address, id, source, since),
        };
        let stage = if target.mechanism.is_datagram() { Stage::Open } else { Stage::Connecting(now) };
        let line = &mut self.lines[index];
        line.since_ns = now;
        line.address = place;
        line.feed = (target.is_json && !is_publisher).then(Box::default);
        let registered = opened.and_then(|transport| {
            line.transport = transport;
            line.register(self.poll.registry(), Token(index))
        });
        match registered {
            Ok(()) => {
                line.stage = stage;
                self.opening += usize::from(matches!(stage, Stage::Connecting(_)));
            }
            Err(error) if self.tries_next_address(index) => drop(error),
            Err(error) => {
                let kind = connect::kind(&error);
                self.failed(index, kind);
            }
        }
    }

    /// The address that a connection was being opened to has refused it, or does not answer. True: it is being opened to another one.
    pub(super) fn tries_next_address(&mut self, index: usize) -> bool {
        let line = &mut self.lines[index];
        if !route(&self.shared.target, line.is_publisher).try_next(line.address) {
            return false;
        }
        if let Stage::Connecting(_) = line.stage {
            self.opening -= 1;
            line.stage = Stage::Gone;
        }
        line.hang_up(self.poll.registry());
        self.open_at(index, None);
        true
    }

    /// Opens a connection again that the server has closed in order, and asks once more what was not answered. `false`: that cannot be done.
    pub(super) fn reopen(&mut self, index: usize, side: Side) -> bool {
        // With `--reconnect` the connection reconnects instead, regardless of the cause, and that is counted there.
        if self.again.is_some() || self.is_judged || !self.lines[index].begin_again(side, false) {
            return false;
        }
        self.recorder.reopened += 1;
        self.change_stream(index, side)
    }

    /// The same where the server has not closed it, but does not answer.
    pub(super) fn reopen_stuck(&mut self, index: usize) -> bool {
        let side = Side::Get;
        self.again.is_none() && self.lines[index].begin_again(side, true) && self.change_stream(index, side)
    }

    fn change_stream(&mut self, index: usize, side: Side) -> bool {
        let Shared { target, .. } = &*self.shared;
        let (_, address) = route(target, self.lines[index].is_publisher).current();
        // Where this side closes first its port stays taken for a minute.
        let source = self.attempts % connect::SOURCES;
        self.attempts = self.attempts.wrapping_add(1);
        let registry = self.poll.registry();
        let replaced = connect::tcp(address, source, None).and_then(|stream| {
            self.lines[index].replace_stream(registry, token_of(index, side), side, stream)
        });
        if let Err(error) = replaced {
            self.gone(index, connect::kind(&error));
        }
        true
    }

    /// A connection could not even be begun.
    fn failed(&mut self, index: usize, kind: String) {
        if self.has_lost(index, &kind) {
            return;
        }
        if self.lines[index].is_publisher {
            self.recorder.error(format!("publishing: {kind}"));
            return self.abandon();
        }
        self.recorder.error(kind);
        self.lines[index].failures += 1;
        self.vacate(index);
    }

    /// Leaves a place to the next connection, if there is to be one.
    pub(super) fn vacate(&mut self, index: usize) {
        if self.shared.plan.churn && self.lines[index].failures < MOST_FAILURES {
            self.vacant.push_back(index);
        }
    }

    /// Opens the next connections in the places that have become free.
    pub(super) fn fill_vacant(&mut self) {
        if !self.has_begun || !self.is_sending() {
            return;
        }
        // One that fails at once is vacant again, and waits for the next turn.
        for _ in 0..self.vacant.len() {
            if !self.may_open() {
                return;
            }
            if let Some(index) = self.vacant.pop_front() {
                self.open_at(index, None);
            }
        }
        if self.vacant.is_empty() {
            self.keep_pace();
        }
    }

    /// When the next connection may be opened in a place that is free.
    pub(super) fn next_opening_ns(&self) -> Option<u64> {
        let is_waiting = !self.vacant.is_empty() && self.is_sending();
        self.pace.as_ref().filter(|_| is_waiting).map(Schedule::next_ns)
    }

    /// Something has happened on a connection, or on one of its two.
    pub(super) fn ready(&mut self, token: usize, event: &Event) {
        let (index, side) = side_of(token);
        let line = &mut self.lines[index];
        if let Stage::Connecting(since) = line.stage {
            match line.is_connected() {
                Ok(false) => return,
                Ok(true) => {
                    let now = self.shared.now_ns();
                    self.now = now;
                    route(&self.shared.target, line.is_publisher).settle(line.address);
                    let waits = line.transport.is_opened_by_an_answer();
                    line.stage = if waits { Stage::Upgrading(now) } else { Stage::Open };
                    self.opening -= usize::from(!waits);
                    let is_counted = !line.is_publisher && (!self.shared.plan.churn || self.is_measured());
                    if is_counted {
                        self.recorder.connect.record(now - since);
                    }
                    if !waits {
                        self.is_back(index);
                        self.say_something(index);
                    }
                }
                Err(_) if self.tries_next_address(index) => return,
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
            self.read(index, side, event.is_read_closed());
        }
    }
}

/// The place of a connection, and which of its two, if it has two.
pub(super) fn side_of(token: usize) -> (usize, Side) {
    (token & !POST_SIDE, if token & POST_SIDE == 0 { Side::Get } else { Side::Post })
}

/// The token of one of a connection's two.
pub(super) fn token_of(index: usize, side: Side) -> Token {
    Token(if side == Side::Get { index } else { index | POST_SIDE })
}

/// Where a connection goes.
fn route(target: &Target, is_publisher: bool) -> &Route {
    match &target.publisher {
        Some(publisher) if is_publisher => &publisher.route,
        _ => &target.route,
    }
}

/// While nobody listens on a port that the system gives out, a connection to it may be given that very port and find itself; and the server could not
/// come back. From another address it is another port.
fn source_apart(plan: &LoadPlan) -> u32 {
    u32::from(plan.reconnect.is_some())
}

/// Begins to open connection `id`.
fn transport(
    plan: &LoadPlan,
    target: &Target,
    address: SocketAddr,
    id: u32,
    source: u32,
    since: Option<&str>,
) -> io::Result<Transport> {
    let receive_bytes = plan.is_slow(id).then_some(SLOW_RECEIVE_BYTES);
    let tcp = || connect::tcp(address, source, receive_bytes);
    if let Some(client) = Web::new(plan, target, since) {
        return Ok(Transport::Web { stream: tcp()?, client: Box::new(client) });
    }
    let dialect = || match &target.room {
        Some(room) => Dialect::SocketIoRoom(room.clone()),
        None if target.mechanism.is_socketio() => Dialect::SocketIo,
        None => Dialect::Plain,
    };
    let client_plan = || ClientPlan {
        host: target.host.clone(),
        path: match since.filter(|_| target.is_json) {
            Some(since) => format!("{}&since={since}", target.path),
            None => target.path.clone(),
        },
        max_message_bytes: plan.payload_bytes.max(1 << 20),
        dialect: dialect(),
    };
    Ok(match target.mechanism {
        Mechanism::UdpEcho | Mechanism::UdpBroadcast => {
            Transport::Udp(connect::udp(address, connect::source_of(id))?)
        }
        Mechanism::TcpEcho | Mechanism::TcpBroadcast => {
            Transport::Tcp { stream: tcp()?, output: Output::retaining(), partial: Vec::new() }
        }
        mechanism if mechanism.is_socketio_upgraded() => {
            let client = Box::new(UpgradingClient::new(&client_plan()));
            Transport::Upgrading { streams: Box::new([tcp()?, tcp()?]), client }
        }
        mechanism if mechanism.is_socketio_polling() => {
            let client = Box::new(PollingClient::new(&client_plan()));
            Transport::Polling { streams: Box::new([tcp()?, tcp()?]), client }
        }
        _ => {
            let client = Box::new(Client::new(&client_plan(), fastrand::u64(..)));
            Transport::WebSocket { stream: tcp()?, client }
        }
    })
}

/// Begins to open the connection of the one who publishes for those who only listen.
fn publishing(plan: &LoadPlan, publisher: &Publisher, address: SocketAddr) -> io::Result<Transport> {
    let stream = || connect::tcp(address, source_apart(plan), None);
    Ok(match publisher.by {
        Publishing::Datagram => Transport::Udp(connect::udp(address, 0)?),
        Publishing::Post => {
            let stream = stream()?;
            let client = Box::new(Web::publishing(publisher, plan.payload_bytes));
            Transport::Web { stream, client }
        }
        Publishing::WebSocket => {
            let plan = ClientPlan {
                host: publisher.host.clone(),
                path: publisher.path.clone(),
                max_message_bytes: plan.payload_bytes.max(1 << 20),
                dialect: Dialect::Plain,
            };
            let stream = stream()?;
            let client = Box::new(Client::new(&plan, fastrand::u64(..)));
            Transport::WebSocket { stream, client }
        }
    })
}
