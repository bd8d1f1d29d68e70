//! A server that has ended leaves its port: the next one can begin at once.

use std::net::{TcpListener, UdpSocket};
use std::thread;

use nix::sys::signal::Signal;
use switchboard_models::{Family, Mechanism};

use crate::client::{Client, eventually};
use crate::server::Server;
use crate::{Case, Settings, case, udp};

pub(crate) const CASES: &[Case] = &[
    case!(a_port_is_free_when_its_server_has_ended),
    case!(a_server_can_be_started_again_at_once),
    case!(Together, nothing_is_left_of_a_server_that_was_killed)
        .only(|model| model.family == Family::Process),
];

const ROUNDS: usize = 8;

fn talk(server: &Server) {
    if server.model.serves.contains(&Mechanism::UdpEcho) {
        let client = udp::client(server);
        udp::send(&client, "hello");
        udp::expect(&client, "hello");
    } else if server.model.serves.contains(&Mechanism::Echo) {
        Client::open(server, "/echo").echo("hello");
    } else {
        let mut client = Client::connect(server);
        client.send("hello");
        assert_eq!(client.take(5), b"hello");
    }
}

fn a_port_is_free_when_its_server_has_ended(server: &mut Server) {
    let settings = Settings::for_model(server.model);
    let is_datagram = server.model.family == Family::Datagram;
    for _ in 0..ROUNDS {
        let mut server = Server::start(server.model, &settings);
        talk(&server);
        server.end();
        // Bound by the standard library, which tries once. In the very moment in which the process is gone.
        let bound = match is_datagram {
            true => UdpSocket::bind(server.address).map(drop),
            false => TcpListener::bind(server.address).map(drop),
        };
        bound.expect("nobody has the port any more");
        server.finish();
    }
}

fn a_server_can_be_started_again_at_once(server: &mut Server) {
    let mut settings = Settings::for_model(server.model);
    settings.listen = server.address;
    server.stop();
    for _ in 0..ROUNDS {
        let mut server = Server::start(server.model, &settings);
        talk(&server);
        server.stop();
    }
}

fn nothing_is_left_of_a_server_that_was_killed(server: &mut Server) {
    let settings = Settings::for_model(server.model);
    for round in 0..ROUNDS {
        let server = Server::start(server.model, &settings);
        thread::scope(|scope| {
            // While it makes processes for them; whoever it does not get to hears of it by the end.
            scope.spawn(|| (0..20).map(|_| Client::connect(&server)).collect::<Vec<_>>().len());
            for _ in 0..round {
                Client::connect(&server);
            }
            server.signal(Signal::SIGKILL);
        });
        eventually("no process of the server is left", || server.belongs_to_nobody());
    }
}
