//! A client that writes and reads bytes, and gives up in time.

use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use tungstenite::WebSocket;

use crate::frames::{self, CLOSE, CONTINUATION, FINAL, PING, PONG, TEXT};
use crate::server::Server;

/// How long anything may take that is bound to happen. Long: the machine may be busy with other cases.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The key of RFC 6455, section 1.3, and the answer to it.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// How bytes are handed to the kernel. What a server makes of them must not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    AllAtOnce,
    ByteByByte,
}

pub(crate) const PACES: [Pace; 2] = [Pace::AllAtOnce, Pace::ByteByByte];

/// Waits until something is so; fails when it does not become so in time.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < patience, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The head of a request to upgrade.
pub(crate) fn upgrade_request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: switchboard.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

/// An independent implementation's client, on `path`.
pub(crate) fn tungstenite_client(server: &Server, path: &str) -> WebSocket<TcpStream> {
    let stream = Client::connect(server).stream;
    let (socket, _) = tungstenite::client(format!("ws://{}{path}", server.address), stream)
        .expect("tungstenite agrees with the answer to its upgrade");
    socket
}

/// An answer of HTTP.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Response {
    /// The body of an answer for programs.
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.header("Content-Type"), Some("application/json"), "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Whether the connection ends behind this answer.
    pub(crate) fn says_close(&self) -> bool {
        let connection = self.header("Connection").unwrap_or_default();
        connection.split(',').any(|word| word.trim().eq_ignore_ascii_case("close"))
    }

    /// The value of a header that stands there once at the most.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name));
        let value = values.next();
        assert!(values.next().is_none(), "{name} stands there twice in {self:?}");
        value.map(|(_, value)| value.as_str())
    }
}

/// A frame as the server sent it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) is_final: bool,
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

/// A connection to a server.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// Read and not asked for yet: from `taken` on.
    buffer: Vec<u8>,
    taken: usize,
}

impl Client {
    pub(crate) fn connect(server: &Server) -> Client {
        Client::from_socket(
            Socket::new(Domain::for_address(server.address), Type::STREAM, None),
            server.address,
        )
    }

    /// A client whose kernel holds little that it has not read: what is sent to it stays with the server.
    pub(crate) fn connect_narrow(server: &Server) -> Client {
        let socket = Socket::new(Domain::for_address(server.address), Type::STREAM, None);
        let socket = socket.and_then(|socket| socket.set_recv_buffer_size(4096).map(|()| socket));
        Client::from_socket(socket, server.address)
    }

    fn from_socket(socket: io::Result<Socket>, address: SocketAddr) -> Client {
        let connect = || -> io::Result<TcpStream> {
            let socket = socket?;
            socket.connect_timeout(&address.into(), PATIENCE)?;
            socket.set_tcp_nodelay(true)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Ok(socket.into())
        };
        let stream = connect().unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        Client { stream, buffer: Vec::new(), taken: 0 }
    }

    /// A WebSocket on `path`, at once.
    pub(crate) fn open(server: &Server, path: &str) -> Client {
        Client::connect(server).upgrade(path)
    }

    pub(crate) fn upgrade(mut self, path: &str) -> Client {
        self.send(upgrade_request(path));
        let response = self.response();
        assert_eq!(response.status, 101, "{response:?}");
        assert_eq!(response.header("Sec-WebSocket-Accept"), Some(ACCEPT));
        self
    }

    /// A WebSocket, or the answer that refuses it.
    pub(crate) fn try_open(server: &Server, path: &str) -> Result<Client, Response> {
        let mut client = Client::connect(server);
        client.send(upgrade_request(path));
        client.upgraded()
    }

    /// Reads the answer to an upgrade that was sent.
    pub(crate) fn upgraded(mut self) -> Result<Client, Response> {
        let response = self.response();
        if response.status == 101 { Ok(self) } else { Err(response) }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server takes what it is sent");
    }

    pub(crate) fn send_at(&mut self, pace: Pace, bytes: impl AsRef<[u8]>) {
        match pace {
            Pace::AllAtOnce => self.send(bytes),
            Pace::ByteByByte => bytes.as_ref().chunks(1).for_each(|byte| self.send(byte)),
        }
    }

    /// Whether nothing was read that nobody has asked for yet.
    pub(crate) fn is_read_up(&self) -> bool {
        self.taken == self.buffer.len()
    }

    /// Sends no more, and goes on reading.
    pub(crate) fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection is there");
    }

    /// Ends the connection by a reset, as a crash would.
    pub(crate) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a socket option");
    }

    /// Reads an answer of HTTP as far as its head says that it goes; if the connection is to end with it, to that end.
    pub(crate) fn response(&mut self) -> Response {
        let head = self.response_head();
        if head.status == 101 { head } else { self.body(head) }
    }

    /// Reads what follows the head of an answer.
    pub(crate) fn body(&mut self, head: Response) -> Response {
        // RFC 9110, sections 6.4.1 and 8.6: these have no content, and say nothing of its length.
        let is_empty = head.status < 200 || [204, 304].contains(&head.status);
        let length = match (is_empty, head.header("Content-Length")) {
            (true, length) => length.map_or(0, |_| panic!("a length of nothing: {head:?}")),
            (false, length) => length.expect("an answer says how long it is").parse().expect("a number"),
        };
        let body = String::from_utf8(self.take(length)).expect("a body of text");
        if head.says_close() {
            self.expect_end();
        }
        Response { body, ..head }
    }

    /// Reads an answer up to the empty line.
    pub(crate) fn response_head(&mut self) -> Response {
        let mut line = || {
            let mut line = self.line();
            assert_eq!(line.pop(), Some('\r'), "a line of a head ends with CR LF: {line:?}");
            line
        };
        let status_line = line();
        let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
        let header = |line: String| {
            let (name, value) = line.split_once(": ").expect("a header");
            (name.to_owned(), value.to_owned())
        };
        let lines = std::iter::from_fn(|| Some(line()).filter(|line| !line.is_empty()));
        Response { status, headers: lines.map(header).collect(), body: String::new() }
    }

    /// Reads the next frame, and holds the server to what it may send.
    pub(crate) fn frame(&mut self) -> Frame {
        let [first, second] = self.take(2)[..] else { unreachable!("two bytes") };
        assert_eq!(first & 0x70, 0, "no extension was agreed on: reserved bits must be clear");
        assert_eq!(second & 0x80, 0, "a server must not mask");
        let short = u64::from(second & 0x7f);
        let length = match short {
            126 => u64::from(u16::from_be_bytes(self.take(2).try_into().unwrap())),
            127 => u64::from_be_bytes(self.take(8).try_into().unwrap()),
            short => short,
        };
        let least = [0, 126, 65536][short.saturating_sub(125) as usize];
        assert!(length >= least, "a length of {length} in too long a form");
        let (is_final, opcode) = (first & FINAL != 0, first & 0x0f);
        assert!(opcode < CLOSE || (is_final && short <= 125), "a control frame in parts or too long");
        Frame { is_final, opcode, payload: self.take(usize::try_from(length).unwrap()) }
    }

    /// Reads the next message, which may come in fragments.
    pub(crate) fn message(&mut self) -> (u8, Vec<u8>) {
        let Frame { mut is_final, opcode, mut payload } = self.frame();
        while !is_final {
            let next = self.frame();
            assert_eq!(next.opcode, CONTINUATION);
            payload.extend(next.payload);
            is_final = next.is_final;
        }
        (opcode, payload)
    }

    /// Expects exactly this message next.
    pub(crate) fn expect(&mut self, opcode: u8, payload: impl AsRef<[u8]>) {
        let payload = payload.as_ref();
        let (got_opcode, got) = self.message();
        let preview = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        assert_eq!((got_opcode, preview(&got)), (opcode, preview(payload)), "({} bytes)", got.len());
        // Not assert_eq: nobody wants to read a mebibyte.
        assert!(got == payload, "{} bytes came back as {} other ones", payload.len(), got.len());
    }

    pub(crate) fn expect_text(&mut self, text: &str) {
        self.expect(TEXT, text);
    }

    /// Sends a message and expects it back.
    pub(crate) fn echo(&mut self, text: &str) {
        self.send(frames::text(text));
        self.expect_text(text);
    }

    /// Expects a close frame with this code next, and then the end of the connection; not a reset.
    pub(crate) fn expect_close(&mut self, code: impl Into<Option<u16>>) {
        let frame = self.frame();
        let got = close_code(&frame);
        assert_eq!(got, code.into(), "{:?}", String::from_utf8_lossy(&frame.payload));
        self.expect_end();
    }

    /// Expects that the server ends the connection without another byte; not by a reset.
    pub(crate) fn expect_end(&mut self) {
        let rest = self.rest();
        assert!(
            rest.is_empty(),
            "after the end came {} bytes: {:?}",
            rest.len(),
            &rest[..rest.len().min(60)]
        );
    }

    /// Answers a close frame that was read, and expects the end.
    pub(crate) fn goodbye(&mut self, code: u16) {
        self.send(frames::close(code, ""));
        self.expect_end();
    }

    /// Closes as one should, and expects that nothing else was on its way.
    pub(crate) fn leave(mut self) {
        self.send(frames::close(1000, ""));
        self.expect_close(1000);
    }

    /// Sends a ping and expects the pong next: all that was sent before has been dealt with.
    pub(crate) fn ping(&mut self, payload: &[u8]) {
        self.send(frames::frame(PING, payload));
        self.expect(PONG, payload);
    }

    /// Everything up to the end of the connection, which must not be a reset.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill().expect("the connection ends, and not by a reset") {}
        self.buffer.split_off(std::mem::take(&mut self.taken).min(self.buffer.len()))
    }

    /// Everything up to the end of the connection, however it ends.
    pub(crate) fn whatever_is_left(&mut self) -> Vec<u8> {
        loop {
            match self.fill() {
                Ok(true) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => panic!("the connection does not end"),
                _ => return self.buffer.split_off(std::mem::take(&mut self.taken).min(self.buffer.len())),
            }
        }
    }

    /// The next `n` bytes.
    pub(crate) fn take(&mut self, n: usize) -> Vec<u8> {
        self.try_take(n).unwrap_or_else(|error| panic!("the server owes {n} bytes: {error}"))
    }

    /// The next `n` bytes, or why they do not come.
    pub(crate) fn try_take(&mut self, n: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() - self.taken < n {
            if !self.fill()? {
                let there = self.buffer.len() - self.taken;
                return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("the end came after {there}")));
            }
        }
        let taken = self.buffer[self.taken..self.taken + n].to_vec();
        self.taken += n;
        Ok(taken)
    }

    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> String {
        let mut looked_at = 0;
        loop {
            let unread = &self.buffer[self.taken..];
            if let Some(end) = unread[looked_at..].iter().position(|byte| *byte == b'\n') {
                let line = self.take(looked_at + end + 1);
                return String::from_utf8(line[..line.len() - 1].to_vec()).expect("a line of text");
            }
            looked_at = unread.len();
            let is_there = self.fill().unwrap_or_else(|error| panic!("the server owes a line: {error}"));
            assert!(is_there, "the server owes a line: the end came after {looked_at} bytes of it");
        }
    }

    /// Reads some more; false at the end of the connection.
    fn fill(&mut self) -> io::Result<bool> {
        if self.taken > 0 {
            self.buffer.drain(..std::mem::take(&mut self.taken));
        }
        let mut chunk = [0; 32 << 10];
        match self.stream.read(&mut chunk) {
            Ok(n) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                Ok(n > 0)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => self.fill(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err(io::Error::new(ErrorKind::TimedOut, format!("nothing came within {PATIENCE:?}")))
            }
            Err(error) => Err(error),
        }
    }
}

/// The code in a close frame, whose reason must be text.
pub(crate) fn close_code(frame: &Frame) -> Option<u16> {
    assert_eq!(frame.opcode, CLOSE, "not a close frame: {frame:?}");
    let (code, reason) = frame.payload.split_first_chunk::<2>()?;
    std::str::from_utf8(reason).expect("a reason is text");
    Some(u16::from_be_bytes(*code))
}

/// Runs `check` for each of these named inputs at each pace, and says for which it failed.
pub(crate) fn at_each_pace<T>(inputs: &[(impl Display, T)], check: impl Fn(Pace, &T)) {
    for (name, input) in inputs {
        for pace in PACES {
            let _on_failure = Named(format!("{name}, {pace:?}"));
            check(pace, input);
        }
    }
}

/// Says what was being tried, if that fails.
pub(crate) struct Named(pub(crate) String);

impl Drop for Named {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("  (that was with {})", self.0);
        }
    }
}
