//! What clients of topics have in common: publishing, asking, and reading an event stream (WHATWG HTML, section 9.2).

use std::fmt::Display;

use serde_json::Value;

use crate::client::{Client, Response};
use crate::http::get;
use crate::server::Server;

/// An event as its receivers get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: u64,
    pub(crate) event: String,
    pub(crate) data: String,
}

impl Event {
    pub(crate) fn message(id: u64, data: impl Into<String>) -> Event {
        Event { id, event: "message".into(), data: data.into() }
    }
}

impl Client {
    /// Publishes by POST, and returns the number of the event.
    pub(crate) fn publish(&mut self, topic: &str, data: impl AsRef<[u8]>) -> u64 {
        self.publish_to(&format!("topic={topic}"), data)
    }

    /// The same with any query.
    pub(crate) fn publish_to(&mut self, query: &str, data: impl AsRef<[u8]>) -> u64 {
        self.send(post(query, "", data.as_ref()));
        let response = self.response();
        assert_eq!(response.status, 202, "{response:?}");
        response.json()["id"].as_u64().expect("an event has a number")
    }

    /// The server's epoch, as all its answers have it.
    pub(crate) fn epoch(&mut self) -> String {
        self.ask("/poll")["epoch"].as_str().expect("a server knows when it was started").to_owned()
    }

    /// Asks for the events of a topic, and returns the answer.
    pub(crate) fn ask(&mut self, target: &str) -> Value {
        self.send(get(target));
        let response = self.response();
        assert_eq!(response.status, 200, "{response:?}");
        response.json()
    }
}

/// A request to publish, with more header lines.
pub(crate) fn post(query: &str, lines: &str, data: &[u8]) -> Vec<u8> {
    let length = data.len();
    let head = format!(
        "POST /publish?{query} HTTP/1.1\r\nHost: switchboard.test\r\n{lines}Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), data].concat()
}

/// The events of a poll's answer that are text.
pub(crate) fn events(answer: &Value) -> Vec<Event> {
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no text: {answer}")).to_owned();
    let event = |event: &Value| Event {
        id: event["id"].as_u64().expect("an event has a number"),
        event: text(&event["event"]),
        data: text(&event["data"]),
    };
    answer["events"].as_array().expect("a list").iter().map(event).collect()
}

/// An event stream, read as an `EventSource` does.
pub(crate) struct EventStream {
    pub(crate) client: Client,
    /// Comments that came before the last event.
    pub(crate) comments: usize,
    /// The number of the last event.
    pub(crate) last_id: Option<u64>,
    /// The same as the server said it, with its epoch.
    pub(crate) last_event_id: String,
    pub(crate) retry: Option<u64>,
}

impl EventStream {
    pub(crate) fn open(server: &Server, target: &str) -> EventStream {
        EventStream::open_with(Client::connect(server), target, "")
    }

    /// One that has had all up to this event.
    pub(crate) fn resume(server: &Server, topic: &str, last_id: impl Display) -> EventStream {
        let line = format!("Last-Event-ID: {last_id}\r\n");
        EventStream::open_with(Client::connect(server), &format!("/events?topic={topic}"), &line)
    }

    pub(crate) fn open_with(mut client: Client, target: &str, lines: &str) -> EventStream {
        client.send(get(target).replace("Host", &format!("{lines}Host")));
        EventStream::begun(client)
    }

    /// One that was asked for.
    pub(crate) fn begun(mut client: Client) -> EventStream {
        let head = client.response_head();
        EventStream::after(client, &head)
    }

    /// One whose answer has begun.
    pub(crate) fn after(client: Client, head: &Response) -> EventStream {
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.header("Content-Type"), Some("text/event-stream"));
        assert_eq!(head.header("Cache-Control"), Some("no-cache"));
        // It ends with its connection.
        assert!(head.says_close() && head.header("Content-Length").is_none(), "{head:?}");
        let last_event_id = String::new();
        let mut stream = EventStream { client, comments: 0, last_id: None, last_event_id, retry: None };
        // How long to wait before one comes again stands before everything else.
        let first = stream.client.line();
        stream.retry = first.strip_prefix("retry: ").map(|ms| ms.parse().expect("milliseconds"));
        assert_eq!((stream.retry.is_some(), &stream.client.line()[..]), (true, ""), "{first}");
        stream
    }

    /// The next event.
    pub(crate) fn next(&mut self) -> Event {
        self.comments = 0;
        let (mut event, mut data) = (String::new(), None::<String>);
        loop {
            let line = self.client.line();
            match line.split_once(": ").unwrap_or((&line, "")) {
                ("", "") => match data.take() {
                    // An empty line behind a comment ends nothing.
                    None => {}
                    Some(data) => {
                        let event = if event.is_empty() { "message".into() } else { event };
                        return Event { id: self.last_id.expect("an event has a number"), event, data };
                    }
                },
                ("", _) => self.comments += 1,
                ("id", id) => self.note_id(id),
                ("event", name) => event = name.to_owned(),
                ("data", more) => {
                    data = Some(data.map_or(more.to_owned(), |data| format!("{data}\n{more}")));
                }
                other => panic!("not a field of an event stream: {other:?}"),
            }
        }
    }

    /// Expects these events next, one by one.
    pub(crate) fn expect(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            assert_eq!(self.next(), event);
        }
    }

    /// An id is a number and the epoch of the server.
    fn note_id(&mut self, id: &str) {
        let number = id.split_once('-').and_then(|(number, _)| number.parse().ok());
        self.last_id = Some(number.unwrap_or_else(|| panic!("no number and epoch: {id}")));
        id.clone_into(&mut self.last_event_id);
    }

    /// Reads up to the next comment, with no event in between.
    pub(crate) fn comment(&mut self) {
        let mut line = self.client.line();
        // To begin with it is told where it is.
        if let Some(id) = line.strip_prefix("id: ") {
            self.note_id(id);
            assert_eq!(self.client.line(), "");
            line = self.client.line();
        }
        assert!(line.starts_with(':'), "{line} is no comment");
        assert_eq!(self.client.line(), "");
    }
}
