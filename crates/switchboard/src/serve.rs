use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use switchboard_models::{App, Listener, Mechanism, Shutdown, UdpApp, Work, raise_descriptor_limit};

use crate::{Failure, args};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How to wait: see `switchboard models`
    model: String,
    /// Address and port, an IPv6 address in brackets (the unspecified one takes IPv4 too); port 0: any that
    /// is free
    #[arg(long, default_value = "127.0.0.1:9001", value_name = "ADDRESS:PORT")]
    listen: String,
    /// Refuse more connections than these with 503 [default: what the machine allows]
    #[arg(long, value_name = "N")]
    max_connections: Option<usize>,
    /// Close a WebSocket with 1009 that sends a longer message; do not return longer datagrams
    #[arg(long, default_value = "16MiB", value_name = "SIZE", value_parser = args::bytes)]
    max_message_bytes: usize,
    /// Close a subscriber with 1013 that has more than this waiting
    #[arg(long, default_value = "4MiB", value_name = "SIZE", value_parser = args::bytes)]
    max_unsent_bytes: usize,
    /// Answer 408 when a request head takes longer
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = args::some_time)]
    handshake_timeout: Duration,
    /// Ping a WebSocket that was silent for so long, and close it after as long again [default: off]
    #[arg(long, value_name = "TIME", value_parser = args::some_time)]
    heartbeat: Option<Duration>,
    /// Simulate so many microseconds of work for each message: 0.25, 100 (raw: for each read)
    #[arg(long, default_value_t = 0.0, value_name = "US", value_parser = args::work_us)]
    work_us: f64,
    /// How long to wait for the clients' goodbyes at the end
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = args::duration)]
    grace: Duration,
    /// What `udp` does with a datagram (a WebSocket chooses by its path)
    #[arg(long, value_enum, default_value = "echo")]
    app: Datagrams,
}

#[derive(Clone, Copy, ValueEnum)]
enum Datagrams {
    /// Return it to its sender
    Echo,
    /// Send it to everyone heard from within the last 30 seconds; an empty one only announces its sender
    Broadcast,
}

pub(crate) fn serve(args: &Args) -> Result<ExitCode, Failure> {
    let model = args::model(&args.model)?;
    if matches!(args.app, Datagrams::Broadcast) && !model.serves.contains(&Mechanism::UdpBroadcast) {
        let text = "--app broadcast is for udp; a WebSocket is a broadcast at the path /broadcast";
        return Err(Failure::new(2, text));
    }
    let address = address(&args.listen)?;
    let app = App {
        served_by: model.name,
        max_connections: args.max_connections,
        max_message_bytes: args.max_message_bytes,
        max_unsent_bytes: args.max_unsent_bytes,
        handshake_timeout: args.handshake_timeout,
        heartbeat: args.heartbeat,
        grace: args.grace,
        udp: match args.app {
            Datagrams::Echo => UdpApp::Echo,
            Datagrams::Broadcast => UdpApp::Broadcast,
        },
        work: Work::calibrated(Duration::from_secs_f64(args.work_us / 1e6), Instant::now),
    };
    let failed = |error| Failure::new(1, format!("cannot serve on {address}: {error}"));
    let limits = raise_descriptor_limit().map_err(failed)?;
    let shutdown = Shutdown::on_signals().map_err(failed)?;
    let listener = Listener::bind(model, address).map_err(failed)?;
    // A reader of this line may be gone already; the server serves all the same.
    let _ = writeln!(std::io::stdout(), "listening on {}", listener.local_addr());
    let _ = std::io::stdout().flush();
    let descriptors = match limits {
        (soft, hard) if soft < hard => format!("{hard} descriptors (raised from {soft})"),
        (_, hard) => format!("{hard} descriptors"),
    };
    eprintln!("{}: waits with {}; {listener}, {descriptors}", model.name, model.waits_with);
    let tally = (model.serve)(listener, Arc::new(app), shutdown).map_err(failed)?;
    eprintln!("{}: {tally}", model.name);
    Ok(ExitCode::SUCCESS)
}

fn address(text: &str) -> Result<SocketAddr, Failure> {
    let mut addresses =
        text.to_socket_addrs().map_err(|error| Failure::new(2, format!("--listen {text}: {error}")))?;
    addresses.next().ok_or_else(|| Failure::new(2, format!("--listen {text}: no such address")))
}
