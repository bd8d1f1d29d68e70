//! The end of a server: SIGTERM, SIGINT or SIGHUP, 1001 for every WebSocket, and nothing left behind.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use switchboard_models::Workers;

use crate::backpressure::write_until_held;
use crate::child::Settings;
use crate::client::{Client, close_code, eventually};
use crate::events::{Event, EventStream};
use crate::frames::{BINARY, close, fragment, frame, pattern, text};
use crate::http::get;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(an_idle_server_ends_on_sigterm),
    case!(an_idle_server_ends_on_sigint),
    case!(an_idle_server_ends_on_sighup),
    case!(Http, on_sigterm_every_websocket_is_told_1001).together().with(patient),
    case!(Http, on_sigint_every_websocket_is_told_1001).together().with(patient),
    case!(Http, when_its_terminal_is_closed_every_websocket_is_told_1001).together().with(patient),
    case!(Http, a_second_sigterm_ends_the_server_at_once).with(patient),
    case!(Http, a_second_ctrl_c_ends_the_server_at_once).with(patient),
    case!(Http, sigint_behind_sighup_ends_the_server_at_once).with(patient),
    case!(Http, on_ctrl_c_in_a_terminal_every_websocket_is_told_1001).together().with(patient),
    case!(Http, a_request_that_is_not_finished_is_ended_at_once).together().with(patient),
    case!(EventStream, streams_and_long_polls_end_as_they_should).with(patient),
    case!(Http, who_does_not_answer_holds_up_the_end_no_longer_than_the_grace)
        .together()
        .with(|settings| settings.app.grace = GRACE),
    case!(Http, nobody_is_let_in_while_the_server_ends).with(patient),
    case!(Echo, with_clients_still_there_the_server_ends)
        .together()
        .with(|settings| settings.app.grace = GRACE),
    case!(Echo, the_tally_says_what_was_served).together().with(patient),
];

const GRACE: Duration = Duration::from_millis(300);

/// Far more than the short grace, and less than the default one.
const SOON: Duration = Duration::from_secs(4);

/// A server that gives everybody a minute: who waits for that to run out waits in vain.
fn patient(settings: &mut Settings) {
    settings.app.grace = Duration::from_secs(60);
    settings.app.handshake_timeout = Duration::from_secs(60);
}

fn an_idle_server_ends_on_sigterm(server: &mut Server) {
    server.signal(Signal::SIGTERM);
    assert_eq!(server.finish().messages, 0);
}

fn an_idle_server_ends_on_sigint(server: &mut Server) {
    server.signal(Signal::SIGINT);
    assert_eq!(server.finish().messages, 0);
}

fn an_idle_server_ends_on_sighup(server: &mut Server) {
    server.signal(Signal::SIGHUP);
    assert_eq!(server.finish().messages, 0);
}

fn on_sigterm_every_websocket_is_told_1001(server: &mut Server) {
    every_websocket_is_told_1001(server, |server| server.signal(Signal::SIGTERM));
}

fn on_sigint_every_websocket_is_told_1001(server: &mut Server) {
    every_websocket_is_told_1001(server, |server| server.signal(Signal::SIGINT));
}

fn on_ctrl_c_in_a_terminal_every_websocket_is_told_1001(server: &mut Server) {
    every_websocket_is_told_1001(server, |server| server.signal_group(Signal::SIGINT));
}

fn when_its_terminal_is_closed_every_websocket_is_told_1001(server: &mut Server) {
    // The kernel says so to all of the group, and a shell does as well.
    every_websocket_is_told_1001(server, |server| {
        server.signal_group(Signal::SIGHUP);
        server.signal_group(Signal::SIGHUP);
    });
}

fn a_second_sigterm_ends_the_server_at_once(server: &mut Server) {
    server_ends_at_once(
        server,
        |server| server.signal(Signal::SIGTERM),
        |server| {
            server.signal(Signal::SIGTERM);
            Signal::SIGTERM
        },
    );
}

fn a_second_ctrl_c_ends_the_server_at_once(server: &mut Server) {
    server_ends_at_once(
        server,
        |server| server.signal_group(Signal::SIGINT),
        |server| {
            server.signal_group(Signal::SIGINT);
            Signal::SIGINT
        },
    );
}

fn sigint_behind_sighup_ends_the_server_at_once(server: &mut Server) {
    server_ends_at_once(
        server,
        |server| server.signal(Signal::SIGHUP),
        |server| {
            server.signal(Signal::SIGINT);
            Signal::SIGINT
        },
    );
}

/// Whoever says it twice does not want to wait for a client that does not answer.
fn server_ends_at_once(server: &mut Server, first: impl Fn(&Server), second: impl Fn(&Server) -> Signal) {
    let mut client = Client::open(server, "/echo");
    first(server);
    // It is about to end, and waits for this client for a minute.
    assert_eq!(close_code(&client.frame()), Some(1001));
    let signal = second(server);
    server.finish_by(signal);
    assert!(client.try_take(1).is_err_and(|error| error.kind() != ErrorKind::TimedOut));
}

fn every_websocket_is_told_1001(server: &mut Server, stop: impl Fn(&Server)) {
    let paths = ["/echo", "/broadcast", "/echo", "/broadcast", "/echo"];
    let mut websockets = paths.map(|path| Client::open(server, path));
    // One says something and one is in the middle of it.
    websockets[0].echo("hello");
    websockets[2].send(fragment(BINARY, "unfinished"));
    websockets[2].ping(b"and the server knows");
    stop(server);
    for client in &mut websockets {
        assert_eq!(close_code(&client.frame()), Some(1001));
        client.goodbye(1001);
    }
    let tally = server.finish();
    assert_eq!((tally.connections, tally.messages, tally.bytes), (5, 1, 5));
    assert_eq!((tally.refused, tally.dropped), (0, 0));
}

fn a_request_that_is_not_finished_is_ended_at_once(server: &mut Server) {
    let mut heads = ["", "GET /echo HTTP/1.1\r\nHost: a\r\n"].map(|start| {
        let mut client = Client::connect(server);
        client.send(start);
        client
    });
    // Who came later is served: so these two have been let in before the server is to end.
    let mut websocket = Client::open(server, "/echo");
    server.signal(Signal::SIGTERM);
    assert_eq!(close_code(&websocket.frame()), Some(1001));
    websocket.goodbye(1001);
    // Of several workers one may not have come to its queue before the end, and what is in there the system resets.
    let has_workers = server.model.workers == Workers::OnePerCore;
    for client in &mut heads {
        let answer = if has_workers { client.whatever_is_left() } else { client.rest() };
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 503 "), "{answer:?}");
    }
    let connections = server.finish().connections;
    assert!(connections == 3 || has_workers && connections < 3, "{connections}");
}

fn streams_and_long_polls_end_as_they_should(server: &mut Server) {
    let mut streams: Vec<EventStream> =
        (0..4).map(|_| EventStream::open(server, "/events?topic=t")).collect();
    let mut idle: Vec<Client> = (0..4).map(|_| Client::connect(server)).collect();
    idle.iter_mut().for_each(|client| assert_ne!(client.publish("other", "x"), 0));
    let mut waiting: Vec<Client> = (0..4).map(|_| Client::connect(server)).collect();
    waiting.iter_mut().for_each(|client| client.send(get("/longpoll?topic=t&since=0")));
    idle[0].publish("t", "the last");
    streams.iter_mut().for_each(|stream| stream.expect([Event::message(1, "the last")]));
    for client in &mut waiting {
        assert_eq!(client.response().status, 200);
        client.send(get("/longpoll?topic=t&since=1"));
    }
    server.signal(Signal::SIGTERM);
    for mut client in waiting {
        // Of a question that came in the same moment the server may know nothing.
        let rest = String::from_utf8(client.whatever_is_left()).unwrap();
        assert!(
            rest.is_empty() || rest.starts_with("HTTP/1.1 503 ") && rest.contains("going away"),
            "{rest}"
        );
    }
    streams.iter_mut().for_each(|stream| stream.client.expect_end());
    idle.iter_mut().for_each(Client::expect_end);
    let tally = server.finish();
    assert_eq!((tally.connections, tally.messages, tally.dropped), (12, 5, 0));
}

fn who_does_not_answer_holds_up_the_end_no_longer_than_the_grace(server: &mut Server) {
    let mut silent = ["/echo", "/broadcast"].map(|path| Client::open(server, path));
    let mut talking = Client::open(server, "/echo");
    let mut full = Client::connect_narrow(server).upgrade("/echo");
    write_until_held(&mut full, |_| frame(BINARY, pattern(60_000)));
    let start = Instant::now();
    server.signal(Signal::SIGTERM);
    for client in &mut silent {
        assert_eq!(close_code(&client.frame()), Some(1001));
    }
    // Says a lot, but not goodbye.
    while start.elapsed() < SOON && talking.stream.write_all(&text("and another thing")).is_ok() {
        std::thread::sleep(GRACE / 30);
    }
    server.finish();
    assert!(start.elapsed() < SOON, "it took {:?}, with a grace of {GRACE:?}", start.elapsed());
}

fn nobody_is_let_in_while_the_server_ends(server: &mut Server) {
    let mut last = Client::open(server, "/echo");
    server.signal(Signal::SIGTERM);
    assert_eq!(close_code(&last.frame()), Some(1001));
    // Of several workers one may hear of the end a little later than the one that told us.
    let mut late = 0;
    eventually("connections are refused by the system", || match TcpStream::connect(server.address) {
        Ok(_) => {
            late += 1;
            false
        }
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
    });
    assert!(late == 0 || server.model.workers == Workers::OnePerCore, "{late} came after the goodbye");
    // All this time the server waited for its last client.
    last.goodbye(1001);
    let connections = server.finish().connections;
    assert!((1..=1 + late).contains(&connections), "{connections} connections, {late} of them late");
}

/// The plain form of this, for servers that do not say goodbye.
fn with_clients_still_there_the_server_ends(server: &mut Server) {
    let mut clients: Vec<Client> = (0..10).map(|_| Client::open(server, "/echo")).collect();
    clients.iter_mut().for_each(|client| client.echo("hello"));
    assert_eq!(server.stop().connections, 10);
    for client in &mut clients {
        while client.try_take(1).is_ok() {}
        assert!(client.try_take(1).is_err_and(|error| error.kind() != ErrorKind::TimedOut));
    }
}

fn the_tally_says_what_was_served(server: &mut Server) {
    // One leaves as it should, one does not, one stays.
    let mut clients: Vec<Client> = (0..3).map(|_| Client::open(server, "/echo")).collect();
    for (i, client) in clients.iter_mut().enumerate() {
        (0..=i).for_each(|_| client.echo("seven b"));
        client.send([fragment(BINARY, "12"), crate::frames::frame(0, "345")].concat());
        client.expect(BINARY, "12345");
        // Control frames are no messages.
        client.ping(b"not counted");
    }
    let mut leaving = clients.remove(0);
    leaving.send(close(1000, ""));
    leaving.expect_close(1000);
    clients.remove(0).reset();
    // The one that stays answers the goodbye, if there is one.
    let mut last = clients.remove(0);
    server.signal(Signal::SIGTERM);
    if last.try_take(4).is_ok() {
        let _ = last.stream.write_all(&close(1001, ""));
    }
    let tally = server.finish();
    assert_eq!((tally.connections, tally.messages, tally.bytes), (3, 9, 6 * 7 + 3 * 5));
    assert_eq!((tally.refused, tally.dropped), (0, 0));
}
