//! Pages of other origins: what a browser is told of them, and what they are refused (WHATWG Fetch, section 3.2).

use crate::client::{Client, upgrade_request};
use crate::http::get;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Http, pages_of_other_origins_are_told_nothing_by_default),
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
    // Nothing was set, so that nobody is kept out who does not care what browsers do.
    client.send(of("https://a.test", &upgrade_request("/echo")));
    client.upgraded().expect("no origin was set").echo("hello");
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
