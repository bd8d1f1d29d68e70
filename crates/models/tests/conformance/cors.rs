//! Pages of other origins: what a browser is told of them, and what they are refused (WHATWG Fetch, section 3.2).

use crate::client::{Client, Named, upgrade_request};
use crate::engine_client::{BARE, Polling, SOCKETIO, post as packets, target};
use crate::events;
use crate::frames::text;
use crate::http::get;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Http, pages_of_other_origins_are_told_nothing_by_default),
    case!(Http, pages_of_other_sites_change_nothing_by_default),
    case!(Echo, pages_of_other_sites_open_no_websocket_by_default),
    case!(SocketIo, pages_of_other_sites_have_no_engine_io_by_default),
    case!(Http, pages_of_listed_origins_may_use_the_server).with(|settings| {
        settings.app.cors = "https://a.test,http://b.test:8080".parse().expect("two origins");
    }),
    case!(Http, all_pages_may_use_a_server_that_says_so)
        .with(|settings| settings.app.cors = "*".parse().expect("all origins")),
];

const ALLOW: &str = "Access-Control-Allow-Origin";

/// A request of a page.
fn of(origin: &str, request: &str) -> String {
    request.replacen("Host: ", &format!("Origin: {origin}\r\nHost: "), 1)
}

/// What a browser asks before it lets a page of another origin publish.
fn preflight(origin: &str) -> String {
    let lines = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-a, x-b\r\nHost: ";
    of(origin, &get("/publish").replacen("GET", "OPTIONS", 1).replacen("Host: ", lines, 1))
}

fn pages_of_other_origins_are_told_nothing_by_default(server: &mut Server) {
    let mut client = Client::connect(server);
    for path in ["/", "/nothing", "/poll?topic=t", "/echo"] {
        client.send(of("https://a.test", &get(path)));
        assert_eq!(client.response().header(ALLOW), None);
    }
    client.send(preflight("https://a.test"));
    assert_eq!(client.response().status, 403);
    // A page of its own asks before it does something unusual, too.
    client.send(preflight("http://switchboard.test"));
    assert_eq!(client.response().status, 204);
}

/// Sites that are not that of a server at `http://switchboard.test`, which the clients here call it.
const FOREIGN: [&str; 9] = [
    "http://elsewhere.test",
    "http://switchboard.test:8080",
    "https://switchboard.test:80",
    "http://switchboard.test.elsewhere.test",
    "http://elsewhere.test/switchboard.test",
    "http://x@switchboard.test",
    "file://",
    "null",
    "",
];

/// The same site in all the words that a browser or a library may have for it, and behind a proxy that does TLS.
const OWN: [&str; 5] = [
    "http://switchboard.test",
    "http://switchboard.test:80",
    "HTTP://Switchboard.Test",
    "http://switchboard.test/",
    "https://switchboard.test",
];

/// Expects that a request is refused in words that help.
fn expect_refused(client: &mut Client, origin: &str) {
    let response = client.response();
    assert_eq!((response.status, response.header("Upgrade")), (403, None), "{origin:?}: {response:?}");
    for hint in ["--cors-origin", "proxy_set_header Host $http_host"] {
        assert!(response.body.contains(hint), "{hint} is not in {}", response.body);
    }
}

fn pages_of_other_sites_change_nothing_by_default(server: &mut Server) {
    let login = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: switchboard.test\r\nContent-Length: 3\r\n\r\nAnn")
    };
    let publish = String::from_utf8(events::post("topic=t", "", b"forged")).unwrap();
    let mut client = Client::connect(server);
    for origin in FOREIGN {
        let requests =
            [publish.clone(), login("/login/codes"), login("/login/codes/x"), upgrade_request("/broadcast")];
        for request in requests {
            client.send(of(origin, &request));
            expect_refused(&mut client, origin);
        }
        // To look is no change, and a browser keeps the answer from the page.
        client.send(of(origin, &get("/poll?topic=t")));
        let response = client.response();
        assert_eq!((response.status, response.header(ALLOW)), (200, None), "{origin:?}");
    }
    assert_eq!(client.ask("/poll?topic=t")["newest"], 0);
    for origin in OWN {
        client.send(of(origin, &publish));
        assert_eq!(client.response().status, 202, "{origin}");
        client.send(of(origin, &login("/login/codes")));
        assert_eq!(client.response().status, 201, "{origin}");
    }
    // The port counts on both sides: a proxy that keeps it from the server makes the server's own page another site's.
    let at_port = |host: &str, origin: &str| of(origin, &publish.replace("switchboard.test", host));
    client.send(at_port("switchboard.test", "http://switchboard.test:9001"));
    expect_refused(&mut client, "a port that the server does not know of");
    client.send(at_port("switchboard.test:9001", "http://switchboard.test"));
    expect_refused(&mut client, "another port");
    client.send(at_port("switchboard.test:9001", "http://switchboard.test:9001"));
    assert_eq!(client.response().status, 202);
    client.send(at_port("[::1]:9001", "http://[::1]:9001"));
    assert_eq!(client.response().status, 202);
}

fn pages_of_other_sites_open_no_websocket_by_default(server: &mut Server) {
    for origin in FOREIGN {
        let mut client = Client::connect(server);
        client.send(of(origin, &upgrade_request("/echo")));
        let response = client.response();
        assert_eq!(response.status, 403, "{origin:?}: {response:?}");
    }
    let own = OWN.map(|origin| of(origin, &upgrade_request("/echo")));
    for request in own.into_iter().chain([upgrade_request("/echo")]) {
        let mut client = Client::connect(server);
        client.send(request);
        client.upgraded().expect("its own page, or no page").echo("hello");
    }
}

fn pages_of_other_sites_have_no_engine_io_by_default(server: &mut Server) {
    for endpoint in [SOCKETIO, BARE] {
        let mut session = Polling::open(server, endpoint);
        let mut client = Client::connect(server);
        for origin in FOREIGN {
            let _on_failure = Named(format!("{endpoint} for {origin:?}"));
            let post = String::from_utf8(packets(&session.target(), "4x")).unwrap();
            for request in [
                get(&target(endpoint, "polling", "")),
                get(&session.target()),
                post,
                upgrade_request(&target(endpoint, "websocket", "")),
                upgrade_request(&session.websocket_target()),
            ] {
                client.send(of(origin, &request));
                expect_refused(&mut client, origin);
            }
            // A body that is still on its way is none of the session's business.
            let post = String::from_utf8(packets(&session.target(), "4x")).unwrap();
            let mut late = Client::connect(server);
            late.send(of(origin, &post[..post.len() - 1]));
            session.post("3").expect_ok();
            late.send("x");
            expect_refused(&mut late, origin);
        }
        // Nothing of it has reached the session, and its own page goes on.
        client.send(of(OWN[0], &upgrade_request(&session.websocket_target())));
        let mut websocket = client.upgraded().expect("its own page");
        websocket.send(text("2probe"));
        websocket.expect_text("3probe");
        websocket.send(text("5"));
        websocket.send(text(if endpoint == SOCKETIO { "40" } else { "4hello" }));
        let (_, first) = websocket.message();
        assert!(first.starts_with(if endpoint == SOCKETIO { b"40{" } else { b"4hello" }));
    }
}

fn pages_of_listed_origins_may_use_the_server(server: &mut Server) {
    let mut client = Client::connect(server);
    for origin in ["https://a.test", "http://b.test:8080"] {
        // An answer of any kind can be read, and is kept for nobody else.
        for path in ["/", "/nothing", "/poll?topic=t", "/poll?since=x", "/echo"] {
            client.send(of(origin, &get(path)));
            let response = client.response();
            assert_eq!((response.header(ALLOW), response.header("Vary")), (Some(origin), Some("Origin")));
        }
        client.send(preflight(origin));
        let response = client.response();
        assert_eq!((response.status, response.header(ALLOW)), (204, Some(origin)));
        assert!(response.header("Access-Control-Allow-Methods").unwrap().contains("POST"));
        assert_eq!(response.header("Access-Control-Allow-Headers"), Some("x-a, x-b"));
    }
    for origin in ["http://a.test", "https://a.test:8443", "https://b.test:8080", "null"] {
        client.send(of(origin, &get("/poll?topic=t")));
        let response = client.response();
        assert_eq!((response.header(ALLOW), response.header("Vary")), (None, Some("Origin")), "{origin}");
        client.send(preflight(origin));
        assert_eq!(client.response().status, 403);
        for path in ["/echo", "/broadcast"] {
            client.send(of(origin, &upgrade_request(path)));
            let response = client.response();
            assert_eq!((response.status, response.header("Upgrade")), (403, None), "{origin}");
        }
    }
    // Whoever is no page says nothing of origins.
    client.send(get("/"));
    assert_eq!(client.response().header(ALLOW), None);
    drop(client);
    for request in [
        upgrade_request("/echo"),
        of("https://a.test", &upgrade_request("/echo")),
        of("http://switchboard.test", &upgrade_request("/echo")),
    ] {
        let mut client = Client::connect(server);
        client.send(request);
        client.upgraded().expect("it may").echo("hello");
    }
}

fn all_pages_may_use_a_server_that_says_so(server: &mut Server) {
    let mut client = Client::connect(server);
    for origin in ["https://a.test", "null"] {
        client.send(of(origin, &get("/poll?topic=t")));
        assert_eq!(client.response().header(ALLOW), Some("*"));
        client.send(preflight(origin));
        let response = client.response();
        assert_eq!((response.status, response.header(ALLOW)), (204, Some("*")));
    }
    client.send(of("https://a.test", &upgrade_request("/echo")));
    client.upgraded().expect("all may").echo("hello");
}
