//! Limits: one client too many is told so by 503, and the others do not notice.

use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::geteuid;
use switchboard_models::{Family, Model, Workers};

use crate::client::{Client, Response, eventually, upgrade_request};
use crate::events::{Event, EventStream};
use crate::frames::text;
use crate::http::get;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Echo, one_more_than_max_connections_is_refused_until_one_leaves)
        .together()
        .with(|settings| settings.app.max_connections = Some(3)),
    case!(Http, a_refusal_is_for_whatever_was_asked).with(|settings| settings.app.max_connections = Some(0)),
    case!(Echo, a_refusal_arrives_though_its_client_goes_on_sending)
        .with(|settings| settings.app.max_connections = Some(0)),
    case!(Echo, at_the_descriptor_limit_clients_are_refused_and_the_cpu_rests)
        .together()
        .with(|settings| settings.descriptors = Some(64)),
    case!(Echo, over_a_thousand_connections_are_served_or_refused_with_the_reason)
        .together()
        .unless(lacks_descriptors),
    case!(Echo, at_the_process_limit_clients_are_refused)
        .unless(lacks_root)
        .together()
        .with(|settings| settings.processes = Some(16)),
    case!(Broadcast, at_the_process_limit_subscribers_are_refused)
        .unless(lacks_root)
        .with(|settings| settings.processes = Some(16)),
    case!(EventStream, at_the_process_limit_streams_and_long_polls_are_refused)
        .unless(lacks_root)
        .with(|settings| settings.processes = Some(16)),
];

/// Expects a 503 for this reason, in one word for programs, that says `hint` to people.
fn expect_refusal(response: &Response, reason: &str, hint: &str) {
    assert_eq!(response.status, 503, "{response:?}");
    assert_eq!(response.header("Switchboard-Refused"), Some(reason), "{response:?}");
    assert!(response.says_close(), "{response:?}");
    assert!(response.body.contains(hint), "{hint} is not in {:?}", response.body);
}

/// Tries until there is a place. Returns how often it was refused before.
pub(crate) fn open_eventually(server: &Server) -> (Client, u64) {
    let mut found = None;
    let mut refused = 0;
    eventually("there is a place", || {
        match Client::try_open(server, "/echo") {
            Ok(client) => found = Some(client),
            Err(_) => refused += 1,
        }
        found.is_some()
    });
    (found.expect("there is a place"), refused)
}

fn one_more_than_max_connections_is_refused_until_one_leaves(server: &mut Server) {
    let mut clients: Vec<Client> = (0..3).map(|_| Client::open(server, "/echo")).collect();
    let mut refused = 0;
    for round in 0..3 {
        let refusal = Client::try_open(server, "/echo").err().expect("there are three already");
        expect_refusal(&refusal, "max-connections", "--max-connections");
        clients.iter_mut().for_each(|client| client.echo("not disturbed"));
        drop(clients.remove(round));
        let (client, refused_meanwhile) = open_eventually(server);
        clients.push(client);
        refused += 1 + refused_meanwhile;
    }
    let tally = server.stop();
    assert_eq!((tally.connections, tally.refused), (6, refused));
}

fn a_refusal_is_for_whatever_was_asked(server: &mut Server) {
    let asked = ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /", "", "\0\0\0\0"];
    for asked in asked {
        let mut client = Client::connect(server);
        client.send(asked);
        expect_refusal(&client.response(), "max-connections", "--max-connections");
    }
    let tally = server.stop();
    assert_eq!((tally.connections, tally.refused), (0, asked.len() as u64));
}

fn a_refusal_arrives_though_its_client_goes_on_sending(server: &mut Server) {
    let mut client = Client::connect(server);
    client.send(upgrade_request("/echo"));
    // The answer is there, and if the server had closed as well, then what follows would meet a reset.
    client.stream.peek(&mut [0]).expect("an answer comes in time");
    for _ in 0..100 {
        client.send([b'x'; 1000]);
    }
    expect_refusal(&client.response(), "max-connections", "--max-connections");
}

fn at_the_descriptor_limit_clients_are_refused_and_the_cpu_rests(server: &mut Server) {
    // More than there are descriptors even for refusing; each process of a server has its own, and each worker may.
    let has_several_tables =
        server.model.family == Family::Process || server.model.workers == Workers::OnePerCore;
    let clients = if has_several_tables { 250 } else { 100 };
    const INTERVAL: Duration = Duration::from_secs(1);
    // All at once and without reading the answers.
    let waiting: Vec<Client> = (0..clients)
        .map(|_| {
            let mut client = Client::connect(server);
            client.send(upgrade_request("/echo"));
            client
        })
        .collect();
    let mut served = Vec::new();
    let mut refused = 0;
    for client in waiting {
        match client.upgraded() {
            Ok(client) => served.push(client),
            Err(response) => {
                expect_refusal(&response, "descriptors", "RLIMIT_NOFILE is 64");
                if refused == 0 && rests(server) {
                    // Not a wait for something: CPU time takes a while to show.
                    let before = server.cpu_time();
                    thread::sleep(INTERVAL);
                    let spent = server.cpu_time().saturating_sub(before);
                    assert!(spent < INTERVAL / 8, "the server spins: {spent:?} of CPU in {INTERVAL:?}");
                }
                refused += 1;
            }
        }
    }
    assert!(served.len() >= 16 && refused > 0, "{} served, {refused} refused", served.len());
    served.iter_mut().for_each(|client| client.echo("not disturbed"));
    let lines = server.log().lines().count();
    assert!(lines < 40, "{lines} lines in the log, for something that repeats");
    drop(served);
    let (mut client, refused_meanwhile) = open_eventually(server);
    client.echo("hello");
    assert_eq!(server.stop().refused, refused + refused_meanwhile);
}

/// Whether a server takes no CPU time when there is nothing to do, which one does as a matter of principle.
fn rests(server: &Server) -> bool {
    server.model.name != "spin"
}

/// Connections of the case with the most.
const CLIENTS: usize = 1060;

fn lacks_descriptors(_: &Model) -> Option<String> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    // Cases of several models run at the same time, in one process.
    let needed = 8 * CLIENTS as u64;
    (limit < needed).then(|| format!("this needs {needed} descriptors, and ulimit -n is {limit}"))
}

fn over_a_thousand_connections_are_served_or_refused_with_the_reason(server: &mut Server) {
    let mut served = Vec::new();
    let mut refused = 0;
    for _ in 0..CLIENTS {
        match Client::try_open(server, "/echo") {
            Ok(client) => served.push(client),
            Err(response) => {
                match server.model.served_at_once(None) {
                    None => expect_refusal(&response, "FD_SETSIZE", "FD_SETSIZE is 1024; use poll or epoll"),
                    Some(_) => expect_refusal(&response, "workers", "--workers"),
                }
                refused += 1;
            }
        }
    }
    // The two reasons that there are: no descriptor with a bit in select's sets, and nobody left to serve.
    match server.model.served_at_once(None) {
        Some(most) => assert_eq!(served.len(), most),
        None => {
            assert!(served.len() > 950);
            assert_eq!(refused > 0, server.model.name == "select", "{refused} were refused");
        }
    }
    for (i, client) in served.iter_mut().enumerate() {
        client.echo(&format!("client {i}"));
    }
    // The last descriptors are as good as the first.
    served.truncate(500);
    let (mut client, refused_meanwhile) = open_eventually(server);
    client.echo("hello");
    assert_eq!(server.stop().refused, refused + refused_meanwhile);
}

fn at_the_process_limit_clients_are_refused(server: &mut Server) {
    at_the_process_limit(server, "/echo");
}

/// A subscriber may need more than one process or thread: it is served or refused, never just dropped.
fn at_the_process_limit_subscribers_are_refused(server: &mut Server) {
    at_the_process_limit(server, "/broadcast");
}

/// The same for those who wait without a WebSocket; what they had asked before is answered all the same.
fn at_the_process_limit_streams_and_long_polls_are_refused(server: &mut Server) {
    let mut publisher = Client::connect(server);
    publisher.publish("t", "x");
    let targets = ["/events?topic=t&since=0", "/longpoll?topic=t&since=0"];
    let (mut served, mut answered, mut refused) = (Vec::new(), Vec::new(), 0);
    for i in 0..40 {
        let mut client = Client::connect(server);
        client.send(get("/nothing") + &get(targets[i % 2]));
        let mut response = client.response_head();
        // Whoever is let in has its first answer.
        if response.status == 404 {
            client.body(response);
            response = client.response_head();
        }
        match response.status {
            200 if i % 2 == 0 => served.push(EventStream::after(client, &response)),
            200 => {
                client.body(response);
                answered.push(client);
            }
            _ => {
                let reason = response.header("Switchboard-Refused").unwrap_or_default().to_owned();
                assert!(["processes", "threads"].contains(&&reason[..]), "{response:?}");
                expect_refusal(&client.body(response), &reason, "ulimit -u");
                refused += 1;
            }
        }
    }
    assert!(!served.is_empty());
    publisher.publish("t", "y");
    served.iter_mut().for_each(|stream| stream.expect([Event::message(1, "x"), Event::message(2, "y")]));
    drop((served, answered));
    let (mut client, refused_meanwhile) = open_eventually(server);
    client.echo("hello");
    assert_eq!(server.stop().refused, refused + refused_meanwhile);
}

/// The limit must be set for the server alone.
fn lacks_root(_: &Model) -> Option<String> {
    (!geteuid().is_root())
        .then(|| "only root can start a server as a user whose processes are all its own".to_owned())
}

fn at_the_process_limit(server: &mut Server, path: &str) {
    let mut served = Vec::new();
    let mut refused = 0;
    for _ in 0..40 {
        match Client::try_open(server, path) {
            Ok(client) => served.push(client),
            Err(response) => {
                let reason = response.header("Switchboard-Refused").unwrap_or_default();
                assert!(["processes", "threads"].contains(&reason), "{response:?}");
                expect_refusal(&response, reason, "ulimit -u");
                refused += 1;
            }
        }
    }
    assert!(served.len() > 5, "{} served", served.len());
    for i in 0..served.len() {
        // On /broadcast all hear it, on /echo the sender.
        served[i].send(text("not disturbed"));
        let all = if path == "/broadcast" { 0..served.len() } else { i..i + 1 };
        served[all].iter_mut().for_each(|client| client.expect_text("not disturbed"));
    }
    // One leaves, one comes; for a server without a process or thread for each this is as easy as before.
    drop(served.pop());
    let (mut client, refused_meanwhile) = open_eventually(server);
    client.echo("hello");
    assert_eq!(server.stop().refused, refused + refused_meanwhile);
}
