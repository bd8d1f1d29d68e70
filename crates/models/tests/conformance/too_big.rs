//! Messages over the limit: refused with 1009 on the word of the header, before they are held.

use crate::client::{Client, at_each_pace};
use crate::frames::{
    BINARY, CONTINUATION, FINAL, KEY, PING, PONG, TEXT, fragment, frame, header_16, header_64, masked,
    pattern,
};
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Http, a_message_of_the_limit_is_served_and_a_longer_one_refused)
        .with(|settings| settings.app.max_message_bytes = LIMIT),
    case!(Http, the_limit_counts_all_fragments_of_a_message)
        .with(|settings| settings.app.max_message_bytes = LIMIT),
    case!(Http, by_default_the_limit_is_16_mib),
    case!(Http, the_refusal_arrives_though_its_client_goes_on_sending)
        .with(|settings| settings.app.max_message_bytes = LIMIT),
    case!(Http, a_header_makes_the_server_hold_nothing).together(),
];

const LIMIT: usize = 1000;

fn a_message_of_the_limit_is_served_and_a_longer_one_refused(server: &mut Server) {
    let mut client = Client::open(server, "/echo");
    client.send(frame(BINARY, pattern(LIMIT)));
    client.expect(BINARY, pattern(LIMIT));
    client.leave();
    // Headers alone: none of these messages ever comes.
    let inputs = [
        ("one byte too long", header_16(TEXT, LIMIT as u16 + 1)),
        ("64 KiB", header_64(BINARY, 65_536)),
        ("4 GiB and a byte", header_64(BINARY, (1 << 32) + 1)),
        ("as long as can be said", header_64(BINARY, (1 << 63) - 1)),
        ("in fragments", [vec![BINARY], header_64(BINARY, 1 << 40)[1..].to_vec()].concat()),
    ];
    at_each_pace(&inputs, |pace, bytes| {
        let mut client = Client::open(server, "/echo");
        client.send_at(pace, bytes);
        client.expect_close(1009);
    });
}

fn the_limit_counts_all_fragments_of_a_message(server: &mut Server) {
    let mut client = Client::open(server, "/echo");
    // What stands between the fragments does not count, nor what came before.
    let parts = [
        fragment(TEXT, [b'x'; 600]),
        frame(PING, [b'p'; 125]),
        fragment(CONTINUATION, [b'x'; LIMIT - 600]),
        frame(CONTINUATION, ""),
    ];
    for _ in 0..3 {
        client.send(parts.concat());
        client.expect(PONG, [b'p'; 125]);
        client.expect(TEXT, [b'x'; LIMIT]);
    }
    client.leave();
    let first = fragment(BINARY, [0; 600]);
    let header = masked(FINAL | CONTINUATION, KEY, &[0; LIMIT - 599])[..8].to_vec();
    let huge = header_64(CONTINUATION, (1 << 63) - 1);
    let inputs = [
        ("a byte too many in the second", [first.clone(), header].concat()),
        ("a sum that overflows", [first, huge].concat()),
        (
            "a byte in the eleventh",
            [fragment(TEXT, ""), fragment(CONTINUATION, [b'x'; 100]).repeat(10), frame(CONTINUATION, "x")]
                .concat(),
        ),
    ];
    at_each_pace(&inputs, |pace, bytes| {
        let mut client = Client::open(server, "/echo");
        client.send_at(pace, bytes);
        client.expect_close(1009);
    });
}

fn by_default_the_limit_is_16_mib(server: &mut Server) {
    let mut client = Client::open(server, "/echo");
    client.send(frame(BINARY, pattern(16 << 20)));
    client.expect(BINARY, pattern(16 << 20));
    client.send(header_64(BINARY, (16 << 20) + 1));
    client.expect_close(1009);
}

fn the_refusal_arrives_though_its_client_goes_on_sending(server: &mut Server) {
    let bytes = 6 << 20;
    let mut client = Client::open(server, "/echo");
    client.send(header_64(BINARY, bytes));
    // More than any socket buffer holds: the server must take it in, or a reset overtakes the close.
    client.send(vec![0; bytes as usize]);
    client.expect_close(1009);
    let mut client = Client::open(server, "/echo");
    client.echo("still there");
}

fn a_header_makes_the_server_hold_nothing(server: &mut Server) {
    let mut clients: Vec<Client> = (0..40).map(|_| Client::open(server, "/echo")).collect();
    let before = server.resident_bytes();
    for client in &mut clients {
        // 16 MiB are announced, a kilobyte comes.
        client.send(header_64(BINARY, 16 << 20));
        client.send([0; 1000]);
    }
    let mut other = Client::open(server, "/echo");
    other.echo("hello");
    let more = server.resident_bytes().saturating_sub(before);
    assert!(more < 64 << 20, "40 headers made the server hold {more} bytes");
}
