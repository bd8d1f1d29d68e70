use percent_encoding::percent_decode_str;

use super::answer::Answer;
use super::query::Query;

/// What a request target names (RFC 9112, section 3.2).
#[derive(Debug)]
pub(super) struct Target<'a> {
    /// Of the absolute form, which overrides the Host field (RFC 9112, section 3.2.2).
    pub(super) authority: Option<&'a str>,
    pub(super) path: String,
    pub(super) query: Query,
}

impl<'a> Target<'a> {
    /// Takes a target of origin form or absolute form apart; `*` is one for OPTIONS only.
    pub(super) fn parse(target: &'a str, is_options: bool) -> Result<Target<'a>, Answer> {
        if target == "*" && is_options {
            return Ok(Target { authority: None, path: target.to_owned(), query: Query::default() });
        }
        let (authority, target) = match target.split_once("://") {
            _ if target.starts_with('/') => (None, target),
            Some((scheme, rest))
                if ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) =>
            {
                let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                if authority.is_empty() {
                    return Err(Answer::bad_request("the request target has no host"));
                }
                check_host(authority.as_bytes())?;
                (Some(authority), target)
            }
            _ => return Err(Answer::bad_request("the request target must be a path")),
        };
        if target.contains('#') {
            return Err(Answer::bad_request("a request target has no fragment"));
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = if path.is_empty() { "/" } else { path };
        Ok(Target { authority, path: decode(path)?, query: Query::parse(query)? })
    }
}

/// Host may be empty, but must be a host and port.
pub(super) fn check_host(host: &[u8]) -> Result<(), Answer> {
    match host.iter().any(|byte| !byte.is_ascii_graphic() || b"/?#@\\,".contains(byte)) {
        true => Err(Answer::bad_request("Host is not a host and port")),
        false => Ok(()),
    }
}

/// `text` without its percent-encoding. Strictly: two spellings of one path, or bytes that are no text, are
/// more often an attack than an address.
fn decode(text: &str) -> Result<String, Answer> {
    if memchr::memchr(b'%', text.as_bytes()).is_none() {
        return Ok(text.to_owned());
    }
    check_encoding(text)?;
    Ok(percent_decode_str(text).decode_utf8_lossy().into_owned())
}

/// Whether percent-encoded `text` is text: each `%` begins two digits, and what they stand for is UTF-8
/// without NUL.
pub(super) fn check_encoding(text: &str) -> Result<(), Answer> {
    for (at, _) in text.match_indices('%') {
        if !matches!(text.as_bytes()[at..], [_, a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()) {
            return Err(Answer::bad_request("% must be followed by two hexadecimal digits"));
        }
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) if !decoded.contains('\0') => Ok(()),
        Ok(_) => Err(Answer::bad_request("the request target holds a NUL")),
        Err(_) => Err(Answer::bad_request("the request target is not UTF-8")),
    }
}
