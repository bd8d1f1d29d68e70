//! In its steady state the load generator allocates nothing per message.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use switchboard_load::{Arrivals, LoadPlan, run};
use tungstenite::handshake::derive_accept_key;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A plain TCP echo that allocates nothing itself.
fn echo() -> SocketAddr {
    serve(|stream, bytes| stream.write_all(bytes))
}

/// A server that answers whatever it reads with the same.
fn web() -> SocketAddr {
    const NEWS: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 38\r\n\r\n\
        {\"topic\":\"t\",\"newest\":7,  \"events\":[]}";
    serve(|stream, _| stream.write_all(NEWS))
}

/// A room of Socket.IO over WebSockets: what is POSTed goes to all who have upgraded, without anything being allocated.
fn room() -> SocketAddr {
    static MEMBERS: Mutex<Vec<TcpStream>> = Mutex::new(Vec::new());
    const EVENT: &[u8] = br#"42["message",""#;
    serve(|stream, bytes| {
        if bytes.starts_with(b"POST") {
            let body = &bytes[bytes.len() - 64..];
            let mut frame = [0; 128];
            let length = EVENT.len() + body.len() + 2;
            frame[..2].copy_from_slice(&[0x81, length as u8]);
            frame[2..2 + EVENT.len()].copy_from_slice(EVENT);
            frame[2 + EVENT.len()..][..64].copy_from_slice(body);
            frame[length..length + 2].copy_from_slice(br#""]"#);
            for mut member in MEMBERS.lock().unwrap().iter() {
                // Those of the load before are gone.
                let _ = member.write_all(&frame[..length + 2]);
            }
            return stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
        }
        let head = std::str::from_utf8(bytes).unwrap_or_default();
        if let Some(key) = head.split("Sec-WebSocket-Key: ").nth(1) {
            let accept = derive_accept_key(key.split("\r\n").next().unwrap().as_bytes());
            write!(
                stream,
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            )?;
            // Both handshakes, and that the room is joined.
            stream.write_all(b"\x81\x0c0{\"sid\":\"a\"}\x81\x0240\x81\x05430[]")?;
            MEMBERS.lock().unwrap().push(stream.try_clone()?);
        }
        Ok(())
    })
}

fn serve(answer: fn(&mut TcpStream, &[u8]) -> io::Result<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    if answer(&mut stream, &buffer[..n]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn more_messages_do_not_mean_more_allocations() {
    no_more_allocations("tcp", echo(), None);
    // An open loop sends by the clock and remembers when.
    no_more_allocations("tcp", echo(), Some(20_000.0));
    // Requests remember when they were made, too, and answers are taken apart.
    no_more_allocations("http", web(), None);
    no_more_allocations("poll+http", web(), Some(20_000.0));
    // What is published reaches a room, and is taken out of the event; random gaps are made one after the other.
    no_more_allocations("socketio+http", room(), Some(2_000.0));
    // Polls by the clock: what is counted are the requests, since nothing is ever new.
    no_more_polls_than_allocations(web());
}

fn no_more_allocations(scheme: &str, address: SocketAddr, rate_per_s: Option<f64>) {
    let is_room = scheme.starts_with("socketio");
    more_do_not_mean_more(|duration| LoadPlan {
        url: format!("{scheme}://{address}{}", if is_room { "/socket.io/?topic=t" } else { "" }),
        arrivals: if is_room { Arrivals::Random { seed: 1 } } else { Arrivals::Even },
        rate_per_s,
        duration,
        ..few()
    });
}

fn no_more_polls_than_allocations(address: SocketAddr) {
    more_do_not_mean_more(|duration| LoadPlan {
        url: format!("poll+http://{address}/poll?topic=t"),
        every: Some(Duration::from_millis(2)),
        patience: Duration::from_millis(50),
        duration,
        ..few()
    });
}

fn few() -> LoadPlan {
    LoadPlan { connections: 4, warmup: Duration::ZERO, ..LoadPlan::default() }
}

fn more_do_not_mean_more(plan: impl Fn(Duration) -> LoadPlan) {
    let allocations = |duration: Duration| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let plan = plan(duration);
        let report = run(&plan).unwrap();
        let messages = if plan.every.is_some() { report.requests.unwrap() } else { report.messages };
        (ALLOCATIONS.load(Ordering::Relaxed) - before, messages)
    };
    let (few, few_messages) = allocations(Duration::from_millis(50));
    let (many, many_messages) = allocations(Duration::from_secs(1));
    let more_messages = many_messages - few_messages;
    assert!(more_messages > 1000, "{more_messages} more messages say nothing");
    // Histograms are encoded and vectors grow a few times; a single allocation per message would be thousands.
    assert!(
        many < few + more_messages / 20,
        "{few} allocations for {few_messages} messages, {many} for {many_messages}"
    );
}
