//! A `text/event-stream` as its client reads it (HTML Living Standard, 9.2.6).

use memchr::memchr2;

/// What may stand in front of a stream and is no part of it.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Takes a stream apart into events. An event that arrives whole is read where it is.
#[derive(Debug)]
pub struct EventStream {
    /// An event that has not arrived whole.
    partial: Vec<u8>,
    /// Bytes at the start of `partial` that were handed out.
    used: usize,
    /// The data of an event that has several lines of it.
    data: Vec<u8>,
    /// The last byte was CR: an LF that follows it ends the same line.
    is_after_return: bool,
    /// Bytes of a byte order mark that have come, at the start of the stream; `None` behind that.
    mark: Option<usize>,
    /// What the last `retry` said.
    retry_ms: Option<u64>,
    max_event_bytes: usize,
}

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerEvent<'a> {
    /// Its id, if it has one of its own.
    pub id: Option<&'a [u8]>,
    /// Its name; `message` if it has none.
    pub name: &'a [u8],
    /// Its data, lines separated by LF.
    pub data: &'a [u8],
}

/// An event is longer than is accepted, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {0} bytes")]
pub struct EventTooLong(usize);

/// What stands in the lines of one event.
#[derive(Default)]
struct Fields<'a> {
    id: Option<&'a [u8]>,
    name: &'a [u8],
    data: Option<&'a [u8]>,
    /// The data stands in [`EventStream::data`], since there were several lines.
    is_joined: bool,
}

impl EventStream {
    /// A stream of which nothing has come yet.
    pub fn new(max_event_bytes: usize) -> EventStream {
        EventStream {
            partial: Vec::new(),
            used: 0,
            data: Vec::new(),
            is_after_return: false,
            mark: Some(0),
            retry_ms: None,
            max_event_bytes,
        }
    }

    /// How long the server wants those to wait who have lost the stream, in milliseconds; `None` if it has not said so.
    pub fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    /// Takes bytes from the start of `input` until an event is complete; `None` when `input` is used up.
    ///
    /// # Errors
    /// An event is too long. The stream cannot go on.
    pub fn next<'a, 'b: 'a>(
        &'a mut self,
        input: &mut &'b [u8],
    ) -> Result<Option<ServerEvent<'a>>, EventTooLong> {
        if let Some(seen) = self.mark {
            self.skip_mark(input, seen);
        }
        if !input.is_empty() && std::mem::take(&mut self.is_after_return) {
            *input = input.strip_prefix(b"\n").unwrap_or(input);
        }
        if self.used > 0 {
            self.partial.drain(..std::mem::take(&mut self.used));
        }
        if self.partial.is_empty() {
            let found = event(input, &mut self.data, &mut self.is_after_return, &mut self.retry_ms);
            let Some(fields) = found else {
                self.partial.extend_from_slice(std::mem::take(input));
                return self.check_length();
            };
            return Ok(Some(fields.event(&self.data)));
        }
        self.partial.extend_from_slice(std::mem::take(input));
        let mut rest = &*self.partial;
        let found = event(&mut rest, &mut self.data, &mut self.is_after_return, &mut self.retry_ms);
        self.used = self.partial.len() - rest.len();
        match found {
            Some(fields) => Ok(Some(fields.event(&self.data))),
            None => self.check_length(),
        }
    }

    /// Leaves out a byte order mark at the start, of which `seen` bytes have come.
    fn skip_mark(&mut self, input: &mut &[u8], seen: usize) {
        let expected = &BYTE_ORDER_MARK[seen..];
        let same = input.iter().zip(expected).take_while(|(byte, mark)| byte == mark).count();
        *input = &input[same..];
        self.mark = match seen + same {
            // What is left says whether it is one.
            more if input.is_empty() && more < BYTE_ORDER_MARK.len() => Some(more),
            whole if whole == BYTE_ORDER_MARK.len() => None,
            part => {
                self.partial.extend_from_slice(&BYTE_ORDER_MARK[..part]);
                None
            }
        };
    }

    fn check_length(&self) -> Result<Option<ServerEvent<'_>>, EventTooLong> {
        match self.partial.len() - self.used > self.max_event_bytes {
            true => Err(EventTooLong(self.max_event_bytes)),
            false => Ok(None),
        }
    }
}

/// The next event with data, and `input` behind it. Comments and events without data are passed over.
fn event<'a>(
    input: &mut &'a [u8],
    joined: &mut Vec<u8>,
    is_after_return: &mut bool,
    retry_ms: &mut Option<u64>,
) -> Option<Fields<'a>> {
    let mut rest = *input;
    let mut fields = Fields::default();
    loop {
        let line = line(&mut rest)?;
        if line.is_empty() {
            *is_after_return = rest.is_empty() && input.ends_with(b"\r");
            *input = rest;
            if fields.data.is_some() {
                return Some(fields);
            }
            fields = Fields::default();
            continue;
        }
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => {
                (&line[..colon], line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..]))
            }
            None => (line, &b""[..]),
        };
        match name {
            b"data" => match fields.data {
                None => fields.data = Some(value),
                Some(before) => {
                    if !std::mem::replace(&mut fields.is_joined, true) {
                        joined.clear();
                        joined.extend_from_slice(before);
                    }
                    joined.push(b'\n');
                    joined.extend_from_slice(value);
                }
            },
            b"event" => fields.name = value,
            b"id" if !value.contains(&0) => fields.id = Some(value),
            b"retry" if value.iter().all(u8::is_ascii_digit) => {
                *retry_ms = str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).or(*retry_ms);
            }
            // A comment, or what nobody knows.
            _ => {}
        }
    }
}

impl<'a> Fields<'a> {
    fn event(self, joined: &'a [u8]) -> ServerEvent<'a> {
        let data = if self.is_joined { joined } else { self.data.unwrap_or_default() };
        let name = if self.name.is_empty() { &b"message"[..] } else { self.name };
        ServerEvent { id: self.id, name, data }
    }
}

/// The next line without its end: CR, LF or both.
fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = memchr2(b'\r', b'\n', rest)?;
    let (line, behind) = rest.split_at(end);
    *rest = behind.strip_prefix(b"\r\n").unwrap_or(&behind[1..]);
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Owned = (Option<String>, String, String);

    fn events(text: &str, step: usize) -> Vec<Owned> {
        let mut stream = EventStream::new(1000);
        let mut found = Vec::new();
        for mut piece in text.as_bytes().chunks(step) {
            while let Some(ServerEvent { id, name, data }) = stream.next(&mut piece).unwrap() {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                found.push((id.map(text), text(name), text(data)));
            }
        }
        found
    }

    #[test]
    fn events_are_the_same_however_their_bytes_arrive_and_lines_end() {
        let text = "retry: 1000\n\n: heartbeat\n\nid: 1\ndata: one\n\nevent: gap\nid: 2\ndata:two\ndata:  three\n\n\
            event: empty\n\ndata\n\nunknown: x\ndata: a:b\n\ndata: not ended\n";
        let event = |id: Option<&str>, name: &str, data: &str| -> Owned {
            (id.map(str::to_owned), name.to_owned(), data.to_owned())
        };
        let expected = [
            event(Some("1"), "message", "one"),
            event(Some("2"), "gap", "two\n three"),
            event(None, "message", ""),
            event(None, "message", "a:b"),
        ];
        for end in ["\n", "\r\n", "\r"] {
            let text = text.replace('\n', end);
            for step in [1, 2, 3, 5, 17, 1000] {
                assert_eq!(events(&text, step), expected, "{end:?}, {step} bytes at a time");
            }
        }
    }

    #[test]
    fn one_byte_order_mark_at_the_start_is_no_part_of_the_stream() {
        for step in [1, 2, 3, 4, 1000] {
            let event = (None, "message".to_owned(), "one".to_owned());
            assert_eq!(events("\u{feff}data: one\n\n", step), [event.clone()], "{step} bytes at a time");
            assert_eq!(events("\u{feff}\n\ndata: one\n\n", step), [event], "{step} bytes at a time");
            // A second one is part of a name that nobody knows, as one elsewhere is.
            assert_eq!(events("\u{feff}\u{feff}data: one\n\n", step), []);
            assert_eq!(events("\n\u{feff}data: one\n\n", step), []);
            assert_eq!(events("data: one\n\n\u{feff}data: one\n\n", step).len(), 1);
        }
    }

    #[test]
    fn the_stream_says_how_long_to_wait_before_coming_again() {
        for step in [1, 4, 1000] {
            let mut stream = EventStream::new(1000);
            let mut retries = Vec::new();
            for text in
                ["data: x\n\n", "retry: 1000\n\n", "retry: soon\nretry:\n\n", "retry:20\r\ndata: y\r\n\r\n"]
            {
                for mut piece in text.as_bytes().chunks(step) {
                    while stream.next(&mut piece).unwrap().is_some() {}
                }
                retries.push(stream.retry_ms());
            }
            assert_eq!(retries, [None, Some(1000), Some(1000), Some(20)], "{step} bytes at a time");
        }
    }

    #[test]
    fn an_event_without_end_is_given_up() {
        let mut stream = EventStream::new(1000);
        let long = vec![b'x'; 1001];
        assert_eq!(stream.next(&mut &*long), Err(EventTooLong(1000)));
    }
}
