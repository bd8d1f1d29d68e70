//! The exchange of a server that has several threads or processes: what a client has sent in time may be handed over late.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use switchboard_proto::engine::{self, Endpoint};
use switchboard_proto::{App, Effect, Exchange, Kind, Port, Reply, Request};

use super::engine::{INTERVAL, TIMEOUT, query, settings};

struct Server {
    exchange: Exchange,
    now: Instant,
}

impl Server {
    fn new() -> Server {
        let now = Instant::now();
        let app = App { engine: settings(), ..App::default() };
        Server { exchange: Exchange::shared(&Arc::new(app), now), now }
    }

    fn ask(&mut self, port: u64, request: engine::Request) -> Vec<String> {
        self.exchange.handle(Port(port), Request::Engine(request), self.now);
        self.take_effects()
    }

    fn open(&mut self, port: u64) {
        assert_eq!(
            self.ask(port, engine::Request::Upgrade(query(Endpoint::Bare, "websocket")))[0],
            format!("{port} accepted")
        );
    }

    fn pong(&mut self, port: u64) {
        let data = Bytes::from_static(b"3");
        assert_eq!(self.ask(port, engine::Request::Message { kind: Kind::Text, data }), [""; 0]);
    }

    /// Lets time pass in which nobody looks at it.
    fn sleep(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.exchange.handle_timeout(self.now);
        self.take_effects()
    }

    /// Lets it pass until something is due.
    fn wait(&mut self) -> Vec<String> {
        let due = self.exchange.poll_timeout().expect("something is due");
        assert!(due > self.now, "a timer that spins");
        self.sleep(due - self.now)
    }

    fn take_effects(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(effect) = self.exchange.poll_effect() {
            told.push(match effect {
                Effect::Reply(Port(port), Reply::Engine(engine::Reply::Accept)) => format!("{port} accepted"),
                Effect::Reply(Port(port), Reply::Engine(engine::Reply::Close)) => format!("{port} closed"),
                Effect::Reply(Port(port), Reply::Engine(engine::Reply::Send { data, .. })) => {
                    format!("{port} {}", String::from_utf8_lossy(&data))
                }
                other => panic!("{other:?}"),
            });
        }
        told
    }
}

#[test]
fn a_pong_that_is_handed_over_after_a_stop_counts() {
    let mut server = Server::new();
    server.open(1);
    assert_eq!(server.wait(), ["1 2"]);
    assert_eq!(server.sleep(TIMEOUT + Duration::from_secs(1)), [""; 0], "the server was stopped");
    // Those who read have as long as it was late.
    let pause = server.exchange.poll_timeout().expect("it is looked again") - server.now;
    assert_eq!(pause, Duration::from_secs(1));
    server.now += pause - Duration::from_millis(1);
    server.pong(1);
    assert_eq!(server.wait(), [""; 0], "the end of the pause");
    assert_eq!(server.wait(), ["1 2"]);
}

#[test]
fn without_a_pong_a_session_ends_after_a_pause() {
    let mut server = Server::new();
    server.open(1);
    assert_eq!(server.wait(), ["1 2"]);
    assert_eq!(server.wait(), [""; 0]);
    assert_eq!(server.wait(), ["1 closed"]);
    assert_eq!(server.exchange.poll_timeout(), None);
}

#[test]
fn a_server_that_is_stopped_within_the_pause_begins_it_again() {
    let mut server = Server::new();
    server.open(1);
    assert_eq!(server.wait(), ["1 2"]);
    assert_eq!(server.wait(), [""; 0]);
    assert_eq!(server.sleep(Duration::from_secs(10)), [""; 0]);
    server.pong(1);
    assert_eq!(server.wait(), ["1 2"]);
}

#[test]
fn pings_wait_for_no_pause() {
    let mut server = Server::new();
    server.open(1);
    assert_eq!(server.wait(), ["1 2"]);
    // The first is found overdue so late that the second comes due within the pause.
    server.sleep(TIMEOUT - Duration::from_millis(1));
    server.open(2);
    assert_eq!(server.sleep(INTERVAL - Duration::from_millis(10)), [""; 0]);
    assert_eq!(server.wait(), ["2 2"]);
    server.pong(2);
    assert_eq!(server.wait(), ["1 closed"]);
}
