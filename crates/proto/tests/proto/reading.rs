//! A `Reader` and the pieces in which a test hands it what a client sent.

use switchboard_proto::CorsOrigins;
use switchboard_proto::http::{Answer, Next, Reader, ReplyTo, Request, Rules, Upgrade};

/// Longest body in these tests, unless a path says otherwise.
pub(crate) const MAX_BODY_BYTES: usize = 1000;

/// All that a reader made of a connection.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) requests: Vec<Request>,
    pub(crate) refused: Option<(Answer, ReplyTo)>,
    pub(crate) interim: Vec<u8>,
    /// Nothing of a further request has arrived.
    pub(crate) is_idle: bool,
    /// What stands behind a request to upgrade.
    pub(crate) left: Vec<u8>,
}

impl Read {
    /// The only thing that was found, if it is a request.
    pub(crate) fn request(mut self) -> Request {
        assert!(self.requests.len() == 1 && self.refused.is_none(), "{self:?}");
        self.requests.remove(0)
    }

    /// The status of the refusal that ends the connection.
    pub(crate) fn refusal(&self) -> u16 {
        let (answer, reply) = self.refused.as_ref().unwrap_or_else(|| panic!("not refused: {self:?}"));
        assert!(!reply.keep_alive);
        answer.status()
    }

    /// All of it except for the interim answer, which depends on what has arrived when.
    pub(crate) fn told(&self) -> String {
        format!("{:?} {:?} {} {:?}", self.requests, self.refused, self.is_idle, self.left)
    }
}

/// Reads what comes in `pieces` until the connection ends or is upgraded.
pub(crate) fn read_pieces(pieces: &[&[u8]]) -> Read {
    let max_body = |request: &Request| if request.path == "/large" { 1 << 30 } else { MAX_BODY_BYTES };
    let rules = Rules { origins: &CorsOrigins::List(vec!["http://a".into()]), max_body: &max_body };
    let mut reader = Reader::default();
    let mut read = Read::default();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        while read.refused.is_none() {
            if let Some(Request { upgrade: Upgrade::WebSocket { .. }, .. }) = read.requests.last() {
                read.left.extend_from_slice(input);
                break;
            }
            match reader.next(&mut input, &rules, &mut read.interim) {
                Next::Incomplete => {
                    assert!(input.is_empty(), "incomplete, with input left");
                    break;
                }
                Next::Request(request) => {
                    assert!(reader.is_idle(), "a request is whole, and another has not begun");
                    read.requests.push(request);
                }
                Next::Refused(answer, reply) => read.refused = Some((answer, reply)),
            }
        }
    }
    // What is left of a refused connection says nothing.
    read.is_idle = read.refused.is_some() || reader.is_idle();
    read
}

/// Reads `bytes` at once, and byte by byte, and in two pieces cut anywhere: the same must be found.
pub(crate) fn read(bytes: impl AsRef<[u8]>) -> Read {
    let bytes = bytes.as_ref();
    let at_once = read_pieces(&[bytes]);
    let byte_by_byte: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read_pieces(&byte_by_byte).told(), at_once.told(), "byte by byte");
    // Longer ones are cut at random places elsewhere.
    if bytes.len() < 1000 {
        for cut in 0..=bytes.len() {
            let in_two = read_pieces(&[&bytes[..cut], &bytes[cut..]]);
            assert_eq!(in_two.told(), at_once.told(), "cut at {cut}");
        }
    }
    at_once
}

/// An answer as `reply` wants it.
pub(crate) fn encode(answer: &Answer, reply: &ReplyTo) -> String {
    let mut out = Vec::new();
    answer.encode(reply, &mut out);
    String::from_utf8(out).expect("text")
}
