//! Which pages may use the server.

use switchboard_proto::CorsOrigins;
use switchboard_proto::http::{Answer, ReplyTo, Request};

use super::reading::{encode, read};

fn origins(text: &str) -> CorsOrigins {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn list(origins: &[&str]) -> CorsOrigins {
    CorsOrigins::List(origins.iter().map(|origin| (*origin).to_owned()).collect())
}

fn request_of(method: &str, origin: &str, lines: &str) -> Request {
    read(format!("{method} / HTTP/1.1\r\nHost: here:80\r\nOrigin: {origin}\r\n{lines}\r\n\r\n")).request()
}

#[test]
fn origins_are_read_as_browsers_write_them() {
    assert_eq!(origins("*"), CorsOrigins::Any);
    assert_eq!(origins("http://a"), list(&["http://a"]));
    let several = origins("https://A.example:8443, http://localhost:80,http://[::1]:3000 , null");
    assert_eq!(several, list(&["https://a.example:8443", "http://localhost", "http://[::1]:3000", "null"]));
    assert_eq!(origins("https://a:443,app+x://b_c"), list(&["https://a", "app+x://b_c"]));
}

#[test]
fn what_is_no_origin_is_named_with_the_way_out() {
    for text in [
        "",
        "a",
        "a.example",
        "http://",
        "http://a/",
        "http://a/b",
        "http://a?b",
        "http://u@a",
        "://a",
        "1://a",
        "http://a b",
        "http://a:",
        "http://a:x",
        "http://a:+1",
        "http://a:65536",
        "http://[::1",
        "http://[x]",
        "http://a,*",
        "http://a,",
        "http://::1",
        "http://é",
    ] {
        let error = text.parse::<CorsOrigins>().unwrap_err().to_string();
        assert!(error.contains("is not an origin") && error.contains("https://example.org"), "{error}");
    }
    let error = "http://a,http://b/".parse::<CorsOrigins>().unwrap_err().to_string();
    assert!(error.starts_with("\"http://b/\" "), "{error}");
}

#[test]
fn a_page_of_the_server_itself_may_always_use_it() {
    for origins in [CorsOrigins::SameOrigin, CorsOrigins::Any, list(&["http://other"])] {
        for (origin, host) in [
            ("http://here", "here"),
            ("http://here:8080", "here:8080"),
            ("http://HERE", "Here:80"),
            ("https://here", "here:443"),
            ("https://here", "here"),
            ("http://[::1]:1", "[::1]:1"),
            // As libraries write it that are no browsers.
            ("HTTP://Here:80", "here"),
            ("http://here/", "here"),
            ("http://here:8080/", "here:8080"),
        ] {
            assert!(origins.allows(origin, Some(host)), "{origin} {host}");
        }
    }
}

#[test]
fn another_page_may_if_it_is_listed() {
    let others = [
        "http://other",
        "http://here:81",
        "https://here:80",
        "http://here:443",
        "null",
        "",
        "here",
        "http://here.evil",
        "http://evil.here",
        "http://here@evil",
        "http://evil/here",
        "http://here//",
        "http://",
        "file://",
        "://here",
    ];
    for origin in others {
        assert!(!CorsOrigins::SameOrigin.allows(origin, Some("here")), "{origin}");
        assert!(CorsOrigins::Any.allows(origin, Some("here")), "{origin}");
        assert!(list(&[origin]).allows(origin, Some("here")), "{origin}");
        assert!(!list(&["http://a"]).allows(origin, Some("here")), "{origin}");
        assert!(!CorsOrigins::SameOrigin.allows(origin, None), "{origin}");
        assert!(!CorsOrigins::SameOrigin.allows(origin, Some("")), "{origin}");
    }
}

#[test]
fn the_port_counts_and_the_refusal_names_both_ways_out() {
    let refusal = |origin, host| CorsOrigins::SameOrigin.refusal(origin, host);
    // Behind a proxy that passes on the host without its port.
    for (origin, host) in [
        ("http://here:8080", Some("here")),
        ("http://here", Some("here:8080")),
        ("https://here:8443", Some("here")),
        ("https://here", Some("here:80")),
        ("http://here", None),
        ("null", Some("null")),
    ] {
        let text = refusal(Some(origin), host).unwrap_or_else(|| panic!("{origin} {host:?}"));
        assert!(
            text.contains("proxy_set_header Host $http_host") && text.contains("--cors-origin"),
            "{text}"
        );
        assert!(text.contains(&format!("{origin:?}")) && text.ends_with('\n'), "{text}");
        assert_eq!(CorsOrigins::Any.refusal(Some(origin), host), None);
    }
    assert_eq!(refusal(Some("http://here:8080"), Some("here:8080")), None);
    assert_eq!((refusal(None, Some("here")), refusal(None, None)), (None, None), "no page");
}

#[test]
fn an_answer_says_which_pages_may_read_it() {
    let fields = |origins: &CorsOrigins, origin: &str| {
        let reply = ReplyTo::new(&request_of("GET", origin, "X: y"), origins);
        let encoded = encode(&Answer::empty(204), &reply);
        let always = "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\r\n";
        encoded.strip_prefix("HTTP/1.1 204 No Content\r\n").unwrap().strip_suffix(always).unwrap().to_owned()
    };
    assert_eq!(fields(&CorsOrigins::SameOrigin, "http://a"), "");
    let expose = "Access-Control-Expose-Headers: ETag\r\n";
    assert_eq!(fields(&CorsOrigins::Any, "http://a"), format!("Access-Control-Allow-Origin: *\r\n{expose}"));
    let listed = list(&["http://a", "http://b"]);
    let allowed = format!("Vary: Origin\r\nAccess-Control-Allow-Origin: http://b\r\n{expose}");
    assert_eq!(fields(&listed, "http://b"), allowed);
    // Whoever keeps this answer must ask again for a page of another site.
    assert_eq!(fields(&listed, "http://c"), "Vary: Origin\r\n");
}

#[test]
fn a_preflight_is_told_what_may_follow() {
    let asked = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type, x-y";
    let answer = |origins: &CorsOrigins, origin: &str, lines: &str| {
        let request = request_of("OPTIONS", origin, lines);
        encode(&origins.preflight(&request, "GET, HEAD, POST"), &ReplyTo::new(&request, origins))
    };
    let told = answer(&list(&["http://a"]), "http://a", asked);
    assert!(told.starts_with("HTTP/1.1 204 No Content\r\n"), "{told}");
    for line in [
        "Access-Control-Allow-Origin: http://a",
        "Access-Control-Allow-Methods: GET, HEAD, POST",
        "Access-Control-Allow-Headers: content-type, x-y",
        "Access-Control-Max-Age: 7200",
        "Vary: Origin",
    ] {
        assert!(told.contains(&format!("\r\n{line}\r\n")), "{line} in {told}");
    }
    assert!(answer(&CorsOrigins::Any, "http://b", asked).contains("\r\nAccess-Control-Allow-Origin: *\r\n"));
    let plain = answer(&CorsOrigins::Any, "http://b", "Access-Control-Request-Method: GET");
    assert!(!plain.contains("Allow-Headers"), "{plain}");
    let refused = answer(&CorsOrigins::SameOrigin, "http://a", asked);
    assert!(refused.starts_with("HTTP/1.1 403 Forbidden\r\n") && !refused.contains("Access-Control"));
    assert!(refused.contains("--cors-origin"), "{refused}");
    assert!(answer(&CorsOrigins::SameOrigin, "http://here", asked).starts_with("HTTP/1.1 204 "));
}
