//! Which pages of other sites may talk to this server: the setting `--cors-origin` (WHATWG Fetch, section 3.2).

use std::str::FromStr;

use crate::http::{Answer, Request, field};

/// How long a browser may remember the answer to a preflight, in seconds. Two hours are the most that any
/// browser of today keeps to.
const PREFLIGHT_MAX_AGE_SECS: &str = "7200";

/// Which pages may read what this server answers, open its WebSockets and change something.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CorsOrigins {
    /// Only those that this server, or whoever stands before it under the same name, has delivered.
    #[default]
    SameOrigin,
    /// All.
    Any,
    /// Those of these origins, and its own.
    List(Vec<String>),
}

/// Text that names no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an origin: write scheme, host and port as in https://example.org or http://localhost:8080, without a path; or * for all"
)]
pub struct NotAnOrigin(String);

/// What an answer says about who may read it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AllowOrigin {
    /// Nothing: a browser keeps it from pages of other origins.
    #[default]
    Nobody,
    /// Everybody.
    Any,
    /// Pages of this origin; another would get another answer.
    Only(Box<str>),
    /// Not the page that asked, but there are others.
    Others,
}

impl CorsOrigins {
    /// Whether a page of `origin` may use the server that it calls `host`.
    pub fn allows(&self, origin: &str, host: Option<&str>) -> bool {
        let is_listed = match self {
            CorsOrigins::SameOrigin => false,
            CorsOrigins::Any => true,
            CorsOrigins::List(origins) => origins.iter().any(|listed| listed.eq_ignore_ascii_case(origin)),
        };
        is_listed || host.is_some_and(|host| is_same(origin, host))
    }

    /// Why somebody may not change something here, or open a WebSocket; `None`: nothing is against it. A browser lets any page ask for that, and says which page it
    /// was (`origin`): to refuse is for the server. Who says nothing is no page. Both ways out are named, since a proxy that hides the port makes the server's own
    /// pages look like others.
    pub fn refusal(&self, origin: Option<&str>, host: Option<&str>) -> Option<String> {
        let origin = origin.filter(|origin| !self.allows(origin, host))?;
        let host = host.unwrap_or_default();
        Some(format!(
            "Pages of {origin:?} may not use this server, which was asked for as {host:?}. If it is this server's own page, the proxy between them must pass on \
             host and port (nginx: proxy_set_header Host $http_host); else name its origin by --cors-origin.\n"
        ))
    }

    /// The same of a request, with the refusal as its answer.
    pub(crate) fn admit(&self, request: &Request) -> Result<(), Answer> {
        let refusal = self.refusal(request.origin.as_deref(), request.host.as_deref());
        refusal.map_or(Ok(()), |text| Err(Answer::new(403, text)))
    }

    /// What the answer to a request from a page of `origin` says.
    pub fn reply(&self, origin: Option<&str>) -> AllowOrigin {
        match (self, origin) {
            (CorsOrigins::SameOrigin, _) => AllowOrigin::Nobody,
            (CorsOrigins::Any, _) => AllowOrigin::Any,
            (CorsOrigins::List(_), Some(origin)) if self.allows(origin, None) => {
                AllowOrigin::Only(origin.into())
            }
            (CorsOrigins::List(_), _) => AllowOrigin::Others,
        }
    }

    /// The answer to a request with a [`preflight`](Request::preflight), to a path that knows the methods
    /// `allow`.
    pub fn preflight(&self, request: &Request, allow: &'static str) -> Answer {
        if let Err(refusal) = self.admit(request) {
            return refusal;
        }
        let answer = Answer::empty(204)
            .with("Access-Control-Allow-Methods", allow)
            .with("Access-Control-Max-Age", PREFLIGHT_MAX_AGE_SECS);
        match request.preflight.as_ref().and_then(|preflight| preflight.headers.clone()) {
            Some(headers) => answer.with("Access-Control-Allow-Headers", headers),
            None => answer,
        }
    }
}

impl AllowOrigin {
    /// Appends the header fields that say so.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let origin = match self {
            AllowOrigin::Nobody => return,
            AllowOrigin::Others => return field(out, "Vary", "Origin"),
            AllowOrigin::Any => "*",
            AllowOrigin::Only(origin) => {
                // Whoever keeps the answer must not give it to a page of another origin.
                field(out, "Vary", "Origin");
                origin
            }
        };
        field(out, "Access-Control-Allow-Origin", origin);
        field(out, "Access-Control-Expose-Headers", "ETag");
    }
}

impl FromStr for CorsOrigins {
    type Err = NotAnOrigin;

    /// Reads `*` or origins with commas in between.
    fn from_str(text: &str) -> Result<CorsOrigins, NotAnOrigin> {
        if text.trim() == "*" {
            return Ok(CorsOrigins::Any);
        }
        text.split(',')
            .map(|origin| parse_origin(origin.trim()))
            .collect::<Result<_, _>>()
            .map(CorsOrigins::List)
    }
}

/// An origin as a browser writes it: in lower case and without the port that the scheme implies.
fn parse_origin(text: &str) -> Result<String, NotAnOrigin> {
    let error = || NotAnOrigin(text.to_owned());
    // What a page says that was opened as a file.
    if text == "null" {
        return Ok(text.to_owned());
    }
    let lower = text.to_ascii_lowercase();
    let (scheme, authority) = lower.split_once("://").ok_or_else(error)?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let authority = without_default_port(scheme, authority);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, "1"),
    };
    let is_host = match host.strip_prefix('[') {
        Some(ipv6) => ipv6.strip_suffix(']').is_some_and(|ipv6| ipv6.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if is_scheme && is_host && is_port { Ok(format!("{scheme}://{authority}")) } else { Err(error()) }
}

/// Whether a page of `origin` came from the server that it calls `host`: the same name and the same port. The scheme counts only by the port that it stands for,
/// since a proxy may have taken TLS off.
fn is_same(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    // Some libraries end an origin as they would a URL.
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let [origin, host] = [authority, host].map(|authority| without_default_port(scheme, authority));
    !scheme.is_empty() && !host.is_empty() && origin.eq_ignore_ascii_case(host)
}

fn without_default_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let port = match &scheme.to_ascii_lowercase()[..] {
        "http" | "ws" => ":80",
        "https" | "wss" => ":443",
        _ => return authority,
    };
    authority.strip_suffix(port).unwrap_or(authority)
}
