use std::mem::MaybeUninit;

use bytes::Bytes;

use super::answer::{Answer, ReplyTo};
use super::body::Framing;
use super::fields::{self, Fields, Name};
use super::handshake::Handshake;
use super::query::Query;
use super::target::{Target, check_host};
use super::{MAX_HEAD_BYTES, MAX_HEADERS, etag};

/// What a client asks for.
#[derive(Debug)]
pub struct Request {
    /// What is to be done.
    pub method: Method,
    /// To what, without percent-encoding. `*`, the server as a whole, only with OPTIONS.
    pub path: String,
    /// Parameters behind the path.
    pub query: Query,
    /// Not HTTP/1.0, which knows neither chunks nor upgrades.
    pub is_http_11: bool,
    /// The client would send further requests on this connection.
    pub keep_alive: bool,
    /// The site of the page that sent this, if a page did.
    pub origin: Option<String>,
    /// Tags of answers that the client has already.
    pub if_none_match: Option<String>,
    /// Up to where a client has seen an event stream.
    pub last_event_id: Option<String>,
    /// What the body is.
    pub content_type: Option<String>,
    /// Whom the client believes to be talking to: host and port.
    pub host: Option<String>,
    /// A browser asks whether a page of another site may send something.
    pub preflight: Option<Preflight>,
    /// Whether the connection is to become a WebSocket.
    pub upgrade: Upgrade,
    /// Content, without the chunks in which it may have come.
    pub body: Bytes,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    #[expect(missing_docs)]
    Get,
    #[expect(missing_docs)]
    Head,
    #[expect(missing_docs)]
    Post,
    #[expect(missing_docs)]
    Options,
    /// Whatever else is a token. Methods are case-sensitive: `get` is one of these.
    Other(String),
}

/// The question that a browser asks before a page's request to another site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preflight {
    /// The method of the request that is to follow.
    pub method: String,
    /// Its header fields.
    pub headers: Option<String>,
}

/// What a request says about WebSocket (RFC 6455, section 4.2.1).
#[derive(Debug)]
pub enum Upgrade {
    /// Nothing.
    None,
    /// It asks for one, and may have it.
    WebSocket(Handshake),
    /// It asks for one in a way that gets this answer.
    Refused(Box<Answer>),
}

impl Request {
    /// Whether the client has the answer with this tag already and may be told 304.
    pub fn has(&self, etag: &str) -> bool {
        self.if_none_match.as_deref().is_some_and(|tags| etag::matches(tags, etag))
    }

    fn new(request: &httparse::Request<'_, '_>, fields: Fields<'_>) -> Result<Request, Answer> {
        let is_http_11 = request.version == Some(1);
        let host = fields.only(Name::Host)?;
        match host {
            // RFC 9112, section 3.2.
            None if is_http_11 => return Err(Answer::bad_request("HTTP/1.1 requires a Host header")),
            Some(host) => check_host(host)?,
            None => {}
        }
        let method = Method::new(request.method.unwrap_or_default());
        let target = Target::parse(request.path.unwrap_or_default(), method == Method::Options)?;
        let host = match target.authority {
            Some(authority) => Some(authority.to_owned()),
            None => host.map(fields::text),
        };
        let origin = fields.text(Name::Origin)?;
        let preflight = match fields.text(Name::RequestedMethod)? {
            Some(asked) if method == Method::Options && origin.is_some() => {
                Some(Preflight { method: asked, headers: fields.joined(Name::RequestedHeaders) })
            }
            _ => None,
        };
        Ok(Request {
            path: target.path,
            query: target.query,
            is_http_11,
            // RFC 9112, section 9.3.
            keep_alive: !fields.has_token(Name::Connection, "close")
                && (is_http_11 || fields.has_token(Name::Connection, "keep-alive")),
            origin,
            if_none_match: fields.joined(Name::IfNoneMatch),
            last_event_id: fields.text(Name::LastEventId)?,
            content_type: fields.text(Name::ContentType)?,
            host,
            preflight,
            // An upgrade asked for in HTTP/1.0 must be ignored (RFC 9110, section 7.8).
            upgrade: if is_http_11 && method == Method::Get { upgrade(fields) } else { Upgrade::None },
            method,
            body: Bytes::new(),
        })
    }
}

impl Method {
    fn new(method: &str) -> Method {
        match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "OPTIONS" => Method::Options,
            other => Method::Other(other.to_owned()),
        }
    }

    /// As it stands in a request.
    pub fn as_str(&self) -> &str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Options => "OPTIONS",
            Method::Other(method) => method,
        }
    }
}

/// A request whose head is read and whose body may still have to come.
pub(super) struct Head {
    pub(super) request: Request,
    pub(super) framing: Framing,
    /// The client would like to hear that its body is welcome before it sends it.
    pub(super) expects_continue: bool,
}

/// Reads a head from the start of `input`; returns it with its length, or nothing if it is not finished.
pub(super) fn read(input: &[u8]) -> Result<Option<(Head, usize)>, (Answer, ReplyTo)> {
    // Not initialized, since three kilobytes of it would cost more than reading a short head does.
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    // What stands behind the limit is not looked at: the answer must not depend on how much came in one read.
    let head = &input[..input.len().min(MAX_HEAD_BYTES)];
    let answer = match request.parse_with_uninit_headers(head, &mut lines) {
        Ok(httparse::Status::Complete(head_bytes)) => {
            // The answer to HEAD is a head, whatever the answer (RFC 9110, section 9.3.2).
            let reply = ReplyTo { is_head: request.method == Some("HEAD"), ..ReplyTo::default() };
            return match understand(&request) {
                Ok(head) => Ok(Some((head, head_bytes))),
                Err(answer) => Err((answer, reply)),
            };
        }
        Ok(httparse::Status::Partial) if input.len() <= MAX_HEAD_BYTES => return Ok(None),
        Ok(httparse::Status::Partial) => {
            Answer::new(431, format!("The request head is longer than {MAX_HEAD_BYTES} bytes.\n"))
        }
        Err(httparse::Error::TooManyHeaders) => {
            Answer::new(431, format!("The request has more than {MAX_HEADERS} header lines.\n"))
        }
        Err(error) => Answer::bad_request(&format!("malformed HTTP: {error}")),
    };
    Err((answer, ReplyTo::default()))
}

fn understand(request: &httparse::Request<'_, '_>) -> Result<Head, Answer> {
    let fields = Fields::new(request.headers);
    let request = Request::new(request, fields)?;
    let framing = framing(fields, request.is_http_11)?;
    if framing != Framing::None && !matches!(request.upgrade, Upgrade::None) {
        return Err(Answer::bad_request("a request to upgrade has no body"));
    }
    // HTTP/1.0 has no expectations (RFC 9110, section 10.1.1).
    let expects = request.is_http_11 && fields.has(Name::Expect);
    if expects && fields.list(Name::Expect).any(|item| !item.eq_ignore_ascii_case(b"100-continue")) {
        return Err(Answer::new(417, "The only expectation that is met here is 100-continue.\n"));
    }
    Ok(Head { request, framing, expects_continue: expects })
}

/// Where the body ends. Two lengths that contradict each other are how requests are smuggled (RFC 9112,
/// section 6.3), so whatever is not perfectly clear ends the connection.
fn framing(fields: Fields<'_>, is_http_11: bool) -> Result<Framing, Answer> {
    let length = fields.only(Name::ContentLength)?;
    if fields.has(Name::TransferEncoding) {
        if length.is_some() {
            return Err(Answer::bad_request("both Content-Length and Transfer-Encoding"));
        }
        if !is_http_11 {
            return Err(Answer::bad_request("HTTP/1.0 has no Transfer-Encoding"));
        }
        let mut codings = fields.list(Name::TransferEncoding);
        return match (codings.next(), codings.next()) {
            (Some(only), None) if only.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
            (None, _) => Err(Answer::bad_request("Transfer-Encoding is empty")),
            _ => Err(Answer::new(501, "The only transfer coding that is understood here is chunked.\n")),
        };
    }
    match length {
        None => Ok(Framing::None),
        Some([]) => Err(Answer::bad_request("Content-Length is not a number")),
        Some(digits) => {
            let mut length = 0_usize;
            for digit in digits {
                if !digit.is_ascii_digit() {
                    return Err(Answer::bad_request("Content-Length is not a number"));
                }
                // What is longer than memory is above every limit.
                length = length.saturating_mul(10).saturating_add((digit - b'0').into());
            }
            Ok(if length == 0 { Framing::None } else { Framing::Length(length) })
        }
    }
}

fn upgrade(fields: Fields<'_>) -> Upgrade {
    if !fields.has_token(Name::Upgrade, "websocket") || !fields.has_token(Name::Connection, "upgrade") {
        return Upgrade::None;
    }
    match Handshake::read(fields) {
        Ok(handshake) => Upgrade::WebSocket(handshake),
        Err(answer) => Upgrade::Refused(Box::new(answer)),
    }
}
