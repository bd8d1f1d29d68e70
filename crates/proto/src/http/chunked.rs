use bytes::Bytes;

use super::answer::Answer;
use super::body::{out_of_memory, too_large};
use super::reader::take;
use super::{MAX_HEAD_BYTES, fields};

/// Digits of the largest chunk size that is read at all; it is above every limit.
const MAX_SIZE_DIGITS: u8 = 15;

/// A chunked body that is being received (RFC 9112, section 7.1).
///
/// It is read byte by byte outside of the data, so that nothing but data is kept. Line ends are CR LF and
/// nothing else: servers that disagree about where a chunk ends are how requests are smuggled.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    received: Vec<u8>,
    limit: usize,
    /// Bytes of extensions, trailers and needless zeros so far: they are skipped, but not for ever.
    skipped: usize,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A hexadecimal digit of a chunk's size, or what ends it.
    Size {
        value: u64,
        digits: u8,
    },
    /// Blanks that may stand before an extension.
    Blank(u64),
    Extension(u64),
    SizeLf(usize),
    /// So many bytes of data.
    Data(usize),
    DataCr,
    DataLf,
    /// A trailer, or the empty line behind them all.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
}

impl Chunked {
    pub(super) fn new(limit: usize) -> Chunked {
        Chunked { state: State::Size { value: 0, digits: 0 }, received: Vec::new(), limit, skipped: 0 }
    }

    pub(super) fn receive(&mut self, input: &mut &mut [u8]) -> Result<Option<Bytes>, Answer> {
        while !input.is_empty() {
            if let State::Data(left) = self.state {
                let part = take(input, input.len().min(left));
                self.received.try_reserve(part.len()).map_err(|_| out_of_memory())?;
                self.received.extend_from_slice(part);
                self.state = match left - part.len() {
                    0 => State::DataCr,
                    left => State::Data(left),
                };
                continue;
            }
            let byte = take(input, 1)[0];
            if self.state == State::LastLf && byte == b'\n' {
                return Ok(Some(Bytes::from(std::mem::take(&mut self.received))));
            }
            self.state = self.step(byte)?;
        }
        Ok(None)
    }

    /// Bytes that are set aside for it.
    pub(super) fn capacity(&self) -> usize {
        self.received.capacity()
    }

    fn step(&mut self, byte: u8) -> Result<State, Answer> {
        Ok(match (self.state, byte) {
            // A zero before a size changes nothing. Some clients fill a place of fixed width with them.
            (State::Size { value: 0, digits: 1.. }, b'0') => {
                self.skip()?;
                self.state
            }
            (State::Size { value, digits }, _) if digits < MAX_SIZE_DIGITS && byte.is_ascii_hexdigit() => {
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                // The digits that count begin with the first that is no zero.
                let digits = if value == 0 { 1 } else { digits + 1 };
                State::Size { value: value << 4 | u64::from(digit), digits }
            }
            (State::Size { value, digits: 1.. }, b'\r') => self.size(value)?,
            (State::Size { value, digits: 1.. }, b' ' | b'\t') => State::Blank(value),
            (State::Size { value, digits: 1.. } | State::Blank(value), b';') => State::Extension(value),
            (State::Blank(value), b' ' | b'\t') => {
                self.skip()?;
                State::Blank(value)
            }
            (State::Blank(value) | State::Extension(value), b'\r') => self.size(value)?,
            (State::Extension(value), _) if is_text(byte) => {
                self.skip()?;
                State::Extension(value)
            }
            (State::SizeLf(0), b'\n') => State::Trailer,
            (State::SizeLf(value), b'\n') => State::Data(value),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { value: 0, digits: 0 },
            (State::Trailer, b'\r') => State::LastLf,
            (State::Trailer | State::TrailerName, _) if fields::is_token(byte) => {
                self.skip()?;
                State::TrailerName
            }
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, _) if is_text(byte) => {
                self.skip()?;
                State::TrailerValue
            }
            (State::TrailerLf, b'\n') => State::Trailer,
            _ => return Err(malformed()),
        })
    }

    /// A chunk's size is known: whether it may come is decided before it does.
    fn size(&self, value: u64) -> Result<State, Answer> {
        match usize::try_from(value) {
            Ok(value) if value <= self.limit - self.received.len() => Ok(State::SizeLf(value)),
            _ => Err(too_large(self.limit)),
        }
    }

    fn skip(&mut self) -> Result<(), Answer> {
        self.skipped += 1;
        if self.skipped > MAX_HEAD_BYTES {
            let text = format!(
                "Chunk extensions, trailers and zeros before sizes are longer than {MAX_HEAD_BYTES} bytes.\n"
            );
            return Err(Answer::new(431, text));
        }
        Ok(())
    }
}

/// What may stand in a field's value: no control character but the tab.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

fn malformed() -> Answer {
    Answer::bad_request("malformed chunked body")
}
