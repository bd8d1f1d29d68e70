//! What stands under which path, and what a request there wants.

use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;

use super::login::{self, Question};
use super::site;
use crate::engine::{self, Endpoint};
use crate::http::{Answer, Handshake, Method, Query, Request, Upgrade};
use crate::{App, Cursor, EventName, Format, Kind, NameError, NotACursor, TopicName};

/// The topic of those who name none.
const DEFAULT_TOPIC: &str = "broadcast";

/// How long a long poll waits if nobody says.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(25);

/// The longest that a long poll may ask for.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// A body that nobody asked for is read so far and forgotten.
const IGNORED_BODY_BYTES: usize = 64 << 10;

/// Where the bare Engine.IO echo is.
const ENGINE_PATH: &str = "/engine.io/";

/// What can be done with a path that only tells something.
const READ_ONLY: &str = "GET, HEAD, OPTIONS";

/// What a request wants.
pub(super) enum Wanted {
    /// An answer that is known.
    Answer(Answer),
    /// Something that a page loads.
    Asset(Answer),
    /// The events of a topic after one, at once.
    Poll { topic: TopicName, since: Option<Cursor> },
    /// The same as soon as there is one.
    LongPoll { topic: TopicName, since: Option<Cursor>, timeout: Duration },
    /// The events of a topic, as they come.
    Stream { topic: TopicName, since: Option<Cursor> },
    /// An event for everyone.
    Publish { topic: TopicName, event: Option<EventName>, kind: Kind, data: Bytes },
    /// A WebSocket that returns every message.
    Echo { handshake: Box<Handshake> },
    /// A WebSocket on a topic.
    Topic { handshake: Box<Handshake>, topic: TopicName, format: Format, since: Option<Cursor> },
    /// Something of the sign-in's.
    Login { question: Question, request: crate::login::Request },
    /// Something of Engine.IO's.
    Engine(engine::Request),
    /// A WebSocket that carries Engine.IO.
    EngineUpgrade { handshake: Box<Handshake>, request: engine::Request },
}

/// How long the body of a request may be.
pub(super) fn max_body_bytes(app: &App, request: &Request) -> usize {
    match &request.path[..] {
        "/publish" => app.max_message_bytes,
        path if endpoint(app, path).is_some() => app.engine.max_payload_bytes,
        _ => IGNORED_BODY_BYTES,
    }
}

/// What is wanted, or the answer that says what is wrong with it.
pub(super) fn route(app: &App, request: Request) -> Result<Wanted, Answer> {
    let page = site::find(app, &request.path);
    let allow = match page {
        Some(_) => READ_ONLY,
        None => allowed(app, &request.path)?,
    };
    if request.preflight.is_some() {
        return Err(app.cors.preflight(&request, allow));
    }
    if changes_something(app, &request) {
        app.cors.admit(&request)?;
    }
    if request.method == Method::Options {
        return Err(Answer::empty(204).with("Allow", allow));
    }
    if page.is_none()
        && let Some(endpoint) = endpoint(app, &request.path)
    {
        return engine(endpoint, request);
    }
    if let Some(place) = login::place(&request.path) {
        return login::route(place, &request);
    }
    let is_allowed = match &request.method {
        Method::Get | Method::Head => allow.starts_with("GET"),
        Method::Post => allow.starts_with("POST"),
        Method::Options | Method::Other(_) => false,
    };
    if !is_allowed {
        return Err(Answer::method_not_allowed(&request.method, allow));
    }
    if let Some(page) = page {
        let answer = site::file(page, &request);
        return Ok(if page.is_page() { Wanted::Answer(answer) } else { Wanted::Asset(answer) });
    }
    let is_head = request.method == Method::Head;
    let query = &request.query;
    Ok(match &request.path[..] {
        site::ABOUT_PATH => Wanted::Asset(site::about(app)),
        "/echo" => Wanted::Echo { handshake: handshake(&request)? },
        "/broadcast" => {
            let handshake = handshake(&request)?;
            Wanted::Topic { handshake, topic: topic(query)?, format: format(query)?, since: cursor(query)? }
        }
        "/poll" => {
            let (topic, since) = (topic(query)?, cursor(query)?);
            Wanted::Poll { topic, since }
        }
        // There is nothing to wait for where only the head of the answer is asked for.
        "/longpoll" if is_head => Wanted::Poll { topic: topic(query)?, since: cursor(query)? },
        "/longpoll" => {
            let timeout = seconds(query, "timeout")?.unwrap_or(DEFAULT_TIMEOUT).min(MAX_TIMEOUT);
            Wanted::LongPoll { topic: topic(query)?, since: cursor(query)?, timeout }
        }
        "/events" if is_head => Wanted::Answer(Answer::stream(crate::sse::CONTENT_TYPE)),
        "/events" => {
            // Polyfills cannot set the header.
            let in_query = [query.only("lastEventId")?, query.only("Last-Event-ID")?];
            let last_ids = [request.last_event_id.as_deref()].into_iter().chain(in_query).flatten();
            // An empty id, or one that this server has not given, is as good as none: it must not hide the next.
            let since = match last_ids.flat_map(str::parse).next() {
                Some(last) => Some(last),
                None => cursor(query)?,
            };
            Wanted::Stream { topic: topic(query)?, since }
        }
        _ => publish(request)?,
    })
}

/// The methods that a path knows, or that there is no such path.
fn allowed(app: &App, path: &str) -> Result<&'static str, Answer> {
    match path {
        site::ABOUT_PATH | "/echo" | "/broadcast" | "/poll" | "/longpoll" | "/events" => Ok(READ_ONLY),
        "/publish" => Ok("POST, OPTIONS"),
        "*" => Ok("GET, HEAD, POST, OPTIONS"),
        path if endpoint(app, path).is_some() => Ok("GET, POST, OPTIONS"),
        path if let Some(place) = login::place(path) => Ok(login::allowed(place)),
        _ => {
            let socketio = &app.socketio_path;
            Err(Answer::new(
                404,
                format!(
                    "Not here. There are the pages /, /chat and /login, and /echo, /broadcast, /poll, /longpoll, /events, /publish, /login/codes, {socketio}, {ENGINE_PATH} and {}.\n",
                    site::ABOUT_PATH
                ),
            ))
        }
    }
}

fn endpoint(app: &App, path: &str) -> Option<Endpoint> {
    let is = |endpoint: &str| path == endpoint || endpoint.strip_suffix('/') == Some(path);
    if is(&app.socketio_path) {
        Some(Endpoint::SocketIo)
    } else if is(ENGINE_PATH) {
        Some(Endpoint::Bare)
    } else {
        None
    }
}

/// What Engine.IO has to know of a request whose body has not come: it wants no other at the same time.
pub(super) fn post_begun(app: &App, request: &Request) -> Option<engine::Request> {
    let endpoint = endpoint(app, &request.path).filter(|_| request.method == Method::Post)?;
    // A page of another site must not even keep a session's own POST waiting.
    app.cors.admit(request).ok()?;
    engine_query(endpoint, &request.query).ok().map(engine::Request::PostBegun)
}

fn engine_query(endpoint: Endpoint, query: &Query) -> Result<engine::Query, Answer> {
    let text = |name| query.only(name).map(|value| value.unwrap_or_default().to_owned());
    let sid = query.only("sid")?.map(str::to_owned);
    Ok(engine::Query { endpoint, sid, transport: text("transport")?, eio: text("EIO")?, from: None })
}

fn engine(endpoint: Endpoint, request: Request) -> Result<Wanted, Answer> {
    let query = engine_query(endpoint, &request.query)?;
    Ok(Wanted::Engine(match (&request.method, &request.upgrade) {
        (_, Upgrade::WebSocket(_) | Upgrade::Refused(_)) => {
            let handshake = handshake(&request)?;
            return Ok(Wanted::EngineUpgrade { handshake, request: engine::Request::Upgrade(query) });
        }
        (Method::Get, _) => engine::Request::Get(query),
        (Method::Post, _) => {
            engine::Request::Post { query, content_type: request.content_type, body: request.body }
        }
        _ => engine::Request::OtherMethod(query),
    }))
}

/// Whether a request may change something: then a page of another site must not make it. A WebSocket can be read by the page, and each request to
/// Engine.IO opens a session or takes something out of one.
fn changes_something(app: &App, request: &Request) -> bool {
    let is_upgrade = !matches!(request.upgrade, Upgrade::None);
    let only_reads = matches!(request.method, Method::Get | Method::Head);
    !only_reads || is_upgrade || endpoint(app, &request.path).is_some()
}

/// What a WebSocket is agreed on by.
fn handshake(request: &Request) -> Result<Box<Handshake>, Answer> {
    match &request.upgrade {
        Upgrade::WebSocket(handshake) => Ok(handshake.clone()),
        Upgrade::Refused(answer) => Err(Answer::clone(answer)),
        Upgrade::None => {
            let text = format!("{} is a WebSocket: ask for it with Upgrade: websocket.\n", request.path);
            Err(Answer::upgrade_required(text))
        }
    }
}

fn publish(request: Request) -> Result<Wanted, Answer> {
    // A form sends an empty field where nothing was filled in.
    let event = request.query.only("event")?.filter(|event| !event.is_empty());
    let event = event.map(EventName::new).transpose().map_err(not_a_name)?;
    let topic = topic(&request.query)?;
    // What is text by its content can be shown as such, whatever the sender calls it.
    let is_binary = request.content_type.as_deref().is_some_and(|content_type| {
        content_type.trim().to_ascii_lowercase().starts_with("application/octet-stream")
    });
    let is_text = !is_binary && str::from_utf8(&request.body).is_ok();
    let kind = if is_text { Kind::Text } else { Kind::Binary };
    Ok(Wanted::Publish { topic, event, kind, data: request.body })
}

fn topic(query: &Query) -> Result<TopicName, Answer> {
    TopicName::new(query.only("topic")?.unwrap_or(DEFAULT_TOPIC)).map_err(not_a_name)
}

fn not_a_name(error: NameError) -> Answer {
    Answer::bad_request(&error.to_string())
}

fn cursor(query: &Query) -> Result<Option<Cursor>, Answer> {
    parse(query, "since", &NotACursor.to_string())
}

/// How a WebSocket takes what is published.
fn format(query: &Query) -> Result<Format, Answer> {
    match query.only("format")? {
        None => Ok(Format::WebSocket),
        Some("json") => Ok(Format::JsonWebSocket),
        Some(_) => Err(Answer::bad_request(
            "the parameter format is json, for each event with its number and name; without it there are the data alone",
        )),
    }
}

fn seconds(query: &Query, name: &str) -> Result<Option<Duration>, Answer> {
    let seconds: Option<f64> = parse(query, name, "is a number of seconds")?;
    let time = seconds.map(Duration::try_from_secs_f64).transpose();
    time.map_err(|_| Answer::bad_request(&format!("the parameter {name} is a number of seconds")))
}

fn parse<T: FromStr>(query: &Query, name: &str, what: &str) -> Result<Option<T>, Answer> {
    let value = query.only(name)?.map(str::parse).transpose();
    value.map_err(|_| Answer::bad_request(&format!("the parameter {name} {what}")))
}
