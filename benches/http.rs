//! Requests and answers without any socket: what HTTP costs a poll beyond its system calls.
//!
//! Requests are read from a copy, as a model reads them from its scratch buffer. Each is checked.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use switchboard_proto::CorsOrigins;
use switchboard_proto::http::{Answer, Method, Next, Reader, ReplyTo, Request, Rules};

/// What a load generator sends.
const SHORT: &str = "GET /poll?topic=news&since=41 HTTP/1.1\r\nHost: localhost:8080\r\n\r\n";

/// What a browser sends.
const BROWSER: &str = "GET /poll?topic=news&since=41 HTTP/1.1\r\nHost: localhost:8080\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: application/json\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: http://localhost:8080/\r\nConnection: keep-alive\r\nSec-Fetch-Dest: empty\r\n\
    Sec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-origin\r\nIf-None-Match: \"news-41\"\r\n\r\n";

const POST: &str = "POST /publish?topic=news HTTP/1.1\r\nHost: localhost:8080\r\nContent-Type: text/plain\r\n\
    Content-Length: 20\r\n\r\ntwenty bytes of news";

const CHUNKED: &str = "POST /publish?topic=news HTTP/1.1\r\nHost: localhost:8080\r\nContent-Type: text/plain\r\n\
    Transfer-Encoding: chunked\r\n\r\n14\r\ntwenty bytes of news\r\n0\r\n\r\n";

const JSON: &str =
    r#"{"topic":"news","newest":42,"events":[{"id":42,"event":"message","data":"twenty bytes of news"}]}"#;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .configure_from_args();
    let mut group = criterion.benchmark_group("read a request");
    group.throughput(Throughput::Elements(1));
    read(&mut group, "GET, 65 B", SHORT, is_poll);
    read(&mut group, "GET, 423 B", BROWSER, |request| {
        is_poll(request);
        assert!(request.has("\"news-41\"") && request.keep_alive);
    });
    read(&mut group, "POST, 20 B of body", POST, is_publish);
    read(&mut group, "POST, 20 B in a chunk", CHUNKED, is_publish);
    group.finish();

    let mut group = criterion.benchmark_group("write an answer");
    group.throughput(Throughput::Elements(1));
    write(&mut group);
    group.finish();
    criterion.final_summary();
}

fn is_poll(request: &Request) {
    assert_eq!((&request.method, &request.path[..]), (&Method::Get, "/poll"));
    assert_eq!((request.query.get("topic"), request.query.get("since")), (Some("news"), Some("41")));
    assert_eq!(request.host.as_deref(), Some("localhost:8080"));
}

fn is_publish(request: &Request) {
    assert_eq!((&request.method, &request.path[..]), (&Method::Post, "/publish"));
    assert_eq!(&request.body[..], b"twenty bytes of news");
}

fn read(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, request: &str, check: fn(&Request)) {
    let rules = Rules { origins: &CorsOrigins::SameOrigin, max_body: &|_| 1 << 20 };
    let mut reader = Reader::default();
    let mut scratch = vec![0; request.len()];
    let mut interim = Vec::new();
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            scratch.copy_from_slice(request.as_bytes());
            let mut input = &mut scratch[..];
            let Next::Request(request) = reader.next(&mut input, &rules, &mut interim) else {
                panic!("a whole request")
            };
            check(&request);
            assert!(input.is_empty());
            black_box(request);
        });
    });
    assert!(reader.is_idle() && interim.is_empty());
}

fn write(group: &mut BenchmarkGroup<'_, WallTime>) {
    let reply = ReplyTo { is_http_11: true, keep_alive: true, ..ReplyTo::default() };
    let always = "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nETag: \"news-42\"\r\n\r\n";
    let length = JSON.len();
    let expected = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{always}{JSON}"
    );
    let expected_304 = format!("HTTP/1.1 304 Not Modified\r\n{always}");
    let mut out = Vec::new();
    let mut found = || {
        out.clear();
        let answer = Answer::json(200, JSON).with("ETag", "\"news-42\"");
        answer.encode(black_box(&reply), &mut out);
        assert_eq!(out, expected.as_bytes());
    };
    group.bench_function("200, 97 B of JSON, ETag", |bencher| bencher.iter(&mut found));
    let mut not_modified = || {
        out.clear();
        Answer::not_modified("\"news-42\"").encode(black_box(&reply), &mut out);
        assert_eq!(out, expected_304.as_bytes());
    };
    group.bench_function("304, ETag", |bencher| bencher.iter(&mut not_modified));
}
