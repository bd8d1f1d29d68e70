//! What Socket.IO does not let pass: a session ends by what was wrong, and not by the patience for a pong.

use crate::client::Named;
use crate::engine_client::{BLOBS, Engine, SOCKETIO};
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(SocketIo, a_malformed_packet_of_socket_io_ends_the_session_at_once),
    case!(SocketIo, attachments_must_be_those_that_were_announced),
];

fn a_malformed_packet_of_socket_io_ends_the_session_at_once(server: &mut Server) {
    let strangers = [
        "4",
        "47",
        "4x",
        "42[\"message\"]",
        "41",
        "43[1]",
        "44{}",
        "40[]",
        "40nonsense",
        "40{",
        "40{}x",
        "420",
    ];
    let connected = [
        "40",
        "42",
        "42{}",
        "42[]",
        "42[null]",
        r#"42["message""#,
        r#"42["message",]"#,
        r#"42["message"] 1"#,
        r#"42["connect"]"#,
        r#"42["disconnect"]"#,
        r#"42["newListener"]"#,
        r#"42/custom,["message"]"#,
        r#"42/nowhere,["message"]"#,
        r#"4299999999999999999999["message"]"#,
        r#"41{"a":1}"#,
        "43{}",
        "44{}",
        r#"45["message"]"#,
        r#"450-["message"]"#,
        r#"45x-["message"]"#,
        r#"45999-["message"]"#,
        r#"451-["message",{"_placeholder":true,"num":1}]"#,
        r#"451-["message",{"_placeholder":true}]"#,
        r#"451-/custom,["message",{"_placeholder":true,"num":0}]"#,
        r#"451-["message""#,
    ];
    let inputs =
        strangers.iter().map(|packet| (false, packet)).chain(connected.iter().map(|packet| (true, packet)));
    for (i, (is_connected, packet)) in inputs.enumerate() {
        let _on_failure = Named(format!("{packet}, connected: {is_connected}"));
        // In turn by one transport and the other: behind them it is the same.
        for mut engine in Engine::both(server, SOCKETIO).into_iter().skip(i % 2).take(1) {
            if is_connected {
                engine.connect("", "");
            }
            engine.send_the_last(server, &[packet]);
        }
    }
}

fn attachments_must_be_those_that_were_announced(server: &mut Server) {
    let [event, ack] = ["452-", "462-"].map(|start| {
        format!(r#"{start}["message",{{"_placeholder":true,"num":0}},{{"_placeholder":true,"num":1}}]"#)
    });
    let [a, b, _] = BLOBS.map(|(_, base64)| base64);
    let wrong: [&[&str]; 6] = [
        // They never come.
        &[&event, r#"42["message"]"#],
        &[&event, a, r#"42["message"]"#],
        &[&event, a, "41"],
        &[&event, &event],
        &[&ack, a, &ack],
        // There is one too many.
        &[&event, a, b, a],
    ];
    let mut witness = Engine::websocket(server, SOCKETIO).connected();
    for packets in wrong {
        let _on_failure = Named(format!("{packets:?}"));
        for engine in Engine::both(server, SOCKETIO) {
            let mut engine = engine.connected();
            if packets.len() == 4
                && let Engine::WebSocket(_) = engine
            {
                engine.send(&packets[..3]);
                engine.expect(&[&event.replace("message", "message-back"), a, b]);
                engine.send_the_last(server, &packets[3..]);
            } else {
                engine.send_the_last(server, packets);
            }
        }
    }
    // One that waits for them all the time keeps nobody waiting, and may close.
    let mut waiting = Engine::both(server, SOCKETIO).map(Engine::connected);
    for engine in &mut waiting {
        engine.send(&[&event, a]);
    }
    witness.send(&[r#"42["to-others","hello"]"#, r#"42["message","hello"]"#]);
    witness.expect(&[r#"42["message-back","hello"]"#]);
    for mut engine in waiting {
        engine.expect(&[r#"42["to-others","hello"]"#]);
        engine.send(&["1"]);
        engine.expect_end(server);
    }
}
