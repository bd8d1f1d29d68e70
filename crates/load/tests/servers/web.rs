//! Servers of what is heard over HTTP: short and long polls, server-sent events, Socket.IO by long-polling.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::serve;

/// What a receiver (in the order of subscribing) is sent of the event with this number, from 0.
pub(crate) trait Copies: Fn(usize, u64, String) -> Vec<String> + Send + Sync + 'static {}

impl<F: Fn(usize, u64, String) -> Vec<String> + Send + Sync + 'static> Copies for F {}

/// A request, as far as anybody here looks at it.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) etag: Option<String>,
    pub(crate) last_event_id: Option<String>,
    pub(crate) body: String,
}

impl Request {
    /// The next request on a connection; `None` when that has ended.
    pub(crate) fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
        let line = |reader: &mut BufReader<TcpStream>| {
            let mut line = String::new();
            (reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
        };
        let first = line(reader)?;
        let mut words = first.split(' ').map(str::to_owned);
        let (method, target) = (words.next()?, words.next()?);
        let (mut etag, mut last_event_id, mut length) = (None, None, 0);
        loop {
            let field = line(reader)?;
            match field.split_once(": ") {
                Some(("If-None-Match", value)) => etag = Some(value.to_owned()),
                Some(("Last-Event-ID", value)) => last_event_id = Some(value.to_owned()),
                Some(("Content-Length", value)) => length = value.parse().ok()?,
                _ if field.is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        Some(Request { method, target, etag, last_event_id, body: String::from_utf8(body).ok()? })
    }

    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}

/// `HTTP/1.1 200 OK` with a body.
pub(crate) fn ok(content_type: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Answers each request with what `answer` makes of it; `None` ends the connection. `answer` gets the number of the request on its connection.
pub(crate) fn http_server(
    answer: impl Fn(u64, &Request) -> Option<String> + Send + Sync + 'static,
) -> SocketAddr {
    serve(move |stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        for number in 0.. {
            let Some(answer) = Request::read(&mut reader).and_then(|request| answer(number, &request)) else {
                return;
            };
            if writer.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// The hub behind the next server: events by number, and who listens to a stream.
#[derive(Default)]
struct Hub {
    state: Mutex<State>,
    published: Condvar,
}

#[derive(Default)]
struct State {
    events: Vec<String>,
    streams: Vec<TcpStream>,
    receivers: usize,
}

/// Serves `/poll`, `/longpoll`, `/events` and `/publish` as ours do, for one topic `t`. Long polls end empty when `is_patient` is false
/// and nothing is there; what a receiver is sent is what `copies` makes of an event.
pub(crate) fn hub_server(is_patient: bool, copies: impl Copies) -> SocketAddr {
    let hub = Arc::new(Hub::default());
    serve(move |stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        let mut receiver = 0;
        while let Some(request) = Request::read(&mut reader) {
            if request.parameter("topic") != Some("t") {
                let _ = writer.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
            let mut state = hub.state.lock().unwrap();
            let answer = match (&*request.method, request.path()) {
                ("GET", "/poll") if request.parameter("since").is_none() => {
                    receiver = state.receivers;
                    state.receivers += 1;
                    ok(
                        "application/json",
                        &format!(r#"{{"topic":"t","newest":{},"events":[]}}"#, state.events.len()),
                    )
                }
                ("GET", path @ ("/poll" | "/longpoll")) => {
                    let since: usize = request.parameter("since").unwrap().parse().unwrap();
                    if is_patient && path == "/longpoll" {
                        state = hub.published.wait_while(state, |state| state.events.len() <= since).unwrap();
                    }
                    let mut events = Vec::new();
                    for (place, data) in state.events.iter().enumerate().skip(since) {
                        for copy in copies(receiver, place as u64, data.clone()) {
                            // Each second one in base64, as bytes that are no text would be.
                            let data = match place % 2 {
                                0 => format!(r#""data":"{copy}""#),
                                _ => format!(r#""base64":"{}""#, STANDARD.encode(copy)),
                            };
                            events.push(format!(r#"{{"id":{},"event":"message",{data}}}"#, place + 1));
                        }
                    }
                    match (state.events.len(), events.join(",")) {
                        (newest, _) if newest == since && path == "/longpoll" => {
                            "HTTP/1.1 204 No Content\r\n\r\n".to_owned()
                        }
                        (newest, events) => ok(
                            "application/json; charset=utf-8",
                            &format!(r#"{{"topic":"t","newest":{newest},"events":[{events}]}}"#),
                        ),
                    }
                }
                ("GET", "/events") => {
                    state.streams.push(writer.try_clone().unwrap());
                    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nC\r\nretry: 1000\n\r\n"
                        .to_owned()
                }
                ("POST", "/publish") => {
                    let number = state.events.len() as u64;
                    for (index, stream) in state.streams.iter_mut().enumerate() {
                        for copy in copies(index, number, request.body.clone()) {
                            let event =
                                format!(": next\n\nid: {}\nevent: message\ndata: {copy}\n\n", number + 1);
                            let _ = write!(stream, "{:x}\r\n{event}\r\n", event.len());
                        }
                    }
                    state.events.push(request.body.clone());
                    hub.published.notify_all();
                    let id = format!(r#"{{"id":{}}}"#, number + 1);
                    format!("HTTP/1.1 202 Accepted\r\nContent-Length: {}\r\n\r\n{id}", id.len())
                }
                _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
            };
            drop(state);
            if writer.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// Answers polls with nothing new, each after a pause, and counts those that came while the one before on the same connection was not answered.
pub(crate) fn slow_poll_server(pause: Duration, early: Arc<AtomicU64>) -> SocketAddr {
    serve(move |stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while let Some(request) = Request::read(&mut reader) {
            let answer = match &*request.method {
                "GET" => {
                    // The slowness itself, not a wait for luck.
                    thread::sleep(pause);
                    writer.set_nonblocking(true).unwrap();
                    let has_more = !reader.buffer().is_empty() || writer.peek(&mut [0]).is_ok_and(|n| n > 0);
                    writer.set_nonblocking(false).unwrap();
                    early.fetch_add(u64::from(has_more), Ordering::SeqCst);
                    ok("application/json", r#"{"topic":"t","newest":0,"events":[]}"#)
                }
                _ => "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_owned(),
            };
            if writer.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// A Socket.IO server by long-polling, which returns the attachment of every event as `answer` makes it of the number of the event in its session.
pub(crate) fn socketio_polling_server(
    answer: impl Fn(u64, String) -> Vec<String> + Send + Sync + 'static,
) -> SocketAddr {
    let sessions: Arc<Mutex<Vec<Arc<Session>>>> = Arc::default();
    serve(move |stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while let Some(request) = Request::read(&mut reader) {
            let sid = request.parameter("sid").and_then(|sid| sid.parse::<usize>().ok());
            let body = match (&*request.method, sid) {
                ("GET", None) => {
                    let mut sessions = sessions.lock().unwrap();
                    sessions.push(Arc::default());
                    format!(
                        r#"0{{"sid":"{}","upgrades":["websocket"],"maxPayload":1000000}}"#,
                        sessions.len() - 1
                    )
                }
                ("GET", Some(sid)) => {
                    let session = Arc::clone(&sessions.lock().unwrap()[sid]);
                    let packets = session.packets.lock().unwrap();
                    let mut packets = session.said.wait_while(packets, |packets| packets.is_empty()).unwrap();
                    packets.drain(..).collect::<Vec<_>>().join("\u{1e}")
                }
                (_, sid) => {
                    let session = Arc::clone(&sessions.lock().unwrap()[sid.unwrap()]);
                    let mut packets = session.packets.lock().unwrap();
                    for packet in request.body.split('\u{1e}') {
                        match packet {
                            "40" => packets.extend([
                                r#"40{"sid":"x"}"#.to_owned(),
                                r#"42["auth",{}]"#.into(),
                                "2".into(),
                            ]),
                            "3" | "41" | "1" => {}
                            event if event.starts_with("451-") => {}
                            attachment => {
                                let mut number = session.events.lock().unwrap();
                                for copy in answer(*number, attachment.to_owned()) {
                                    let event = r#"451-["message-back",{"_placeholder":true,"num":0}]"#;
                                    packets.extend([event.to_owned(), copy]);
                                }
                                *number += 1;
                            }
                        }
                    }
                    session.said.notify_all();
                    "ok".to_owned()
                }
            };
            if writer.write_all(ok("text/plain; charset=UTF-8", &body).as_bytes()).is_err() {
                return;
            }
        }
    })
}

#[derive(Default)]
struct Session {
    packets: Mutex<VecDeque<String>>,
    said: Condvar,
    events: Mutex<u64>,
}
