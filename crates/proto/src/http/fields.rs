use super::MAX_HEADERS;
use super::answer::Answer;

/// The header fields of a request. Their names are compared once, whatever is asked for later: comparing
/// again was a quarter of the time that a browser's request took.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    lines: &'a [httparse::Header<'a>],
    /// Where each [`Name`] stands first.
    first: [u8; NAMES],
    /// A bit for each name that stands there again.
    repeated: u16,
}

/// In `first`: nowhere.
const ABSENT: u8 = u8::MAX;

const _: () = assert!(MAX_HEADERS < ABSENT as usize);

/// The fields that mean something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Connection,
    ContentLength,
    ContentType,
    Expect,
    Host,
    IfNoneMatch,
    LastEventId,
    Origin,
    RequestedHeaders,
    RequestedMethod,
    TransferEncoding,
    Upgrade,
    WebSocketKey,
    WebSocketProtocol,
    WebSocketVersion,
}

const NAMES: usize = Name::WebSocketVersion as usize + 1;

impl Name {
    fn as_str(self) -> &'static str {
        match self {
            Name::Connection => "Connection",
            Name::ContentLength => "Content-Length",
            Name::ContentType => "Content-Type",
            Name::Expect => "Expect",
            Name::Host => "Host",
            Name::IfNoneMatch => "If-None-Match",
            Name::LastEventId => "Last-Event-ID",
            Name::Origin => "Origin",
            Name::RequestedHeaders => "Access-Control-Request-Headers",
            Name::RequestedMethod => "Access-Control-Request-Method",
            Name::TransferEncoding => "Transfer-Encoding",
            Name::Upgrade => "Upgrade",
            Name::WebSocketKey => "Sec-WebSocket-Key",
            Name::WebSocketProtocol => "Sec-WebSocket-Protocol",
            Name::WebSocketVersion => "Sec-WebSocket-Version",
        }
    }

    /// The length rules out all but one or two: a browser sends a dozen fields, and most mean nothing here.
    fn of(name: &str) -> Option<Name> {
        let candidates: &[Name] = match name.len() {
            4 => &[Name::Host],
            6 => &[Name::Expect, Name::Origin],
            7 => &[Name::Upgrade],
            10 => &[Name::Connection],
            12 => &[Name::ContentType],
            13 => &[Name::IfNoneMatch, Name::LastEventId],
            14 => &[Name::ContentLength],
            17 => &[Name::TransferEncoding, Name::WebSocketKey],
            21 => &[Name::WebSocketVersion],
            22 => &[Name::WebSocketProtocol],
            29 => &[Name::RequestedMethod],
            30 => &[Name::RequestedHeaders],
            _ => &[],
        };
        candidates.iter().copied().find(|candidate| candidate.as_str().eq_ignore_ascii_case(name))
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl<'a> Fields<'a> {
    pub(super) fn new(lines: &'a [httparse::Header<'a>]) -> Fields<'a> {
        let (mut first, mut repeated) = ([ABSENT; NAMES], 0);
        for (at, line) in lines.iter().enumerate() {
            let Some(name) = Name::of(line.name) else { continue };
            match &mut first[name as usize] {
                place if *place == ABSENT => *place = at as u8,
                _ => repeated |= name.bit(),
            }
        }
        Fields { lines, first, repeated }
    }

    pub(super) fn has(self, name: Name) -> bool {
        self.first[name as usize] != ABSENT
    }

    /// The values of all lines of this name, in order.
    pub(super) fn all(self, name: Name) -> impl Iterator<Item = &'a [u8]> {
        let first = usize::from(self.first[name as usize]);
        let (first, behind) = match self.lines.get(first..).and_then(<[_]>::split_first) {
            Some((first, behind)) if self.repeated & name.bit() != 0 => (Some(first), behind),
            Some((first, _)) => (Some(first), &[][..]),
            None => (None, &[][..]),
        };
        let others = behind.iter().filter(move |line| Name::of(line.name) == Some(name));
        first.into_iter().chain(others).map(|line| line.value.trim_ascii())
    }

    /// The value of a field that may stand there once.
    pub(super) fn only(self, name: Name) -> Result<Option<&'a [u8]>, Answer> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(Answer::bad_request(&format!("{} stands there twice", name.as_str()))),
            (value, None) => Ok(value),
        }
    }

    /// As [`only`](Fields::only), as text. Bytes that are none match nothing that is compared with them.
    pub(super) fn text(self, name: Name) -> Result<Option<String>, Answer> {
        Ok(self.only(name)?.map(text))
    }

    /// The elements of a comma-separated list, which may stand in several lines (RFC 9110, section 5.6.1).
    pub(super) fn list(self, name: Name) -> impl Iterator<Item = &'a [u8]> {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|item| !item.is_empty())
    }

    /// Whether a comma-separated list holds `token`, in any case.
    pub(super) fn has_token(self, name: Name, token: &str) -> bool {
        self.list(name).any(|item| item.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// A comma-separated list in one piece.
    pub(super) fn joined(self, name: Name) -> Option<String> {
        let mut values = self.all(name).map(text);
        let first = values.next()?;
        Some(values.fold(first, |joined, value| joined + ", " + &value))
    }
}

/// A field's value as text.
pub(super) fn text(value: &[u8]) -> String {
    str::from_utf8(value).map_or_else(|_| String::from_utf8_lossy(value).into_owned(), str::to_owned)
}

/// Whether `byte` may stand in a field's name or a method (RFC 9110, section 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
