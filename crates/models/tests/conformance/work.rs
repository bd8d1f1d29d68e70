//! Simulated work: done once for each message, and for nothing else.

use std::time::Duration;

use crate::client::Client;
use crate::frames::{BINARY, frame, pattern};
use crate::server::Server;
use crate::{Case, case, udp};

/// Long enough that nothing else that a server does for a message matters beside it.
const WORK: Duration = Duration::from_millis(4);
const MESSAGES: usize = 25;

pub(crate) const CASES: &[Case] = &[
    case!(Echo, work_is_done_for_every_message).with(|settings| settings.work = WORK),
    case!(UdpEcho, work_is_done_for_every_datagram).with(|settings| settings.work = WORK),
    case!(TcpEcho, work_is_done_for_every_read).with(|settings| settings.work = WORK),
];

/// What the calibration finds is what the core did at its best: it may be slower later, but hardly faster.
fn expect_work(server: &Server, talk: impl FnOnce()) {
    let before = server.cpu_time();
    talk();
    let spent = server.cpu_time() - before;
    assert!(spent > WORK * MESSAGES as u32 / 2, "{spent:?}");
}

fn work_is_done_for_every_message(server: &mut Server) {
    let mut client = Client::open(server, "/echo");
    expect_work(server, || {
        for number in 0..MESSAGES {
            client.send(frame(BINARY, pattern(number)));
            client.expect(BINARY, pattern(number));
        }
    });
}

fn work_is_done_for_every_datagram(server: &mut Server) {
    let client = udp::client(server);
    expect_work(server, || {
        for number in 1..=MESSAGES {
            udp::send(&client, pattern(number));
            udp::expect(&client, pattern(number));
        }
    });
}

fn work_is_done_for_every_read(server: &mut Server) {
    let mut client = Client::connect(server);
    expect_work(server, || {
        for number in 1..=MESSAGES {
            client.send(pattern(number));
            assert!(client.take(number) == pattern(number));
        }
    });
}
