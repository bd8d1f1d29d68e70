//! A server that was stopped for a while (Ctrl-Z and `fg`, a laptop that slept, a debugger): it reads what has come meanwhile before it judges who
//! was silent.

use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use switchboard_models::{Family, Model};

use crate::client::{Client, upgrade_request};
use crate::engine_client::{BARE, Engine, Polling, SOCKETIO, post};
use crate::frames::{PING, PONG, frame, text};
use crate::http::get;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Heartbeat, a_pong_that_came_during_a_stop_counts).with(|settings| {
        settings.app.heartbeat = Some(PATIENCE);
        settings.app.handshake_timeout = Duration::from_secs(60);
    }),
    case!(Heartbeat, half_a_request_that_is_finished_during_a_stop_is_answered)
        .with(|settings| settings.app.handshake_timeout = PATIENCE),
    case!(Http, a_request_that_came_during_a_stop_is_answered)
        .with(|settings| settings.app.keep_alive = PATIENCE),
    case!(SocketIo, everyone_who_spoke_during_a_stop_stays).with(|settings| {
        let app = &mut settings.app;
        (app.heartbeat, app.keep_alive, app.handshake_timeout) =
            (Some(LONG_PATIENCE), LONG_PATIENCE, LONG_PATIENCE);
        let engine = &mut settings.app.engine;
        (engine.ping_interval, engine.ping_timeout, engine.connect_timeout) =
            (LONG_PATIENCE, LONG_PATIENCE, LONG_PATIENCE);
    }),
    case!(Http, more_than_one_wait_tells_of_are_heard_after_a_stop)
        .together()
        .only(has_room_for_many)
        .unless(lacks_descriptors)
        .with(|settings| {
            settings.app.keep_alive = LONG_PATIENCE;
            settings.app.handshake_timeout = Duration::from_secs(60);
        }),
];

/// What runs out while the server is stopped.
const PATIENCE: Duration = Duration::from_secs(1);

/// The same where many clients have to be made ready before.
const LONG_PATIENCE: Duration = Duration::from_secs(2);

/// Stops the server and returns true if none of these clients had been told anything by then, not even the end: all deadlines run. Else it
/// goes on, and what was prepared was too slow.
fn is_stopped_in_time(server: &Server, clients: &[&Client]) -> bool {
    server.suspend();
    let is_in_time = clients.iter().all(|client| {
        client.stream.set_nonblocking(true).expect("a socket option");
        let peeked = client.stream.peek(&mut [0]);
        client.stream.set_nonblocking(false).expect("a socket option");
        client.is_read_up() && peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    });
    if !is_in_time {
        server.resume();
    }
    is_in_time
}

/// Prepares clients until the server is stopped in time, which on a busy machine may take several attempts.
fn prepared<T>(mut prepare: impl FnMut() -> Option<T>) -> T {
    const ATTEMPTS: usize = 10;
    (0..ATTEMPTS).find_map(|_| prepare()).expect("the server is stopped before a deadline has passed")
}

/// Lets every deadline pass that ran when the server was stopped, and lets it go on. The sleep is no wait for an event: it is what happens.
fn oversleep(server: &Server, patience: Duration) {
    thread::sleep(patience * 3 / 2);
    server.resume();
}

/// Says something and expects it back, be it behind another ping.
fn expect_life(client: &mut Client) {
    client.send(text("still there"));
    let mut got = client.frame();
    while got.opcode == PING {
        client.send(frame(PONG, got.payload));
        got = client.frame();
    }
    assert_eq!(String::from_utf8_lossy(&got.payload), "still there");
}

fn a_pong_that_came_during_a_stop_counts(server: &mut Server) {
    let mut client = prepared(|| {
        let mut client = Client::open(server, "/echo");
        assert_eq!(client.frame().opcode, PING);
        let is_in_time = is_stopped_in_time(server, &[&client]);
        is_in_time.then_some(client)
    });
    client.send(frame(PONG, ""));
    oversleep(server, PATIENCE);
    expect_life(&mut client);
}

fn half_a_request_that_is_finished_during_a_stop_is_answered(server: &mut Server) {
    let whole = upgrade_request("/echo");
    let (first, rest) = whole.split_at(whole.len() / 2);
    let mut client = prepared(|| {
        let mut client = Client::connect(server);
        client.send(first);
        let is_in_time = is_stopped_in_time(server, &[&client]);
        is_in_time.then_some(client)
    });
    client.send(rest);
    oversleep(server, PATIENCE);
    let mut client = client.upgraded().unwrap_or_else(|response| panic!("{response:?}"));
    client.echo("hello");
}

fn a_request_that_came_during_a_stop_is_answered(server: &mut Server) {
    let mut client = prepared(|| {
        let mut client = Client::connect(server);
        // Behind a page `iterative` would let the next one have its turn.
        client.send(get("/poll?topic=t"));
        assert_eq!(client.response().status, 200);
        let is_in_time = is_stopped_in_time(server, &[&client]);
        is_in_time.then_some(client)
    });
    client.send(get("/poll?topic=t"));
    oversleep(server, PATIENCE);
    assert_eq!(client.response().status, 200);
}

/// One of each kind that a deadline runs for.
struct Everyone {
    pinged: [Client; 2],
    between_requests: Client,
    in_a_head: Client,
    engine: Client,
    polling: Polling,
    not_joined: Client,
}

impl Everyone {
    fn arrive(server: &Server) -> Everyone {
        let mut pinged = ["/echo", "/broadcast"].map(|path| Client::open(server, path));
        let Engine::WebSocket(mut engine) = Engine::websocket(server, BARE) else { unreachable!() };
        let mut polling = Polling::open(server, BARE);
        polling.hold();
        assert_eq!(engine.message().1, b"2");
        assert_eq!(polling.next(), "2");
        pinged.iter_mut().for_each(|client| assert_eq!(client.frame().opcode, PING));
        let mut between_requests = Client::connect(server);
        between_requests.send(get("/about.json"));
        assert_eq!(between_requests.response().status, 200);
        let mut in_a_head = Client::connect(server);
        in_a_head.send("GET /echo HTTP/1.1\r\n");
        let Engine::WebSocket(not_joined) = Engine::websocket(server, SOCKETIO) else { unreachable!() };
        Everyone { pinged, between_requests, in_a_head, engine, polling, not_joined }
    }

    fn clients(&self) -> [&Client; 7] {
        let [echo, broadcast] = &self.pinged;
        let get = &self.polling.get;
        [echo, broadcast, &self.between_requests, &self.in_a_head, &self.engine, get, &self.not_joined]
    }
}

fn everyone_who_spoke_during_a_stop_stays(server: &mut Server) {
    let Everyone { mut pinged, mut between_requests, in_a_head, mut engine, mut polling, mut not_joined } =
        prepared(|| {
            let everyone = Everyone::arrive(server);
            let is_in_time = is_stopped_in_time(server, &everyone.clients());
            is_in_time.then_some(everyone)
        });
    pinged.iter_mut().for_each(|client| client.send(frame(PONG, "")));
    between_requests.send(get("/about.json"));
    let mut in_a_head = in_a_head;
    in_a_head.send(upgrade_request("/echo").split_once("\r\n").expect("lines").1);
    engine.send(text("3"));
    // It asks again as soon as it has an answer.
    polling.hold();
    let pong = post(&polling.target(), "3");
    // On a connection that nobody has accepted yet.
    polling.post = Client::connect(server);
    polling.post.send(pong);
    not_joined.send(text("40"));
    oversleep(server, LONG_PATIENCE);

    pinged.iter_mut().for_each(expect_life);
    assert_eq!(between_requests.response().status, 200);
    let mut in_a_head = in_a_head.upgraded().unwrap_or_else(|response| panic!("{response:?}"));
    expect_life(&mut in_a_head);
    polling.post.response().expect_ok();
    polling.post("4hello").expect_ok();
    let mut engine = Engine::WebSocket(engine);
    engine.send(&["4hello"]);
    // Pings may come in between.
    while engine.next() != "4hello" {}
    while polling.next() != "4hello" {}
    let mut not_joined = Engine::WebSocket(not_joined);
    while !not_joined.next().starts_with("40{") {}
}

/// Connections of which one wait of a loop cannot tell.
const MANY: usize = 1100;

/// Whether it holds so many without a process or a thread for each.
fn has_room_for_many(model: &Model) -> bool {
    let is_loop = [Family::Asking, Family::Told, Family::Tasks, Family::Completion].contains(&model.family);
    is_loop && model.name != "select"
}

fn lacks_descriptors(_: &Model) -> Option<String> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    // Cases of several models run at the same time, in one process.
    let needed = 8 * MANY as u64;
    (limit < needed).then(|| format!("this needs {needed} descriptors, and ulimit -n is {limit}"))
}

fn more_than_one_wait_tells_of_are_heard_after_a_stop(server: &mut Server) {
    let ask = |client: &mut Client| client.send(get("/poll?topic=t"));
    let expect = |client: &mut Client| assert_eq!(client.response().status, 200);
    let mut clients = prepared(|| {
        let mut clients: Vec<Client> = (0..MANY).map(|_| Client::connect(server)).collect();
        clients.iter_mut().for_each(ask);
        clients.iter_mut().for_each(expect);
        let is_in_time = is_stopped_in_time(server, &clients.iter().collect::<Vec<_>>());
        is_in_time.then_some(clients)
    });
    clients.iter_mut().for_each(ask);
    oversleep(server, LONG_PATIENCE);
    clients.iter_mut().for_each(expect);
}
