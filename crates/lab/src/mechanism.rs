//! What a server can be asked for in an experiment, by name: where that is on a server, and how the load generator is told.

use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bounds::LONGEST_NAME;
use crate::error::nearest;
use crate::text;

/// What the lab can put load on. The names are those of a model's `serves`, and of what `switchboard load --json` calls a mechanism.
/// Beside them there is `poll-PERIOD`, such as `poll-100ms`: see [`every`].
const KNOWN: [&str; 17] = [
    "echo",
    "broadcast",
    "broadcast-cursor",
    "sse",
    "longpoll",
    "poll",
    "get",
    "socketio",
    "socketio-polling",
    "socketio-upgraded",
    "socketio-broadcast",
    "socketio-polling-broadcast",
    "socketio-upgraded-broadcast",
    "udp-echo",
    "udp-broadcast",
    "tcp-echo",
    "tcp-broadcast",
];

/// Stands between a server and a mechanism in the name of a line, where an experiment has a line for each: `epoll:sse`.
const OVER: char = ':';

/// A broadcast over WebSockets on which each event has its number, so that who lost one can go on behind it.
const CURSOR: &str = "broadcast-cursor";

/// What stands for the mechanism's name in a path.
pub(crate) const MECHANISM: &str = "{mechanism}";

/// The name of a mechanism, such as `udp-echo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct MechanismName(String);

impl TryFrom<String> for MechanismName {
    type Error = String;

    fn try_from(name: String) -> Result<MechanismName, String> {
        let known = KNOWN.map(str::to_owned);
        if known.contains(&name) || every(&name).is_some() {
            return Ok(MechanismName(name));
        }
        let hint =
            nearest(&name, &known).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
        let known = known.join(", ");
        Err(format!("unknown mechanism `{name}`{hint}; one of {known}, or poll-100ms with any period"))
    }
}

impl Deref for MechanismName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// The name of a server's line for one mechanism of several.
pub(crate) fn line_of(server: &str, mechanism: &str) -> String {
    format!("{server}{OVER}{mechanism}")
}

/// The server that a line is about.
pub(crate) fn server_of(line: &str) -> &str {
    line.split_once(OVER).map_or(line, |(server, _)| server)
}

/// Whether a name can be a server's.
pub(crate) fn is_name(name: &str) -> bool {
    let is_odd =
        |letter: char| letter.is_whitespace() || letter.is_control() || letter == ',' || letter == OVER;
    !name.is_empty()
        && !name.starts_with('-')
        && name.chars().count() <= LONGEST_NAME
        && !name.chars().any(is_odd)
        && text::line(name) == name
}

/// Whether one publishes and many receive.
pub(crate) fn is_broadcast(mechanism: &str) -> bool {
    mechanism.ends_with("broadcast") || mechanism == CURSOR || is_text(mechanism)
}

/// Whether what is published has to be text.
pub(crate) fn is_text(mechanism: &str) -> bool {
    matches!(mechanism, "sse" | "longpoll") || is_room(mechanism) || every(mechanism).is_some()
}

/// Whether a room of Socket.IO is listened to.
fn is_room(mechanism: &str) -> bool {
    mechanism.starts_with("socketio") && mechanism.ends_with("broadcast")
}

/// How often each connection asks what is new, if it does so by the clock: once in 100 ms by `poll-100ms`. In milliseconds or whole seconds, as the
/// name reads best.
pub(crate) fn every(mechanism: &str) -> Option<Duration> {
    let period = mechanism.strip_prefix("poll-")?;
    let (number, unit_ms) = match period.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (period.strip_suffix('s')?, 1000),
    };
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0');
    let every = number.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(unit_ms)?;
    Some(Duration::from_millis(every))
}

/// TCP connections, and so descriptors on both sides, of each client: one by Socket.IO's polling for the GET that is held, and one for POSTs.
pub(crate) fn sockets(mechanism: &str) -> usize {
    if mechanism.starts_with("socketio-polling") { 2 } else { 1 }
}

/// Whether a connection becomes this by what it asks for, on the one port of the session.
pub(crate) fn is_of_the_session(mechanism: &str) -> bool {
    matches!(mechanism, "sse" | "longpoll" | "poll" | "socketio" | "socketio-polling" | "socketio-upgraded")
        || mechanism == CURSOR
        || is_text(mechanism)
}

/// Whether what is counted are requests.
pub(crate) fn is_request(mechanism: &str) -> bool {
    matches!(mechanism, "poll" | "get")
}

/// What the load generator is told. `path`: where the server has it, if that is not where ours has it.
pub(crate) fn url(mechanism: &str, path: Option<&str>, address: SocketAddr) -> String {
    let (scheme, usual) = match mechanism {
        "udp-echo" => ("udp", ""),
        "udp-broadcast" => ("udp", "/broadcast"),
        "tcp-echo" => ("tcp", ""),
        "tcp-broadcast" => ("tcp", "/broadcast"),
        "sse" => ("sse+http", "/events?topic=lab"),
        "longpoll" => ("longpoll+http", "/longpoll?topic=lab"),
        "poll" => ("poll+http", "/poll?topic=lab"),
        polls if every(polls).is_some() => ("poll+http", "/poll?topic=lab"),
        "get" => ("http", "/"),
        CURSOR => ("ws", "/broadcast?topic=lab&format=json"),
        room if is_room(room) => ("socketio+http", "/socket.io/?topic=lab"),
        "socketio" | "socketio-polling" | "socketio-upgraded" => ("socketio+http", "/socket.io/"),
        _ => ("ws", "/{mechanism}"),
    };
    let path = path.unwrap_or(usual).replace(MECHANISM, mechanism);
    if !mechanism.starts_with("socketio") || path.contains("transport=") {
        return format!("{scheme}://{address}{path}");
    }
    let transport = match mechanism.trim_end_matches("-broadcast") {
        "socketio-polling" => "polling",
        "socketio-upgraded" => "upgrade",
        _ => "websocket",
    };
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{scheme}://{address}{path}{separator}transport={transport}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mechanism_has_its_url() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        for (mechanism, path, expected) in [
            ("echo", None, "ws://127.0.0.1:80/echo"),
            ("broadcast", Some("/x/{mechanism}"), "ws://127.0.0.1:80/x/broadcast"),
            ("broadcast-cursor", None, "ws://127.0.0.1:80/broadcast?topic=lab&format=json"),
            ("sse", None, "sse+http://127.0.0.1:80/events?topic=lab"),
            ("get", Some("/index.html"), "http://127.0.0.1:80/index.html"),
            ("socketio", None, "socketio+http://127.0.0.1:80/socket.io/?transport=websocket"),
            ("socketio-polling", Some("/s/"), "socketio+http://127.0.0.1:80/s/?transport=polling"),
            ("socketio-upgraded", None, "socketio+http://127.0.0.1:80/socket.io/?transport=upgrade"),
            (
                "socketio-broadcast",
                None,
                "socketio+http://127.0.0.1:80/socket.io/?topic=lab&transport=websocket",
            ),
            (
                "socketio-polling-broadcast",
                Some("/s/?topic=t"),
                "socketio+http://127.0.0.1:80/s/?topic=t&transport=polling",
            ),
            ("poll-10ms", None, "poll+http://127.0.0.1:80/poll?topic=lab"),
            ("tcp-broadcast", None, "tcp://127.0.0.1:80/broadcast"),
        ] {
            assert_eq!(url(mechanism, path, address), expected);
        }
        let error = MechanismName::try_from("longpol".to_owned()).unwrap_err();
        assert!(error.contains("did you mean `longpoll`?") && error.contains("socketio-polling"), "{error}");
    }

    #[test]
    fn polls_by_the_clock_have_their_period_in_their_name() {
        let period = |name: &str| every(name).map(|every| every.as_millis());
        for (name, ms) in [("poll-10ms", 10), ("poll-1s", 1000), ("poll-60s", 60_000)] {
            assert_eq!(period(name), Some(ms));
            assert!(MechanismName::try_from(name.to_owned()).is_ok() && is_text(name) && is_broadcast(name));
        }
        for name in
            ["poll", "poll-", "poll-s", "poll-0ms", "poll-1.5s", "poll-+1s", "poll-1m", "socketio-polling"]
        {
            assert_eq!(period(name), None, "{name}");
        }
        assert!(!is_broadcast("poll") && is_request("poll") && !is_request("poll-1s"));
        assert_eq!([sockets("socketio-polling-broadcast"), sockets("socketio-broadcast")], [2, 1]);
    }

    #[test]
    fn a_line_is_a_server_and_perhaps_a_mechanism() {
        assert_eq!(server_of(&line_of("epoll", "sse")), "epoll");
        assert_eq!(server_of("epoll"), "epoll");
        assert!(is_name("socket.io") && !is_name("a:b") && !is_name(""));
    }
}
