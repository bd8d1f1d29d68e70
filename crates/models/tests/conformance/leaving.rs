//! Clients that go without a word, at any moment.

use std::io::Write;

use crate::client::{Client, Named, eventually, upgrade_request};
use crate::frames::{BINARY, PING, TEXT, fragment, frame, pattern, text};
use crate::refusals::open_eventually;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Echo, whoever_vanishes_leaves_nothing_behind_and_makes_room).together().with(|settings| {
        settings.app.max_connections = Some(2);
        settings.app.workers = settings.app.workers.or(Some(2));
    }),
    case!(Echo, whoever_sends_no_more_gets_what_is_owed),
    case!(Http, whoever_asks_and_sends_no_more_gets_the_page),
    case!(Http, whoever_ends_in_the_middle_of_a_head_is_let_go),
];

/// What a client has sent when it vanishes.
fn moments() -> Vec<(&'static str, Vec<u8>)> {
    let upgraded = |frames: Vec<u8>| [upgrade_request("/echo").into_bytes(), frames].concat();
    vec![
        ("before the first byte", Vec::new()),
        ("in the request line", b"GET /ec".to_vec()),
        ("in a header", upgrade_request("/echo").as_bytes()[..60].to_vec()),
        ("before the last byte of the head", upgrade_request("/echo").trim_end().as_bytes().to_vec()),
        ("after the head", upgraded(Vec::new())),
        ("in the header of a frame", upgraded(frame(BINARY, pattern(300))[..3].to_vec())),
        ("in a mask", upgraded(text("hello")[..4].to_vec())),
        ("in a payload", upgraded(frame(BINARY, pattern(300))[..200].to_vec())),
        ("between fragments", upgraded(fragment(TEXT, "one"))),
        ("after a ping", upgraded(frame(PING, "ping"))),
        ("after messages", upgraded(text("hello").repeat(100))),
    ]
}

/// A way to vanish.
type Way = fn(Client);

fn whoever_vanishes_leaves_nothing_behind_and_makes_room(server: &mut Server) {
    // One that stays, so that there is one place, and one that leaves, so that the server has all that it needs by itself.
    let mut stays = Client::open(server, "/echo");
    Client::open(server, "/echo").echo("hello");
    stays.echo("hello");
    let before = server.belongings_at_rest();
    let nothing_is_left = || server.belongings() == before;
    let ways: [(&str, Way); 2] = [("an end", drop), ("a reset", Client::reset)];
    for (name, bytes) in moments() {
        for (way, vanish) in ways {
            let _on_failure = Named(format!("{way} {name}"));
            let mut client = Client::connect(server);
            client.stream.write_all(&bytes).expect("an empty socket buffer takes it");
            vanish(client);
            eventually("descriptors, threads and processes are as before", nothing_is_left);
            // The same when the server had time to take in what was sent before.
            let mut client = open_eventually(server).0;
            client.echo("hello");
            client.send(bytes.get(upgrade_request("/echo").len()..).unwrap_or_default());
            vanish(client);
            eventually("descriptors, threads and processes are as before", nothing_is_left);
        }
    }
    stays.echo("still there");
}

fn whoever_sends_no_more_gets_what_is_owed(server: &mut Server) {
    for payload in [pattern(5), pattern(1 << 20)] {
        let mut client = Client::open(server, "/echo");
        client.send([frame(BINARY, &payload), text("the last")].concat());
        client.half_close();
        client.expect(BINARY, &payload);
        client.expect_text("the last");
        client.expect_end();
    }
}

fn whoever_asks_and_sends_no_more_gets_the_page(server: &mut Server) {
    let mut client = Client::connect(server);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.half_close();
    assert_eq!(client.response().status, 200);
    client.expect_end();
}

fn whoever_ends_in_the_middle_of_a_head_is_let_go(server: &mut Server) {
    for start in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: a\r\n"] {
        let mut client = Client::connect(server);
        client.send(start);
        client.half_close();
        // With or without an answer; but not only when the head's time is up, which takes as long as we wait.
        let answer = client.rest();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400 "), "{answer:?}");
    }
}
