//! The client's side of a connection, against servers that do well and servers that do not.

use switchboard_proto::websocket::Violation;
use switchboard_proto::{
    App, Client, ClientError, ClientEvent, ClientPlan, CloseReason, Dialect, Kind, PollingClient, Responses,
    Side,
};

use super::frames::{CLOSE, CONTINUE, FIN, PING, TEXT, close, masked, plain};
use super::pair::{Heard, Pair};

const LIMIT: usize = 1000;

fn client(seed: u64) -> Client {
    Client::new(
        &ClientPlan {
            host: "h:1".into(),
            path: "/echo".into(),
            max_message_bytes: LIMIT,
            dialect: Dialect::Plain,
        },
        seed,
    )
}

fn written(client: &mut Client) -> Vec<u8> {
    let bytes = client.output().single().expect("in one piece").to_vec();
    client.output().consume(bytes.len());
    bytes
}

/// What the server answers to `client` when it agrees.
fn agreement(client: &mut Client) -> Vec<u8> {
    let request = String::from_utf8(written(client)).unwrap();
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = switchboard_proto::websocket::accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: upgrade\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

/// A client that is connected.
fn open() -> Client {
    let mut client = client(1);
    let mut answer = agreement(&mut client);
    let mut input = &mut answer[..];
    assert_eq!(client.next(&mut input), Ok(Some(ClientEvent::Upgraded)));
    assert_eq!(client.next(&mut input), Ok(None));
    client
}

#[test]
fn a_request_is_what_the_rfc_asks_for_and_no_two_have_the_same_key() {
    let (first, second) = (written(&mut client(1)), written(&mut client(3)));
    let text = String::from_utf8(first.clone()).unwrap();
    assert!(text.starts_with("GET /echo HTTP/1.1\r\nHost: h:1\r\n") && text.ends_with("\r\n\r\n"));
    assert_ne!(first, second);
}

#[test]
fn an_answer_may_come_in_pieces_with_frames_right_behind_it() {
    let mut at_once = client(1);
    let answer = [agreement(&mut at_once), plain(TEXT, "early")].concat();
    for cut in 0..=answer.len() {
        let mut client = client(1);
        written(&mut client);
        let (mut first, mut second) = (answer[..cut].to_vec(), answer[cut..].to_vec());
        let mut heard = Vec::new();
        for mut input in [&mut first[..], &mut second[..]] {
            while let Some(event) = client.next(&mut input).unwrap() {
                heard.push(format!("{event:?}"));
            }
            assert!(input.is_empty());
        }
        assert_eq!(heard.len(), 2, "cut at {cut}: {heard:?}");
        assert_eq!(heard[0], "Upgraded");
        assert!(heard[1].starts_with("Message(Text"));
    }
}

#[test]
fn an_accept_key_for_somebody_else_is_refused() {
    let mut own = client(1);
    written(&mut own);
    let mut others = agreement(&mut client(3));
    assert_eq!(own.next(&mut &mut others[..]), Err(ClientError::WrongAccept));
    let mut own = client(1);
    let mut none = b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec();
    assert_eq!(own.next(&mut &mut none[..]), Err(ClientError::WrongAccept));
}

#[test]
fn a_101_that_is_no_agreement_fails_the_connection() {
    let with = |from: &str, to: &str| {
        let mut client = client(1);
        let agreed = String::from_utf8(agreement(&mut client)).unwrap();
        assert!(agreed.contains(from), "{from}");
        client.next(&mut &mut agreed.replace(from, to).into_bytes()[..]).unwrap_err().to_string()
    };
    // RFC 6455, 4.1: each of these MUST fail the connection.
    for (from, to, word) in [
        ("upgrade: WebSocket\r\n", "", "Upgrade"),
        ("upgrade: WebSocket", "upgrade: h2c", "Upgrade"),
        ("Connection: upgrade\r\n", "", "Connection"),
        ("Connection: upgrade", "Connection: keep-alive", "Connection"),
        ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", "extension"),
        ("\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n", "subprotocol"),
    ] {
        let error = with(from, to);
        assert!(error.contains(word), "{to}: {error}");
    }
    let mut lists = client(1);
    let agreed = String::from_utf8(agreement(&mut lists)).unwrap();
    let agreed = agreed
        .replace("upgrade: WebSocket", "Upgrade: foo, websocket")
        .replace("Connection: upgrade", "Connection: keep-alive\r\nConnection: x, Upgrade");
    assert_eq!(lists.next(&mut &mut agreed.into_bytes()[..]), Ok(Some(ClientEvent::Upgraded)));
}

#[test]
fn interim_answers_before_the_upgrade_are_passed_over() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    let mut at_once = client(1);
    let answer = [hints.as_bytes(), &agreement(&mut at_once), &plain(TEXT, "early")].concat();
    for cut in 0..=answer.len() {
        let mut client = client(1);
        written(&mut client);
        let (mut first, mut second) = (answer[..cut].to_vec(), answer[cut..].to_vec());
        let mut heard = Vec::new();
        for mut input in [&mut first[..], &mut second[..]] {
            while let Some(event) = client.next(&mut input).unwrap() {
                heard.push(format!("{event:?}"));
            }
        }
        assert!(heard.len() == 2 && heard[0] == "Upgraded", "cut at {cut}: {heard:?}");
    }
}

#[test]
fn an_answer_may_have_as_many_fields_as_fit_into_its_head() {
    for count in [65, 1000] {
        let fields: String = (0..count).map(|number| format!("X-{number}: y\r\n")).collect();
        let mut client = client(1);
        let agreed = String::from_utf8(agreement(&mut client)).unwrap();
        let agreed = agreed.replace("upgrade: WebSocket", &format!("{fields}upgrade: WebSocket"));
        assert_eq!(client.next(&mut &mut agreed.into_bytes()[..]), Ok(Some(ClientEvent::Upgraded)));
        let page = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nhi");
        let mut responses = Responses::new(100);
        let response = responses.next(&mut page.as_bytes()).unwrap().unwrap();
        assert_eq!((response.head.status, response.body), (200, &b"hi"[..]));
    }
}

#[test]
fn a_flood_of_pings_leaves_one_pong_waiting_and_the_last_ping_is_answered() {
    let mut client = open();
    for number in 0..10_000 {
        let mut ping = plain(PING, format!("ping {number:0120}"));
        assert_eq!(client.next(&mut &mut ping[..]), Ok(None));
        assert!(client.output().len() < 1000, "{} bytes after {number} pings", client.output().len());
    }
    // The server reads again: the first pong leaves, and behind it the one for the last ping (RFC 6455, 5.5.3).
    let mut pongs = Vec::new();
    while !client.output().is_empty() {
        let frame = written(&mut client);
        let unmasked: Vec<u8> =
            frame[6..].iter().zip(frame[2..6].iter().cycle()).map(|(a, b)| a ^ b).collect();
        pongs.push(String::from_utf8(unmasked).unwrap());
    }
    assert_eq!(pongs, [format!("ping {:0120}", 0), format!("ping {:0120}", 9_999)]);
}

#[test]
fn a_flood_of_engine_io_pings_leaves_one_answer_waiting() {
    let plan = |path: &str| ClientPlan {
        host: "h:1".into(),
        path: path.into(),
        max_message_bytes: 1 << 20,
        dialect: Dialect::SocketIo,
    };
    let mut client = Client::new(&plan("/socket.io/?EIO=4&transport=websocket"), 1);
    let mut answer = agreement(&mut client);
    assert_eq!(client.next(&mut &mut answer[..]), Ok(None));
    for packet in ["0{\"sid\":\"a\"}", "40{\"sid\":\"b\"}"] {
        let mut frame = plain(TEXT, packet);
        client.next(&mut &mut frame[..]).unwrap();
    }
    let before = client.output().len();
    for _ in 0..1000 {
        let mut ping = plain(TEXT, "2");
        assert_eq!(client.next(&mut &mut ping[..]), Ok(None));
    }
    assert!(client.output().len() <= before + 7, "{} bytes wait", client.output().len());

    let mut polling = PollingClient::new(&plan("/socket.io/?EIO=4&transport=polling"));
    let mut hear = |body: &str| {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        polling.receive(Side::Get, answer.as_bytes(), |_| ()).unwrap();
        polling.output(Side::Post).len()
    };
    hear("0{\"sid\":\"a\"}");
    let before = hear("40{\"sid\":\"b\"}");
    let after = hear(&vec!["2"; 10_000].join("\u{1e}"));
    assert_eq!(before, after, "the POST is under way, and what waits behind it is not in the output");
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let written = polling.output(Side::Post).len();
    polling.output(Side::Post).consume(written);
    polling.receive(Side::Post, answer.as_bytes(), |_| ()).unwrap();
    let post = String::from_utf8(polling.output(Side::Post).single().unwrap().to_vec()).unwrap();
    assert!(post.ends_with("Content-Length: 1\r\n\r\n3"), "{post}");
}

#[test]
fn what_is_not_http_and_what_never_ends_are_refused() {
    for mut bytes in [b"SSH-2.0-OpenSSH\r\n".to_vec(), plain(TEXT, "too early")] {
        assert!(matches!(client(1).next(&mut &mut bytes[..]), Err(ClientError::NotHttp(_))));
    }
    let mut endless = [&b"HTTP/1.1 200 OK\r\nX: "[..], &[b'x'; 100_000]].concat();
    assert!(matches!(client(1).next(&mut &mut endless[..]), Err(ClientError::NotHttp(_))));
}

#[test]
fn a_ping_is_answered_masked_with_the_same_payload() {
    let mut client = open();
    let mut ping = plain(PING, "are you there?");
    assert_eq!(client.next(&mut &mut ping[..]), Ok(None));
    let pong = written(&mut client);
    assert_eq!(pong[..2], [0x8A, 0x80 | 14]);
    let unmasked: Vec<u8> = pong[6..].iter().zip(pong[2..6].iter().cycle()).map(|(a, b)| a ^ b).collect();
    assert_eq!(unmasked, b"are you there?");
}

#[test]
fn no_two_frames_have_the_same_mask() {
    let mut client = open();
    client.send_with(Kind::Binary, 3, |space| space.copy_from_slice(b"abc"));
    let first = written(&mut client);
    client.send_with(Kind::Binary, 3, |space| space.copy_from_slice(b"abc"));
    let second = written(&mut client);
    assert_eq!((first[..2].to_vec(), first.len()), (vec![0x82, 0x83], 9));
    assert_ne!(first[2..6], second[2..6]);
}

#[test]
fn a_server_that_breaks_the_protocol_is_told_on() {
    for (mut bytes, violation) in [
        (masked(TEXT, "a server must not"), Violation::Masking),
        (plain(CONTINUE, "of nothing"), Violation::Fragment),
        (plain(TEXT & !FIN, [0xFF]), Violation::Utf8),
        (plain(TEXT, [b'x'; LIMIT + 1]), Violation::TooBig),
        (plain(CLOSE, close(1005, "")), Violation::Close),
    ] {
        assert_eq!(open().next(&mut &mut bytes[..]), Err(ClientError::Violation(violation)));
    }
}

#[test]
fn a_client_answers_the_goodbye_of_a_server_and_both_are_done() {
    let mut pair = Pair::new(App::default(), "/echo");
    pair.settle();
    pair.wire.session.close(CloseReason::GoingAway, pair.wire.now);
    pair.settle();
    assert_eq!(pair.take_heard(), [Heard::Upgraded, Heard::Closed(Some(1001))]);
    assert!(pair.wire.is_closed(), "the server waited for the answer and has it");
}
