//! What a server can be asked for in an experiment, by name: where that is on a server, and how the load generator is told.

use std::net::SocketAddr;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use crate::error::nearest;

/// What the lab can put load on. The names are those of a model's `serves`, and of what `switchboard load --json` calls a mechanism.
const KNOWN: [&str; 13] = [
    "echo",
    "broadcast",
    "broadcast-cursor",
    "sse",
    "longpoll",
    "poll",
    "get",
    "socketio",
    "socketio-polling",
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
        if known.contains(&name) {
            return Ok(MechanismName(name));
        }
        let hint =
            nearest(&name, &known).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
        Err(format!("unknown mechanism `{name}`{hint}; one of {}", known.join(", ")))
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
    !name.is_empty() && !name.chars().any(|letter| letter.is_whitespace() || letter == ',' || letter == OVER)
}

/// Whether one publishes and many receive.
pub(crate) fn is_broadcast(mechanism: &str) -> bool {
    mechanism.ends_with("broadcast") || mechanism == CURSOR || is_text(mechanism)
}

/// Whether what is published has to be text.
pub(crate) fn is_text(mechanism: &str) -> bool {
    matches!(mechanism, "sse" | "longpoll")
}

/// Whether a connection becomes this by what it asks for, on the one port of the session.
pub(crate) fn is_of_the_session(mechanism: &str) -> bool {
    matches!(mechanism, "sse" | "longpoll" | "poll" | "socketio" | "socketio-polling") || mechanism == CURSOR
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
        "get" => ("http", "/"),
        CURSOR => ("ws", "/broadcast?topic=lab&format=json"),
        "socketio" | "socketio-polling" => ("socketio+http", "/socket.io/"),
        _ => ("ws", "/{mechanism}"),
    };
    let path = path.unwrap_or(usual).replace(MECHANISM, mechanism);
    let transport = match mechanism {
        _ if path.contains("transport=") => "",
        "socketio" => "?transport=websocket",
        "socketio-polling" => "?transport=polling",
        _ => "",
    };
    format!("{scheme}://{address}{path}{transport}")
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
            ("tcp-broadcast", None, "tcp://127.0.0.1:80/broadcast"),
        ] {
            assert_eq!(url(mechanism, path, address), expected);
        }
        let error = MechanismName::try_from("longpol".to_owned()).unwrap_err();
        assert!(error.contains("did you mean `longpoll`?") && error.contains("socketio-polling"), "{error}");
    }

    #[test]
    fn a_line_is_a_server_and_perhaps_a_mechanism() {
        assert_eq!(server_of(&line_of("epoll", "sse")), "epoll");
        assert_eq!(server_of("epoll"), "epoll");
        assert!(is_name("socket.io") && !is_name("a:b") && !is_name(""));
    }
}
