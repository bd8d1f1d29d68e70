//! What a URL says of a server: where it is and how it is spoken to.

use std::net::ToSocketAddrs;

use fluent_uri::Uri;
use percent_encoding::percent_decode_str;
use serde::Serialize;

use crate::connect::Route;
use crate::plan::LoadError;
use crate::printable;

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
    /// `socketio+http://H:P/socket.io/?transport=upgrade`: the same over a WebSocket that takes over from a session opened by polling.
    SocketioUpgraded,
    /// `socketio+http://H:P/socket.io/?topic=T`: a room of a Socket.IO server, heard over a WebSocket. One more connection publishes.
    SocketioBroadcast,
    /// `socketio+http://H:P/socket.io/?topic=T&transport=polling`: the same by long-polling.
    SocketioPollingBroadcast,
    /// `socketio+http://H:P/socket.io/?topic=T&transport=upgrade`: the same over a WebSocket that takes over from polling.
    SocketioUpgradedBroadcast,
    /// `ws://H:P/broadcast`: a WebSocket on which one connection publishes and all receive.
    Broadcast,
    /// `http://H:P/PATH`: an answer 200 to every GET; nothing of it is verified but that it is whole.
    Get,
    /// `poll+http://H:P/poll?topic=T`: short polling, what is new as JSON to every GET, at once.
    Poll,
    /// The same by the clock, with `since=`: one more connection publishes, and each of the others asks every so often what is new.
    PollEvery,
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
        matches!(self, Mechanism::Sse | Mechanism::Longpoll | Mechanism::PollEvery) || self.is_room()
    }

    /// Whether what is published reaches a room of Socket.IO.
    pub(crate) fn is_room(self) -> bool {
        use Mechanism::{SocketioBroadcast, SocketioPollingBroadcast, SocketioUpgradedBroadcast};
        matches!(self, SocketioBroadcast | SocketioPollingBroadcast | SocketioUpgradedBroadcast)
    }

    /// Whether Socket.IO is spoken.
    pub(crate) fn is_socketio(self) -> bool {
        use Mechanism::{Socketio, SocketioPolling, SocketioUpgraded};
        matches!(self, Socketio | SocketioPolling | SocketioUpgraded) || self.is_room()
    }

    /// Whether a client of Socket.IO polls all the time, on two connections.
    pub(crate) fn is_socketio_polling(self) -> bool {
        matches!(self, Mechanism::SocketioPolling | Mechanism::SocketioPollingBroadcast)
    }

    /// Whether a client of Socket.IO begins by polling and goes on over a WebSocket.
    pub(crate) fn is_socketio_upgraded(self) -> bool {
        matches!(self, Mechanism::SocketioUpgraded | Mechanism::SocketioUpgradedBroadcast)
    }

    /// Whether messages may be lost on the way without anybody's fault.
    pub(crate) fn is_datagram(self) -> bool {
        matches!(self, Mechanism::UdpEcho | Mechanism::UdpBroadcast)
    }

    /// Whether there are requests and answers all the time.
    pub(crate) fn is_http(self) -> bool {
        use Mechanism::{Get, Longpoll, Poll, PollEvery};
        matches!(self, Get | Poll | PollEvery | Longpoll) || self.is_socketio_polling()
    }

    /// Whether what is sent is a request, and what comes back its answer, without anything of a message's in either.
    pub(crate) fn is_request(self) -> bool {
        matches!(self, Mechanism::Get | Mechanism::Poll)
    }
}

/// A URL, taken apart.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) mechanism: Mechanism,
    pub(crate) route: Route,
    /// Host and port, as the `Host` header has them.
    pub(crate) host: String,
    pub(crate) path: String,
    /// The room of Socket.IO in which is listened.
    pub(crate) room: Option<String>,
    /// A WebSocket says which event each is.
    pub(crate) is_json: bool,
    /// Who publishes, where those who receive cannot.
    pub(crate) publisher: Option<Publisher>,
}

/// Where and how is published what others receive.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) by: Publishing,
    pub(crate) route: Route,
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
    /// A datagram.
    Datagram,
}

const SCHEMES: &str =
    "ws://, http://, poll+http://, longpoll+http://, sse+http://, socketio+http://, udp:// and tcp://";

const NOT_A_URL: &str = "is not a URL: ws://HOST:PORT/echo, udp://HOST:PORT, tcp://HOST:PORT";

/// The path at which servers of Socket.IO usually are.
const SOCKETIO: &str = "/socket.io/";

impl Target {
    /// Takes a URL apart and finds the server's address. `by_the_clock`: short polls are made every so often, and not as fast as possible;
    /// `is_apart`: of those who could publish themselves none does, but one more, as where they cannot.
    pub(crate) fn parse(
        url: &str,
        publish: Option<&str>,
        by_the_clock: bool,
        is_apart: bool,
    ) -> Result<Target, LoadError> {
        let usage = |text: String| Err(LoadError::Usage(text));
        let parts = Parts::of(url)?;
        let (scheme, path, query) = (&*parts.scheme, &*parts.path, &*parts.query);
        let parameter = |name: &str| parameter(query, name);
        let decoded =
            |topic: &str| percent_decode_str(&topic.replace('+', " ")).decode_utf8_lossy().into_owned();
        let room = parameter("topic").filter(|topic| !topic.is_empty()).map(decoded);
        let mechanism = match (scheme, path.ends_with("/broadcast")) {
            ("ws", _) if path.starts_with(SOCKETIO) => socketio(parameter("transport"), room.is_some())?,
            ("ws", true) => Mechanism::Broadcast,
            ("ws", false) => Mechanism::Echo,
            ("http", _) => Mechanism::Get,
            ("poll+http", _) if by_the_clock => Mechanism::PollEvery,
            ("poll+http", _) => Mechanism::Poll,
            ("longpoll+http", _) => Mechanism::Longpoll,
            ("sse+http", _) => Mechanism::Sse,
            ("socketio+http", _) => socketio(parameter("transport"), room.is_some())?,
            ("udp", true) => Mechanism::UdpBroadcast,
            ("udp", false) => Mechanism::UdpEcho,
            ("tcp", true) => Mechanism::TcpBroadcast,
            ("tcp", false) => Mechanism::TcpEcho,
            ("https" | "wss", _) => {
                return usage(format!(
                    "{scheme}:// is encrypted (TLS), which the load generator does not support: use {SCHEMES}"
                ));
            }
            _ => return usage(format!("unknown scheme {scheme}://; there are {SCHEMES}")),
        };
        let is_json = mechanism == Mechanism::Broadcast && parameter("format") == Some("json");
        let goes_on = matches!(mechanism, Mechanism::Longpoll | Mechanism::PollEvery) || is_json && is_apart;
        if goes_on && parameter("since").is_some() {
            return usage("since= is added to the URL: it is another one for each request".into());
        }
        let (route, host) = parts.resolve()?;
        let path_and_query = target_of(path, query);
        let mut target =
            Target { mechanism, route, host, path: path_and_query, room: None, is_json, publisher: None };
        if mechanism.is_socketio() {
            target.path = socketio_path(path, query, mechanism);
            target.room = room.filter(|_| mechanism.is_room());
        }
        if mechanism.is_text() || is_apart {
            target.publisher = Some(match publish {
                Some(url) => Publisher::parse(url)?,
                None => {
                    let topic = parameter("topic").map_or(String::new(), |topic| format!("topic={topic}&"));
                    let path = format!("/publish?{topic}event=message");
                    let (route, host) = (parts.resolve()?.0, target.host.clone());
                    let by = if mechanism.is_datagram() { Publishing::Datagram } else { Publishing::Post };
                    Publisher { by, route, host, path }
                }
            });
        }
        Ok(target)
    }

    /// Whether what is published is text.
    pub(crate) fn is_text(&self) -> bool {
        self.publisher.as_ref().is_some_and(|publisher| publisher.by != Publishing::Datagram)
    }
}

impl Publisher {
    fn parse(url: &str) -> Result<Publisher, LoadError> {
        let parts = Parts::of(url)?;
        let by = match &*parts.scheme {
            "http" => Publishing::Post,
            "ws" => Publishing::WebSocket,
            _ => {
                return Err(LoadError::Usage(format!(
                    "--publish {url}: it has to be http://HOST:PORT/publish?topic=T or ws://HOST:PORT/broadcast?topic=T"
                )));
            }
        };
        let (route, host) = parts.resolve()?;
        Ok(Publisher { by, route, host, path: target_of(&parts.path, &parts.query) })
    }
}

/// `scheme://host:port/path?query`, and nothing else. The request holds these characters unchanged, so each must be allowed at its place (RFC 3986).
#[derive(Debug)]
struct Parts {
    url: String,
    scheme: String,
    host: String,
    port: Option<u16>,
    path: String,
    query: String,
}

impl Parts {
    fn of(url: &str) -> Result<Parts, LoadError> {
        let usage = |why: String| Err(LoadError::Usage(format!("{} {why}", printable(url))));
        let uri = match Uri::parse(url) {
            Ok(uri) => uri,
            // Blanks and line ends would begin another field of the request, or another request.
            Err(_) if url.contains("://") => {
                let is_wrong = |letter: &char| !letter.is_ascii_graphic() || "\"<>\\^`{|}".contains(*letter);
                let found =
                    url.chars().find(is_wrong).map(|letter| format!("{letter:?} cannot stand in one"));
                let found = found.unwrap_or_else(|| "see RFC 3986".into());
                return usage(format!(
                    "is not a URL: {found}; percent-encode such characters, for example a blank as %20"
                ));
            }
            Err(_) => return usage(NOT_A_URL.into()),
        };
        let Some(authority) = uri.authority().filter(|authority| !authority.host().is_empty()) else {
            return usage(NOT_A_URL.into());
        };
        if uri.fragment().is_some() {
            return usage(
                "has a fragment (#…), which is never sent to a server: leave it out, or write # as %23"
                    .into(),
            );
        }
        if authority.userinfo().is_some() {
            return usage("names a user, which is not sent to a server: leave out the part before @".into());
        }
        if authority.host().contains('%') {
            return usage("has a host that is no name and no address".into());
        }
        let port = match authority.port().map(|port| port.as_str()) {
            None | Some("") => None,
            Some(digits) => match digits.parse::<u16>() {
                Ok(port @ 1..) => Some(port),
                _ => return usage(format!("has the port {digits}: ports are 1 to 65535")),
            },
        };
        Ok(Parts {
            url: url.to_owned(),
            scheme: uri.scheme().as_str().to_ascii_lowercase(),
            host: authority.host().to_owned(),
            port,
            path: uri.path().as_str().to_owned(),
            query: uri.query().map_or("", |query| query.as_str()).to_owned(),
        })
    }

    /// The addresses, and host and port.
    fn resolve(&self) -> Result<(Route, String), LoadError> {
        let port = match (self.port, &*self.scheme) {
            (Some(port), _) => port,
            (None, "udp" | "tcp") => return Err(LoadError::Usage(format!("{} has no port", self.url))),
            (None, _) => 80,
        };
        let host = format!("{}:{port}", self.host);
        let resolve = |source| LoadError::Resolve { host: host.clone(), source };
        let mut addresses = Vec::new();
        for address in host.to_socket_addrs().map_err(resolve)? {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(resolve(std::io::ErrorKind::NotFound.into()));
        }
        let route = Route::new(addresses);
        if self.scheme == "udp" && route.is_open_question() {
            route.probe_datagrams();
        }
        Ok((route, host))
    }
}

/// What stands in a request line.
fn target_of(path: &str, query: &str) -> String {
    let path = if path.is_empty() { "/" } else { path };
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// Which of the ways to speak Socket.IO a URL means.
fn socketio(transport: Option<&str>, in_a_room: bool) -> Result<Mechanism, LoadError> {
    let (echo, broadcast) = match transport {
        None | Some("websocket") => (Mechanism::Socketio, Mechanism::SocketioBroadcast),
        Some("polling") => (Mechanism::SocketioPolling, Mechanism::SocketioPollingBroadcast),
        Some("upgrade") => (Mechanism::SocketioUpgraded, Mechanism::SocketioUpgradedBroadcast),
        Some(other) => {
            let ways = "Socket.IO is spoken by websocket or polling, or by upgrade from this to that";
            return Err(LoadError::Usage(format!("transport={other}: {ways}")));
        }
    };
    Ok(if in_a_room { broadcast } else { echo })
}

/// What a client of Socket.IO asks for. Who upgrades says by itself which transport it wants; the topic is asked for later.
fn socketio_path(path: &str, query: &str, mechanism: Mechanism) -> String {
    let path = if path.is_empty() || path == "/" { SOCKETIO } else { path };
    let is_ours =
        |pair: &&str| !pair.starts_with("transport=") && !pair.starts_with("topic=") && !pair.is_empty();
    let mut pairs: Vec<&str> = query.split('&').filter(is_ours).collect();
    if parameter(query, "EIO").is_none() {
        pairs.push("EIO=4");
    }
    if !mechanism.is_socketio_upgraded() {
        let is_polling = mechanism.is_socketio_polling();
        pairs.push(if is_polling { "transport=polling" } else { "transport=websocket" });
    }
    format!("{path}?{}", pairs.join("&"))
}

/// A parameter of a query, as it stands there.
pub(crate) fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, LoadError> {
        Target::parse(url, None, false, false)
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
                "/s/?x=1&EIO=4&transport=polling",
            ),
            (
                "socketio+http://127.0.0.1:1/socket.io/?transport=upgrade",
                Mechanism::SocketioUpgraded,
                "/socket.io/?EIO=4",
            ),
            (
                "socketio+http://127.0.0.1:1/socket.io/?topic=t",
                Mechanism::SocketioBroadcast,
                "/socket.io/?EIO=4&transport=websocket",
            ),
            (
                "socketio+http://127.0.0.1:1/socket.io/?topic=t&transport=polling",
                Mechanism::SocketioPollingBroadcast,
                "/socket.io/?EIO=4&transport=polling",
            ),
            (
                "socketio+http://127.0.0.1:1/socket.io/?transport=upgrade&topic=t&EIO=4",
                Mechanism::SocketioUpgradedBroadcast,
                "/socket.io/?EIO=4",
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
            // A scheme is the same in any case (RFC 3986, 3.1).
            let (scheme, rest) = url.split_once(':').unwrap();
            for url in [url.to_owned(), format!("{}:{rest}", scheme.to_uppercase())] {
                let target = target(&url).unwrap();
                assert_eq!((target.mechanism, &*target.path), (mechanism, path), "{url}");
            }
        }
        assert_eq!(target("ws://127.0.0.1/echo").unwrap().route.current().1.port(), 80);
        let by_the_clock = Target::parse("poll+http://127.0.0.1:1/poll?topic=t", None, true, false).unwrap();
        assert_eq!((by_the_clock.mechanism, &*by_the_clock.path), (Mechanism::PollEvery, "/poll?topic=t"));
        let room = |url| target(url).unwrap().room;
        assert_eq!(room("socketio+http://127.0.0.1:1/?topic=a%20b+c"), Some("a b c".into()));
        assert_eq!(room("socketio+http://127.0.0.1:1/"), None);
        assert_eq!(room("ws://127.0.0.1:1/broadcast?topic=a"), None);
    }

    #[test]
    fn who_publishes_follows_from_the_url_unless_it_is_told() {
        let publisher = |url, publish| Target::parse(url, publish, false, false).unwrap().publisher.unwrap();
        let usual = publisher("sse+http://127.0.0.1:1/events?topic=a%20b&x=y", None);
        assert_eq!((usual.by, &*usual.path), (Publishing::Post, "/publish?topic=a%20b&event=message"));
        let room = publisher("socketio+http://127.0.0.1:1/socket.io/?topic=a%20b&transport=upgrade", None);
        assert_eq!((room.by, &*room.path), (Publishing::Post, "/publish?topic=a%20b&event=message"));
        assert_eq!(publisher("longpoll+http://127.0.0.1:1/longpoll", None).path, "/publish?event=message");
        let told = publisher("sse+http://127.0.0.1:1/events", Some("ws://127.0.0.1:2/broadcast?topic=a"));
        assert_eq!(
            (told.by, told.route.current().1.port(), &*told.path),
            (Publishing::WebSocket, 2, "/broadcast?topic=a")
        );
        assert!(target("ws://127.0.0.1:1/broadcast").unwrap().publisher.is_none());
    }

    #[test]
    fn whoever_may_lose_the_server_does_not_publish_itself() {
        let apart = |url| Target::parse(url, None, false, true).unwrap();
        let websocket = apart("ws://127.0.0.1:1/broadcast?topic=t&format=json");
        let publisher = websocket.publisher.as_ref().unwrap();
        assert_eq!((publisher.by, &*publisher.path), (Publishing::Post, "/publish?topic=t&event=message"));
        assert!(websocket.is_json && websocket.is_text());
        let datagrams = apart("udp://127.0.0.1:1/broadcast");
        assert_eq!(datagrams.publisher.as_ref().unwrap().by, Publishing::Datagram);
        assert!(!datagrams.is_json && !datagrams.is_text());
        assert!(!target("ws://127.0.0.1:1/broadcast?topic=t").unwrap().is_text());
    }

    #[test]
    fn what_is_no_url_of_ours_is_said_to_be_none() {
        for (url, word) in [
            ("gopher://h:70/", "gopher"),
            ("127.0.0.1:80", "not a URL"),
            ("udp://127.0.0.1", "no port"),
            ("socketio+http://127.0.0.1:1/?transport=carrier-pigeon", "carrier-pigeon"),
            ("longpoll+http://127.0.0.1:1/longpoll?since=7", "since="),
            ("wss://127.0.0.1:1/echo", "TLS"),
            ("http://127.0.0.1:1/a b", "' ' cannot stand in one"),
            ("http://127.0.0.1:1/a\r\nX-Injected: yes", "'\\r' cannot stand in one"),
            ("http://127.0.0.1:1/?q=a\nb", "'\\n' cannot stand in one"),
            ("http://127.0.0.1:1/\u{1b}[31m", "cannot stand in one"),
            ("http://127.0.0.1:1/é", "'é' cannot stand in one"),
            ("http://127.0.0.1:1/%zz", "RFC 3986"),
            ("http://127.0.0.1\t:1/", "cannot stand in one"),
            ("http://127.0.0.1:1/page#part", "fragment"),
            ("http://user:secret@127.0.0.1:1/", "names a user"),
            ("http://127.0.0.1:70000/", "1 to 65535"),
            ("http://127.0.0.1:0/", "1 to 65535"),
            ("http://127.0.0.1:x/", "RFC 3986"),
            ("http://:80/", "not a URL"),
            ("http:///path", "not a URL"),
            ("http:127.0.0.1", "not a URL"),
            ("", "not a URL"),
            ("http://127%2e0.0.1/", "no name and no address"),
        ] {
            let error = target(url).unwrap_err();
            assert!(error.exit_status() == 2 && error.to_string().contains(word), "{error}");
        }
        let error =
            Target::parse("sse+http://127.0.0.1:1/events", Some("udp://h:1"), false, false).unwrap_err();
        assert!(error.to_string().contains("--publish udp://h:1"), "{error}");
        for (publish, word) in [("http://127.0.0.1:1/publish?topic=a b", "' '"), ("http://h/#x", "fragment")]
        {
            let error =
                Target::parse("sse+http://127.0.0.1:1/events", Some(publish), false, false).unwrap_err();
            assert!(error.exit_status() == 2 && error.to_string().contains(word), "{error}");
        }
    }
}
