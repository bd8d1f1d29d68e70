//! Which pictures a report has, and what they show.

use super::ReportError;
use super::chart::{Chart, Dot, Line, Scale};
use super::draw::Draw;
use super::timeline::Timeline;
use crate::format;
use crate::record::Status;
use crate::rounds::Round;
use crate::stats::Estimate;
use crate::summary::{ExperimentSummary, Row};

/// A picture, its file name without ending, and a sentence on how to read it.
pub(super) struct Picture {
    pub(super) name: &'static str,
    pub(super) how_to_read: &'static str,
    pub(super) title: String,
    pub(super) drawing: Drawing,
}

/// What is on a picture.
pub(super) enum Drawing {
    Chart(Chart),
    Timeline(Timeline),
}

impl Drawing {
    pub(super) fn svg(&self) -> Result<String, ReportError> {
        match self {
            Drawing::Chart(chart) => chart.svg(),
            Drawing::Timeline(timeline) => timeline.svg(),
        }
    }

    pub(super) fn png(&self) -> Result<Vec<u8>, ReportError> {
        match self {
            Drawing::Chart(chart) => chart.png(),
            Drawing::Timeline(timeline) => timeline.png(),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Drawing::Chart(chart) if chart.lines.iter().all(|line| line.points.is_empty()))
    }
}

/// What is drawn of each row.
type Figure = fn(&Row) -> Option<Estimate>;

/// The pictures of an experiment, the main one first. One that nobody has figures for is left out.
pub(super) fn of(summary: &ExperimentSummary, rounds: &[Round]) -> Vec<Picture> {
    let is_broadcast = summary.is_broadcast();
    let x_label = if is_broadcast { "receivers" } else { "connections" };
    let picture = |name, title: &str, y_label, how_to_read, scale, tick, figure: Figure| {
        let lines = lines(summary, figure);
        let chart = Chart { title: title.to_owned(), y_label, x_label, scale, tick, lines };
        Picture { name, how_to_read, title: title.to_owned(), drawing: Drawing::Chart(chart) }
    };
    let (throughput, per) =
        if is_broadcast { ("Deliveries", "per delivery") } else { ("Echoes", "per message") };
    let mut pictures = vec![
        picture(
            "throughput",
            &format!("{throughput} per second against {x_label}"),
            if is_broadcast { "deliveries per second" } else { "messages per second" },
            "Higher is better. On loopback the client is as busy as the server, so lines close to the dashed \
             ceiling (raw: plain TCP, no protocol) say as much about the client: look at CPU per message next.",
            Scale::Linear,
            thousands,
            |row| row.messages_per_s,
        ),
        picture(
            "cpu",
            &format!("Server CPU time {per} against {x_label}"),
            "CPU time of the whole server",
            "Lower is better. This is what the server itself pays, whatever the client does: the figure to compare \
             models by.",
            Scale::Logarithmic,
            format::nanoseconds,
            |row| row.server_cpu_ns_per_message,
        ),
    ];
    if is_broadcast {
        pictures.push(picture(
            "last-receiver",
            "Time until the last receiver has it",
            "median over messages",
            "Lower is better. From publishing a message until the last of its receivers has verified it.",
            Scale::Logarithmic,
            format::nanoseconds,
            |row| row.last_receiver_p50_ns,
        ));
    }
    pictures.extend([
        picture(
            "latency",
            &format!("Latency, 99th percentile, against {x_label}"),
            "99th percentile of all rounds' messages",
            "Lower is better. In a closed loop more connections wait in the same queue, so latency rises with them by \
             itself (Little's law): compare models at one number of connections.",
            Scale::Logarithmic,
            format::nanoseconds,
            |row| row.latency_p99_ns,
        ),
        picture(
            "memory",
            &format!("Server memory per connection against {x_label}"),
            "proportional set size, less that of the idle server",
            "Lower is better. User memory of the whole process tree; what the kernel holds for a socket or a process \
             is not in it. With few connections this is mostly the server's own buffers.",
            Scale::Binary,
            bytes,
            |row| row.memory_bytes_per_connection.filter(|memory| memory.median > 0.0),
        ),
    ]);
    pictures.extend(Timeline::of(rounds).map(|timeline| Picture {
        name: "canary",
        how_to_read: "Computation and messages between the two cores, the same each time, run behind every point: where this \
             line moves, the machine has changed its speed, whatever was measured. Points more than a tenth off were repeated \
             once behind the others, and marked if that did not help.",
        title: "How fast the machine was over the run".to_owned(),
        drawing: Drawing::Timeline(timeline),
    }));
    pictures.retain(|picture| !picture.drawing.is_empty());
    pictures
}

fn lines(summary: &ExperimentSummary, figure: Figure) -> Vec<Line> {
    let line = |model: &str| {
        let rows: Vec<&Row> = summary.rows.iter().filter(|row| row.model == model).collect();
        let dots = rows.iter().filter(|row| row.status != Status::Limit);
        let points = dots.filter_map(|row| {
            let is_hollow = row.status != Status::Ok;
            Some(Dot { connections: row.connections, value: figure(row)?, is_hollow })
        });
        let limit = rows.iter().find(|row| row.status == Status::Limit);
        let limit = limit.map(|row| (row.connections, row.reason.clone().unwrap_or_default()));
        Line { model: model.to_owned(), points: points.collect(), limit }
    };
    summary.subjects.iter().map(|subject| line(&subject.model)).collect()
}

/// `150k`, `1.2M`
pub(super) fn thousands(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", value / 1e6),
        value if value >= 1e3 => format!("{}k", value / 1e3),
        value => format!("{value}"),
    }
}

/// `512 B`, `1.5 KiB`
pub(super) fn bytes(value: f64) -> String {
    match value {
        value if value < 1024.0 => format!("{value:.0} B"),
        value if value < 1048576.0 => format!("{} KiB", rounded(value / 1024.0)),
        value => format!("{} MiB", rounded(value / 1048576.0)),
    }
}

/// To one digit behind the point, and none where that is zero.
fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
