//! Servers of one connection at a time, of several loops, and of loops that spin before they block.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use switchboard_models::{Family, Mechanism, Model, Workers};

use crate::child::WORKERS;
use crate::client::{Client, eventually, upgrade_request};
use crate::frames::text;
use crate::refusals::open_eventually;
use crate::server::Server;
use crate::{Case, case, udp};

pub(crate) const CASES: &[Case] = &[
    case!(Echo, whoever_has_to_wait_is_served_when_the_others_have_left)
        .only(|model| model.served_at_once(None).is_some() || !model.serves.contains(&Mechanism::Together))
        .with(|settings| settings.app.workers = settings.app.workers.or(Some(1))),
    case!(Broadcast, all_workers_hear_what_any_of_them_is_told)
        .only(|model| model.workers == Workers::OnePerCore),
    case!(Echo, workers_hold_more_connections_together_than_one_may_have_descriptors)
        .unless(lacks_tables_of_descriptors)
        .only(|model| model.has_descriptors_each())
        .with(|settings| settings.descriptors = Some(DESCRIPTORS)),
    case!(Broadcast, a_worker_that_dies_takes_only_its_own_connections_with_it)
        .only(|model| model.family == Family::Process && model.workers == Workers::OnePerCore),
    case!(Echo, a_loop_that_spins_before_it_blocks_serves_as_any_other)
        .only(|model| model.busy_polls)
        .with(|settings| settings.app.busy_poll = SPIN),
    case!(UdpEcho, a_loop_that_spins_before_it_blocks_answers_datagrams)
        .only(|model| model.busy_polls)
        .with(|settings| settings.app.busy_poll = SPIN),
];

/// What each worker may have.
const DESCRIPTORS: u64 = 128;

/// Long enough that some messages come while it spins, and short enough that some come after it.
const SPIN: Duration = Duration::from_millis(4);

fn whoever_has_to_wait_is_served_when_the_others_have_left(server: &mut Server) {
    let mut first = Client::open(server, "/echo");
    let mut second = Client::connect(server);
    second.send(upgrade_request("/echo"));
    first.echo("not disturbed");
    if !server.model.serves.contains(&Mechanism::Together) {
        second.stream.set_nonblocking(true).expect("a socket can be set");
        let nothing = second.stream.read(&mut [0]);
        assert!(
            nothing.is_err_and(|error| error.kind() == ErrorKind::WouldBlock),
            "it was answered too early"
        );
        second.stream.set_nonblocking(false).expect("a socket can be set");
        drop(first);
        second.upgraded().expect("its turn has come").echo("hello");
    } else {
        // A pool says at once that it is full.
        assert_eq!(
            second.upgraded().err().expect("it is full").header("Switchboard-Refused"),
            Some("workers")
        );
        drop(first);
        open_eventually(server).0.echo("hello");
    }
}

fn all_workers_hear_what_any_of_them_is_told(server: &mut Server) {
    // So many that hardly a worker is without any, however the kernel spreads them.
    let mut clients: Vec<Client> = (0..48).map(|_| Client::open(server, "/broadcast")).collect();
    for sender in 0..clients.len() {
        let message = format!("from {sender}");
        clients[sender].send(text(&message));
        clients.iter_mut().for_each(|client| client.expect_text(&message));
    }
    let spread = server.stop().connections;
    assert_eq!(spread, 48);
}

fn lacks_tables_of_descriptors(model: &Model) -> Option<String> {
    let has = model.family == Family::Process || switchboard_models::threads_may_have_descriptors_each();
    (!has).then(|| "unshare(CLONE_FILES) is not permitted here".to_owned())
}

fn workers_hold_more_connections_together_than_one_may_have_descriptors(server: &mut Server) {
    // More than one may have, and so few for each that it does not matter how the kernel spreads them.
    let count = DESCRIPTORS as usize + 32;
    assert!(count / WORKERS < DESCRIPTORS as usize / 2);
    let mut clients: Vec<Client> = (0..count).map(|_| Client::open(server, "/echo")).collect();
    clients.iter_mut().for_each(|client| client.echo("hello"));
    drop(clients);
    assert_eq!(server.stop().connections, count as u64);
}

fn a_worker_that_dies_takes_only_its_own_connections_with_it(server: &mut Server) {
    let mut clients: Vec<Client> = (0..24).map(|_| Client::open(server, "/broadcast")).collect();
    // The first may have taken all of them before the last was there.
    eventually("all workers are there", || server.children().len() == WORKERS);
    let died = server.children()[0];
    kill(died, Signal::SIGKILL).expect("it is there");
    eventually("another is there in its place", || {
        let children = server.children();
        children.len() == WORKERS && !children.contains(&died)
    });
    // Those of the others are there, hear and are heard; those of the dead have been told by the system.
    clients.retain_mut(|client| {
        client.stream.set_nonblocking(true).expect("a socket can be set");
        let read = client.stream.read(&mut [0]);
        client.stream.set_nonblocking(false).expect("a socket can be set");
        read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    });
    clients.extend((0..24).map(|_| Client::open(server, "/broadcast")));
    clients[0].send(text("who is there?"));
    clients.iter_mut().for_each(|client| client.expect_text("who is there?"));
}

fn a_loop_that_spins_before_it_blocks_serves_as_any_other(server: &mut Server) {
    let mut clients = ["/echo", "/echo", "/broadcast"].map(|path| Client::open(server, path));
    for i in 0..20 {
        clients.iter_mut().for_each(|client| client.echo("hello"));
        std::thread::sleep(Duration::from_millis(i));
    }
}

fn a_loop_that_spins_before_it_blocks_answers_datagrams(server: &mut Server) {
    let client = udp::client(server);
    for i in 0..20 {
        udp::send(&client, "hello");
        udp::expect(&client, "hello");
        std::thread::sleep(Duration::from_millis(i));
    }
}
