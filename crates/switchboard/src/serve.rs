use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use clap::ValueEnum;
use switchboard_models::{
    App, Budget, CorsOrigins, EngineSettings, Guests, Listener, MODELS, Mechanism, Model, PlainApp, Shutdown,
    Work, Workers, available_memory, keep_freed_memory, raise_descriptor_limit,
};

use crate::{Failure, args, listen};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How to wait: see `switchboard models`
    model: String,
    /// Address and port; an IPv6 address stands in brackets, and `[::]` takes IPv4 too. A port alone (9001, :9001) means that port of 127.0.0.1;
    /// port 0 means any free port
    #[arg(long, default_value = "127.0.0.1:9001", value_name = "ADDRESS:PORT")]
    listen: String,
    /// Refuse more connections than these with 503 [default: what the machine allows]
    #[arg(long, value_name = "N")]
    max_connections: Option<usize>,
    /// Close a WebSocket with 1009 that sends a longer message; do not return longer datagrams
    #[arg(long, default_value = "16MiB", value_name = "SIZE", value_parser = args::bytes)]
    max_message_bytes: usize,
    /// Maximum number of connections of one address (IPv6: one /64); the same maximum applies to its Engine.IO sessions and to its sign-in codes. Above it,
    /// a new one is answered with 503 [default: no limit, because many clients may share an address]
    #[arg(long, value_name = "N")]
    max_per_address: Option<NonZeroUsize>,
    /// Maximum memory that all clients together make the server hold; above it, a request is answered with 503, and a WebSocket is closed with 1013
    /// [default: half of the memory of the machine, or of the control group if that is less]
    #[arg(long, value_name = "SIZE", value_parser = args::bytes)]
    max_memory: Option<usize>,
    /// Close a subscriber with 1013 that has more than this waiting
    #[arg(long, default_value = "4MiB", value_name = "SIZE", value_parser = args::bytes)]
    max_unsent_bytes: usize,
    /// Time limit for a request head, and the time over which a body must arrive at 1 KiB/s on average; otherwise the answer is 408
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = args::timer)]
    handshake_timeout: Duration,
    /// Time of silence after which a WebSocket is pinged; after the same time again it is closed. `off`: never; a WebSocket whose
    /// peer has vanished may then stay open forever
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = args::time_or_off)]
    heartbeat: args::TimeOrOff,
    /// Close a connection that is silent for so long between two requests
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = args::timer)]
    keep_alive: Duration,
    #[command(flatten)]
    delivery: Delivery,
    /// Simulate so many microseconds of work for each message: 0.25, 100 (raw: for each read)
    #[arg(long, default_value_t = 0.0, value_name = "US", value_parser = args::microseconds)]
    work_us: f64,
    /// How long to wait for the clients' goodbyes at the end
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = args::duration)]
    grace: Duration,
    /// Workers: loops of a server that has several, or threads that serve one connection each (`pool`) [default: one for
    /// each core; `pool`: 512]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Time after which a worker of `prefork` or `prefork-reuseport` is killed and replaced if it takes no publications while
    /// publishers wait for it
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = args::some_time)]
    worker_patience: Duration,
    /// Run on these cores only, the workers bound to one each in turn: 0,2-3 [default: wherever the system likes]
    #[arg(long, value_name = "LIST", value_parser = args::cpus)]
    cpus: Option<args::Cpus>,
    /// Let an event loop look for events for so many microseconds before it blocks
    #[arg(long, default_value_t = 0.0, value_name = "US", value_parser = args::microseconds)]
    busy_poll: f64,
    /// What `udp` does with a datagram, and `raw` with bytes (a WebSocket chooses by its path)
    #[arg(long, value_enum, default_value = "echo")]
    app: Pathless,
}

/// How what is published is held and delivered.
#[derive(clap::Args)]
#[command(next_help_heading = "Delivery")]
struct Delivery {
    /// Events that each topic holds for those who come later; 0: none
    #[arg(long, default_value_t = 1024, value_name = "EVENTS")]
    history: usize,
    /// What all topics together may hold; the oldest events go first
    #[arg(long, default_value = "64MiB", value_name = "SIZE", value_parser = args::bytes)]
    history_bytes: usize,
    /// Maximum number of topics; above it, the least recently used topic without subscribers is forgotten. If every topic has subscribers, publishing to a
    /// new one is answered with 503
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    max_topics: usize,
    /// Send a comment on an event stream that was silent for so long
    #[arg(long, default_value = "15s", value_name = "TIME", value_parser = args::timer)]
    sse_heartbeat: Duration,
    /// Publish the time on the topic `tick` so often [default: never]
    #[arg(long, value_name = "TIME", value_parser = args::timer)]
    tick: Option<Duration>,
    /// Let a code of the sign-in expire that is not confirmed for so long
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = args::timer)]
    login_expiry: Duration,
    /// Origins whose pages may read responses, open WebSockets and publish, separated by commas; `*`: all. Pages of other origins are answered with 403.
    /// Programs, which send no `Origin`, are served [default: the server's own pages]
    #[arg(long, value_name = "ORIGINS")]
    cors_origin: Option<CorsOrigins>,
    /// Where Socket.IO is served
    #[arg(long, default_value = "/socket.io/", value_name = "PATH", value_parser = args::path)]
    socketio_path: String,
    /// Ping sessions of Socket.IO and Engine.IO so often
    #[arg(long, default_value = "25s", value_name = "TIME", value_parser = args::timer)]
    ping_interval: Duration,
    /// Close such a session that does not answer a ping for so long
    #[arg(long, default_value = "20s", value_name = "TIME", value_parser = args::timer)]
    ping_timeout: Duration,
    /// Longest payload of such a session
    #[arg(long, default_value = "1MB", value_name = "SIZE", value_parser = args::bytes)]
    max_payload: usize,
    /// Close a session of Socket.IO that has not joined a namespace after so long
    #[arg(long, default_value = "45s", value_name = "TIME", value_parser = args::timer)]
    connect_timeout: Duration,
    /// Maximum number of such sessions; above it, a new one is answered with 503
    #[arg(long, default_value_t = 200_000, value_name = "N")]
    max_sessions: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Pathless {
    /// Return it to its sender
    Echo,
    /// Send it to everyone; of datagrams to everyone heard from within the last 30 seconds, an empty one only announces its sender
    Broadcast,
}

pub(crate) fn serve(args: &Args) -> Result<ExitCode, Failure> {
    let model = args::model(&args.model)?;
    let has_no_paths =
        [Mechanism::UdpBroadcast, Mechanism::TcpBroadcast].iter().any(|one| model.serves.contains(one));
    if matches!(args.app, Pathless::Broadcast) && !has_no_paths {
        let text = "--app broadcast is for udp and raw; a WebSocket is a broadcast at the path /broadcast";
        return Err(Failure::new(2, text));
    }
    check_waiting(args, model)?;
    let addresses = listen::addresses(&args.listen)?;
    let cpus = args.cpus.clone().unwrap_or_default().0;
    if !cpus.is_empty() {
        switchboard_models::confine(&cpus).map_err(|error| Failure::new(2, format!("--cpus: {error}")))?;
    }
    let delivery = &args.delivery;
    let app = App {
        served_by: model.name,
        serves_together: model.serves.contains(&Mechanism::Together),
        max_connections: args.max_connections,
        max_per_address: args.max_per_address.map(NonZeroUsize::get),
        guests: Guests::new(args.max_per_address.map(NonZeroUsize::get)),
        memory: Budget::new(args.max_memory.unwrap_or_else(default_memory)),
        max_message_bytes: args.max_message_bytes,
        max_unsent_bytes: args.max_unsent_bytes,
        handshake_timeout: args.handshake_timeout,
        heartbeat: args.heartbeat.0,
        grace: args.grace,
        plain: match args.app {
            Pathless::Echo => PlainApp::Echo,
            Pathless::Broadcast => PlainApp::Broadcast,
        },
        workers: args.workers,
        cpus,
        worker_patience: args.worker_patience,
        busy_poll: Duration::from_secs_f64(args.busy_poll / 1e6),
        work: Work::calibrated(Duration::from_secs_f64(args.work_us / 1e6), Instant::now),
        keep_alive: args.keep_alive,
        history_events: delivery.history,
        history_bytes: delivery.history_bytes,
        max_topics: delivery.max_topics,
        sse_heartbeat: delivery.sse_heartbeat,
        tick: delivery.tick,
        login_expiry: delivery.login_expiry,
        cors: delivery.cors_origin.clone().unwrap_or_default(),
        socketio_path: delivery.socketio_path.clone(),
        engine: EngineSettings {
            ping_interval: delivery.ping_interval,
            ping_timeout: delivery.ping_timeout,
            max_payload_bytes: delivery.max_payload,
            connect_timeout: delivery.connect_timeout,
            max_unsent_bytes: args.max_unsent_bytes,
            max_sessions: Some(delivery.max_sessions),
            ..EngineSettings::default()
        },
        started: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()
            .map(|time| (Instant::now(), time)),
    };
    let failed = |error| Failure::new(1, format!("cannot serve on {}: {error}", addresses[0]));
    keep_freed_memory();
    let limits = raise_descriptor_limit().map_err(failed)?;
    let workers = model.check(&app).map_err(|error| Failure::new(1, error))?;
    let shutdown = Shutdown::on_signals().map_err(failed)?;
    let listener = bind(model, &addresses, &app).map_err(failed)?;
    // The server serves, even if it cannot print its address.
    if let Err(error) = switchboard_console::result(format_args!("listening on {}\n", listener.local_addr()))
    {
        switchboard_console::log!("cannot write the address {} to stdout: {error}", listener.local_addr());
    }
    let descriptors = match limits {
        (soft, hard) if soft < hard => format!("{hard} descriptors (raised from {soft})"),
        (_, hard) => format!("{hard} descriptors"),
    };
    let workers = match model.workers {
        Workers::None => String::new(),
        _ => format!("{workers} workers, "),
    };
    switchboard_console::log!(
        "{}: waits with {}; {workers}{listener}, {descriptors}",
        model.name,
        model.waits_with
    );
    if let Some(warning) = listen::beyond_loopback(listener.local_addr()) {
        switchboard_console::log!("{warning}");
    }
    let tally = (model.serve)(listener, Arc::new(app), shutdown).map_err(failed)?;
    switchboard_console::log!("{}: {tally}", model.name);
    Ok(ExitCode::SUCCESS)
}

/// Default of `--max-memory`: the rest is for the kernel's socket buffers and for everything else on the machine.
fn default_memory() -> usize {
    available_memory().map_or(1 << 30, |bytes| bytes / 2)
}

/// Whether what was said about the waiting means something to the model.
fn check_waiting(args: &Args, model: &Model) -> Result<(), Failure> {
    let those = |has: fn(&Model) -> bool| {
        let names = MODELS.iter().filter(|model| !model.hidden && has(model)).map(|model| model.name);
        names.collect::<Vec<_>>().join(", ")
    };
    if args.workers == Some(0) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        return Err(Failure::new(
            2,
            format!("--workers 0: nobody would serve; 1 or more, or leave it out ({cores} cores here)"),
        ));
    }
    if args.workers.is_some() && model.workers == Workers::None {
        let (name, runs_as) = (model.name, model.runs_as);
        let those = those(|model| model.workers != Workers::None);
        return Err(Failure::new(
            2,
            format!("--workers: `{name}` has none, it is {runs_as}; these have: {those}"),
        ));
    }
    if args.busy_poll > 0.0 && !model.busy_polls {
        let (name, waits_with) = (model.name, model.waits_with);
        let those = those(|model| model.busy_polls);
        return Err(Failure::new(
            2,
            format!(
                "--busy-poll: `{name}` has no loop of its own that blocks, it waits with {waits_with}; these have: {those}"
            ),
        ));
    }
    Ok(())
}

/// Binds the first of these addresses that can be bound: a name may have an address that is not this machine's.
fn bind(model: &Model, addresses: &[SocketAddr], app: &App) -> io::Result<Listener> {
    let mut failed = None;
    for address in addresses {
        match Listener::bind(model, *address, app) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed.get_or_insert(error),
        };
    }
    Err(failed.unwrap_or_else(|| io::Error::other("no address")))
}
