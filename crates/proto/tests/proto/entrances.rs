//! What may be published is the same by whichever way it comes in.

use switchboard_proto::App;

use super::frames::{TEXT, masked};
use super::pair::Wire;

/// What Socket.IO answers to these packets.
fn told(wire: &mut Wire, packets: &[&str]) -> Vec<String> {
    packets.iter().for_each(|packet| wire.send(&masked(TEXT, packet)));
    let texts = wire.take_frames().into_iter().map(|(_, payload)| String::from_utf8(payload).expect("text"));
    texts.collect()
}

#[test]
fn a_message_is_no_longer_by_socket_io_than_by_any_other_way() {
    let app = || App { max_message_bytes: 1000, ..App::default() };
    let (fits, long) = ("x".repeat(1000), "x".repeat(1001));
    let post = |data: &str| {
        format!("POST /publish?topic=t HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{data}", data.len())
    };
    assert!(Wire::new(app()).ask(post(&fits)).starts_with("HTTP/1.1 202 "));
    assert!(Wire::new(app()).ask(post(&long)).starts_with("HTTP/1.1 413 "));

    let mut wire = Wire::open(app(), "/socket.io/?EIO=4&transport=websocket");
    assert!(told(&mut wire, &["40"])[0].starts_with("40{"));
    let publish = |data: &str| format!(r#"421["publish","t",null,"{data}"]"#);
    assert_eq!(told(&mut wire, &[&publish(&fits)]), ["431[1]"]);
    let refused = told(&mut wire, &[&publish(&long)]);
    assert!(
        refused[0].starts_with(r#"431[{"error":""#) && refused[0].contains("--max-message-bytes"),
        "{refused:?}"
    );
    // Numbers are given to what is published, and to nothing else.
    assert_eq!(told(&mut wire, &[&publish("x")]), ["431[2]"]);
}
