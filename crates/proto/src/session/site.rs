//! The pages and what they load, and what a page has to know of the server that it came from.

use serde::Serialize;
use switchboard_pages::File;

use crate::App;
use crate::http::{Answer, Request};

/// Where the facts about the server are.
pub(super) const ABOUT_PATH: &str = "/about.json";

/// The file under `path`, if there is one. Socket.IO's own path is never a file, wherever it was put.
pub(super) fn find(app: &App, path: &str) -> Option<&'static File> {
    if path == app.socketio_path {
        return None;
    }
    let client = path.strip_prefix(&app.socketio_path[..]).and_then(switchboard_pages::find_socketio_client);
    client.or_else(|| switchboard_pages::find(path))
}

/// A file for whoever does not have it yet.
pub(super) fn file(file: &'static File, request: &Request) -> Answer {
    let answer = match request.has(file.etag) {
        true => Answer::not_modified(file.etag),
        false => Answer::of(file.content_type, 200, file.bytes).with("ETag", file.etag),
    };
    // It may be another one as soon as another server is there.
    let answer = answer.with("Cache-Control", "no-cache");
    match file.is_page() {
        true => answer.with("Content-Security-Policy", policy(request.host.as_deref())),
        false => answer,
    }
}

/// What a page may load, and whom it may talk to: nobody but its own server. Not every browser takes the `'self'` of a page over http
/// to mean WebSockets of the same host, so they are named.
fn policy(host: Option<&str>) -> String {
    // As the client spells it, but nothing that would begin another directive.
    let is_plain =
        |host: &&str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
    let sockets = host.filter(is_plain).map(|host| format!(" ws://{host} wss://{host}")).unwrap_or_default();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{sockets}; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
}

/// What a page has to know of its server. Times are milliseconds.
#[derive(Serialize)]
struct About<'a> {
    model: &'a str,
    serves_together: bool,
    socketio_path: &'a str,
    tick_ms: Option<u64>,
    heartbeat_ms: Option<u64>,
    sse_heartbeat_ms: u64,
    keep_alive_ms: u64,
    history_events: usize,
    history_bytes: usize,
    max_topics: usize,
    max_memory_bytes: usize,
    max_message_bytes: usize,
    max_unsent_bytes: usize,
    max_connections: Option<usize>,
}

/// The facts about the server, for its pages and for anybody else.
pub(super) fn about(app: &App) -> Answer {
    let milliseconds = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let about = About {
        model: app.served_by,
        serves_together: app.serves_together,
        socketio_path: &app.socketio_path,
        tick_ms: app.tick.map(milliseconds),
        heartbeat_ms: app.heartbeat.map(milliseconds),
        sse_heartbeat_ms: milliseconds(app.sse_heartbeat),
        keep_alive_ms: milliseconds(app.keep_alive),
        history_events: app.history_events,
        history_bytes: app.history_bytes,
        max_topics: app.max_topics,
        max_memory_bytes: app.memory.max_bytes(),
        max_message_bytes: app.max_message_bytes,
        max_unsent_bytes: app.max_unsent_bytes,
        max_connections: app.max_connections,
    };
    let json = serde_json::to_vec(&about).expect("numbers and words can always be written to memory");
    Answer::json(200, json).with("Cache-Control", "no-cache")
}
