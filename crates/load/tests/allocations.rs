//! In its steady state the load generator allocates nothing per message.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use switchboard_load::{LoadPlan, run};

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
}

fn no_more_allocations(scheme: &str, address: SocketAddr, rate_per_s: Option<f64>) {
    let allocations = |duration: Duration| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let plan = LoadPlan {
            url: format!("{scheme}://{address}"),
            connections: 4,
            duration,
            warmup: Duration::ZERO,
            rate_per_s,
            ..LoadPlan::default()
        };
        let report = run(&plan).unwrap();
        (ALLOCATIONS.load(Ordering::Relaxed) - before, report.messages)
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
