//! Several requests on one connection, and where each of them ends (RFC 9112, sections 6 and 9).

use std::io::Write;
use std::time::Duration;

use switchboard_models::Mechanism;

use crate::client::{Client, Named, PATIENCE, at_each_pace};
use crate::http::get;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Http, a_connection_is_kept_unless_somebody_says_otherwise),
    case!(Http, requests_that_come_together_are_answered_in_their_order),
    case!(Http, a_client_that_does_not_read_its_answers_gets_all_of_them_later),
    case!(LongPoll, as_many_requests_as_may_wait_behind_one_are_answered_behind_it)
        .with(|settings| settings.app.max_unsent_bytes = 16 << 20),
    case!(Http, bodies_end_where_they_say),
    case!(Http, a_client_that_waits_with_its_body_is_told_to_go_on),
    case!(Http, a_body_that_is_too_long_is_refused_before_it_is_read),
    case!(Http, every_path_says_which_methods_it_knows),
    case!(Http, a_connection_that_is_not_used_is_closed).with(|settings| settings.app.keep_alive = SHORT),
    case!(Http, a_later_head_that_is_not_finished_in_time_gets_408)
        .with(|settings| settings.app.handshake_timeout = SHORT),
];

/// A time that is to run out.
const SHORT: Duration = Duration::from_millis(200);

fn a_connection_is_kept_unless_somebody_says_otherwise(server: &mut Server) {
    let request = |version: &str, connection: &str| {
        format!("GET /nothing HTTP/{version}\r\nHost: a\r\n{connection}\r\n")
    };
    let requests = [
        ("1.1", (true, request("1.1", ""))),
        ("1.1 that closes", (false, request("1.1", "Connection: close\r\n"))),
        ("1.1 that closes and more", (false, request("1.1", "connection: te , Close\r\n"))),
        ("1.0", (false, request("1.0", ""))),
        ("1.0 that goes on", (true, request("1.0", "Connection: Keep-Alive\r\n"))),
    ];
    at_each_pace(&requests, |pace, (is_kept, request)| {
        let mut client = Client::connect(server);
        for _ in 0..if *is_kept { 5 } else { 1 } {
            client.send_at(pace, request);
            // If the connection is to end, this reads to its end.
            let response = client.response();
            assert_eq!((response.status, response.says_close()), (404, !is_kept));
            if request.contains("HTTP/1.0") && *is_kept {
                assert_eq!(response.header("Connection"), Some("keep-alive"));
            }
        }
    });
}

fn requests_that_come_together_are_answered_in_their_order(server: &mut Server) {
    let paths = [("/", 200), ("/nothing", 404), ("/echo", 426), ("/poll", 200), ("/poll?since=x", 400)];
    let order: Vec<(&str, u16)> = (0..40).map(|i| paths[i * 7 % 11 % paths.len()]).collect();
    let mut requests: String = order.iter().map(|(path, _)| get(path)).collect();
    // Behind the last of them nothing is answered any more.
    requests += &get("/nothing").replace("Host", "Connection: close\r\nHost");
    requests += &get("/");
    at_each_pace(&[("one behind the other", requests)], |pace, requests| {
        let mut client = Client::connect(server);
        client.send_at(pace, requests);
        for (path, status) in &order {
            let response = client.response();
            assert_eq!((response.status, response.says_close()), (*status, false), "{path}");
        }
        let last = client.response();
        assert_eq!((last.status, last.says_close()), (404, true));
    });
}

fn a_client_that_does_not_read_its_answers_gets_all_of_them_later(server: &mut Server) {
    const REQUESTS: usize = 4000;
    let mut client = Client::connect_narrow(server);
    let mut writer = client.stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        // What the server does not take while its answers wait, waits with the system, and then with this thread.
        scope.spawn(move || {
            for i in 0..REQUESTS {
                writer.write_all(get(&format!("/{i}?{}", "x".repeat(i % 100))).as_bytes()).unwrap();
            }
        });
        for _ in 0..REQUESTS {
            assert_eq!(client.response().status, 404);
        }
    });
    client.half_close();
    client.expect_end();
}

fn as_many_requests_as_may_wait_behind_one_are_answered_behind_it(server: &mut Server) {
    let request = "GET /poll?topic=t HTTP/1.1\r\nHost:\r\n\r\n";
    let count = (1 << 20) / request.len();
    let mut client = Client::connect(server);
    client.send(get("/longpoll?topic=t&since=0"));
    let mut writer = client.stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || writer.write_all(request.repeat(count).as_bytes()).unwrap());
        Client::connect(server).publish("t", "now");
        for _ in 0..=count {
            assert_eq!(client.response().json()["newest"], 1);
        }
    });
    client.half_close();
    client.expect_end();
}

/// A request to publish, with a body that says where it ends by these lines.
fn post(lines: &str, body: &str) -> String {
    format!("POST /publish?topic=bodies HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{body}")
}

fn bodies_end_where_they_say(server: &mut Server) {
    let inner = get("/");
    let long = format!("Content-Length: {}", inner.len());
    let chunks =
        format!("{:x};extension=\"x\"\r\n{inner}\r\n3\r\n\r\n!\r\n0\r\nTrailer: x\r\n\r\n", inner.len());
    let padded = format!("{0}2\r\nhi\r\n{0}\r\n\r\n", "0".repeat(32));
    let zeros = format!("{}2\r\nhi\r\n0\r\n\r\n", "0".repeat(20_000));
    let requests = [
        ("no body", (202, "", "X: y", "")),
        ("a length of nothing", (202, "", "Content-Length: 0", "")),
        ("a length", (202, &inner[..], &long, &inner)),
        ("chunks", (202, &format!("{inner}\r\n!"), "Transfer-Encoding: chunked", &chunks)),
        ("no chunk", (202, "", "Transfer-Encoding: chunked", "0\r\n\r\n")),
        ("zeros before a size", (202, "hi", "Transfer-Encoding: chunked", &padded)),
        ("zeros without end", (431, "", "Transfer-Encoding: chunked", &zeros)),
        ("two lengths", (400, "", "Content-Length: 1\r\nContent-Length: 1", "x")),
        ("a length and chunks", (400, "", "Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n")),
        ("a chunk without end", (400, "", "Transfer-Encoding: chunked", "2\r\nabc\r\n0\r\n\r\n")),
        ("another coding", (501, "", "Transfer-Encoding: gzip", "")),
    ];
    at_each_pace(&requests, |pace, (status, published, lines, body)| {
        let mut client = Client::connect(server);
        client.send_at(pace, post(lines, body) + &get("/poll?topic=bodies"));
        let response = client.response();
        assert_eq!((response.status, response.says_close()), (*status, *status != 202), "{response:?}");
        if *status == 202 {
            // What stands behind the body is the next request, and nothing before that.
            let newest = client.response().json()["newest"].as_u64().unwrap();
            assert_eq!(response.json()["id"], newest);
            client.send(get(&format!("/poll?topic=bodies&since={}", newest - 1)));
            assert_eq!(client.response().json()["events"][0]["data"], *published);
        }
    });
}

fn a_client_that_waits_with_its_body_is_told_to_go_on(server: &mut Server) {
    let mut client = Client::connect(server);
    for (lines, body) in [("Content-Length: 2", "hi"), ("Transfer-Encoding: chunked", "2\r\nhi\r\n0\r\n\r\n")]
    {
        client.send(post(&format!("Expect: 100-continue\r\n{lines}"), ""));
        assert_eq!(client.response().status, 100);
        client.send(body);
        assert_eq!(client.response().status, 202);
    }
    // Whoever does not wait, or has nothing to wait for, is not told.
    client.send(post("Expect: 100-continue\r\nContent-Length: 2", "hi"));
    assert_eq!(client.response().status, 202);
    client.send(post("Expect: 100-continue\r\nContent-Length: 0", ""));
    assert_eq!(client.response().status, 202);
    client.send(post("Expect: the-unexpected", ""));
    assert_eq!(client.response().status, 417);
}

fn a_body_that_is_too_long_is_refused_before_it_is_read(server: &mut Server) {
    let most = 16 << 20;
    for lines in [format!("Content-Length: {}", most + 1), format!("Content-Length: 1{}", "0".repeat(40))] {
        // Neither told to go on nor waited for.
        let mut client = Client::connect(server);
        client.send(post(&format!("Expect: 100-continue\r\n{lines}"), ""));
        let response = client.response();
        assert_eq!((response.status, response.says_close()), (413, true));
    }
    // Whoever goes on sending gets the answer all the same.
    let mut client = Client::connect(server);
    client.send(post(&format!("Content-Length: {}", most + 1), &"x".repeat(6 << 20)));
    assert_eq!(client.response().status, 413);
    let mut client = Client::connect(server);
    client.send(post("Transfer-Encoding: chunked", &format!("{:x}\r\n", most + 1)));
    assert_eq!(client.response().status, 413);
}

fn every_path_says_which_methods_it_knows(server: &mut Server) {
    let mut client = Client::connect(server);
    let paths = ["/", "/echo", "/broadcast", "/poll", "/longpoll", "/events", "/publish"];
    for path in paths {
        let _on_failure = Named(path.to_owned());
        let known = if path == "/publish" { "POST" } else { "GET" };
        let unknown = if path == "/publish" { "GET" } else { "POST" };
        for method in ["BREW", "PUT", unknown] {
            client.send(get(path).replacen("GET", method, 1));
            let response = client.response();
            assert_eq!((response.status, response.says_close()), (405, false), "{method}");
            let allowed = response.header("Allow").expect("405 says what is allowed (RFC 9110, 15.5.6)");
            assert!(allowed.contains(known) && !allowed.contains(unknown), "{allowed}");
        }
        client.send(get(path).replacen("GET", "OPTIONS", 1));
        let response = client.response();
        assert!(response.status == 204 && response.header("Allow").unwrap().contains(known), "{response:?}");
    }
    client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 204);
}

/// What a connection may have been used for before. A long poll gives it a second thread in some models.
fn uses(server: &Server) -> &'static [&'static str] {
    let has_long_polls = server.model.serves.contains(&Mechanism::LongPoll);
    &["/", "/poll?topic=t", "/longpoll?topic=t&timeout=0"][..if has_long_polls { 3 } else { 2 }]
}

fn used(server: &Server, target: &str) -> Client {
    let mut client = Client::connect(server);
    for _ in 0..2 {
        client.send(get(target));
        assert!([200, 204].contains(&client.response().status), "{target}");
    }
    client
}

/// How many connections may wait for their time side by side.
fn at_once(server: &Server) -> usize {
    if server.model.serves.contains(&Mechanism::Together) { usize::MAX } else { 1 }
}

fn a_connection_that_is_not_used_is_closed(server: &mut Server) {
    for targets in uses(server).chunks(at_once(server)) {
        let clients: Vec<Client> = targets.iter().map(|target| used(server, target)).collect();
        // Without a word, since nothing was asked.
        clients.into_iter().for_each(|mut client| client.expect_end());
    }
}

fn a_later_head_that_is_not_finished_in_time_gets_408(server: &mut Server) {
    let post = "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell";
    let begun = ["G", "GET / HTTP/1.1\r\nHo", post];
    let all: Vec<(&str, &str)> =
        uses(server).iter().flat_map(|target| begun.map(|begun| (*target, begun))).collect();
    for some in all.chunks(at_once(server)) {
        let clients = some.iter().map(|(target, begun)| {
            let mut client = used(server, target);
            client.send(begun);
            client
        });
        for (mut client, what) in clients.collect::<Vec<_>>().into_iter().zip(some) {
            let _on_failure = Named(format!("{what:?}"));
            let response = client.response();
            assert_eq!((response.status, response.says_close()), (408, true));
        }
    }
    // Between two requests there is more time than that.
    for targets in uses(server).chunks(at_once(server)) {
        let mut clients: Vec<Client> = targets.iter().map(|target| used(server, target)).collect();
        clients[0].stream.set_read_timeout(Some(SHORT * 2)).unwrap();
        let nothing = clients[0].try_take(1);
        assert!(nothing.is_err_and(|error| error.kind() == std::io::ErrorKind::TimedOut));
        clients[0].stream.set_read_timeout(Some(PATIENCE)).unwrap();
        for client in &mut clients {
            client.send(get("/"));
            assert_eq!(client.response().status, 200);
        }
    }
}
