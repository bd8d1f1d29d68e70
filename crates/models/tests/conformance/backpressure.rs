//! Clients that send without reading: they are held, not served from memory without bound.

use std::io::{ErrorKind, Write};
use std::thread;
use std::time::Duration;

use crate::client::{Client, PATIENCE};
use crate::frames::{BINARY, frame, pattern};
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Echo, a_client_that_does_not_read_is_held_and_gets_everything_later).together(),
    case!(Http, a_client_that_reads_slowly_gets_everything),
];

/// More than the socket buffers of both sides can hold.
const FAR_TOO_MUCH: usize = 256 << 20;

/// What the server may hold of it. Its own socket buffers are the kernel's and do not count.
const A_LITTLE: u64 = 16 << 20;

/// A message is taken to be held when nothing of it was accepted for so long. If that is wrong because the
/// machine is busy, then less was sent than could have been, and the case is weaker but not wrong.
const HELD: Duration = Duration::from_millis(400);

/// Writes these pieces one after the other until the server takes no more. Returns how many were begun, and
/// what is left of the last.
pub(crate) fn write_until_held(client: &mut Client, piece: impl Fn(usize) -> Vec<u8>) -> (usize, Vec<u8>) {
    client.stream.set_write_timeout(Some(HELD)).unwrap();
    let mut sent = 0;
    for i in 0.. {
        let bytes = piece(i);
        let mut written = 0;
        while written < bytes.len() {
            match client.stream.write(&bytes[written..]) {
                Ok(n) => written += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    client.stream.set_write_timeout(Some(PATIENCE)).unwrap();
                    return (i + 1, bytes[written..].to_vec());
                }
                Err(error) => panic!("the server ends a client instead of holding it: {error}"),
            }
        }
        sent += written;
        assert!(sent < FAR_TOO_MUCH, "the server took {sent} bytes from a client that reads nothing");
    }
    unreachable!("it returns or fails long before")
}

fn payload(i: usize) -> Vec<u8> {
    [&i.to_be_bytes()[..], &pattern(20_000 + i % 1000)].concat()
}

fn a_client_that_does_not_read_is_held_and_gets_everything_later(server: &mut Server) {
    let mut other = Client::open(server, "/echo");
    other.echo("hello");
    let mut client = Client::connect_narrow(server).upgrade("/echo");
    let before = server.resident_bytes();
    let (begun, left) = write_until_held(&mut client, |i| frame(BINARY, payload(i)));
    let more = server.resident_bytes().saturating_sub(before);
    assert!(more < A_LITTLE, "the server holds {more} bytes for a client that reads nothing");
    other.echo("nobody else is held");
    let mut rest = client.stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || rest.write_all(&left).unwrap());
        (0..begun).for_each(|i| client.expect(BINARY, payload(i)));
    });
    client.leave();
}

fn a_client_that_reads_slowly_gets_everything(server: &mut Server) {
    let mut client = Client::connect_narrow(server).upgrade("/echo");
    let messages = 400;
    let mut writer = client.stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            (0..messages).for_each(|i| writer.write_all(&frame(BINARY, payload(i))).unwrap());
        });
        for i in 0..messages {
            // Slower than it writes: the server has to stop and to begin again, many times.
            thread::yield_now();
            client.expect(BINARY, payload(i));
        }
    });
    client.leave();
}
