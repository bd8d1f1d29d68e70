//! Everything that depends on time, with time as an argument.

use std::time::Duration;

use bytes::Bytes;
use switchboard_proto::{App, CloseReason, Format, Kind, LINGER, Outgoing};

use super::frames::{BINARY, CLOSE, PING, PONG, TEXT, close, masked, plain};
use super::pair::{TICK, Wire, secs, upgrade};

const D: Duration = Duration::from_secs(30);

fn with_heartbeat(path: &str) -> Wire {
    Wire::open(App { heartbeat: Some(D), ..App::default() }, path)
}

#[test]
fn a_head_that_does_not_finish_is_answered_with_408_at_the_timeout_and_not_before() {
    for sent in [&b""[..], b"GET /echo HTTP/1.1\r\nHost: h\r\n"] {
        let mut wire = Wire::new(App { handshake_timeout: secs(10), ..App::default() });
        wire.send(sent);
        wire.wait(secs(10) - TICK);
        assert_eq!(wire.take(), b"");
        wire.wait(TICK);
        assert!(wire.take().starts_with(b"HTTP/1.1 408 Request Timeout\r\n"));
        wire.assert_drains();
    }
}

#[test]
fn a_head_that_comes_drop_by_drop_does_not_move_its_timeout() {
    let mut wire = Wire::new(App { handshake_timeout: secs(10), ..App::default() });
    let head = upgrade("/echo");
    for byte in &head[..9] {
        wire.send(&[*byte]);
        wire.wait(secs(1));
    }
    assert_eq!(wire.take(), b"");
    wire.wait(secs(1));
    assert!(wire.take().starts_with(b"HTTP/1.1 408 "));
}

#[test]
fn a_finished_head_needs_no_timer() {
    let mut wire = Wire::open(App { heartbeat: None, ..App::default() }, "/echo");
    assert_eq!(wire.session.poll_timeout(), None);
    wire.wait(secs(3600));
    assert_eq!(wire.take(), b"");
    assert!(wire.session.wants().read);
}

#[test]
fn a_websocket_silent_for_d_is_pinged_and_closed_after_as_long_again() {
    let mut wire = with_heartbeat("/echo");
    wire.wait(D - TICK);
    assert_eq!(wire.take(), b"");
    wire.wait(TICK);
    assert_eq!(wire.take(), plain(PING, ""));
    wire.wait(D - TICK);
    assert_eq!(wire.take(), b"");
    wire.wait(TICK);
    let frames = wire.take_frames();
    assert_eq!((frames.len(), frames[0].0), (1, CLOSE));
    wire.assert_drains();
}

#[test]
fn nobody_who_has_vanished_is_kept_by_default() {
    for path in ["/echo", "/broadcast", "/broadcast?format=json"] {
        let mut wire = Wire::open(App::default(), path);
        wire.take();
        wire.wait(secs(65));
        assert!(wire.is_closed(), "{path}");
    }
    // What an event stream or a reader that takes nothing is granted is less than what the system is told to grant.
    let app = App::default();
    let granted = app.peer_patience().expect("there is a heartbeat");
    assert!(granted > secs(90) && granted < secs(300), "{granted:?}");
    assert_eq!(App { heartbeat: None, ..app }.peer_patience(), None);
}

#[test]
fn an_event_stream_that_takes_nothing_ends_before_the_system_ends_it() {
    let app = App::default();
    let granted = app.peer_patience().expect("there is a heartbeat");
    let mut wire = Wire::new(app);
    wire.send(b"GET /events?topic=t HTTP/1.1\r\nHost: h\r\n\r\n");
    wire.take();
    wire.publish("t", None, Kind::Text, b"never taken");
    wire.wait(granted);
    assert!(wire.is_closed());
}

#[test]
fn a_websocket_that_answers_its_pings_stays() {
    let mut wire = with_heartbeat("/echo");
    for _ in 0..10 {
        wire.wait(D);
        assert_eq!(wire.take(), plain(PING, ""));
        wire.wait(D - TICK);
        wire.send(&masked(PONG, ""));
    }
    wire.send(&masked(TEXT, "still here"));
    assert_eq!(wire.take(), plain(TEXT, "still here"));
}

#[test]
fn a_websocket_that_talks_is_not_pinged() {
    let mut wire = with_heartbeat("/echo");
    for _ in 0..10 {
        wire.wait(D - TICK);
        wire.send(&masked(TEXT, "busy"));
        assert_eq!(wire.take(), plain(TEXT, "busy"));
    }
    wire.wait(D - TICK);
    assert_eq!(wire.take(), b"");
    // A part of a frame is a sign of life too.
    wire.send(&masked(TEXT, "slow")[..3]);
    wire.wait(D - TICK);
    assert_eq!(wire.take(), b"");
    wire.wait(TICK);
    assert_eq!(wire.take(), plain(PING, ""));
}

#[test]
fn a_peer_that_works_off_a_backlog_is_alive() {
    let mut wire = with_heartbeat("/broadcast");
    let message = Outgoing::new("broadcast".into(), 1, None, Kind::Binary, Bytes::from(vec![0; 1 << 20]));
    wire.session.deliver(&message, wire.now);
    // It says nothing, since it has not come to the ping at the end; but it takes some in each period.
    for _ in 0..20 {
        wire.wait(D);
        assert!(!wire.take_some(1000).is_empty());
    }
    assert!(!wire.is_closed());
    wire.wait(D);
    let frames = wire.take_frames_after(20 * 1000, message.encoded(Format::WebSocket));
    assert_eq!(frames, [(PING, vec![])], "one ping, at the end of what it had to read");
}

#[test]
fn a_peer_that_stops_reading_its_backlog_is_closed() {
    let mut wire = with_heartbeat("/broadcast");
    let message = Outgoing::new("broadcast".into(), 1, None, Kind::Binary, Bytes::from(vec![0; 1 << 20]));
    wire.session.deliver(&message, wire.now);
    wire.wait(D);
    wire.take_some(1000);
    // The wait in which it took some, and two in which it took nothing.
    wire.wait(3 * D);
    let frames = wire.take_frames_after(1000, message.encoded(Format::WebSocket));
    assert_eq!(frames.last().map(|frame| frame.0), Some(CLOSE));
}

#[test]
fn the_time_for_a_pong_begins_when_the_ping_is_written() {
    let mut wire = with_heartbeat("/echo");
    wire.wait(D);
    // The kernel has no room, since its peer is slow; and then it has.
    wire.session.output().stalled();
    wire.wait(D - TICK);
    assert_eq!(wire.take(), plain(PING, ""));
    wire.wait(TICK);
    assert!(wire.session.output().is_empty(), "it has had no time to answer");
    // It is asked once more, and has all the time.
    wire.wait(D);
    assert_eq!(wire.take(), plain(PING, ""));
    wire.wait(D - TICK);
    assert_eq!(wire.take(), b"");
    wire.wait(TICK);
    assert_eq!(wire.take_frames()[0].0, CLOSE);
}

#[test]
fn a_ping_that_no_room_is_made_for_is_not_waited_for_for_ever() {
    let mut wire = with_heartbeat("/echo");
    wire.wait(D);
    wire.session.output().stalled();
    wire.wait(D);
    assert_eq!(wire.take_frames().last().map(|frame| frame.0), Some(CLOSE));
}

/// A session of Engine.IO on a WebSocket, with a megabyte that its client has not taken.
fn engine_with_a_backlog() -> Wire {
    let mut wire = Wire::open(App::default(), "/engine.io/?EIO=4&transport=websocket");
    wire.send(&masked(TEXT, "4".repeat(1_000_000 - 10)));
    wire.take_some(1000);
    assert!(wire.session.output().len() > 900_000);
    wire
}

#[test]
fn a_client_that_works_off_a_backlog_before_a_ping_of_engine_io_is_alive() {
    let mut wire = engine_with_a_backlog();
    let App { engine, .. } = App::default();
    wire.wait(engine.ping_interval);
    for _ in 0..20 {
        assert!(!wire.take_some(1000).is_empty());
        wire.wait(engine.ping_timeout);
        assert!(!wire.is_closed());
    }
    // It has taken the ping at last, and has its time from then on.
    wire.take();
    wire.wait(engine.ping_timeout * 2 - TICK);
    assert!(!wire.is_closed());
    wire.send(&masked(TEXT, "3"));
    wire.wait(engine.ping_interval);
    assert_eq!(wire.take(), plain(TEXT, "2"), "it is asked again, and not closed");
}

#[test]
fn a_client_that_takes_nothing_of_what_stands_before_a_ping_of_engine_io_is_closed() {
    let mut wire = engine_with_a_backlog();
    let App { engine, .. } = App::default();
    wire.wait(engine.ping_interval + engine.ping_timeout);
    wire.take();
    wire.assert_drains();
}

#[test]
fn a_heartbeat_does_not_disturb_a_close_handshake() {
    let mut wire = Wire::open(App { heartbeat: Some(secs(1)), grace: secs(5), ..App::default() }, "/echo");
    wire.session.close(CloseReason::GoingAway, wire.now);
    assert_eq!(wire.take_frames().len(), 1);
    wire.send(&masked(TEXT, "talking on"));
    wire.wait(secs(5) - TICK);
    assert_eq!(wire.take(), b"", "no ping behind a close frame");
    assert!(!wire.is_closed());
    wire.wait(TICK);
    assert!(wire.is_closed(), "talking on does not buy time");
}

#[test]
fn who_does_not_answer_the_goodbye_is_left_when_the_grace_is_over() {
    let mut wire = Wire::open(App { grace: secs(5), ..App::default() }, "/echo");
    wire.session.close(CloseReason::GoingAway, wire.now);
    wire.wait(secs(5) - TICK);
    assert!(!wire.is_closed());
    wire.wait(TICK);
    assert!(wire.is_closed());
}

#[test]
fn a_connection_that_ended_in_an_answer_is_read_until_linger_and_no_longer() {
    let mut wire = Wire::new(App::default());
    wire.send(b"nonsense\r\n\r\n");
    assert!(wire.take().starts_with(b"HTTP/1.1 400 "));
    assert_eq!(wire.finished, 1);
    wire.wait(LINGER - TICK);
    wire.send(b"talking does not buy time");
    assert!(wire.session.wants().read);
    wire.wait(TICK);
    assert!(wire.is_closed());
}

#[test]
fn a_peer_that_does_not_even_take_the_answer_is_left_after_linger() {
    for ending in [&plain(TEXT, "not masked"), &masked(CLOSE, close(1000, ""))] {
        let mut wire = Wire::open(App::default(), "/echo");
        wire.send(&masked(BINARY, [0; 1000]));
        wire.take_some(10);
        wire.send(ending);
        wire.wait(LINGER - TICK);
        assert!(wire.session.wants().write);
        assert_eq!(wire.finished, 0, "the last byte is not written");
        wire.wait(TICK);
        assert!(wire.is_closed());
    }
}

#[test]
fn a_timer_that_fires_early_or_twice_does_nothing() {
    let mut wire = with_heartbeat("/echo");
    wire.session.handle_timeout(wire.now);
    wire.session.handle_timeout(wire.now + D - TICK);
    assert_eq!(wire.take(), b"");
    wire.wait(D);
    wire.session.handle_timeout(wire.now);
    assert_eq!(wire.take(), plain(PING, ""));
}

#[test]
fn durations_beyond_all_time_are_no_timers() {
    let forever = Duration::MAX;
    let app = App { handshake_timeout: forever, heartbeat: Some(forever), grace: forever, ..App::default() };
    let mut wire = Wire::new(app);
    assert_eq!(wire.session.poll_timeout(), None);
    wire.send(&upgrade("/echo"));
    wire.session.close(CloseReason::GoingAway, wire.now);
    assert_eq!(wire.session.poll_timeout(), None);
}

impl Wire {
    /// The frames that stand behind the rest of `frame`, of which `taken` bytes were taken already.
    fn take_frames_after(&mut self, taken: usize, frame: &Bytes) -> Vec<(u8, Vec<u8>)> {
        let bytes = self.take();
        let rest = frame.len() - taken;
        assert_eq!(bytes[..rest], frame[taken..]);
        super::frames::read_frames(&bytes[rest..])
    }
}
