//! Answers of an HTTP/1.1 server as its client reads them (RFC 9112): one behind the other on a connection that stays.

use thiserror::Error;

use super::head::{self, has_token};
use crate::http::REFUSED_HEADER;

/// A chunk of more bytes than this is more than anybody's memory.
const MAX_CHUNK_BYTES: u64 = 1 << 60;

/// Digits of a chunk's size, with as many zeros in front as anybody writes.
const MAX_SIZE_DIGITS: u8 = 64;

/// Longest trailer section behind a chunked body.
const MAX_TRAILER_BYTES: u32 = 64 << 10;

/// Takes the bytes of a connection apart into answers.
///
/// What arrives whole is handed on where it is; only what is incomplete is kept, in buffers that stay for the next one.
#[derive(Debug)]
pub struct Responses {
    stage: Stage,
    /// A head that has not arrived whole.
    head: Vec<u8>,
    /// A body that did not arrive in one piece, for [`Responses::next`].
    body: Vec<u8>,
    /// The answer whose body is being read.
    current: Head,
    /// Heads so far, those of interim answers not counted.
    answers: u64,
    max_body_bytes: usize,
    etag: Vec<u8>,
    /// What stands behind the status: the limit that a Switchboard server names, else the reason phrase.
    phrase: Vec<u8>,
    content_type: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    /// So many bytes are still to come.
    Length(u64),
    Chunked(Chunk),
    /// The body ends with the connection.
    UntilEnd,
    /// The body is complete, and that has not been told yet.
    Complete,
}

/// Where in a chunked body one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    Size {
        value: u64,
        digits: u8,
    },
    /// Behind the size, up to the end of the line.
    Extension {
        value: u64,
    },
    Data(u64),
    /// The end of line behind the data.
    DataEnd,
    /// Behind the last chunk: bytes of this line so far, and of all lines.
    Trailer {
        line: u32,
        all: u32,
    },
}

/// What a head says of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// What kind of thing the body is said to be.
    pub content: Content,
    /// The server will close the connection behind this answer.
    pub is_last: bool,
}

/// What a `Content-Type` says, as far as a client here makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// `application/json`
    Json,
    /// `text/event-stream`
    EventStream,
    /// Anything else, or nothing.
    Other,
}

/// A piece of an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'b> {
    /// An answer begins.
    Head(Head),
    /// The next bytes of its body.
    Body(&'b [u8]),
    /// Its body is complete.
    End,
}

/// A whole answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// What its head says.
    pub head: Head,
    /// All of its body.
    pub body: &'a [u8],
}

/// Why a connection's answers cannot be read any further.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ResponseError {
    /// It is not HTTP, or longer than any head should be.
    #[error("the answer is not HTTP: {0}")]
    NotHttp(String),
    /// Its body is longer than is accepted.
    #[error("the answer's body is longer than {0} bytes")]
    TooLong(usize),
    /// A chunked body that is none.
    #[error("the answer's chunks are not well formed")]
    Chunks,
    /// The connection ended within an answer.
    #[error("closed in the middle of an answer")]
    Truncated,
}

impl Responses {
    /// A connection on which nothing has been answered yet.
    pub fn new(max_body_bytes: usize) -> Responses {
        Responses {
            stage: Stage::Head,
            head: Vec::new(),
            body: Vec::new(),
            current: Head { status: 0, content: Content::Other, is_last: false },
            answers: 0,
            max_body_bytes,
            etag: Vec::new(),
            phrase: Vec::new(),
            content_type: Vec::new(),
        }
    }

    /// Takes bytes from the start of `input` until an answer is complete; `None` when `input` is used up. Interim answers (1xx) are
    /// passed over.
    ///
    /// # Errors
    /// What the server did wrong. The connection cannot go on.
    pub fn next<'a, 'b: 'a>(
        &'a mut self,
        input: &mut &'b [u8],
    ) -> Result<Option<Response<'a>>, ResponseError> {
        let mut whole: &'b [u8] = &[];
        loop {
            match self.next_part(input)? {
                None => {
                    self.body.extend_from_slice(whole);
                    return Ok(None);
                }
                Some(Part::Head(head)) if (100..200).contains(&head.status) => {}
                Some(Part::Head(_)) => self.body.clear(),
                Some(Part::Body(piece)) => {
                    if self.body.len() + whole.len() + piece.len() > self.max_body_bytes {
                        return Err(ResponseError::TooLong(self.max_body_bytes));
                    }
                    if self.body.is_empty() && whole.is_empty() {
                        whole = piece;
                    } else {
                        self.body.extend_from_slice(std::mem::take(&mut whole));
                        self.body.extend_from_slice(piece);
                    }
                }
                Some(Part::End) if (100..200).contains(&self.current.status) => {}
                Some(Part::End) => {
                    let body = if self.body.is_empty() { whole } else { &self.body };
                    return Ok(Some(Response { head: self.current, body }));
                }
            }
        }
    }

    /// Takes bytes from the start of `input` as far as one piece of an answer goes; `None` when `input` is used up.
    ///
    /// # Errors
    /// What the server did wrong. The connection cannot go on.
    pub fn next_part<'b>(&mut self, input: &mut &'b [u8]) -> Result<Option<Part<'b>>, ResponseError> {
        loop {
            match self.stage {
                Stage::Head => return Ok(self.next_head(input)?.map(Part::Head)),
                Stage::Complete => {
                    self.stage = Stage::Head;
                    return Ok(Some(Part::End));
                }
                _ if input.is_empty() => return Ok(None),
                Stage::UntilEnd => return Ok(Some(Part::Body(std::mem::take(input)))),
                Stage::Length(left) => {
                    let piece = take(input, left);
                    let left = left - piece.len() as u64;
                    self.stage = if left == 0 { Stage::Complete } else { Stage::Length(left) };
                    return Ok(Some(Part::Body(piece)));
                }
                Stage::Chunked(Chunk::Data(left)) => {
                    let piece = take(input, left);
                    let left = left - piece.len() as u64;
                    self.stage = Stage::Chunked(if left == 0 { Chunk::DataEnd } else { Chunk::Data(left) });
                    return Ok(Some(Part::Body(piece)));
                }
                Stage::Chunked(chunk) => {
                    self.stage = chunk.next(take(input, 1)[0]).ok_or(ResponseError::Chunks)?;
                }
            }
        }
    }

    /// The connection has ended. The last answer, if its body was to end with the connection.
    ///
    /// # Errors
    /// An answer is not complete.
    pub fn end(&mut self) -> Result<Option<Response<'_>>, ResponseError> {
        match std::mem::replace(&mut self.stage, Stage::Head) {
            Stage::UntilEnd => Ok(Some(Response { head: self.current, body: &self.body })),
            Stage::Head if self.head.is_empty() => Ok(None),
            _ => Err(ResponseError::Truncated),
        }
    }

    /// The head of the answer whose body is not complete yet.
    pub fn under_way(&self) -> Option<Head> {
        (self.stage != Stage::Head).then_some(self.current)
    }

    /// The connection has ended: the same as [`Responses::end`], but the last answer is returned by the next call of [`Responses::next`].
    ///
    /// # Errors
    /// An answer is not complete.
    pub fn finish(&mut self) -> Result<(), ResponseError> {
        match self.stage {
            Stage::UntilEnd => {
                self.stage = Stage::Complete;
                Ok(())
            }
            Stage::Head if self.head.is_empty() => Ok(()),
            _ => Err(ResponseError::Truncated),
        }
    }

    /// Whether nothing more need be asked on this connection: the answer that was read last, as far as it has come, says that it ends.
    pub fn is_ending(&self) -> bool {
        self.current.is_last
    }

    /// Whether all that has come are whole answers.
    pub fn is_between(&self) -> bool {
        self.stage == Stage::Head && self.head.is_empty()
    }

    /// Another connection takes the place of this one. Answers are counted on.
    pub fn begin_again(&mut self) {
        self.stage = Stage::Head;
        self.head.clear();
        self.current.is_last = false;
    }

    /// Whether the server closes the connection behind the answer that was read last, and that answer is complete.
    pub fn is_over(&self) -> bool {
        self.stage == Stage::Head && self.current.is_last
    }

    /// Answers that have begun so far.
    pub fn answers(&self) -> u64 {
        self.answers
    }

    /// The `ETag` of the answer whose head was read last; empty if it has none.
    pub fn etag(&self) -> &[u8] {
        &self.etag
    }

    /// What to call the answer that was read last where another was expected: `404 Not Found`, `200 OK (text/html)`.
    pub fn described(&self) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = format!("{} {}", self.current.status, text(&self.phrase));
        match (self.current.status, &*self.content_type) {
            (200, []) => format!("{said} (of no type)"),
            (200, content_type) => format!("{said} ({})", text(content_type)),
            _ => said,
        }
    }

    fn next_head(&mut self, input: &mut &[u8]) -> Result<Option<Head>, ResponseError> {
        if input.is_empty() {
            return Ok(None);
        }
        if self.head.is_empty() {
            let Some(head_bytes) = self.parse_head(input)? else {
                self.head.extend_from_slice(std::mem::take(input));
                return Ok(None);
            };
            *input = &input[head_bytes..];
            return Ok(Some(self.current));
        }
        let mut head = std::mem::take(&mut self.head);
        let before = head.len();
        head.extend_from_slice(input);
        let parsed = self.parse_head(&head);
        let Some(head_bytes) = parsed? else {
            *input = &[];
            self.head = head;
            return Ok(None);
        };
        *input = &input[head_bytes - before..];
        head.clear();
        self.head = head;
        Ok(Some(self.current))
    }

    /// The bytes of a head, of which everything that is needed is taken note.
    fn parse_head(&mut self, bytes: &[u8]) -> Result<Option<usize>, ResponseError> {
        let parsed = head::parse(bytes, |response, head_bytes| self.take_head(response).map(|()| head_bytes));
        parsed.map_err(ResponseError::NotHttp)?.transpose()
    }

    fn take_head(&mut self, response: &httparse::Response<'_, '_>) -> Result<(), ResponseError> {
        let status = response.code.unwrap_or_default();
        if status == 101 {
            let unasked = "101 Switching Protocols to what nobody asked for";
            return Err(ResponseError::NotHttp(unasked.into()));
        }
        let mut head = Head { status, content: Content::Other, is_last: response.version == Some(0) };
        let mut length = None;
        let mut is_chunked = false;
        let (mut content_type, mut etag, mut refused) = (None, None, None);
        for field in response.headers.iter() {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            let value = field.value.trim_ascii();
            // Most names are told apart by their length.
            match field.name.len() {
                4 if is("etag") => etag = Some(value),
                10 if is("connection") && has_token(value, b"close") => head.is_last = true,
                10 if is("connection") && has_token(value, b"keep-alive") => head.is_last = false,
                12 if is("content-type") => {
                    head.content = Content::of(value);
                    content_type = Some(value);
                }
                14 if is("content-length") => {
                    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
                    let number =
                        number.ok_or_else(|| ResponseError::NotHttp("invalid Content-Length".into()))?;
                    if length.is_some_and(|before| before != number) {
                        return Err(ResponseError::NotHttp("two different Content-Lengths".into()));
                    }
                    length = Some(number);
                }
                17 if is("transfer-encoding") => is_chunked = has_token(value, b"chunked"),
                length if length == REFUSED_HEADER.len() && is(REFUSED_HEADER) => refused = Some(value),
                _ => {}
            }
        }
        self.stage = match length {
            _ if status < 200 || status == 204 || status == 304 => Stage::Complete,
            _ if is_chunked => Stage::Chunked(Chunk::Size { value: 0, digits: 0 }),
            Some(0) => Stage::Complete,
            Some(length) => Stage::Length(length),
            None => Stage::UntilEnd,
        };
        head.is_last |= self.stage == Stage::UntilEnd;
        set(&mut self.phrase, refused.unwrap_or(response.reason.unwrap_or_default().as_bytes()));
        set(&mut self.content_type, content_type.unwrap_or_default());
        set(&mut self.etag, etag.unwrap_or_default());
        self.answers += u64::from(status >= 200);
        self.current = head;
        Ok(())
    }
}

impl Chunk {
    /// What follows from the next byte of framing; `None`: it is not allowed here.
    fn next(self, byte: u8) -> Option<Stage> {
        Some(Stage::Chunked(match (self, byte) {
            (Chunk::Size { value, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if digits == MAX_SIZE_DIGITS || value >= MAX_CHUNK_BYTES >> 4 {
                    return None;
                }
                let digit = (byte as char).to_digit(16)?;
                Chunk::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Chunk::Size { digits: 0, .. }, _) => return None,
            (Chunk::Size { value, .. } | Chunk::Extension { value }, b'\n') => match value {
                0 => Chunk::Trailer { line: 0, all: 0 },
                length => Chunk::Data(length),
            },
            (Chunk::Size { value, .. }, b'\r' | b';' | b' ' | b'\t') | (Chunk::Extension { value }, _) => {
                Chunk::Extension { value }
            }
            (Chunk::DataEnd, b'\r') => Chunk::DataEnd,
            (Chunk::DataEnd, b'\n') => Chunk::Size { value: 0, digits: 0 },
            (Chunk::Trailer { line: 0, .. }, b'\n') => return Some(Stage::Complete),
            (Chunk::Trailer { all, .. }, _) if all == MAX_TRAILER_BYTES => return None,
            (Chunk::Trailer { all, .. }, b'\n') => Chunk::Trailer { line: 0, all: all + 1 },
            (Chunk::Trailer { line, all }, b'\r') => Chunk::Trailer { line, all: all + 1 },
            (Chunk::Trailer { line, all }, _) => Chunk::Trailer { line: line + 1, all: all + 1 },
            (Chunk::Size { .. } | Chunk::DataEnd | Chunk::Data(_), _) => return None,
        }))
    }
}

impl Content {
    fn of(value: &[u8]) -> Content {
        let name = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"application/json") {
            Content::Json
        } else if name.eq_ignore_ascii_case(b"text/event-stream") {
            Content::EventStream
        } else {
            Content::Other
        }
    }
}

/// Takes up to `most` bytes from the start of `input`.
fn take<'b>(input: &mut &'b [u8], most: u64) -> &'b [u8] {
    let (piece, rest) = input.split_at(usize::try_from(most).unwrap_or(usize::MAX).min(input.len()));
    *input = rest;
    piece
}

fn set(field: &mut Vec<u8>, value: &[u8]) {
    field.clear();
    field.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All answers in `bytes`, when they arrive `step` bytes at a time.
    fn answers(bytes: &[u8], step: usize) -> Result<Vec<(u16, Vec<u8>)>, ResponseError> {
        let mut responses = Responses::new(100);
        let mut found = Vec::new();
        for mut piece in bytes.chunks(step) {
            while let Some(response) = responses.next(&mut piece)? {
                found.push((response.head.status, response.body.to_vec()));
            }
        }
        if let Some(response) = responses.end()? {
            found.push((response.head.status, response.body.to_vec()));
        }
        Ok(found)
    }

    #[test]
    fn answers_are_the_same_however_their_bytes_arrive() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
            HTTP/1.1 304 Not Modified\r\nETag: \"7\"\r\nContent-Length: 5\r\n\r\n\
            HTTP/1.1 100 Continue\r\n\r\n\
            HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0000000000000000000A\r\n0123456789\r\n0\r\nT: r\r\n\r\n\
            HTTP/1.1 204 No Content\r\n\r\n\
            HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n\
            HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\nto the end";
        let expected: Vec<(u16, Vec<u8>)> =
            [(200, "hello"), (304, ""), (200, "abc0123456789"), (204, ""), (202, ""), (404, "to the end")]
                .map(|(status, body)| (status, body.into()))
                .into();
        for step in [1, 2, 3, 7, 50, 10_000] {
            assert_eq!(answers(bytes, step).as_ref(), Ok(&expected), "{step} bytes at a time");
        }
    }

    #[test]
    fn what_is_wrong_with_an_answer_has_its_name() {
        let chunked = |body: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        for (bytes, error) in [
            ("+PONG\r\n".to_owned(), "the answer is not HTTP: invalid HTTP version"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell".to_owned(),
                "closed in the middle of an answer",
            ),
            ("HTTP/1.1 200 OK\r\nContent-Le".to_owned(), "closed in the middle of an answer"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n".to_owned(),
                "the answer is not HTTP: invalid Content-Length",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(),
                "the answer is not HTTP: two different Content-Lengths",
            ),
            (
                format!("HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n{}", "x".repeat(101)),
                "the answer's body is longer than 100 bytes",
            ),
            (chunked("x\r\n"), "the answer's chunks are not well formed"),
            (chunked("1\r\nab\r\n"), "the answer's chunks are not well formed"),
            (chunked("1234567890123456\r\n"), "the answer's chunks are not well formed"),
            (chunked("0\r\n"), "closed in the middle of an answer"),
            (chunked(&"0".repeat(1000)), "the answer's chunks are not well formed"),
            (
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n".to_owned(),
                "the answer is not HTTP: 101 Switching Protocols to what nobody asked for",
            ),
        ] {
            for step in [1, 1000] {
                assert_eq!(answers(bytes.as_bytes(), step).unwrap_err().to_string(), error);
            }
        }
    }

    #[test]
    fn an_answer_is_described_for_those_who_expected_another() {
        let head = |bytes: &str| {
            let mut responses = Responses::new(100);
            let part = responses.next_part(&mut bytes.as_bytes()).unwrap();
            let Some(Part::Head(head)) = part else { panic!("{part:?}") };
            (head, responses.described(), responses.etag().to_owned())
        };
        let (seen, described, etag) = head(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nETag: \"a\"\r\nContent-Length: 1\r\n\r\n",
        );
        assert_eq!((seen.content, seen.is_last, &*etag), (Content::Other, false, &b"\"a\""[..]));
        assert_eq!(described, "200 OK (text/html; charset=utf-8)");
        let (seen, ..) = head("HTTP/1.1 200 OK\r\n\r\n");
        assert!(seen.is_last, "nothing but the end of the connection says where its body ends");
        let (seen, described, _) = head(
            "HTTP/1.1 503 Service Unavailable\r\nSwitchboard-Refused: FD_SETSIZE\r\nConnection: Close\r\n\r\n",
        );
        assert_eq!((seen.is_last, &*described), (true, "503 FD_SETSIZE"));
        let (seen, _, etag) = head("HTTP/1.0 200 OK\r\nContent-Type: Application/JSON;charset=utf-8\r\n\r\n");
        assert_eq!((seen.content, seen.is_last, &*etag), (Content::Json, true, &b""[..]));
        let (seen, ..) = head("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
        assert_eq!(seen.content, Content::EventStream);
    }
}
