//! What a URL says of a server: where it is and how it is spoken to.

use std::net::{SocketAddr, ToSocketAddrs};

use serde::Serialize;

use crate::plan::LoadError;

/// How the server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// `ws://H:P/PATH`: a WebSocket that returns every message.
    Echo,
    /// `ws://H:P/socket.io/` or `socketio+http://H:P/socket.io/`: a Socket.IO server that returns the attachment of every event, over a WebSocket.
    Socketio,
    /// `socketio+http://H:P/socket.io/?transport=polling`: the same by a GET that is held and POSTs, on two connections.
    SocketioPolling,
    /// `ws://H:P/broadcast`: a WebSocket on which one connection publishes and all receive.
    Broadcast,
    /// `http://H:P/PATH`: an answer 200 to every GET; nothing of it is verified but that it is whole.
    Get,
    /// `poll+http://H:P/poll?topic=T`: short polling, what is new as JSON to every GET, at once.
    Poll,
    /// `longpoll+http://H:P/longpoll?topic=T`: the same as soon as there is something new. One more connection publishes.
    Longpoll,
    /// `sse+http://H:P/events?topic=T`: server-sent events. One more connection publishes.
    Sse,
    /// `udp://H:P`: datagrams that come back.
    UdpEcho,
    /// `udp://H:P/broadcast`: datagrams that go to every socket that has announced itself.
    UdpBroadcast,
    /// `tcp://H:P`: bytes that come back, without any framing.
    TcpEcho,
    /// `tcp://H:P/broadcast`: bytes that go to every connection, without any framing.
    TcpBroadcast,
}

impl Mechanism {
    /// Whether one connection sends and all receive.
    pub(crate) fn is_broadcast(self) -> bool {
        matches!(self, Mechanism::Broadcast | Mechanism::UdpBroadcast | Mechanism::TcpBroadcast)
            || self.is_text()
    }

    /// Whether those who receive can say nothing: somebody else publishes, and what is published has to be text.
    pub(crate) fn is_text(self) -> bool {
        matches!(self, Mechanism::Sse | Mechanism::Longpoll)
    }

    /// Whether messages may be lost on the way without anybody's fault.
    pub(crate) fn is_datagram(self) -> bool {
        matches!(self, Mechanism::UdpEcho | Mechanism::UdpBroadcast)
    }

    /// Whether there are requests and answers all the time.
    pub(crate) fn is_http(self) -> bool {
        use Mechanism::{Get, Longpoll, Poll, SocketioPolling};
        matches!(self, Get | Poll | Longpoll | SocketioPolling)
    }

    /// Whether what is sent is a request, and what comes back its answer, without anything of a message's in either.
    pub(crate) fn is_request(self) -> bool {
        matches!(self, Mechanism::Get | Mechanism::Poll)
    }
}

/// A URL, taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) mechanism: Mechanism,
    pub(crate) address: SocketAddr,
    /// Host and port, as the `Host` header has them.
    pub(crate) host: String,
    pub(crate) path: String,
    /// Who publishes, where those who receive cannot.
    pub(crate) publisher: Option<Publisher>,
}

/// Where and how is published what others receive.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    pub(crate) by: Publishing,
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) path: String,
}

/// How is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publishing {
    /// A POST for each message.
    Post,
    /// A message on a WebSocket.
    WebSocket,
}

const SCHEMES: &str =
    "ws://, http://, poll+http://, longpoll+http://, sse+http://, socketio+http://, udp:// and tcp://";

/// The path at which servers of Socket.IO usually are.
const SOCKETIO: &str = "/socket.io/";

impl Target {
    /// Takes a URL apart and finds the server's address.
    pub(crate) fn parse(url: &str, publish: Option<&str>) -> Result<Target, LoadError> {
        let usage = |text: String| Err(LoadError::Usage(text));
        let Some(Parts { scheme, host, path, query }) = Parts::of(url) else {
            return usage(format!(
                "{url} is not a URL: ws://HOST:PORT/echo, udp://HOST:PORT, tcp://HOST:PORT"
            ));
        };
        let parameter = |name: &str| parameter(query, name);
        let mechanism = match (scheme, path.ends_with("/broadcast")) {
            ("ws", _) if path.starts_with(SOCKETIO) => Mechanism::Socketio,
            ("ws", true) => Mechanism::Broadcast,
            ("ws", false) => Mechanism::Echo,
            ("http", _) => Mechanism::Get,
            ("poll+http", _) => Mechanism::Poll,
            ("longpoll+http", _) => Mechanism::Longpoll,
            ("sse+http", _) => Mechanism::Sse,
            ("socketio+http", _) => match parameter("transport") {
                None | Some("websocket") => Mechanism::Socketio,
                Some("polling") => Mechanism::SocketioPolling,
                Some(other) => {
                    return usage(format!("transport={other}: Socket.IO is spoken by websocket or polling"));
                }
            },
            ("udp", true) => Mechanism::UdpBroadcast,
            ("udp", false) => Mechanism::UdpEcho,
            ("tcp", true) => Mechanism::TcpBroadcast,
            ("tcp", false) => Mechanism::TcpEcho,
            _ => return usage(format!("unknown scheme {scheme}://; there are {SCHEMES}")),
        };
        if mechanism == Mechanism::Longpoll && parameter("since").is_some() {
            return usage("since= is added to the URL: it is another one for each request".into());
        }
        let (address, host) = resolve(url, scheme, host)?;
        let mut target = Target { mechanism, address, host, path: target_of(path, query), publisher: None };
        if matches!(mechanism, Mechanism::Socketio | Mechanism::SocketioPolling) {
            target.path = socketio_path(path, query, mechanism);
        }
        if mechanism.is_text() {
            target.publisher = Some(match publish {
                Some(url) => Publisher::parse(url)?,
                None => {
                    let topic = parameter("topic").map_or(String::new(), |topic| format!("topic={topic}&"));
                    let path = format!("/publish?{topic}event=message");
                    let (address, host) = (target.address, target.host.clone());
                    Publisher { by: Publishing::Post, address, host, path }
                }
            });
        }
        Ok(target)
    }
}

impl Publisher {
    fn parse(url: &str) -> Result<Publisher, LoadError> {
        let parts = Parts::of(url).and_then(|parts| match parts.scheme {
            "http" => Some((parts, Publishing::Post)),
            "ws" => Some((parts, Publishing::WebSocket)),
            _ => None,
        });
        let Some((Parts { scheme, host, path, query }, by)) = parts else {
            return Err(LoadError::Usage(format!(
                "--publish {url}: it has to be http://HOST:PORT/publish?topic=T or ws://HOST:PORT/broadcast?topic=T"
            )));
        };
        let (address, host) = resolve(url, scheme, host)?;
        Ok(Publisher { by, address, host, path: target_of(path, query) })
    }
}

/// `scheme://host/path?query`
struct Parts<'a> {
    scheme: &'a str,
    host: &'a str,
    path: &'a str,
    query: &'a str,
}

impl Parts<'_> {
    fn of(url: &str) -> Option<Parts<'_>> {
        let (scheme, rest) = url.split_once("://")?;
        let (host, rest) = rest.find(['/', '?']).map_or((rest, ""), |end| rest.split_at(end));
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        Some(Parts { scheme, host, path, query })
    }
}

/// What stands in a request line.
fn target_of(path: &str, query: &str) -> String {
    let path = if path.is_empty() { "/" } else { path };
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// What a client of Socket.IO that wants one transport and no other asks for.
fn socketio_path(path: &str, query: &str, mechanism: Mechanism) -> String {
    let path = if path.is_empty() { SOCKETIO } else { path };
    let transport = if mechanism == Mechanism::SocketioPolling { "polling" } else { "websocket" };
    let mut query = query.to_owned();
    for (name, value) in [("EIO", "4"), ("transport", transport)] {
        if parameter(&query, name).is_none() {
            let separator = if query.is_empty() { "" } else { "&" };
            query = format!("{query}{separator}{name}={value}");
        }
    }
    format!("{path}?{query}")
}

/// A parameter of a query, as it stands there.
pub(crate) fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// The address, and host and port.
fn resolve(url: &str, scheme: &str, host: &str) -> Result<(SocketAddr, String), LoadError> {
    let has_no_port = !host.rsplit(']').next().unwrap_or_default().contains(':');
    let host = match (has_no_port, scheme) {
        (true, "udp" | "tcp") => return Err(LoadError::Usage(format!("{url} has no port"))),
        (true, _) => format!("{host}:80"),
        (false, _) => host.to_owned(),
    };
    let resolve = |source| LoadError::Resolve { host: host.clone(), source };
    let not_found = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let mut addresses = host.to_socket_addrs().map_err(resolve)?;
    let address = addresses.next().ok_or_else(not_found).map_err(resolve)?;
    Ok((address, host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, LoadError> {
        Target::parse(url, None)
    }

    #[test]
    fn urls_say_how_the_server_is_spoken_to() {
        for (url, mechanism, path) in [
            ("ws://127.0.0.1:9001/echo", Mechanism::Echo, "/echo"),
            ("ws://127.0.0.1/anything?x=1", Mechanism::Echo, "/anything?x=1"),
            ("ws://[::1]:9001/broadcast?topic=a", Mechanism::Broadcast, "/broadcast?topic=a"),
            ("ws://127.0.0.1:1/socket.io/", Mechanism::Socketio, "/socket.io/?EIO=4&transport=websocket"),
            ("socketio+http://127.0.0.1:1", Mechanism::Socketio, "/socket.io/?EIO=4&transport=websocket"),
            (
                "socketio+http://127.0.0.1:1/s/?transport=polling&x=1",
                Mechanism::SocketioPolling,
                "/s/?transport=polling&x=1&EIO=4",
            ),
            ("http://127.0.0.1:1", Mechanism::Get, "/"),
            ("http://127.0.0.1:1?a=b", Mechanism::Get, "/?a=b"),
            ("poll+http://127.0.0.1:1/poll?topic=t", Mechanism::Poll, "/poll?topic=t"),
            ("longpoll+http://127.0.0.1:1/longpoll?topic=t", Mechanism::Longpoll, "/longpoll?topic=t"),
            ("sse+http://127.0.0.1:1/events", Mechanism::Sse, "/events"),
            ("udp://127.0.0.1:9001", Mechanism::UdpEcho, "/"),
            ("udp://127.0.0.1:9001/broadcast", Mechanism::UdpBroadcast, "/broadcast"),
            ("tcp://127.0.0.1:9001", Mechanism::TcpEcho, "/"),
            ("tcp://127.0.0.1:9001/broadcast", Mechanism::TcpBroadcast, "/broadcast"),
        ] {
            let target = target(url).unwrap();
            assert_eq!((target.mechanism, &*target.path), (mechanism, path), "{url}");
        }
        assert_eq!(target("ws://127.0.0.1/echo").unwrap().address.port(), 80);
    }

    #[test]
    fn who_publishes_follows_from_the_url_unless_it_is_told() {
        let publisher = |url, publish| Target::parse(url, publish).unwrap().publisher.unwrap();
        let usual = publisher("sse+http://127.0.0.1:1/events?topic=a%20b&x=y", None);
        assert_eq!((usual.by, &*usual.path), (Publishing::Post, "/publish?topic=a%20b&event=message"));
        assert_eq!(publisher("longpoll+http://127.0.0.1:1/longpoll", None).path, "/publish?event=message");
        let told = publisher("sse+http://127.0.0.1:1/events", Some("ws://127.0.0.1:2/broadcast?topic=a"));
        assert_eq!(
            (told.by, told.address.port(), &*told.path),
            (Publishing::WebSocket, 2, "/broadcast?topic=a")
        );
        assert!(target("ws://127.0.0.1:1/broadcast").unwrap().publisher.is_none());
    }

    #[test]
    fn what_is_no_url_of_ours_is_said_to_be_none() {
        for (url, word) in [
            ("gopher://h:70/", "gopher"),
            ("127.0.0.1:80", "not a URL"),
            ("udp://127.0.0.1", "no port"),
            ("socketio+http://127.0.0.1:1/?transport=carrier-pigeon", "carrier-pigeon"),
            ("longpoll+http://127.0.0.1:1/longpoll?since=7", "since="),
        ] {
            let error = target(url).unwrap_err();
            assert!(error.exit_status() == 2 && error.to_string().contains(word), "{error}");
        }
        let error = Target::parse("sse+http://127.0.0.1:1/events", Some("udp://h:1")).unwrap_err();
        assert!(error.to_string().contains("--publish udp://h:1"), "{error}");
    }
}
