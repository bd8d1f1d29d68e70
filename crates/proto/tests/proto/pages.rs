//! The pages, what they load, and what they know of their server.

use switchboard_pages::{FILES, SOCKETIO_CLIENT};
use switchboard_proto::App;

use super::pair::Wire;

/// An answer, taken apart.
struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn status(&self) -> &str {
        &self.head["HTTP/1.1 ".len()..][..3]
    }

    fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
    }
}

fn ask_app(app: App, method: &str, path: &str, lines: &str) -> Answer {
    let mut wire = Wire::new(app);
    wire.send(format!("{method} {path} HTTP/1.1\r\nHost: h:9001\r\n{lines}\r\n").as_bytes());
    let answer = wire.take();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    Answer { head: String::from_utf8(answer[..end].to_vec()).unwrap(), body: answer[end..].to_vec() }
}

fn ask(method: &str, path: &str, lines: &str) -> Answer {
    ask_app(App::default(), method, path, lines)
}

#[test]
fn every_file_comes_whole_with_its_type_and_its_tag() {
    let client = SOCKETIO_CLIENT.iter().map(|file| (format!("/socket.io/{}", file.path), file));
    for (path, file) in FILES.iter().map(|file| (file.path.to_owned(), file)).chain(client) {
        let answer = ask("GET", &path, "");
        assert_eq!((answer.status(), &answer.body[..]), ("200", file.bytes), "{path}");
        assert_eq!(answer.field("Content-Type"), Some(file.content_type));
        assert!(file.content_type.contains("; charset=utf-8"));
        assert_eq!(answer.field("Content-Length"), Some(&*file.bytes.len().to_string()));
        assert_eq!(answer.field("ETag"), Some(file.etag));
        assert_eq!(answer.field("Cache-Control"), Some("no-cache"));
        assert_eq!(answer.field("X-Content-Type-Options"), Some("nosniff"));

        let head = ask("HEAD", &path, "");
        assert_eq!((head.head, head.body.len()), (answer.head, 0), "the same head, and nothing behind it");
        let again = ask("GET", &path, &format!("If-None-Match: W/\"x\", {}\r\n", file.etag));
        assert_eq!((again.status(), again.body.len()), ("304", 0));
        assert_eq!((again.field("ETag"), again.field("Content-Length")), (Some(file.etag), None));
        assert_eq!(ask("GET", &path, "If-None-Match: \"another\"\r\n").status(), "200");
    }
}

#[test]
fn a_file_can_only_be_read() {
    for path in [
        "/",
        "/chat",
        "/login",
        "/login/phone",
        "/assets/style.css",
        "/socket.io/socket.io.js",
        "/about.json",
    ] {
        let options = ask("OPTIONS", path, "");
        assert_eq!((options.status(), options.field("Allow")), ("204", Some("GET, HEAD, OPTIONS")), "{path}");
        for method in ["POST", "PUT", "DELETE"] {
            let refused = ask(method, path, "Content-Length: 0\r\n");
            assert_eq!(
                (refused.status(), refused.field("Allow")),
                ("405", Some("GET, HEAD, OPTIONS")),
                "{path}"
            );
        }
    }
    for path in
        ["/chat/", "/chat.html", "/assets/", "/assets/../chat", "/assets", "/socket.io/LICENSE", "/login/"]
    {
        assert_eq!(ask("GET", path, "").status(), "404", "{path}");
    }
    let nowhere = String::from_utf8(ask("GET", "/nowhere", "").body).unwrap();
    for here in ["/chat", "/login", "/about.json", "/poll"] {
        assert!(nowhere.contains(here), "{nowhere}");
    }
}

#[test]
fn a_page_may_load_nothing_from_elsewhere() {
    let policy = |host: &str| {
        let mut wire = Wire::new(App::default());
        wire.send(format!("GET /chat HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        let head = String::from_utf8_lossy(&wire.take()).into_owned();
        let line = head.lines().find_map(|line| line.strip_prefix("Content-Security-Policy: "));
        line.expect("a policy").to_owned()
    };
    for host in ["h", "127.0.0.1:9001", "[::1]:9001", "a-b.example:80"] {
        let policy = policy(host);
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; ")
        );
        assert!(policy.contains(&format!("connect-src 'self' ws://{host} wss://{host};")), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    }
    // Whatever somebody else made a browser say begins no directive of its own.
    for host in ["a;script-src", "a'b", "*"] {
        assert!(policy(host).contains("connect-src 'self';"), "{host}");
    }
    assert_eq!(ask("GET", "/assets/style.css", "").field("Content-Security-Policy"), None);
}

#[test]
fn the_facts_are_those_of_this_server() {
    let app = || App {
        served_by: "select",
        socketio_path: "/elsewhere/".into(),
        tick: Some(std::time::Duration::from_secs(1)),
        max_connections: Some(7),
        ..App::default()
    };
    let about = ask_app(app(), "GET", "/about.json", "");
    assert_eq!(about.field("Content-Type"), Some("application/json"));
    let facts: serde_json::Value = serde_json::from_slice(&about.body).unwrap();
    for (name, value) in [
        ("model", serde_json::json!("select")),
        ("socketio_path", serde_json::json!("/elsewhere/")),
        ("serves_together", serde_json::json!(true)),
        ("tick_ms", serde_json::json!(1000)),
        ("heartbeat_ms", serde_json::json!(30_000)),
        ("max_connections", serde_json::json!(7)),
        ("max_message_bytes", serde_json::json!(App::default().max_message_bytes)),
    ] {
        assert_eq!(facts[name], value, "{name}");
    }
    // Socket.IO's client goes where Socket.IO is.
    assert_eq!(ask_app(app(), "GET", "/elsewhere/socket.io.js", "").status(), "200");
    assert_eq!(ask_app(app(), "GET", "/socket.io/socket.io.js", "").status(), "404");
}

#[test]
fn socket_io_may_be_served_where_a_page_would_be() {
    let app = || App { socketio_path: "/".into(), ..App::default() };
    assert_eq!(
        ask_app(app(), "GET", "/?EIO=4&transport=polling", "").field("Content-Type"),
        Some("text/plain; charset=UTF-8")
    );
    assert_eq!(ask_app(app(), "GET", "/socket.io.js", "").status(), "200");
    assert_eq!(ask_app(app(), "GET", "/chat", "").status(), "200");
}

#[test]
fn where_connections_are_served_one_after_the_other_what_a_page_loads_ends_its_own() {
    let app = || App { serves_together: false, ..App::default() };
    for path in ["/assets/mechanisms.js", "/socket.io/socket.io.js", "/about.json"] {
        assert_eq!(ask("GET", path, "").field("Connection"), None, "{path}");
        assert_eq!(ask_app(app(), "GET", path, "").field("Connection"), Some("close"), "{path}");
    }
    // A browser goes on with the connection that brought the page, and polls are asked one after the other.
    for path in ["/", "/poll?topic=t"] {
        assert_eq!(ask_app(app(), "GET", path, "").field("Connection"), None, "{path}");
    }
}

#[test]
fn many_who_ask_for_a_long_file_share_it() {
    let mut wires = [(); 3].map(|()| Wire::new(App::default()));
    let bodies: Vec<_> = wires
        .iter_mut()
        .flat_map(|wire| {
            wire.send(b"GET /socket.io/socket.io.js HTTP/1.1\r\nHost: h\r\n\r\n");
            std::iter::from_fn(|| wire.session.output().lend()).collect::<Vec<_>>()
        })
        .filter(|lent| lent.as_slice().len() > 100_000)
        .collect();
    assert!(bodies.len() == 3, "each goes out as it is, and not as a copy behind its head");
    assert!(bodies.iter().all(|body| body.as_slice().as_ptr() == bodies[0].as_slice().as_ptr()));
}
