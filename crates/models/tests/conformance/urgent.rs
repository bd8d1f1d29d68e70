//! Urgent data (MSG_OOB in send(2)): a read ends at its mark, so that a short read does not mean that nothing is left. The byte itself stands outside
//! of the stream and is discarded.

use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, send};

use crate::client::{Client, upgrade_request};
use crate::frames::text;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Echo, an_urgent_byte_within_a_head_holds_nothing_up),
    case!(Echo, an_urgent_byte_between_two_messages_holds_nothing_up),
    case!(TcpEcho, an_urgent_byte_within_a_stream_holds_nothing_up),
];

const ROUNDS: usize = 10;

/// How the pieces reach the server: as it likes, or all of them before it reads any.
const WAYS: [bool; 2] = [false, true];

fn send_urgent(client: &Client) {
    let sent = send(client.stream.as_raw_fd(), b"!", MsgFlags::MSG_OOB);
    assert_eq!(sent, Ok(1));
}

/// Sends two pieces with an urgent byte between them.
fn send_around(server: &Server, client: &mut Client, pieces: [&[u8]; 2], is_at_once: bool) {
    if is_at_once {
        server.suspend();
    }
    client.send(pieces[0]);
    send_urgent(client);
    client.send(pieces[1]);
    if is_at_once {
        server.resume();
    }
}

fn an_urgent_byte_within_a_head_holds_nothing_up(server: &mut Server) {
    let head = upgrade_request("/echo");
    let (first, second) = head.as_bytes().split_at(head.len() / 2);
    for is_at_once in WAYS {
        for _ in 0..ROUNDS {
            let mut client = Client::connect(server);
            send_around(server, &mut client, [first, second], is_at_once);
            let mut client = client.upgraded().unwrap_or_else(|response| panic!("{response:?}"));
            client.echo("hello");
        }
    }
}

fn an_urgent_byte_between_two_messages_holds_nothing_up(server: &mut Server) {
    let mut client = Client::open(server, "/echo");
    for is_at_once in WAYS {
        for _ in 0..ROUNDS {
            send_around(server, &mut client, [&text("one"), &text("two")], is_at_once);
            client.expect_text("one");
            client.expect_text("two");
            // It is read as well as ever from then on.
            client.echo("three");
        }
    }
    // An urgent byte with nothing behind it, and the end.
    send_urgent(&client);
    client.leave();
}

fn an_urgent_byte_within_a_stream_holds_nothing_up(server: &mut Server) {
    let mut client = Client::connect(server);
    for is_at_once in WAYS {
        for _ in 0..ROUNDS {
            send_around(server, &mut client, [b"before", b"after"], is_at_once);
            assert_eq!(client.take(11), b"beforeafter");
        }
    }
}
