//! The sign-in by a second device: what the page with the code hears, by each mechanism.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, Response, close_code, eventually};
use crate::engine_client::{Engine, SOCKETIO};
use crate::events::{Event, EventStream, events};
use crate::frames::{CLOSE, text};
use crate::http::get;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Poll, a_code_is_confirmed_once),
    case!(Poll, a_code_that_nobody_confirms_expires).with(|settings| settings.app.login_expiry = EXPIRY),
    case!(Poll, nobody_else_publishes_on_the_topic_of_a_code),
    case!(EventStream, every_mechanism_hears_that_a_code_is_confirmed),
    case!(EventStream, every_mechanism_hears_that_a_code_has_expired)
        .with(|settings| settings.app.login_expiry = EXPIRY),
    case!(EventStream, where_no_history_is_held_it_is_heard_all_the_same)
        .with(|settings| settings.app.history_events = 0),
    case!(Broadcast, a_websocket_cannot_publish_there).together(),
    case!(SocketIo, a_socket_in_the_room_of_a_code_hears_of_it),
];

const EXPIRY: Duration = Duration::from_millis(300);

fn post(client: &mut Client, target: &str, body: &str) -> Response {
    let length = body.len();
    client.send(format!(
        "POST {target} HTTP/1.1\r\nHost: switchboard.test\r\nContent-Length: {length}\r\n\r\n{body}"
    ));
    client.response()
}

/// Opens a code and returns it.
fn open(client: &mut Client) -> String {
    let response = post(client, "/login/codes", "");
    assert_eq!(response.status, 201, "{response:?}");
    let opened = response.json();
    let code = opened["code"].as_str().expect("a code").to_owned();
    assert!(code.len() >= 16 && opened["topic"] == format!("login:{code}"), "{opened}");
    code
}

fn confirm(client: &mut Client, code: &str, name: &str) {
    let response = post(client, &format!("/login/codes/{code}"), name);
    assert_eq!((response.status, response.json()), (200, json!({"confirmed": true})));
}

fn confirmed(name: &str) -> Event {
    Event { id: 1, event: "confirmed".into(), data: json!({"name": name}).to_string() }
}

fn expired() -> Event {
    Event { id: 1, event: "expired".into(), data: "{}".into() }
}

fn a_code_is_confirmed_once(server: &mut Server) {
    let code = open(&mut Client::connect(server));
    let target = format!("/login/codes/{code}");
    let mut page = Client::connect(server);
    let waiting = page.ask(&target);
    assert_eq!(waiting["state"], "waiting");
    assert!((1..=60).contains(&waiting["expires_in"].as_u64().expect("seconds")), "{waiting}");
    page.send(get(&format!("{target}/qr.svg")));
    let picture = page.response();
    assert_eq!((picture.status, picture.header("Content-Type")), (200, Some("image/svg+xml")));
    assert_eq!(picture.header("Cache-Control"), Some("no-store"));
    assert!(picture.body.starts_with("<svg "), "{picture:?}");
    assert_eq!(events(&page.ask(&format!("/poll?topic=login:{code}&since=0"))), []);
    drop(page);
    let mut phone = Client::connect(server);
    for name in ["", "two\nlines", &"x".repeat(65)] {
        assert_eq!(post(&mut phone, &target, name).status, 400, "{name:?}");
    }
    confirm(&mut phone, &code, " Änn <b> \n");
    assert_eq!(post(&mut phone, &target, "Guest").status, 409);
    assert_eq!(post(&mut phone, "/login/codes/nobody", "Guest").status, 404);
    drop(phone);
    let mut page = Client::connect(server);
    let expected = json!({"state": "confirmed", "name": "Änn <b>", "expires_in": 0});
    assert_eq!(page.ask(&target), expected);
    assert_eq!(events(&page.ask(&format!("/poll?topic=login:{code}&since=0"))), [confirmed("Änn <b>")]);
    page.send(get(&format!("{target}/qr.svg")));
    assert_eq!(page.response().status, 410);
    page.send(get("/login/codes"));
    assert_eq!(page.response().status, 405);
}

fn a_code_that_nobody_confirms_expires(server: &mut Server) {
    let mut client = Client::connect(server);
    let code = open(&mut client);
    eventually("the code expires", || {
        events(&client.ask(&format!("/poll?topic=login:{code}&since=0"))) == [expired()]
    });
    let target = format!("/login/codes/{code}");
    assert_eq!(client.ask(&target), json!({"state": "expired", "expires_in": 0}));
    assert_eq!(post(&mut client, &target, "Ann").status, 410);
}

fn nobody_else_publishes_on_the_topic_of_a_code(server: &mut Server) {
    let mut client = Client::connect(server);
    let code = open(&mut client);
    for topic in [format!("login:{code}"), "login:".into()] {
        let refusal = post(&mut client, &format!("/publish?topic={topic}&event=confirmed"), "{}");
        assert!(refusal.status == 403 && refusal.body.contains("use another name"), "{refusal:?}");
    }
    confirm(&mut client, &code, "Ann");
    assert_eq!(events(&client.ask(&format!("/poll?topic=login:{code}&since=0"))), [confirmed("Ann")]);
}

/// Whoever waits for what becomes of a code.
struct Page {
    long_poll: Client,
    stream: EventStream,
    websocket: Client,
    plain: Client,
}

impl Page {
    fn of(server: &Server, code: &str) -> Page {
        let mut long_poll = Client::connect(server);
        long_poll.send(get(&format!("/longpoll?topic=login:{code}&since=0")));
        let stream = EventStream::open(server, &format!("/events?topic=login:{code}&since=0"));
        let mut websocket =
            Client::open(server, &format!("/broadcast?topic=login:{code}&format=json&since=0"));
        websocket.message();
        let plain = Client::open(server, &format!("/broadcast?topic=login:{code}&since=0"));
        Page { long_poll, stream, websocket, plain }
    }

    /// Expects that all hear this.
    fn hears(mut self, event: &Event) {
        assert_eq!(events(&self.long_poll.response().json()), std::slice::from_ref(event));
        self.stream.expect([event.clone()]);
        let told: Value = serde_json::from_slice(&self.websocket.message().1).expect("JSON");
        assert_eq!(told, json!({"id": event.id, "event": event.event, "data": event.data}));
        self.plain.expect_text(&event.data);
    }
}

fn every_mechanism_hears_that_a_code_is_confirmed(server: &mut Server) {
    let mut phone = Client::connect(server);
    let code = open(&mut Client::connect(server));
    let page = Page::of(server, &code);
    // One that is shown another code hears nothing of this one.
    let other = Page::of(server, &open(&mut phone));
    confirm(&mut phone, &code, "Ann");
    page.hears(&confirmed("Ann"));
    // Whoever comes too late for the event itself gets it too.
    Page::of(server, &code).hears(&confirmed("Ann"));
    drop(other);
}

fn every_mechanism_hears_that_a_code_has_expired(server: &mut Server) {
    let code = open(&mut Client::connect(server));
    Page::of(server, &code).hears(&expired());
}

fn where_no_history_is_held_it_is_heard_all_the_same(server: &mut Server) {
    let mut phone = Client::connect(server);
    let code = open(&mut phone);
    let Page { mut stream, mut websocket, mut plain, .. } = Page::of(server, &code);
    confirm(&mut phone, &code, "Ann");
    stream.expect([confirmed("Ann")]);
    assert_eq!(serde_json::from_slice::<Value>(&websocket.message().1).expect("JSON")["event"], "confirmed");
    plain.expect_text("{\"name\":\"Ann\"}");
    let answer = phone.ask(&format!("/poll?topic=login:{code}&since=0"));
    assert_eq!(json!([answer["newest"], answer["missed"], answer["events"]]), json!([1, 1, []]));
    assert_eq!(phone.ask(&format!("/login/codes/{code}"))["name"], "Ann");
}

fn a_websocket_cannot_publish_there(server: &mut Server) {
    let code = open(&mut Client::connect(server));
    let mut stranger = Client::open(server, &format!("/broadcast?topic=login:{code}"));
    let mut page = Client::open(server, &format!("/broadcast?topic=login:{code}"));
    stranger.send(text("{\"name\":\"Mallory\"}"));
    let close = stranger.frame();
    assert_eq!((close.opcode, close_code(&close)), (CLOSE, Some(1008)));
    assert!(String::from_utf8_lossy(&close.payload).contains("use another name"), "{close:?}");
    stranger.expect_end();
    confirm(&mut Client::connect(server), &code, "Ann");
    page.expect_text("{\"name\":\"Ann\"}");
}

fn a_socket_in_the_room_of_a_code_hears_of_it(server: &mut Server) {
    let mut phone = Client::connect(server);
    for mut client in Engine::both(server, SOCKETIO).map(Engine::connected) {
        let code = open(&mut phone);
        client.send(&[&format!(r#"421["join","login:{code}"]"#)]);
        client.expect(&["431[]"]);
        client.send(&[&format!(r#"421["publish","login:{code}","confirmed","{{}}"]"#)]);
        let refusal = client.next();
        assert!(refusal.starts_with(r#"431[{"error":"topics that begin with login:"#), "{refusal}");
        confirm(&mut phone, &code, "Ann");
        let topic = format!(r#"{{"topic":"login:{code}","id":1}}"#);
        client.expect(&[&format!(r#"42["confirmed","{{\"name\":\"Ann\"}}",{topic}]"#)]);
    }
}
