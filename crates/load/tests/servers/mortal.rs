//! A hub that dies and comes back on its port: what it took and held is gone then, and its numbers begin again.

use std::io::{BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use tungstenite::{Message, WebSocket};

use super::web::{Request, ok};

/// What becomes of such a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fate {
    /// Each run but the last dies with the message of this number, counted from 1.
    pub(crate) dies_with: usize,
    /// What it does with that message first.
    pub(crate) last: Last,
    /// How long it is away; `None`: it does not come back.
    pub(crate) away: Option<Duration>,
    /// How often it hands over what was published before somebody came: 1 is honest.
    pub(crate) replays: usize,
    /// It hands that over from behind.
    pub(crate) is_backwards: bool,
}

/// What a server does with the last message that it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    Deliver,
    /// It delivers it, and does not answer who published it.
    DeliverOnly,
    /// It neither delivers nor answers it.
    Swallow,
}

/// Runs of each server but the first do not let anybody in before so many messages were published, and turn away whoever comes first behind them.
/// So those are older than the attempt that succeeds: they come from the history, or are lost.
pub(crate) const BEFORE_ANYBODY: usize = 5;

const TURNED_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

/// Runs that there are: the last one stays.
const RUNS: usize = 2;

/// What the server has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Where those who came to a later run wanted to go on.
    pub(crate) cursors: Vec<Option<String>>,
    /// How many messages they had missed in that run when they were let in, in all: handed over from the history, or lost.
    pub(crate) missed: usize,
}

struct Hub {
    fate: Fate,
    run: usize,
    state: Mutex<State>,
    changed: Condvar,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct State {
    events: Vec<String>,
    listeners: Vec<Listener>,
    /// To end them all.
    streams: Vec<TcpStream>,
    has_turned_away: bool,
    is_dead: bool,
}

enum Listener {
    Stream(TcpStream),
    Plain(WebSocket<TcpStream>),
    Json(WebSocket<TcpStream>),
}

/// Serves `/events`, `/poll`, `/longpoll`, `/publish` and WebSockets, with and without `format=json`, for one topic `t`.
pub(crate) fn mortal_server(fate: Fate) -> (SocketAddr, Arc<Mutex<Seen>>) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (mut listener, address) = lasting(TcpListener::bind);
    let report = Arc::clone(&seen);
    thread::spawn(move || {
        for run in 0..RUNS {
            let (state, changed, seen) = (Mutex::default(), Condvar::new(), Arc::clone(&seen));
            let hub = Arc::new(Hub { fate, run, state, changed, seen });
            for stream in listener.incoming().flatten() {
                stream.set_nodelay(true).unwrap();
                let mut state = hub.state.lock().unwrap();
                if state.is_dead {
                    break;
                }
                state.streams.push(stream.try_clone().unwrap());
                drop(state);
                let hub = Arc::clone(&hub);
                thread::spawn(move || hub.serve(stream));
            }
            // Threads of the load generator may have a copy of the descriptor; this ends it whoever has one.
            socket2::SockRef::from(&listener).shutdown(Shutdown::Both).unwrap();
            for stream in &hub.state.lock().unwrap().streams {
                let _ = stream.shutdown(Shutdown::Both);
            }
            let Some(away) = fate.away else { return };
            // The time for which it is away, not a wait for luck.
            thread::park_timeout(away);
            listener = TcpListener::bind(address).unwrap();
        }
    });
    (address, report)
}

/// Binds to a port that nobody is given who asks for any: while the server is away it stays free.
fn lasting<S>(bind: fn(SocketAddr) -> std::io::Result<S>) -> (S, SocketAddr) {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let first: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
    let ports = std::iter::repeat_with(|| fastrand::u16(first / 2..first));
    let found = ports.take(1000).find_map(|port| {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Some((bind(address).ok()?, address))
    });
    found.expect("a port below those that are given out is free")
}

impl Hub {
    fn serve(&self, stream: TcpStream) {
        let mut head = [0; 1024];
        let is_websocket = stream
            .peek(&mut head)
            .is_ok_and(|bytes| String::from_utf8_lossy(&head[..bytes]).contains("Upgrade: websocket"));
        if is_websocket {
            return self.serve_websocket(stream);
        }
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while let Some(request) = Request::read(&mut reader) {
            let since = request.parameter("since").map(str::to_owned);
            match (&*request.method, request.path()) {
                ("GET", "/events") => {
                    let Some(held) = self.admit(request.last_event_id) else {
                        return drop(writer.write_all(TURNED_AWAY));
                    };
                    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 20\n\n";
                    let _ = writer.write_all(head.as_bytes());
                    held.iter().for_each(|(id, data)| write_event(&mut writer, *id, data));
                    self.listen(
                        Listener::Stream(writer.try_clone().unwrap()),
                        held.len() / self.fate.replays,
                    );
                }
                ("GET", "/poll") if since.is_none() => {
                    let newest = self.state.lock().unwrap().events.len();
                    self.answer(&mut writer, newest, &[]);
                }
                ("GET", path @ ("/poll" | "/longpoll")) => {
                    let epoch = format!("-{}", self.epoch());
                    let of_this_run = since.as_deref().and_then(|since| since.strip_suffix(&epoch));
                    let (id, held) = match of_this_run.map(|id| id.parse::<usize>().unwrap()) {
                        Some(id) => (id, self.behind(id, path == "/longpoll")),
                        None => match self.admit(since) {
                            Some(held) => (0, held),
                            None => return drop(writer.write_all(TURNED_AWAY)),
                        },
                    };
                    let newest = held.iter().map(|(id, _)| *id).max().unwrap_or(id);
                    self.answer(&mut writer, newest, &held);
                }
                ("POST", "/publish") => {
                    let answer = "HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}";
                    if self.publish(request.body) && writer.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                    if self.is_over() {
                        return self.die(&writer);
                    }
                }
                _ => panic!("{} {}", request.method, request.target),
            }
        }
    }

    fn serve_websocket(&self, stream: TcpStream) {
        let mut uri = String::new();
        let writing = stream.try_clone().unwrap();
        // What tungstenite wants to be returned is large; this never is.
        #[expect(clippy::result_large_err, reason = "the type is tungstenite's")]
        let note = |request: &tungstenite::handshake::server::Request, response| {
            uri = request.uri().to_string();
            Ok(response)
        };
        let mut turning_away = stream.try_clone().unwrap();
        if !self.is_welcome() {
            return drop(turning_away.write_all(TURNED_AWAY));
        }
        let Ok(mut socket) = tungstenite::accept_hdr(stream, note) else { return };
        let since = uri.split_once("since=").map(|(_, since)| since.to_owned());
        let is_json = uri.contains("format=json");
        let held = if is_json { self.held(since) } else { Vec::new() };
        let mut writer = WebSocket::from_raw_socket(writing, tungstenite::protocol::Role::Server, None);
        if is_json {
            let beginning = format!(r#"{{"topic":"t","newest":{},"epoch":"{}"}}"#, held.len(), self.epoch());
            let _ = writer.send(Message::text(beginning));
            for (id, data) in &held {
                let _ = writer.send(json_frame(*id, data));
            }
        }
        match is_json {
            true => self.listen(Listener::Json(writer), held.len() / self.fate.replays),
            false => self.listen_to_what_comes(Listener::Plain(writer)),
        }
        while socket.read().is_ok() {}
    }

    /// Somebody comes. What is handed over from the history, with its numbers; `None`: not yet.
    fn admit(&self, cursor: Option<String>) -> Option<Vec<(usize, String)>> {
        self.is_welcome().then(|| self.held(cursor))
    }

    fn is_welcome(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        let is_late = state.events.len() >= BEFORE_ANYBODY;
        self.run == 0 || is_late && std::mem::replace(&mut state.has_turned_away, true)
    }

    fn held(&self, cursor: Option<String>) -> Vec<(usize, String)> {
        if self.run == 0 {
            return Vec::new();
        }
        let state = self.state.lock().unwrap();
        let mut seen = self.seen.lock().unwrap();
        seen.cursors.push(cursor);
        seen.missed += state.events.len();
        let numbered = state.events.iter().cloned().enumerate().map(|(place, data)| (place + 1, data));
        let mut held: Vec<_> =
            numbered.flat_map(|event| std::iter::repeat_n(event, self.fate.replays)).collect();
        if self.fate.is_backwards {
            held.reverse();
        }
        held
    }

    /// Lets somebody listen who was handed over so much, and hands over what has come meanwhile.
    fn listen(&self, mut listener: Listener, had: usize) {
        let mut state = self.state.lock().unwrap();
        for (place, data) in state.events.iter().enumerate().skip(had) {
            listener.tell(place + 1, data);
        }
        state.listeners.push(listener);
    }

    /// Lets somebody listen who is handed over nothing.
    fn listen_to_what_comes(&self, listener: Listener) {
        let mut state = self.state.lock().unwrap();
        if self.run > 0 {
            self.seen.lock().unwrap().missed += state.events.len();
        }
        state.listeners.push(listener);
    }

    /// What follows an event; waits until there is something, if it `holds`.
    fn behind(&self, id: usize, holds: bool) -> Vec<(usize, String)> {
        let mut state = self.state.lock().unwrap();
        if holds {
            let is_nothing_new = |state: &mut State| state.events.len() <= id && !state.is_dead;
            state = self.changed.wait_while(state, is_nothing_new).unwrap();
        }
        let numbered = state.events.iter().cloned().enumerate().map(|(place, data)| (place + 1, data));
        numbered.skip(id).collect()
    }

    fn answer(&self, writer: &mut TcpStream, newest: usize, events: &[(usize, String)]) {
        let events: Vec<String> = events
            .iter()
            .map(|(id, data)| format!(r#"{{"id":{id},"event":"message","data":"{data}"}}"#))
            .collect();
        let (epoch, events) = (self.epoch(), events.join(","));
        let json = format!(r#"{{"topic":"t","newest":{newest},"epoch":"{epoch}","events":[{events}]}}"#);
        let _ = writer.write_all(ok("application/json", &json).as_bytes());
    }

    /// Takes a message. Whether who published it is told so.
    fn publish(&self, data: String) -> bool {
        let mut state = self.state.lock().unwrap();
        let is_last = self.run + 1 < RUNS && state.events.len() + 1 == self.fate.dies_with;
        let last = self.fate.last;
        let State { events, listeners, .. } = &mut *state;
        if !(is_last && last == Last::Swallow) {
            listeners.iter_mut().for_each(|listener| listener.tell(events.len() + 1, &data));
        }
        events.push(data);
        self.changed.notify_all();
        !is_last || last == Last::Deliver
    }

    fn is_over(&self) -> bool {
        self.run + 1 < RUNS && self.state.lock().unwrap().events.len() >= self.fate.dies_with
    }

    fn die(&self, stream: &TcpStream) {
        self.state.lock().unwrap().is_dead = true;
        self.changed.notify_all();
        // Wakes who accepts.
        let _ = TcpStream::connect(stream.local_addr().unwrap());
    }

    fn epoch(&self) -> String {
        format!("{:x}", 0xabc + self.run)
    }
}

impl Listener {
    fn tell(&mut self, id: usize, data: &str) {
        match self {
            Listener::Stream(stream) => write_event(stream, id, data),
            Listener::Plain(socket) => drop(socket.send(Message::text(data))),
            Listener::Json(socket) => drop(socket.send(json_frame(id, data))),
        }
    }
}

fn write_event(stream: &mut TcpStream, id: usize, data: &str) {
    let _ = write!(stream, "id: {id}\ndata: {data}\n\n");
}

fn json_frame(id: usize, data: &str) -> Message {
    Message::text(format!(r#"{{"id":{id},"event":"message","data":"{data}"}}"#))
}

/// A datagram server that sends everything to everybody it has heard, forgets them with message `dies_with`, and is away for a while.
pub(crate) fn forgetful_udp_server(dies_with: usize, away: Duration) -> SocketAddr {
    let (mut socket, address) = lasting(UdpSocket::bind);
    thread::spawn(move || {
        for run in 0.. {
            let (mut senders, mut buffer) = (Vec::<SocketAddr>::new(), [0; 65536]);
            let mut messages = 0;
            while run > 0 || messages < dies_with {
                let Ok((bytes, sender)) = socket.recv_from(&mut buffer) else { return };
                if !senders.contains(&sender) {
                    senders.push(sender);
                }
                if bytes > 0 {
                    messages += 1;
                    senders.iter().for_each(|sender| drop(socket.send_to(&buffer[..bytes], sender)));
                }
            }
            drop(socket);
            thread::park_timeout(away);
            socket = UdpSocket::bind(address).unwrap();
        }
    });
    address
}
