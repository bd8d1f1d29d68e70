//! Small servers that answer as they are told. Each ends with the test process.

pub(crate) mod mortal;
pub(crate) mod rooms;
pub(crate) mod web;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use switchboard_load::{LoadReport, Percentiles};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

/// What a WebSocket server does in answer to a message.
pub(crate) enum Answer {
    Send(Vec<u8>),
    Close(u16),
}

/// A WebSocket server, one connection after the other in time but all at once in threads. `answer` gets the number of
/// the message on its connection, from 0.
pub(crate) fn echo_server(answer: impl FnMut(u64, Vec<u8>) -> Vec<Answer> + Send + 'static) -> SocketAddr {
    let answer = Arc::new(Mutex::new(answer));
    serve(move |stream| {
        let Ok(mut socket) = tungstenite::accept(stream) else { return };
        for number in 0.. {
            let Some(message) = next(&mut socket) else { return };
            let answers = (answer.lock().unwrap())(number, message);
            for answer in answers {
                let sent = match answer {
                    Answer::Send(message) => socket.send(Message::binary(message)),
                    Answer::Close(code) => {
                        let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
                        let closed = socket.close(Some(frame));
                        while socket.read().is_ok() {}
                        closed
                    }
                };
                if sent.is_err() {
                    return;
                }
            }
        }
    })
}

/// A WebSocket server that says `greetings` to everybody, and what `answer` makes of each message and of its number on its connection.
pub(crate) fn greeting_server(
    greetings: Vec<Message>,
    answer: impl Fn(u64, Vec<u8>) -> Vec<Message> + Send + Sync + 'static,
) -> SocketAddr {
    serve(move |stream| {
        let Ok(mut socket) = tungstenite::accept(stream) else { return };
        let mut answers = greetings.clone();
        for number in 0.. {
            if answers.drain(..).any(|answer| socket.send(answer).is_err()) {
                return;
            }
            let Some(message) = next(&mut socket) else { return };
            answers = answer(number, message);
        }
    })
}

/// A server that answers when it has `depth` messages of a connection, and all of them then: who has fewer under way never hears of any.
pub(crate) fn batching_server(depth: usize) -> SocketAddr {
    let mut held: HashMap<ThreadId, Vec<Answer>> = HashMap::new();
    echo_server(move |_, message| {
        // A connection is a thread.
        let mine = held.entry(thread::current().id()).or_default();
        mine.push(Answer::Send(message));
        if mine.len() == depth { std::mem::take(mine) } else { Vec::new() }
    })
}

/// Holds what a report says of the messages under way against how many there were to be. `times`: how long each of `count` was.
///
/// More than that many are never under way, and each is for as long as it took; what lies outside the window are parts of those at its two edges.
/// How much less it is than what was asked for is this machine's business: no message is under way while its client is kept from sending it.
pub(crate) fn expect_under_way(report: &LoadReport, asked: u64, times: Percentiles, count: u64) {
    let in_flight = report.in_flight_ns as f64;
    let of_all = times.mean * count as f64;
    // A histogram knows three digits.
    let edges = 2.0 * asked as f64 * times.max as f64 + of_all * 0.002;
    assert!((in_flight - of_all).abs() <= edges, "{in_flight} ns, and each for itself {of_all} ns: {report}");
    assert!(in_flight <= asked as f64 * report.window_ns as f64 * 1.001, "more than {asked}: {report}");
}

/// An honest server, but for one pause before it reads message `number`.
pub(crate) fn stalling_server(number: u64, pause: Duration) -> SocketAddr {
    echo_server(move |count, message| {
        if count == number {
            // The stall itself, not a wait for luck.
            thread::park_timeout(pause);
        }
        vec![Answer::Send(message)]
    })
}

/// A broadcast server. `copies` gets the receiver (in the order of connecting), the number of the message, and the
/// message, and returns what that receiver is sent.
pub(crate) fn broadcast_server(
    copies: impl Fn(usize, u64, Vec<u8>) -> Vec<Vec<u8>> + Send + Sync + 'static,
) -> SocketAddr {
    let receivers: Arc<Mutex<Vec<WebSocket<TcpStream>>>> = Arc::default();
    let numbers = Arc::new(Mutex::new(0));
    let copies = Arc::new(copies);
    serve(move |stream| {
        let writing = stream.try_clone().unwrap();
        let Ok(mut socket) = tungstenite::accept(stream) else { return };
        let writer = WebSocket::from_raw_socket(writing, tungstenite::protocol::Role::Server, None);
        receivers.lock().unwrap().push(writer);
        while let Some(message) = next(&mut socket) {
            let mut receivers = receivers.lock().unwrap();
            let mut number = numbers.lock().unwrap();
            for (index, receiver) in receivers.iter_mut().enumerate() {
                for copy in copies(index, *number, message.clone()) {
                    let _ = receiver.send(Message::binary(copy));
                }
            }
            *number += 1;
        }
    })
}

/// A Socket.IO server on its WebSocket transport, which pings once and returns the attachment of every event. `admits` is what it answers to the
/// client that wants to be let in.
pub(crate) fn socketio_server(admits: &'static str) -> SocketAddr {
    serve(move |stream| {
        let Ok(mut socket) = tungstenite::accept(stream) else { return };
        let mut answers = vec![r#"0{"sid":"1","upgrades":[],"pingInterval":25000}"#.to_owned()];
        loop {
            for answer in answers.drain(..) {
                if socket.send(Message::text(answer)).is_err() {
                    return;
                }
            }
            match socket.read() {
                Ok(Message::Text(packet)) => match packet.as_str() {
                    "40" => answers.extend([admits.to_owned(), "2".to_owned()]),
                    "3" => {}
                    event => answers.push(event.to_owned()),
                },
                Ok(Message::Binary(attachment)) => drop(socket.send(Message::Binary(attachment))),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    })
}

/// A datagram server that returns what it is told to.
pub(crate) fn udp_server(
    mut answer: impl FnMut(u64, Vec<u8>) -> Vec<Vec<u8>> + Send + 'static,
) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 65536];
        for number in 0.. {
            let Ok((bytes, sender)) = socket.recv_from(&mut buffer) else { return };
            for message in answer(number, buffer[..bytes].to_vec()) {
                let _ = socket.send_to(&message, sender);
            }
        }
    });
    address
}

/// A server that answers every connection with these bytes and waits for its end.
pub(crate) fn web_server(answer: &'static str) -> SocketAddr {
    serve(move |mut stream| {
        let _ = stream.write_all(answer.as_bytes());
        let _ = stream.read_to_end(&mut Vec::new());
    })
}

/// A server that accepts and never says anything.
pub(crate) fn silent_server() -> SocketAddr {
    serve(|mut stream| drop(stream.read_to_end(&mut Vec::new())))
}

pub(crate) fn serve(talk: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let talk = Arc::new(talk);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_nodelay(true).unwrap();
            let talk = talk.clone();
            thread::spawn(move || talk(stream));
        }
    });
    address
}

/// The next data message; `None` when the connection has ended.
fn next(socket: &mut WebSocket<TcpStream>) -> Option<Vec<u8>> {
    loop {
        match socket.read() {
            Ok(message) if message.is_binary() || message.is_text() => {
                return Some(message.into_data().to_vec());
            }
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}
