//! What the benchmarks of the models share: a server in a process of its own, and clients for it.
//!
//! In reading order: `codec.rs` beside this folder times the protocol without any socket; `echo.rs` and
//! `broadcast.rs` time each model over loopback. All of them verify what they received.
//!
//! A number from here compares two versions of one thing on one machine. For throughput against connections, with
//! intervals and the server's CPU time, there is `switchboard run`.

use std::env;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::{self, Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use switchboard_models::{App, Listener, Model, PlainApp, Shutdown, find};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

/// Name of the model that this process shall serve instead of running benchmarks.
const SERVE: &str = "SWITCHBOARD_BENCH_SERVE";

/// What a datagram server shall do.
const UDP: &str = "SWITCHBOARD_BENCH_UDP";

/// How long a server may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a client waits for an answer before the benchmark fails instead of hanging.
pub const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves and exits, when this process was started by [`Server::start`]. The first call of every `main` that
/// starts servers: `fork` needs a process that has no other threads yet.
pub fn serve_if_asked() {
    let Ok(name) = env::var(SERVE) else { return };
    if let Err(error) = serve(&name) {
        switchboard_console::log!("{name}: {error}");
        process::exit(1);
    }
    process::exit(0);
}

fn serve(name: &str) -> io::Result<()> {
    let model = find(name).ok_or_else(|| io::Error::other("no model of that name"))?;
    let listener = Listener::bind(model, SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let shutdown = Shutdown::on_signals()?;
    let plain = if env::var(UDP).is_ok() { PlainApp::Broadcast } else { PlainApp::Echo };
    let app = App { served_by: model.name, grace: Duration::from_secs(1), plain, ..App::default() };
    switchboard_console::result(format_args!("{}\n", listener.local_addr()))?;
    (model.serve)(listener, Arc::new(app), shutdown)?;
    Ok(())
}

/// A model that serves in a process of its own, on a free port of 127.0.0.1.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts this very program once more, as a server; `plain` is for a model without paths.
    ///
    /// # Panics
    /// When the server does not come up: a benchmark has nobody to hand an error to.
    pub fn start(model: &Model, plain: PlainApp) -> Server {
        let mut command = Command::new(env::current_exe().expect("a program knows where it is"));
        command.env(SERVE, model.name).stdin(Stdio::null()).stdout(Stdio::piped());
        if plain == PlainApp::Broadcast {
            command.env(UDP, "broadcast");
        }
        // SAFETY: between fork and exec it calls prctl(2) and nothing else, which is async-signal-safe.
        unsafe {
            // A benchmark that is killed leaves no server behind.
            command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGTERM)?));
        }
        let mut child = command.spawn().expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it was piped");
        BufReader::new(stdout).read_line(&mut line).expect("the server says where it listens");
        let Ok(address) = line.trim().parse() else {
            let _ = child.kill();
            panic!("{}: the server did not come up: {:?}", model.name, child.wait());
        };
        Server { name: model.name, child, address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the server as its user would, by SIGTERM.
    ///
    /// # Panics
    /// When it does not end, or not well.
    pub fn stop(mut self) {
        signal::kill(self.pid(), Signal::SIGTERM).expect("the server is still there");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                assert!(status.success(), "{}: the server ended with {status}", self.name);
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("{}: the server did not end within {PATIENCE:?}", self.name);
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

/// For a benchmark that fails; after [`stop`](Server::stop) there is nothing left to do.
impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A blocking WebSocket to `server`: tungstenite's, so that nothing is shared with the codec on the other side.
///
/// # Panics
/// When it does not come about.
pub fn connect(server: &Server, path: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(server.address()).expect("the server accepts");
    stream.set_nodelay(true).expect("a socket of TCP");
    stream.set_read_timeout(Some(READ_TIMEOUT)).expect("a socket");
    // A hundred of them shall not fill the cache with buffers.
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    let url = format!("ws://{}{path}", server.address());
    let (socket, _) = tungstenite::client::client_with_config(url, stream, Some(config))
        .unwrap_or_else(|error| panic!("{}: {error}", server.name));
    socket
}

/// The next message. A signal, such as that of a server's end, interrupts a read that has a timeout.
pub fn read<S: Read + Write>(socket: &mut WebSocket<S>) -> Message {
    loop {
        match socket.read() {
            Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
            message => return message.expect("a message in time"),
        }
    }
}

/// Receives the next datagram, whatever signal comes before it, and returns its length.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> usize {
    loop {
        match socket.recv(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => return received.expect("a datagram in time"),
        }
    }
}
