//! The head of an answer, whichever client reads it.

use std::mem::MaybeUninit;

/// Longest head of an answer that a client reads.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// Header fields that nearly every head has room for.
const USUAL_FIELDS: usize = 64;

/// As many as fit into the longest head: a name, a colon and a line end each.
const MOST_FIELDS: usize = MAX_HEAD_BYTES / 3;

/// Reads the head at the start of `bytes` and hands it to `read`, with its length. `None`: it is not complete.
///
/// # Errors
/// It is not HTTP, or longer than any head should be: which, in words.
pub(super) fn parse<R>(
    bytes: &[u8],
    read: impl FnOnce(&httparse::Response<'_, '_>, usize) -> R,
) -> Result<Option<R>, String> {
    let mut usual = [MaybeUninit::uninit(); USUAL_FIELDS];
    let mut read = Some(read);
    let parsed = match parse_into(bytes, &mut usual, &mut read) {
        // A proxy in front may add many. Such a head is rare enough for an allocation.
        Err(httparse::Error::TooManyHeaders) => {
            parse_into(bytes, &mut vec![MaybeUninit::uninit(); MOST_FIELDS], &mut read)
        }
        parsed => parsed,
    };
    match parsed.map_err(|error| error.to_string())? {
        None if bytes.len() > MAX_HEAD_BYTES => Err(format!("over {MAX_HEAD_BYTES} bytes")),
        parsed => Ok(parsed),
    }
}

fn parse_into<'b, R>(
    bytes: &'b [u8],
    fields: &mut [MaybeUninit<httparse::Header<'b>>],
    read: &mut Option<impl FnOnce(&httparse::Response<'_, '_>, usize) -> R>,
) -> Result<Option<R>, httparse::Error> {
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    match parser.parse_response_with_uninit_headers(&mut response, bytes, fields)? {
        httparse::Status::Complete(head_bytes) => Ok(read.take().map(|read| read(&response, head_bytes))),
        httparse::Status::Partial => Ok(None),
    }
}

/// Whether one of the list members in `value` is `token`, in any case.
pub(super) fn has_token(value: &[u8], token: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}
