//! Whatever clients send, and in whatever order: nothing panics, every request is answered, memory stays bounded.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use switchboard_proto::engine::{Effect, Endpoint, Engines, Published, Query, Reply, Request};
use switchboard_proto::{Kind, Port};

use super::engine::{settings, sid_of};

#[derive(Debug, Clone)]
enum Step {
    Get(Index),
    Post(Index, Vec<u8>),
    Begin(Index),
    Upgrade(Index),
    Say(Index, Kind, Vec<u8>),
    Leave(Index),
    Wait(u64),
    Publish(Vec<u8>),
}

/// Packets that are right more often than not, so that something happens.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let known = select(
        &[
            "40",
            "40/custom",
            "40{\"a\":1}",
            "40/random",
            "41",
            "1",
            "2",
            "2probe",
            "3",
            "5",
            "6",
            "4hello",
            "bAQID",
            r#"42["message",1]"#,
            r#"427["message-with-ack",{"a":[]}]"#,
            r#"451-["message",{"_placeholder":true,"num":0}]"#,
            r#"42["to-all"]"#,
            r#"42["join","t"]"#,
            r#"42["leave","t"]"#,
            r#"421["publish","t","e","x"]"#,
            r#"421["since","t",null]"#,
            r#"42["chat message - client","hi"]"#,
            r#"42/custom,["to-all",2]"#,
            r#"42["ask-me"]"#,
            "430[1]",
            r#"42["disconnect-me"]"#,
            r#"421["clients"]"#,
        ][..],
    );
    prop_oneof![
        8 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => r#"4[0-6][0-9]{0,3}(-)?(/custom,)?[0-9]?[\[\]{}",a1]{0,12}"#.prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..12),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let body = vec(packet(), 1..5).prop_map(|packets| packets.join(&0x1e));
    let index = any::<Index>;
    prop_oneof![
        4 => index().prop_map(Step::Get),
        4 => (index(), body).prop_map(|(index, body)| Step::Post(index, body)),
        1 => index().prop_map(Step::Begin),
        2 => index().prop_map(Step::Upgrade),
        6 => (index(), packet()).prop_map(|(index, packet)| Step::Say(index, Kind::Text, packet)),
        1 => (index(), vec(any::<u8>(), 0..5)).prop_map(|(index, data)| Step::Say(index, Kind::Binary, data)),
        1 => index().prop_map(Step::Leave),
        1 => (0..400_u64).prop_map(Step::Wait),
        1 => vec(any::<u8>(), 0..5).prop_map(Step::Publish),
    ]
}

/// What a connection is, as far as its holder knows.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Line {
    Asking,
    Begun,
    WebSocket,
}

struct World {
    engines: Engines,
    now: Instant,
    lines: HashMap<Port, Line>,
    queries: Vec<Query>,
    begun: HashMap<Port, Query>,
    next_port: u64,
}

impl World {
    fn ask(&mut self, port: Port, request: Request) {
        self.engines.handle(port, request, self.now);
        self.take_effects();
    }

    fn take_effects(&mut self) {
        while let Some(effect) = self.engines.poll_effect() {
            match effect {
                Effect::Reply(port, Reply::Answer { status, body, .. }) => {
                    let line = self.lines.remove(&port);
                    assert!(matches!(line, Some(Line::Asking | Line::Begun)), "{line:?} was answered");
                    let text = String::from_utf8(body.to_vec()).expect("answers are text");
                    if status == 200 && text.starts_with(r#"0{"sid""#) {
                        let query = Query { sid: Some(sid_of(&text)), ..self.queries[0].clone() };
                        self.queries.push(Query { endpoint: Endpoint::Bare, ..query.clone() });
                        self.queries.push(query);
                    }
                }
                Effect::Reply(port, Reply::Accept) => {
                    assert_eq!(self.lines.insert(port, Line::WebSocket), Some(Line::Asking));
                }
                Effect::Reply(port, Reply::Send { kind, data }) => {
                    assert_eq!(self.lines.get(&port), Some(&Line::WebSocket));
                    assert!(kind == Kind::Binary || std::str::from_utf8(&data).is_ok());
                }
                Effect::Reply(port, Reply::Close) => {
                    assert_eq!(self.lines.remove(&port), Some(Line::WebSocket));
                }
                Effect::Publish(publish) => {
                    let message = Published {
                        topic: &publish.topic,
                        id: 1,
                        event: "e",
                        kind: publish.kind,
                        data: &publish.data,
                    };
                    self.engines.published(message, Some(publish.receipt), self.now);
                }
                Effect::Since(question) => self.engines.tell_since(question.receipt, "{}", self.now),
            }
        }
    }

    fn new_line(&mut self, line: Line) -> Port {
        self.next_port += 1;
        self.lines.insert(Port(self.next_port), line);
        Port(self.next_port)
    }

    /// A connection in this state, if there is one.
    fn pick(&self, index: Index, line: Line) -> Option<Port> {
        let mut ports: Vec<_> =
            self.lines.iter().filter(|(_, state)| **state == line).map(|(port, _)| *port).collect();
        ports.sort();
        (!ports.is_empty()).then(|| ports[index.index(ports.len())])
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Get(index) => {
                let query = index.get(&self.queries).clone();
                let port = self.new_line(Line::Asking);
                self.ask(port, Request::Get(query));
            }
            Step::Post(index, body) => {
                // Either the body of a POST that was begun, or all of it at once.
                let begun =
                    self.pick(index, Line::Begun).and_then(|port| Some((port, self.begun.remove(&port)?)));
                let (port, query) =
                    begun.unwrap_or_else(|| (self.new_line(Line::Asking), index.get(&self.queries).clone()));
                self.lines.insert(port, Line::Asking);
                let may_close = body.split(|byte| *byte == 0x1e).any(|packet| packet.starts_with(b"1"));
                self.ask(port, Request::Post { query, content_type: None, body: body.into() });
                assert!(may_close || !self.lines.contains_key(&port), "a POST is answered");
            }
            Step::Begin(index) => {
                let query = index.get(&self.queries).clone();
                let port = self.new_line(Line::Begun);
                self.begun.insert(port, query.clone());
                self.ask(port, Request::PostBegun(query));
            }
            Step::Upgrade(index) => {
                let query = Query { transport: "websocket".to_owned(), ..index.get(&self.queries).clone() };
                let port = self.new_line(Line::Asking);
                self.ask(port, Request::Upgrade(query));
                assert_ne!(self.lines.get(&port), Some(&Line::Asking), "a handshake is answered");
            }
            Step::Say(index, kind, data) => {
                let Some(port) = self.pick(index, Line::WebSocket) else { return };
                // That text is UTF-8 was seen to where the message was assembled.
                let is_text = std::str::from_utf8(&data).is_ok();
                let kind = if is_text { kind } else { Kind::Binary };
                self.ask(port, Request::Message { kind, data: data.into() });
            }
            Step::Leave(index) => {
                let line = [Line::Asking, Line::Begun, Line::WebSocket][index.index(3)];
                let Some(port) = self.pick(index, line) else { return };
                self.lines.remove(&port);
                self.ask(port, Request::Gone);
            }
            Step::Wait(milliseconds) => {
                self.now += Duration::from_millis(milliseconds);
                self.engines.handle_timeout(self.now);
                self.take_effects();
                assert!(self.engines.poll_timeout().is_none_or(|due| due > self.now));
            }
            Step::Publish(data) => {
                let data = data.into();
                for topic in ["t", "chat"] {
                    let message = Published { topic, id: 1, event: "e", kind: Kind::Binary, data: &data };
                    self.engines.published(message, None, self.now);
                    self.take_effects();
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn anything_in_any_order_is_answered_and_ends(steps in vec(step(), 0..120)) {
        let query = Query {
            endpoint: Endpoint::SocketIo,
            sid: None,
            transport: "polling".to_owned(),
            eio: "4".to_owned(),
            from: None,
        };
        let mut world = World {
            engines: Engines::new(&settings()),
            now: Instant::now(),
            lines: HashMap::new(),
            begun: HashMap::new(),
            queries: vec![query.clone(), Query { endpoint: Endpoint::Bare, ..query }],
            next_port: 0,
        };
        for step in steps {
            world.step(step);
        }
        // Nobody answers any more: the ping timeouts end all of it.
        for _ in 0..4 {
            world.step(Step::Wait(5_000));
        }
        prop_assert_eq!(world.engines.sessions(), 0);
        prop_assert_eq!(world.engines.poll_timeout(), None);
        world.lines.retain(|_, line| *line != Line::Begun);
        prop_assert!(world.lines.is_empty(), "{:?}", world.lines);
    }
}
