use super::answer::{Answer, ReplyTo};
use super::body::{Body, Framing};
use super::request::{Head, Request};
use super::{MAX_HEAD_BYTES, request};
use crate::CorsOrigins;

/// Reads the requests of one connection, one after the other.
///
/// A request that arrives whole is read where it lies. Only what is incomplete is kept: between two requests
/// a reader owns no buffer.
#[derive(Debug, Default)]
pub struct Reader {
    partial: Option<Box<Partial>>,
}

/// What has arrived of a request that is not whole.
#[derive(Debug)]
enum Partial {
    Head(Vec<u8>),
    Body(Box<Request>, Body, Taken),
}

/// Bytes that came for a body, and how many had come when that was last asked.
#[derive(Debug, Default)]
struct Taken {
    head: usize,
    bytes: u64,
    looked: u64,
}

/// What [`Reader::next`] found.
#[derive(Debug)]
pub enum Next {
    /// Everything was taken, and a request is still to come or to end.
    Incomplete,
    /// A request with its body. What stands behind it is left in the input.
    Request(Request),
    /// No request can follow on this connection: this is its last answer. What is left in the input is to be
    /// discarded.
    Refused(Answer, ReplyTo),
}

/// What a server makes requests keep to.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// Who may read answers to requests that came from another site's pages.
    pub origins: &'a CorsOrigins,
    /// Longest body of the request with this head. Asked only if it has a body, before any of that is kept.
    pub max_body: &'a dyn Fn(&Request) -> usize,
}

impl Reader {
    /// Whether nothing of a request has arrived since the last one.
    pub fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// The request whose head has arrived and whose body has not ended.
    pub fn begun(&self) -> Option<&Request> {
        match self.partial.as_deref() {
            Some(Partial::Body(request, ..)) => Some(request),
            _ => None,
        }
    }

    /// Bytes that are set aside for what is not whole.
    pub fn held_bytes(&self) -> usize {
        match self.partial.as_deref() {
            None => 0,
            Some(Partial::Head(received)) => received.capacity(),
            // What is kept of a head is at most about as long as it was.
            Some(Partial::Body(_, body, taken)) => taken.head + body.capacity(),
        }
    }

    /// Whether at least so many bytes have come for the body of a request since this was last asked. False if no body is being received.
    pub fn has_taken(&mut self, bytes: u64) -> bool {
        let Some(Partial::Body(_, _, taken)) = self.partial.as_deref_mut() else { return false };
        let before = std::mem::replace(&mut taken.looked, taken.bytes);
        taken.bytes - before >= bytes
    }

    /// Takes bytes from the start of `input` until a request is whole.
    ///
    /// `interim` gets `100 Continue` when the client waits for that before it sends the body.
    pub fn next(&mut self, input: &mut &mut [u8], rules: &Rules<'_>, interim: &mut Vec<u8>) -> Next {
        match self.partial.as_deref_mut() {
            None => self.begin(input, rules, interim),
            Some(Partial::Head(_)) => self.continue_head(input, rules, interim),
            Some(Partial::Body(..)) => self.continue_body(input, rules),
        }
    }

    fn begin(&mut self, input: &mut &mut [u8], rules: &Rules<'_>, interim: &mut Vec<u8>) -> Next {
        // Some clients send an empty line too much behind a body (RFC 9112, section 2.2).
        while let [b'\n', ..] | [b'\r', b'\n', ..] = input {
            take(input, if input[0] == b'\n' { 1 } else { 2 });
        }
        if input.is_empty() {
            return Next::Incomplete;
        }
        match request::read(input) {
            Ok(Some((head, head_bytes))) => {
                take(input, head_bytes);
                self.begin_body(head, head_bytes, input, rules, interim)
            }
            Ok(None) => {
                let received = take(input, input.len());
                self.partial = Some(Box::new(Partial::Head(received.to_vec())));
                Next::Incomplete
            }
            Err((answer, reply)) => Next::Refused(answer, reply),
        }
    }

    fn continue_head(&mut self, input: &mut &mut [u8], rules: &Rules<'_>, interim: &mut Vec<u8>) -> Next {
        let Some(Partial::Head(received)) = self.partial.as_deref_mut() else { return Next::Incomplete };
        if received == b"\r" && input.first() == Some(&b'\n') {
            // It was an empty line after all, and does not count.
            take(input, 1);
            self.partial = None;
            return self.begin(input, rules, interim);
        }
        let before = received.len();
        // One byte more than the limit shows that it is exceeded.
        let additional = input.len().min(MAX_HEAD_BYTES + 1 - before);
        received.extend_from_slice(&input[..additional]);
        // Only a line's end can finish a head: a head that comes byte by byte is not parsed at every byte.
        let is_worth_reading =
            memchr::memchr(b'\n', &received[before..]).is_some() || received.len() > MAX_HEAD_BYTES;
        match if is_worth_reading { request::read(received) } else { Ok(None) } {
            Ok(Some((head, head_bytes))) => {
                self.partial = None;
                take(input, head_bytes - before);
                self.begin_body(head, head_bytes, input, rules, interim)
            }
            Ok(None) => {
                take(input, additional);
                Next::Incomplete
            }
            Err((answer, reply)) => Next::Refused(answer, reply),
        }
    }

    /// The head is whole and taken; the body begins at the start of `input`.
    fn begin_body(
        &mut self,
        head: Head,
        head_bytes: usize,
        input: &mut &mut [u8],
        rules: &Rules<'_>,
        interim: &mut Vec<u8>,
    ) -> Next {
        let Head { request, framing, expects_continue } = head;
        if framing == Framing::None {
            return Next::Request(request);
        }
        let body = match Body::begin(framing, (rules.max_body)(&request)) {
            Ok(body) => body,
            Err(answer) => return refused(answer, &request, rules),
        };
        // Whoever sends its body anyway waits for nothing (RFC 9110, section 10.1.1).
        if expects_continue && input.is_empty() {
            interim.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let taken = Taken { head: head_bytes, ..Taken::default() };
        self.receive_body(request, body, taken, input, rules)
    }

    fn continue_body(&mut self, input: &mut &mut [u8], rules: &Rules<'_>) -> Next {
        let Some(Partial::Body(_, body, taken)) = self.partial.as_deref_mut() else {
            return Next::Incomplete;
        };
        let before = input.len();
        let received = body.receive(input);
        taken.bytes += (before - input.len()) as u64;
        if let Ok(None) = received {
            return Next::Incomplete;
        }
        let Some(Partial::Body(mut request, ..)) = self.partial.take().map(|partial| *partial) else {
            return Next::Incomplete;
        };
        match received {
            Ok(body) => {
                request.body = body.unwrap_or_default();
                Next::Request(*request)
            }
            Err(answer) => refused(answer, &request, rules),
        }
    }

    fn receive_body(
        &mut self,
        mut request: Request,
        mut body: Body,
        taken: Taken,
        input: &mut &mut [u8],
        rules: &Rules<'_>,
    ) -> Next {
        match body.receive(input) {
            Ok(Some(body)) => {
                request.body = body;
                Next::Request(request)
            }
            Ok(None) => {
                self.partial = Some(Box::new(Partial::Body(Box::new(request), body, taken)));
                Next::Incomplete
            }
            Err(answer) => refused(answer, &request, rules),
        }
    }
}

/// Where a body cannot be read to its end, nobody knows where the next request begins.
fn refused(answer: Answer, request: &Request, rules: &Rules<'_>) -> Next {
    Next::Refused(answer, ReplyTo { keep_alive: false, ..ReplyTo::new(request, rules.origins) })
}

/// Takes the first `length` bytes out of `input`.
pub(super) fn take<'i>(input: &mut &'i mut [u8], length: usize) -> &'i mut [u8] {
    let (taken, rest) = std::mem::take(input).split_at_mut(length);
    *input = rest;
    taken
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::body::TRUSTED_BYTES;
    use super::*;

    /// Hands over `pieces`; returns the most that was kept, beside what had arrived by then.
    fn receive(pieces: &[&[u8]], max_body_bytes: usize) -> Vec<(usize, usize)> {
        let rules = Rules { origins: &CorsOrigins::Any, max_body: &|_| max_body_bytes };
        let (mut reader, mut interim, mut arrived) = (Reader::default(), Vec::new(), 0);
        let mut kept = Vec::new();
        for piece in pieces {
            arrived += piece.len();
            let mut piece = piece.to_vec();
            let mut input = &mut piece[..];
            loop {
                match reader.next(&mut input, &rules, &mut interim) {
                    Next::Request(_) => {}
                    Next::Incomplete => break,
                    Next::Refused(..) => return kept,
                }
            }
            kept.push((reader.held_bytes(), arrived));
        }
        kept
    }

    #[test]
    fn a_length_alone_sets_little_memory_aside() {
        let head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1073741824\r\n\r\n";
        let part = vec![b'x'; 1 << 20];
        let kept = receive(&[head.as_bytes(), b"x", &part, &part, &part], 1 << 30);
        assert_eq!(kept[0].0, head.len());
        assert_eq!(kept[1].0, head.len() + TRUSTED_BYTES);
        assert!(kept.iter().all(|(kept, arrived)| *kept <= 2 * arrived + TRUSTED_BYTES), "{kept:?}");
        // A body that is short takes what it is long, and no more.
        let head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n";
        assert_eq!(receive(&[head.as_bytes(), b"x"], 1000)[1].0, head.len() + 1000);
    }

    proptest! {
        #[test]
        fn what_is_kept_is_bounded_by_what_arrived(
            head in prop_oneof![
                Just("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()),
                (0..1_usize << 30).prop_map(|n| format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {n}\r\n\r\n")),
                Just("GET / HTTP/1.1\r\nHost: h\r\nX: ".to_owned()),
                "[ -~\r\n]{0,40}",
            ],
            chunks in vec((0..20_000_usize, any::<u8>()), 0..20),
        ) {
            let chunks: Vec<Vec<u8>> = chunks
                .into_iter()
                .map(|(n, byte)| [format!("{n:x}\r\n").as_bytes(), &vec![byte; n], b"\r\n"].concat())
                .collect();
            let pieces: Vec<&[u8]> =
                std::iter::once(head.as_bytes()).chain(chunks.iter().map(|chunk| &chunk[..])).collect();
            for (kept, arrived) in receive(&pieces, 1 << 30) {
                prop_assert!(kept <= 2 * arrived + TRUSTED_BYTES, "{kept} of {arrived}");
            }
        }
    }
}
