use std::process::ExitCode;
use std::time::Duration;

use switchboard_load::LoadPlan;

use crate::{Failure, args};

/// The meaning of the exit status.
const STATUSES: &str = "Exit status:
  0  every connection was opened and stayed open, and every message came back once, in order and whole
  1  a connection was refused or lost, a message was lost or damaged, no message that was due was sent, or the result could not be written
  2  the command line is wrong

Over udp:// single messages may be lost; the status is 1 if all were lost or no process listens on the port. With --reconnect the status is 1 if a client did not reconnect.";

#[derive(clap::Args)]
#[command(after_long_help = STATUSES)]
pub(crate) struct Args {
    /// ws://HOST:PORT/echo or /broadcast, sse+http://…, longpoll+http://…, poll+http://…, socketio+http://…, http://…, udp://… or tcp://…; --help
    /// says what each does
    ///
    /// ws://HOST:PORT/echo: WebSockets that return every message; any path but the next
    ///
    /// ws://HOST:PORT/broadcast: what one of the WebSockets sends, all receive
    ///
    /// sse+http://HOST:PORT/events?topic=T: server-sent events; what is published goes to all who listen (see --publish)
    ///
    /// longpoll+http://HOST:PORT/longpoll?topic=T: the same by long polls with since=ID, the first ID learned from /poll beside it
    ///
    /// poll+http://HOST:PORT/poll?topic=T --every 1s: the same by short polls with since=ID, one on each connection every so often, in equal steps from
    /// one connection to the next; a poll is left out, and counted, while the one before is not answered
    ///
    /// poll+http://HOST:PORT/poll?topic=T without --every: short polls as fast as they are answered; each at once, with JSON that has `topic`, `newest` and
    /// `events`. What is counted is requests
    ///
    /// socketio+http://HOST:PORT/socket.io/?topic=T&transport=websocket: Socket.IO; each joins the room T (an event `join` that is acknowledged) and hears
    /// the events `message` with a text that are published there. transport=polling has two connections for each client, one for GETs and one for POSTs;
    /// transport=upgrade begins by polling and goes on over a WebSocket; without transport= it is websocket
    ///
    /// socketio+http://HOST:PORT/socket.io/ without topic=: events `message` with binary data that come back in an event of any name
    ///
    /// http://HOST:PORT/PATH: GETs; a right response is 200 with a complete body of any content. Connections are kept alive. If the server closes one in
    /// order, it is opened again and counted
    ///
    /// udp://HOST:PORT, tcp://HOST:PORT, with or without /broadcast: messages without any framing
    url: String,
    /// Who publishes for those who only listen, by sse+http://, longpoll+http://, poll+http:// with --every, or socketio+http:// with topic=: http://HOST:PORT/publish?topic=T (a POST for each message) or
    /// ws://HOST:PORT/broadcast?topic=T [default: the former, on the same server and topic]
    #[arg(long, value_name = "URL")]
    publish: Option<String>,
    /// Ask only for what has changed (If-None-Match), over http:// and poll+http://: 304 is a right answer
    #[arg(long)]
    etag: bool,
    /// poll+http://: each connection asks once in this time what is new, while one more publishes
    #[arg(long, value_name = "TIME", value_parser = args::some_time, conflicts_with_all = ["etag", "active", "churn"])]
    every: Option<Duration>,
    /// Those who listen, and the one who publishes, come again when they have lost the server, and go on where they were if they can. What they lost
    /// and for how long they were blind is a result then, not an error. One more connection publishes, by POST (over UDP by datagrams)
    ///
    /// Before each attempt sse+http:// waits as the stream's `retry:` says, poll+http:// until its next poll, Socket.IO as its client does (1 s, then
    /// twice as long up to 5 s, each ± 50 %), others for --reconnect-delay; udp:// announces itself so often all the time. Who polls or hears events goes
    /// on behind the last one; a WebSocket does so with `format=json` in its URL; Socket.IO and UDP cannot
    #[arg(long, requires = "rate", conflicts_with_all = ["slow", "churn"])]
    reconnect: bool,
    /// How long to wait before each attempt to come again where the mechanism does not say so itself
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = args::some_time, requires = "reconnect")]
    reconnect_delay: Duration,
    /// Number of connections to open; at most 4000000
    #[arg(long, default_value_t = 64, value_name = "N")]
    connections: usize,
    /// Number of active connections; the others stay idle [default: all]
    #[arg(long, value_name = "N", conflicts_with_all = ["churn", "slow"])]
    active: Option<usize>,
    /// Open a connection, send one message, close, and open the next one in its place: what is counted is
    /// connections
    #[arg(long, conflicts_with_all = ["rate", "depth"])]
    churn: bool,
    /// In a broadcast: so many receivers that do not read
    #[arg(long, default_value_t = 0, value_name = "N")]
    slow: usize,
    /// How long to measure
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = args::some_time)]
    duration: Duration,
    /// How long to send before measuring
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = args::duration)]
    warmup: Duration,
    /// Send for longer before measuring, at most so long, until the rate shows no trend
    #[arg(long, value_name = "TIME", value_parser = args::duration)]
    warmup_limit: Option<Duration>,
    /// Size of a message: a number of bytes, or like 16KiB; at most 1GiB
    #[arg(long, default_value = "64", value_name = "SIZE", value_parser = args::bytes)]
    payload: usize,
    /// Messages in flight on each connection (in a broadcast: of the publisher); at most 65536
    ///
    /// If a message has not come back after ten times the longest latency so far, and at least 1 s (5 s before the first reply), another message is sent
    /// in its place. If the message comes back later, it is counted as late; if it never comes back, as lost
    #[arg(long, default_value_t = 1, value_name = "N", conflicts_with = "rate")]
    depth: usize,
    /// Open loop: send so many messages per second in all, whatever comes back; latency counts from the
    /// time at which a message was due (in a broadcast it is the age of an event on arrival)
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// When messages of an open loop are due: with even gaps, or at random (a Poisson process)
    #[arg(long, value_enum, default_value_t = Arrivals::Even, requires = "rate")]
    arrivals: Arrivals,
    /// With --arrivals random: which of all such streams. The same seed gives the same due times, whatever is loaded
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Number of event loops, each on its own thread; at most 1024. All threads share one schedule
    #[arg(long, default_value_t = 1, value_name = "N")]
    threads: usize,
    /// CPUs to pin the threads to, in turn: 0,2-3
    #[arg(long, value_name = "LIST", value_parser = args::cpus)]
    cpus: Option<args::Cpus>,
    /// Maximum number of connections to open per second, over all threads, also with --churn
    #[arg(long, value_name = "PER_SECOND")]
    connect_rate: Option<f64>,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
    /// With --json: a line of JSON when each phase begins
    #[arg(long, hide = true, requires = "json")]
    phases: bool,
    /// Keep the connections open after the window
    #[arg(long, hide = true, default_value = "0s", value_parser = args::duration)]
    hold: Duration,
}

/// How due times lie.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Arrivals {
    Even,
    Random,
}

pub(crate) fn load(args: &Args) -> Result<ExitCode, Failure> {
    let plan = LoadPlan {
        url: args.url.clone(),
        publish: args.publish.clone(),
        revalidate: args.etag,
        every: args.every,
        reconnect: args.reconnect.then_some(args.reconnect_delay),
        connections: args.connections,
        active: args.active,
        churn: args.churn,
        slow: args.slow,
        duration: args.duration,
        warmup: args.warmup,
        warmup_limit: args.warmup_limit,
        payload_bytes: args.payload,
        depth: args.depth,
        rate_per_s: args.rate,
        arrivals: match args.arrivals {
            Arrivals::Even => switchboard_load::Arrivals::Even,
            Arrivals::Random => switchboard_load::Arrivals::Random { seed: args.seed },
        },
        threads: args.threads,
        cpus: args.cpus.clone().map(|cpus| cpus.0),
        connect_rate_per_s: args.connect_rate,
        phases: args.phases,
        hold: args.hold,
        progress: !args.json,
        ..LoadPlan::default()
    };
    let report = switchboard_load::run(&plan).map_err(|error| Failure::new(error.exit_status(), error))?;
    if args.json {
        let line = serde_json::to_string(&report).map_err(|error| Failure::new(1, error))?;
        crate::print(format_args!("{line}\n"))?;
    } else {
        crate::print(&report)?;
    }
    if report.connections_open == 0 && !args.json {
        return Err(Failure::new(1, format!("nothing could connect to {}", args.url)));
    }
    Ok(ExitCode::from(report.exit_status()))
}
