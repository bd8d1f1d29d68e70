//! Failures that stay where they are: a process that is stopped, a client that vanished, memory that is not there.

use std::io::Write;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use switchboard_models::{Family, Mechanism, Workers};

use crate::child::WORKERS;
use crate::client::{Client, Named, close_code, eventually};
use crate::frames::{BINARY, CLOSE, fragment, frame, pattern};
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Broadcast, a_process_that_is_stopped_holds_up_nobody)
        .only(|model| model.family == Family::Process)
        .with(|settings| settings.app.worker_patience = Duration::from_millis(500)),
    case!(Http, a_message_that_there_is_no_memory_for_ends_its_own_connection_only).together().with(
        |settings| {
            settings.app.max_message_bytes = 1 << 30;
            settings.memory = Some(MEMORY);
        },
    ),
    case!(EventStream, a_body_that_there_is_no_memory_for_is_refused_alone).with(|settings| {
        settings.app.max_message_bytes = 1 << 30;
        settings.memory = Some(MEMORY);
    }),
    case!(a_silent_connection_is_looked_after_by_the_system).only(|model| model.family != Family::Datagram),
];

/// What a server may take beyond what it began with.
const MEMORY: u64 = 32 << 20;

/// Pieces of a message, which are too many together.
const PIECE_BYTES: usize = 1 << 20;
const PIECES: usize = 2 * (MEMORY as usize / PIECE_BYTES);

fn a_process_that_is_stopped_holds_up_nobody(server: &mut Server) {
    // 24 MiB: more than the parent keeps for a worker.
    const MESSAGES: usize = 768;
    let has_workers = server.model.workers == Workers::OnePerCore;
    if has_workers {
        eventually("all workers are there", || server.children().len() == WORKERS);
    }
    let mut clients: Vec<Client> = (0..12).map(|_| Client::open(server, "/broadcast")).collect();
    let stopped = server.holder_of(&clients[0]);
    kill(stopped, Signal::SIGSTOP).expect("it is there");
    // Until then it may still be woken for a connection, and keep that from the others.
    eventually("it is stopped", || server.is_stopped(stopped));
    let before = clients.len();
    clients.retain(|client| server.holder_of(client) != stopped);
    let lost = before - clients.len();
    if !server.model.reuses_port {
        // Where all take from one queue, who comes now comes to another.
        clients.extend((0..2).map(|_| Client::open(server, "/broadcast")));
    }
    assert!(clients.len() >= 2, "the system gave all connections to one of {WORKERS} listeners");
    let payload = |i: usize| [&i.to_be_bytes()[..], &pattern(32 << 10)].concat();
    for i in 0..MESSAGES {
        let at = i % clients.len();
        clients[at].send(frame(BINARY, payload(i)));
        clients.iter_mut().for_each(|client| client.expect(BINARY, payload(i)));
    }
    if has_workers {
        assert!(server.log().contains("has taken nothing for 500ms"), "{}", server.log());
        eventually("another is there in its place", || {
            let children = server.children();
            children.len() == WORKERS && !children.contains(&stopped)
        });
        assert_eq!(server.stop().lost, lost as u64);
    }
}

fn a_message_that_there_is_no_memory_for_ends_its_own_connection_only(server: &mut Server) {
    let mut other = Client::open(server, "/echo");
    other.echo("before");
    let mut client = Client::open(server, "/echo");
    let mut voice = client.stream.try_clone().expect("a second handle");
    thread::scope(|scope| {
        scope.spawn(move || {
            let piece = pattern(PIECE_BYTES);
            // It fails when the server has had enough.
            let _ = voice.write_all(&fragment(BINARY, &piece));
            for _ in 1..PIECES {
                if voice.write_all(&fragment(0, &piece)).is_err() {
                    return;
                }
            }
        });
        let _failed = Named("a server whose memory is limited".into());
        // A child of `fork` has its own limit, and all the others have one together.
        let end = client.frame();
        assert_eq!((end.opcode, close_code(&end)), (CLOSE, Some(1013)));
    });
    drop(client);
    other.echo("after");
    Client::open(server, "/echo").echo("somebody new");
}

fn a_body_that_there_is_no_memory_for_is_refused_alone(server: &mut Server) {
    let mut other = Client::open(server, "/echo");
    other.echo("before");
    for framing in [format!("Content-Length: {}", PIECES * PIECE_BYTES), "Transfer-Encoding: chunked".into()]
    {
        let mut client = Client::connect(server);
        let mut voice = client.stream.try_clone().expect("a second handle");
        let is_chunked = framing.starts_with('T');
        client.send(format!("POST /publish HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut piece = vec![b'x'; PIECE_BYTES];
                if is_chunked {
                    piece = [format!("{PIECE_BYTES:x}\r\n").into_bytes(), piece, b"\r\n".to_vec()].concat();
                }
                let _ = (0..PIECES).try_for_each(|_| voice.write_all(&piece));
            });
            let _failed = Named(framing.clone());
            let head = client.response_head();
            assert_eq!((head.status, head.header("Switchboard-Refused")), (503, Some("memory")), "{head:?}");
        });
        drop(client);
        other.echo("after");
    }
}

fn a_silent_connection_is_looked_after_by_the_system(server: &mut Server) {
    const KEEPALIVE: u64 = 2;
    let client = match server.model.serves.contains(&Mechanism::Echo) {
        true => Client::open(server, "/echo"),
        false => Client::connect(server),
    };
    eventually("the system will ask whether the client is still there", || {
        server.system_timer(&client) == Some(KEEPALIVE)
    });
}
