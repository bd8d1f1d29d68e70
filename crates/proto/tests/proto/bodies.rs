//! Where a body ends, and what is said to a client that does not tell.

use switchboard_proto::http::MAX_HEAD_BYTES;

use super::reading::{MAX_BODY_BYTES, encode, read, read_pieces};

fn post(lines: &str, body: &str) -> String {
    format!("POST /p HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n{body}")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked", body)
}

fn body_of(request: impl AsRef<[u8]>) -> Vec<u8> {
    read(request).request().body.to_vec()
}

#[test]
fn a_content_length_is_so_many_bytes() {
    assert_eq!(body_of(post("Content-Length: 5", "hello")), b"hello");
    assert_eq!(body_of(post("Content-Length: 005", "hello")), b"hello");
    assert_eq!(body_of(post("content-length:\t5 ", "\r\n\r\n\0")), b"\r\n\r\n\0");
    assert_eq!(body_of(post("Content-Length: 0", "")), b"");
    assert_eq!(body_of(post("X: y", "")), b"", "a request without a length has no body");
    let get = "GET / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(body_of(get), b"hi", "any method may have one");
}

#[test]
fn a_chunked_body_ends_with_an_empty_chunk() {
    assert_eq!(body_of(chunked("0\r\n\r\n")), b"");
    assert_eq!(body_of(chunked("5\r\nhello\r\n0\r\n\r\n")), b"hello");
    assert_eq!(body_of(chunked("2\r\nhe\r\n00003\r\nllo\r\n000\r\n\r\n")), b"hello");
    assert_eq!(body_of(chunked("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n")).len(), 20);
    assert_eq!(body_of(chunked("2\r\n\r\n\r\n0\r\n\r\n")), b"\r\n");
    assert_eq!(body_of(post("Transfer-Encoding: Chunked", "0\r\n\r\n")), b"");
    assert_eq!(body_of(post("Transfer-Encoding: , chunked ,", "0\r\n\r\n")), b"");
}

#[test]
fn extensions_and_trailers_are_skipped() {
    let extended = "5;a=b;c=\"d \u{e9};\"\r\nhello\r\n0 \t; end\r\nTrailer: x\r\nEmpty:\r\n\r\n";
    assert_eq!(body_of(chunked(extended)), b"hello");
    assert_eq!(body_of(chunked("5  \r\nhello\r\n0\r\n\r\n")), b"hello");
    let long = "x".repeat(MAX_HEAD_BYTES);
    assert_eq!(read(chunked(&format!("0;{long}\r\n\r\n"))).requests.len(), 1);
    assert_eq!(read(chunked(&format!("0;{long}x\r\n\r\n"))).refusal(), 431);
    assert_eq!(read(chunked(&format!("0\r\nX:{long}\r\n\r\n"))).refusal(), 431);
    assert_eq!(read(chunked(&format!("0\r\n{}\r\n", "X:y\r\n".repeat(MAX_HEAD_BYTES)))).refusal(), 431);
    assert_eq!(read(chunked(&format!("{}0\r\n\r\n", "1;x\r\nz\r\n".repeat(900)))).requests.len(), 1);
}

#[test]
fn chunks_are_malformed_in_many_ways() {
    for body in [
        "\r\n",
        "x\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x5\r\nhello\r\n",
        "5\nhello\r\n",
        "5\r\r\n",
        " 5\r\nhello\r\n",
        "5 5\r\nhello\r\n",
        ";\r\n",
        "5;a\nb\r\n",
        "5;a\0\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhel\r\n0\r\n\r\n",
        "0\r\n\n",
        "0\r\n\rX",
        "0\r\nno colon\r\n\r\n",
        "0\r\n: no name\r\n\r\n",
        "0\r\n folded: x\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX: \0\r\n\r\n",
        "10000000000000000\r\n",
        "FFFFFFFFFFFFFFFFFFFFF\r\n",
        "1000000000000005\r\nhello\r\n",
        "0001000000000000005\r\nhello\r\n",
    ] {
        assert_eq!(read(chunked(body)).refusal(), 400, "{body:?}");
    }
}

#[test]
fn zeros_before_the_size_of_a_chunk_change_nothing() {
    for zeros in [1, 14, 15, 16, 17, 1000] {
        let zeros = "0".repeat(zeros);
        let request =
            read(chunked(&format!("{zeros}5\r\nhello\r\n{zeros}A;x\r\n0123456789\r\n{zeros}\r\n\r\n")))
                .request();
        assert_eq!(request.body, "hello0123456789");
    }
    // They are skipped, but not for ever: neither in one size nor in all together.
    assert_eq!(read(chunked(&"0".repeat(20_000))).refusal(), 431);
    assert_eq!(read(chunked(&format!("{}1\r\nx\r\n", "0".repeat(1000)).repeat(20))).refusal(), 431);
}

#[test]
fn lengths_that_contradict_each_other_end_the_connection() {
    // RFC 9112, section 6.3. What follows would be read as a request by one server and as a body by another.
    let smuggled = "0\r\n\r\nGET /admin HTTP/1.1\r\nHost: h\r\n\r\n";
    for (lines, status) in [
        ("Content-Length: 3\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3", 400),
        ("Content-Length: 3\r\nContent-Length: 3", 400),
        ("Content-Length: 3\r\nContent-Length: 4", 400),
        ("Content-Length: 3, 3", 400),
        ("Content-Length: 3 3", 400),
        ("Content-Length: +3", 400),
        ("Content-Length: -3", 400),
        ("Content-Length: 3.0", 400),
        ("Content-Length: 0x3", 400),
        ("Content-Length:", 400),
        ("Content-Length: \u{663}", 400),
        ("Transfer-Encoding:", 400),
        ("Transfer-Encoding: gzip", 501),
        ("Transfer-Encoding: identity", 501),
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: chunked, chunked", 501),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 501),
        ("Transfer-Encoding: chunked;q=1", 501),
        ("Transfer-Encoding: xchunked", 501),
        ("Transfer-Encoding : chunked", 400),
        ("Transfer-Encoding:\x0bchunked", 400),
        ("Content-Length : 3", 400),
    ] {
        let read = read(post(lines, smuggled));
        assert_eq!((read.refusal(), read.requests.len()), (status, 0), "{lines:?}");
    }
    assert_eq!(read("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").refusal(), 400);
}

#[test]
fn a_body_above_the_limit_is_refused_before_it_is_read() {
    let full = "x".repeat(MAX_BODY_BYTES);
    assert_eq!(body_of(post(&format!("Content-Length: {MAX_BODY_BYTES}"), &full)).len(), MAX_BODY_BYTES);
    for length in ["1001", "18446744073709551616", "99999999999999999999999999999999999"] {
        // Not a byte of it need have come.
        assert_eq!(read(post(&format!("Content-Length: {length}"), "")).refusal(), 413, "{length}");
    }
    assert_eq!(body_of(chunked(&format!("3e8\r\n{full}\r\n0\r\n\r\n"))).len(), MAX_BODY_BYTES);
    assert_eq!(read(chunked("3e9\r")).refusal(), 413, "told by the size of the chunk");
    assert_eq!(read(chunked(&format!("3e8\r\n{full}\r\n1\r"))).refusal(), 413);
    assert_eq!(read(chunked("FFFFFFFFFFFFFFF\r")).refusal(), 413);
    // The limit is that of the path.
    let large = post("Content-Length: 1001", &full).replace("/p", "/large") + "y";
    assert_eq!(read_pieces(&[large.as_bytes()]).request().body.len(), 1001);
    // A page of another site is told, too.
    let read = read(post("Origin: http://a\r\nContent-Length: 1001", ""));
    let (answer, reply) = read.refused.unwrap();
    let answer = encode(&answer, &reply);
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert!(answer.contains("\r\nAccess-Control-Allow-Origin: http://a\r\n"), "{answer}");
    assert!(answer.contains("limited to 1000 bytes"), "{answer}");
}

#[test]
fn a_client_that_waits_with_its_body_is_told_to_go_on() {
    let expecting = |lines: &str, body: &str| {
        let request = post(&format!("Expect: {lines}"), body);
        let head_bytes = request.len() - body.len();
        let read = read_pieces(&[&request.as_bytes()[..head_bytes], &request.as_bytes()[head_bytes..]]);
        (String::from_utf8(read.interim.clone()).unwrap(), read)
    };
    let go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    for lines in ["100-continue\r\nContent-Length: 2", "100-Continue\r\nContent-Length: 2"] {
        let (interim, read) = expecting(lines, "hi");
        assert_eq!((&interim[..], &read.request().body[..]), (go_on, &b"hi"[..]));
    }
    let (interim, read) = expecting("100-continue\r\nTransfer-Encoding: chunked", "2\r\nhi\r\n0\r\n\r\n");
    assert_eq!((&interim[..], &read.request().body[..]), (go_on, &b"hi"[..]));
    // It will hardly send what is refused already.
    let (interim, read) = expecting("100-continue\r\nContent-Length: 2000", "");
    assert_eq!((&interim[..], read.refusal()), ("", 413));
    // There is nothing to wait for: no body, or here it is.
    assert_eq!(expecting("100-continue", "").0, "");
    assert_eq!(expecting("100-continue\r\nContent-Length: 0", "").0, "");
    let at_once = post("Expect: 100-continue\r\nContent-Length: 2", "hi");
    assert!(read_pieces(&[at_once.as_bytes()]).interim.is_empty());
    assert!(read_pieces(&[&at_once.as_bytes()[..at_once.len() - 1]]).interim.is_empty());
    // HTTP/1.0 has no interim answers (RFC 9110, section 10.1.1).
    let old = at_once.replace("HTTP/1.1", "HTTP/1.0");
    let read = read_pieces(&[&old.as_bytes()[..old.len() - 2], b"hi"]);
    assert!(read.interim.is_empty() && &read.request().body[..] == b"hi");
}

#[test]
fn another_expectation_cannot_be_met() {
    assert_eq!(read(post("Expect: the-unexpected", "")).refusal(), 417);
    assert_eq!(read(post("Expect: 100-continue, more", "")).refusal(), 417);
    assert_eq!(read("GET / HTTP/1.0\r\nExpect: the-unexpected\r\n\r\n").requests.len(), 1);
}
