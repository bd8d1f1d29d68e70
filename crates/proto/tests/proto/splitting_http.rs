//! However the network cuts a stream of requests, the same requests are read; and garbage is survived.

use proptest::collection::vec;
use proptest::prelude::*;
use switchboard_proto::http::MAX_HEAD_BYTES;

use super::reading::{MAX_BODY_BYTES, read_pieces};
use super::script::cuts;

/// A body and the way in which it is sent.
#[derive(Debug, Clone)]
enum Sent {
    Nothing,
    Length(Vec<u8>),
    /// In chunks, each with its extension; and the trailers behind them.
    Chunks(Vec<(Vec<u8>, String)>, Vec<String>),
}

impl Sent {
    fn body(&self) -> Vec<u8> {
        match self {
            Sent::Nothing => Vec::new(),
            Sent::Length(body) => body.clone(),
            Sent::Chunks(chunks, _) => chunks.iter().flat_map(|(chunk, _)| chunk.clone()).collect(),
        }
    }

    /// The request with this body.
    fn encode(&self, target: &str) -> Vec<u8> {
        let mut out = format!("POST {target} HTTP/1.1\r\nHost: h\r\n").into_bytes();
        match self {
            Sent::Nothing => out.extend_from_slice(b"\r\n"),
            Sent::Length(body) => {
                out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                out.extend_from_slice(body);
            }
            Sent::Chunks(chunks, trailers) => {
                out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for (chunk, extension) in chunks {
                    out.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
                    out.extend_from_slice(chunk);
                    out.extend_from_slice(b"\r\n");
                }
                let trailers: String = trailers.iter().map(|trailer| format!("{trailer}\r\n")).collect();
                out.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
            }
        }
        out
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let chunk = (vec(any::<u8>(), 1..200), "(|;[a-z]{1,5}=\"[ -~]{0,5}\"|[ \t]{1,3})");
    prop_oneof![
        1 => Just(Sent::Nothing),
        2 => vec(any::<u8>(), 0..MAX_BODY_BYTES).prop_map(Sent::Length),
        2 => (vec(chunk, 0..5), vec("[A-Za-z-]{1,9}:[ -~]{0,20}", 0..3))
            .prop_map(|(chunks, trailers)| Sent::Chunks(chunks, trailers)),
    ]
}

/// What a client that means no good may write, close enough to HTTP to get somewhere.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just("GET /%41?x=%42 HTTP/1.1".to_owned()),
        1 => Just("POST http://h/x HTTP/1.0".to_owned()),
        3 => Just("Host: h".to_owned()),
        1 => (0..2000_usize).prop_map(|n| format!("Content-Length: {n}")),
        1 => Just("Transfer-Encoding: chunked".to_owned()),
        1 => Just("Expect: 100-continue".to_owned()),
        1 => Just("Connection: close, Upgrade".to_owned()),
        1 => Just("Upgrade: websocket".to_owned()),
        3 => Just(String::new()),
        1 => "[0-9a-f]{1,17}",
        1 => Just("X: ".to_owned() + &"y".repeat(8000)),
        1 => "[ -~\r\t\0]{0,30}",
    ]
}

proptest! {
    #[test]
    fn requests_are_read_as_they_were_meant(
        requests in vec((sent(), "/[a-z]{0,5}"), 1..5),
        cuts in cuts(),
    ) {
        let bytes: Vec<u8> = requests.iter().flat_map(|(sent, target)| sent.encode(target)).collect();
        let read = read_pieces(&cuts.pieces(&bytes));
        prop_assert!(read.refused.is_none() && read.is_idle, "{read:?}");
        let found: Vec<_> =
            read.requests.into_iter().map(|request| (request.path, request.body.to_vec())).collect();
        let meant: Vec<_> = requests.into_iter().map(|(sent, target)| (target, sent.body())).collect();
        prop_assert_eq!(found, meant);
    }

    #[test]
    fn the_same_is_found_however_it_is_cut(lines in vec(line(), 1..20), cuts in cuts()) {
        // An error in a line is told when the line ends, or at once if it came in one read: all lines end here.
        let bytes = lines.join("\r\n") + "\r\n\r\n";
        let at_once = read_pieces(&[bytes.as_bytes()]);
        prop_assert_eq!(read_pieces(&cuts.pieces(bytes.as_bytes())).told(), at_once.told());
    }

    #[test]
    fn garbage_is_survived(garbage: Vec<u8>, requests in vec(sent(), 0..2), cuts in cuts()) {
        let mut bytes: Vec<u8> = requests.iter().flat_map(|sent| sent.encode("/")).collect();
        bytes.extend_from_slice(&garbage);
        let read = read_pieces(&cuts.pieces(&bytes));
        prop_assert!(read.requests.len() >= requests.len());
    }

    #[test]
    fn a_wrong_byte_in_a_request_is_survived(
        sent in sent(),
        at: proptest::sample::Index,
        byte: u8,
        cuts in cuts(),
    ) {
        let mut bytes = sent.encode("/p?x=%41");
        let at = at.index(bytes.len());
        bytes[at] = byte;
        // However long the body is believed to be now, it ends.
        bytes.extend_from_slice(&[b'\r', b'\n'].repeat(MAX_HEAD_BYTES));
        let at_once = read_pieces(&[&bytes]);
        prop_assert_eq!(read_pieces(&cuts.pieces(&bytes)).told(), at_once.told());
    }
}
