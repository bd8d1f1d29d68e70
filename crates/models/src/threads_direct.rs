//! The control: a thread per connection, written as a tutorial would.
//!
//! `tungstenite::accept_hdr` on the stream with a look at `Origin`, then read and send, in ten lines. It shares nothing with the other models
//! but the listener, so that the price of what they share is on the plot. What they leave out is what the
//! rest of this crate is about: paths and pages, timers, limits on unsent bytes, a goodbye to the clients.
//!
//! - Calls of one message: `recvfrom`, `sendto`; and two context switches.
//! - Costs: as `threads`, and a read buffer of 128 KiB for each connection (tungstenite's default).
//! - Limit: as `threads`; echo only, on whatever path; when the server ends, connections end without a close frame.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use switchboard_proto::{App, CorsOrigins, Work};
use tungstenite::handshake::server::{ErrorResponse, Request};
use tungstenite::http::StatusCode;
use tungstenite::http::header::{CONTENT_LENGTH, HOST, HeaderValue, ORIGIN};

use crate::accept::Acceptor;
use crate::hub::STACK_BYTES;
use crate::limits::{Limit, thread_ceiling};
use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "threads-direct",
    family: Family::Thread,
    after: Some("threads"),
    about: "the control: tungstenite on a blocking stream, a thread per connection, as a tutorial has it",
    waits_with: "recvfrom(2)",
    runs_as: "1 process, a thread for each connection",
    calls: &["recvfrom", "sendto"],
    broadcast: "nothing: it has none",
    serves: &[Mechanism::Together, Mechanism::Echo],
    limits: &[
        "echo only, on any path; no pages, timers or goodbye",
        "threads: ulimit -u and kernel.threads-max",
    ],
    failure_ends: "the whole server",
    workers: Workers::None,
    reuses_port: false,
    busy_polls: false,
    hidden: false,
    source: include_str!("threads_direct.rs"),
    obstacle: Model::no_obstacle,
    serve,
};

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    let counters = Arc::new(Counters {
        ceiling: thread_ceiling(),
        work: app.work,
        origins: app.cors.clone(),
        ..Counters::default()
    });
    let mut acceptor = Acceptor::new(listener.into_tcp()?, &app, None)?;
    while acceptor.wait(&shutdown)? {
        let open = counters.open.load(Ordering::Relaxed);
        acceptor.accept(open, Instant::now(), |stream| answer(&counters, stream));
    }
    Ok(Tally {
        connections: counters.connections.load(Ordering::Relaxed),
        messages: counters.messages.load(Ordering::Relaxed),
        bytes: counters.bytes.load(Ordering::Relaxed),
        refused: acceptor.refused,
        ..Tally::default()
    })
}

/// All that the threads share.
#[derive(Default)]
struct Counters {
    /// Connections that there are threads for.
    ceiling: usize,
    work: Work,
    origins: CorsOrigins,
    open: AtomicUsize,
    connections: AtomicU64,
    messages: AtomicU64,
    bytes: AtomicU64,
}

fn answer(counters: &Arc<Counters>, stream: TcpStream) -> Result<(), (TcpStream, Limit)> {
    if counters.open.load(Ordering::Relaxed) >= counters.ceiling {
        return Err((stream, Limit::Threads));
    }
    // A socket that cannot be set up is closed by being dropped.
    if stream.set_nonblocking(false).is_err() {
        return Ok(());
    }
    let stream = Arc::new(stream);
    let (theirs, counted) = (stream.clone(), counters.clone());
    counters.open.fetch_add(1, Ordering::Relaxed);
    let spawned = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
        // An error is the end of the connection, whoever's fault it is.
        let _ = talk(&theirs, &counted);
        counted.open.fetch_sub(1, Ordering::Relaxed);
    });
    if spawned.is_ok() {
        counters.connections.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    counters.open.fetch_sub(1, Ordering::Relaxed);
    let stream = Arc::into_inner(stream).expect("the thread that would share it was not made");
    Err((stream, Limit::Threads))
}

/// The server, as a tutorial would write it.
#[expect(clippy::result_large_err, reason = "tungstenite wants the refusal as it is")]
fn talk(stream: &TcpStream, counters: &Counters) -> tungstenite::Result<()> {
    let ask_origin =
        |request: &Request, response| refusal(&counters.origins, request).map_or(Ok(response), Err);
    let mut socket =
        tungstenite::accept_hdr(stream, ask_origin).map_err(|_| tungstenite::Error::ConnectionClosed)?;
    loop {
        let message = socket.read()?;
        if message.is_text() || message.is_binary() {
            counters.messages.fetch_add(1, Ordering::Relaxed);
            counters.bytes.fetch_add(message.len() as u64, Ordering::Relaxed);
            counters.work.perform();
            socket.send(message)?;
        }
    }
}

/// A browser opens a WebSocket for any page, and leaves it to the server to look which page that is.
fn refusal(origins: &CorsOrigins, request: &Request) -> Option<ErrorResponse> {
    let field = |name| request.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let text = origins.refusal(field(ORIGIN).as_deref(), field(HOST).as_deref())?;
    let length = HeaderValue::from(text.len());
    let mut response = ErrorResponse::new(Some(text));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response.headers_mut().insert(CONTENT_LENGTH, length);
    Some(response)
}
