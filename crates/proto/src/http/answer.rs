use std::borrow::Cow;

use bytes::Bytes;

use super::request::{Method, Request};
use crate::CorsOrigins;
use crate::cors::AllowOrigin;

/// As long as most heads are at the most.
const HEAD_BYTES: usize = 256;

/// Whether an answer may be kept: `no-store` unless it says something else.
const CACHE_CONTROL: &str = "Cache-Control";

/// What the server says to a request.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    /// Empty: nothing is said about a content that is not there.
    content_type: &'static str,
    fields: Vec<(&'static str, Cow<'static, str>)>,
    body: Bytes,
    /// What `body` holds is only the beginning.
    is_stream: bool,
}

/// How one request wants to be answered, whatever the answer. By default as the last thing that is said on a
/// connection about which nothing is known.
#[derive(Debug, Clone, Default)]
pub struct ReplyTo {
    /// Without the body.
    pub is_head: bool,
    /// With words that HTTP/1.1 need not say.
    pub is_http_11: bool,
    /// Further requests may follow.
    pub keep_alive: bool,
    /// Which pages may read it.
    pub cors: AllowOrigin,
}

impl ReplyTo {
    /// What `request` says about its answer.
    pub fn new(request: &Request, origins: &CorsOrigins) -> ReplyTo {
        ReplyTo {
            is_head: request.method == Method::Head,
            is_http_11: request.is_http_11,
            keep_alive: request.keep_alive,
            cors: origins.reply(request.origin.as_deref()),
        }
    }
}

impl Answer {
    /// An answer in words; they end with a line feed.
    pub fn new(status: u16, text: impl Into<Bytes>) -> Answer {
        Answer::of("text/plain; charset=utf-8", status, text)
    }

    /// An answer for programs.
    pub fn json(status: u16, json: impl Into<Bytes>) -> Answer {
        Answer::of("application/json", status, json)
    }

    /// A page.
    pub fn html(status: u16, html: impl Into<Bytes>) -> Answer {
        Answer::of("text/html; charset=utf-8", status, html)
    }

    /// An answer of any type.
    pub fn of(content_type: &'static str, status: u16, body: impl Into<Bytes>) -> Answer {
        Answer { status, content_type, fields: Vec::new(), body: body.into(), is_stream: false }
    }

    /// An answer of a status that has no content: 204.
    pub fn empty(status: u16) -> Answer {
        Answer::of("", status, Bytes::new())
    }

    /// An answer that goes on until the connection ends (RFC 9112, section 6.3, rule 8): what is published is
    /// written as it is, the same bytes for everybody, without a chunk around it.
    pub fn stream(content_type: &'static str) -> Answer {
        Answer { is_stream: true, ..Answer::of(content_type, 200, Bytes::new()) }
    }

    /// The client has it already: 304, which repeats the tag (RFC 9110, section 15.4.5).
    pub fn not_modified(etag: impl Into<Cow<'static, str>>) -> Answer {
        Answer::empty(304).with("ETag", etag)
    }

    /// 400; `what` is the middle of a sentence.
    pub fn bad_request(what: &str) -> Answer {
        Answer::new(400, format!("Bad request: {what}.\n"))
    }

    /// 405 with the methods that there are (RFC 9110, section 15.5.6).
    pub fn method_not_allowed(method: &Method, allow: &'static str) -> Answer {
        Answer::new(405, format!("{} is not served here.\n", method.as_str())).with("Allow", allow)
    }

    /// 426: this path is a WebSocket.
    pub fn upgrade_required(text: impl Into<Bytes>) -> Answer {
        Answer::new(426, text).with("Upgrade", "websocket")
    }

    /// The answer with one more header field. Control characters, which would end the field, are left out.
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Answer {
        let mut value = value.into();
        if value.bytes().any(|byte| byte.is_ascii_control()) {
            value.to_mut().retain(|character| !character.is_ascii_control());
        }
        self.fields.push((name, value));
        self
    }

    /// Its status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Appends the whole answer.
    pub fn encode(&self, reply: &ReplyTo, out: &mut Vec<u8>) {
        let body = self.body(reply);
        out.reserve(HEAD_BYTES + body.len());
        self.encode_head(reply, out);
        out.extend_from_slice(body);
    }

    /// What follows the head, for somebody who would rather queue it by reference.
    pub fn body(&self, reply: &ReplyTo) -> &Bytes {
        static NOTHING: Bytes = Bytes::new();
        if reply.is_head || self.is_empty() { &NOTHING } else { &self.body }
    }

    /// Appends the head. It has no Date: a server without a clock must not send one (RFC 9110, section 6.6.1).
    pub fn encode_head(&self, reply: &ReplyTo, out: &mut Vec<u8>) {
        out.reserve(HEAD_BYTES);
        out.extend_from_slice(status_line(self.status).as_bytes());
        if !self.content_type.is_empty() {
            field(out, "Content-Type", self.content_type);
        }
        if !self.is_empty() && !self.is_stream {
            field(out, "Content-Length", itoa::Buffer::new().format(self.body.len()));
        }
        // Of 426 the field Upgrade is one for this connection only (RFC 9110, sections 7.8 and 15.5.22).
        match (reply.keep_alive && !self.ends_connection(reply), self.status == 426) {
            (false, false) => field(out, "Connection", "close"),
            (false, true) => field(out, "Connection", "close, Upgrade"),
            (true, true) if reply.is_http_11 => field(out, "Connection", "Upgrade"),
            (true, true) => field(out, "Connection", "keep-alive, Upgrade"),
            (true, false) if reply.is_http_11 => {}
            (true, false) => field(out, "Connection", "keep-alive"),
        }
        reply.cors.encode(out);
        // Text from others must not become a page.
        field(out, "X-Content-Type-Options", "nosniff");
        if !self.fields.iter().any(|(name, _)| *name == CACHE_CONTROL) {
            // Nearly everything here is true only now.
            field(out, CACHE_CONTROL, "no-store");
        }
        for (name, value) in &self.fields {
            field(out, name, value);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Whether nothing can follow it on its connection, although the client would have more to ask.
    pub fn ends_connection(&self, reply: &ReplyTo) -> bool {
        self.is_stream && !reply.is_head
    }

    /// Whether the status rules out any content, and with it the word about how long it is (RFC 9110, section
    /// 8.6).
    fn is_empty(&self) -> bool {
        matches!(self.status, 204 | 304)
    }
}

/// Appends one header field.
pub(crate) fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn status_line(status: u16) -> Cow<'static, str> {
    Cow::Borrowed(match status {
        200 => "HTTP/1.1 200 OK\r\n",
        201 => "HTTP/1.1 201 Created\r\n",
        202 => "HTTP/1.1 202 Accepted\r\n",
        204 => "HTTP/1.1 204 No Content\r\n",
        304 => "HTTP/1.1 304 Not Modified\r\n",
        400 => "HTTP/1.1 400 Bad Request\r\n",
        403 => "HTTP/1.1 403 Forbidden\r\n",
        404 => "HTTP/1.1 404 Not Found\r\n",
        405 => "HTTP/1.1 405 Method Not Allowed\r\n",
        408 => "HTTP/1.1 408 Request Timeout\r\n",
        409 => "HTTP/1.1 409 Conflict\r\n",
        410 => "HTTP/1.1 410 Gone\r\n",
        413 => "HTTP/1.1 413 Content Too Large\r\n",
        415 => "HTTP/1.1 415 Unsupported Media Type\r\n",
        417 => "HTTP/1.1 417 Expectation Failed\r\n",
        426 => "HTTP/1.1 426 Upgrade Required\r\n",
        429 => "HTTP/1.1 429 Too Many Requests\r\n",
        431 => "HTTP/1.1 431 Request Header Fields Too Large\r\n",
        500 => "HTTP/1.1 500 Internal Server Error\r\n",
        501 => "HTTP/1.1 501 Not Implemented\r\n",
        503 => "HTTP/1.1 503 Service Unavailable\r\n",
        // The reason may be empty, the blank before it not (RFC 9112, section 4).
        other => return Cow::Owned(format!("HTTP/1.1 {other} \r\n")),
    })
}
