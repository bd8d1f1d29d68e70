//! The request head that every connection starts with, and the answers that end one.
//!
//! `httparse` reads the head; what it means is decided here (RFC 9110, RFC 9112, RFC 6455 section 4.2).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::App;
use crate::websocket::accept_key;

/// Longest request head; a longer one is answered with 431.
pub const MAX_HEAD_BYTES: usize = 16 << 10;

/// Header lines in one head; more are answered with 431.
const MAX_HEADERS: usize = 100;

/// The header of a 503 that names, in one word for programs, the limit that was hit.
pub const REFUSED_HEADER: &str = "Switchboard-Refused";

/// What a path serves once the connection is a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// `/echo`: every data message comes back.
    Echo,
    /// `/broadcast`: every data message goes to everyone here.
    Broadcast,
}

/// What the bytes so far amount to.
#[derive(Debug)]
pub(crate) enum Head {
    /// The head is not finished.
    Incomplete,
    /// The answer, after which the connection ends.
    Answer(Answer),
    /// The connection becomes a WebSocket; its frames begin after `head_bytes`.
    Upgrade { accept: String, room: Room, head_bytes: usize },
}

/// Reads a request head from the start of `input`.
pub(crate) fn read_head(input: &[u8], app: &App) -> Head {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    // What stands behind the limit is not looked at: the answer must not depend on how much came in one read.
    match request.parse(&input[..input.len().min(MAX_HEAD_BYTES)]) {
        Ok(httparse::Status::Complete(head_bytes)) => {
            // The answer to HEAD is a head, whatever the answer (RFC 9110, section 9.3.2).
            let without_body = request.method == Some("HEAD");
            route(&request, head_bytes, app)
                .unwrap_or_else(|answer| Head::Answer(Answer { without_body, ..answer }))
        }
        Ok(httparse::Status::Partial) if input.len() <= MAX_HEAD_BYTES => Head::Incomplete,
        Ok(httparse::Status::Partial) => Head::Answer(Answer::new(
            431,
            format!("The request head is longer than {MAX_HEAD_BYTES} bytes.\n"),
        )),
        Err(httparse::Error::TooManyHeaders) => {
            Head::Answer(Answer::new(431, format!("The request has more than {MAX_HEADERS} header lines.\n")))
        }
        Err(error) => Head::Answer(Answer::bad_request(&format!("malformed HTTP: {error}"))),
    }
}

fn route(request: &httparse::Request<'_, '_>, head_bytes: usize, app: &App) -> Result<Head, Answer> {
    let fields = Fields(request.headers);
    let is_http_11 = request.version == Some(1);
    check_host(fields, is_http_11)?;
    let has_body = has_body(fields)?;
    let path = path(request.path.unwrap_or_default())?;
    let room = match path {
        "/" => None,
        "/echo" => Some(Room::Echo),
        "/broadcast" => Some(Room::Broadcast),
        _ => return Err(Answer::new(404, "Not here. There are /, /echo and /broadcast.\n".into())),
    };
    let method = request.method.unwrap_or_default();
    if method != "GET" && method != "HEAD" {
        let answer = Answer::new(405, format!("{method} is not served here.\n"));
        return Err(answer.with("Allow", "GET, HEAD"));
    }
    let Some(room) = room else {
        let content_type = "text/html; charset=utf-8";
        return Err(Answer { content_type, ..Answer::new(200, page(app)) });
    };
    // An upgrade asked for in HTTP/1.0 must be ignored (RFC 9110, section 7.8).
    let wants_websocket = is_http_11
        && method == "GET"
        && fields.has_token("Upgrade", "websocket")
        && fields.has_token("Connection", "upgrade");
    if !wants_websocket {
        let text = format!("{path} is a WebSocket: ask for it with Upgrade: websocket.\n");
        return Err(Answer::new(426, text).with("Upgrade", "websocket"));
    }
    if fields.only("Sec-WebSocket-Version")? != Some(b"13") {
        let answer = Answer::new(426, "This WebSocket speaks version 13 (RFC 6455).\n".into());
        return Err(answer.with("Upgrade", "websocket").with("Sec-WebSocket-Version", "13"));
    }
    let key = fields.only("Sec-WebSocket-Key")?.unwrap_or_default();
    if STANDARD.decode(key).map(|nonce| nonce.len()) != Ok(16) {
        return Err(Answer::bad_request("Sec-WebSocket-Key must be 16 bytes in base64"));
    }
    if has_body {
        return Err(Answer::bad_request("a request to upgrade has no body"));
    }
    Ok(Head::Upgrade { accept: accept_key(key), room, head_bytes })
}

/// HTTP/1.1 requires exactly one Host (RFC 9112, section 3.2); it may be empty but must be a host.
fn check_host(fields: Fields<'_>, is_http_11: bool) -> Result<(), Answer> {
    match fields.only("Host")? {
        None if is_http_11 => Err(Answer::bad_request("HTTP/1.1 requires a Host header")),
        Some(host) if host.iter().any(|byte| !byte.is_ascii_graphic() || b"/?#@\\,".contains(byte)) => {
            Err(Answer::bad_request("Host is not a host and port"))
        }
        _ => Ok(()),
    }
}

/// Whether a body follows the head. Two lengths that contradict each other are how requests are smuggled
/// (RFC 9112, section 6.3).
fn has_body(fields: Fields<'_>) -> Result<bool, Answer> {
    let length = fields.only("Content-Length")?;
    if length.is_some_and(|length| length.is_empty() || !length.iter().all(u8::is_ascii_digit)) {
        return Err(Answer::bad_request("Content-Length is not a number"));
    }
    let chunked = fields.all("Transfer-Encoding").next().is_some();
    if chunked && length.is_some() {
        return Err(Answer::bad_request("both Content-Length and Transfer-Encoding"));
    }
    Ok(chunked || length.is_some_and(|length| length.iter().any(|digit| *digit != b'0')))
}

/// The path of a request target in origin form or absolute form, without its query.
fn path(target: &str) -> Result<&str, Answer> {
    let target = match target.split_once("://") {
        Some(("http" | "https", rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        _ => target,
    };
    if !target.starts_with('/') {
        return Err(Answer::bad_request("the request target must be a path"));
    }
    Ok(target.split_once('?').map_or(target, |(path, _)| path))
}

/// The header fields of a request.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    fn all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value.trim_ascii())
    }

    /// The value of a field that may stand there once.
    fn only(self, name: &str) -> Result<Option<&'a [u8]>, Answer> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(Answer::bad_request(&format!("{name} stands there twice"))),
            (value, None) => Ok(value),
        }
    }

    /// Whether a comma-separated list holds `token`, in any case.
    fn has_token(self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// An answer after which the server closes the connection.
#[derive(Debug)]
pub(crate) struct Answer {
    status: u16,
    content_type: &'static str,
    fields: Vec<(&'static str, &'static str)>,
    body: String,
    without_body: bool,
}

impl Answer {
    pub(crate) fn new(status: u16, body: String) -> Answer {
        let content_type = "text/plain; charset=utf-8";
        Answer { status, content_type, fields: Vec::new(), body, without_body: false }
    }

    fn bad_request(what: &str) -> Answer {
        Answer::new(400, format!("Bad request: {what}.\n"))
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Answer {
        self.fields.push((name, value));
        self
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let Answer { status, content_type, body, .. } = self;
        let reason = match status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            426 => "Upgrade Required",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            _ => "",
        };
        let connection = if *status == 426 { "close, Upgrade" } else { "close" };
        let mut head = format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: {connection}\r\n",
            body.len()
        );
        for (name, value) in &self.fields {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        out.extend_from_slice(head.as_bytes());
        if !self.without_body {
            out.extend_from_slice(body.as_bytes());
        }
    }
}

/// The answer to an upgrade: from here on the connection carries frames.
pub(crate) fn switching_protocols(accept: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// The whole answer to a connection that a limit forbids: `limit` is one word for programs, `sentence`
/// names the limit and the way out for people.
pub fn refusal(limit: &'static str, sentence: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let answer = Answer::new(503, format!("{sentence}\n"));
    answer.with(REFUSED_HEADER, limit).with("Retry-After", "1").encode(&mut out);
    out
}

fn page(app: &App) -> String {
    let heartbeat = match app.heartbeat {
        Some(period) => format!("after {period:?} of silence"),
        None => "off".into(),
    };
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Switchboard: {model}</title></head>\n\
         <body><h1>Switchboard</h1>\n<p>Model: <b>{model}</b></p>\n<ul>\n\
         <li><code>/echo</code>: a WebSocket that returns every message</li>\n\
         <li><code>/broadcast</code>: a WebSocket on which every message goes to everyone there</li>\n</ul>\n\
         <p>Longest message: {max} bytes. Heartbeat: {heartbeat}.</p>\n</body></html>\n",
        model = app.served_by,
        max = app.max_message_bytes,
    )
}
