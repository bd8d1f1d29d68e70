//! Which pictures a report has, and what they show.

use serde::{Deserialize, Serialize};

use super::ReportError;
use super::chart::{Chart, Dot, Line, Scale};
use super::draw::Draw;
use super::map::Map;
use super::shares::Shares;
use super::timeline::Timeline;
use crate::quantity::{Quantity, Unit};
use crate::record::Status;
use crate::rounds::Round;
use crate::setting::Axis;
use crate::summary::{ExperimentSummary, Row};

/// A picture that a definition can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PictureName {
    /// Messages, deliveries or connections a second.
    Throughput,
    /// Bytes of payload a second.
    Payload,
    /// Server CPU time per message.
    Cpu,
    /// The 99th percentile of the latency.
    Latency,
    /// The median of the latency, beside that which a client sees that waits when the server does.
    Median,
    /// The same of the 99th percentile.
    Tail,
    /// The same of the 99.9th percentile.
    FarTail,
    /// The median of the latency, and its 99th percentile. In a broadcast of an open loop that is how old an event is when it comes.
    Age,
    /// Requests that receivers make for each delivery, and those of them that bring nothing.
    Requests,
    /// Bytes that they receive for each delivery, and that they send.
    Bytes,
    /// Time until the first and until the last receiver has a broadcast.
    Receivers,
    /// Jain's index over the receivers.
    Fairness,
    /// Datagrams that never came back.
    Lost,
    /// How long subscribers were blind whose server was restarted: the median.
    Blind,
    /// The same of the one that was blind for longest.
    LongestBlind,
    /// Deliveries that they lost by that.
    Missed,
    /// Deliveries that they got later, from the server's history.
    Replayed,
    /// Datagrams that came back out of order.
    Reordered,
    /// Server memory per connection.
    Memory,
    /// Connections opened a second.
    Opening,
    /// What a connection holds, by place.
    MemoryByPlace,
    /// CPU time per message over two axes, for each model relative to the first that is compared.
    Map,
}

impl PictureName {
    /// What is drawn, the main figure first.
    fn quantities(self) -> &'static [Quantity] {
        match self {
            PictureName::Throughput => &[Quantity::Throughput],
            PictureName::Payload => &[Quantity::PayloadPerS],
            PictureName::Cpu | PictureName::Map => &[Quantity::Cpu],
            PictureName::Latency => &[Quantity::P99],
            PictureName::Median => &[Quantity::P50, Quantity::UncorrectedP50],
            PictureName::Tail => &[Quantity::P99, Quantity::UncorrectedP99],
            PictureName::FarTail => &[Quantity::P999, Quantity::UncorrectedP999],
            PictureName::Age => &[Quantity::P50, Quantity::P99],
            PictureName::Requests => &[Quantity::Requests, Quantity::EmptyAnswers],
            PictureName::Bytes => &[Quantity::BytesReceived, Quantity::BytesSent],
            PictureName::Receivers => &[Quantity::LastReceiver, Quantity::FirstReceiver],
            PictureName::Fairness => &[Quantity::Fairness],
            PictureName::Lost => &[Quantity::Lost],
            PictureName::Blind => &[Quantity::Blind],
            PictureName::LongestBlind => &[Quantity::BlindMax],
            PictureName::Missed => &[Quantity::Missed],
            PictureName::Replayed => &[Quantity::Replayed],
            PictureName::Reordered => &[Quantity::Reordered],
            PictureName::Memory | PictureName::MemoryByPlace => &[Quantity::Memory],
            PictureName::Opening => &[Quantity::Opening],
        }
    }

    /// Whether it shows figures along the x-axis.
    pub(super) fn has_lines(self) -> bool {
        !matches!(self, PictureName::Map | PictureName::MemoryByPlace)
    }

    /// Whether it shows what is over when messages begin to flow.
    fn is_before_the_load(self) -> bool {
        matches!(self, PictureName::Memory | PictureName::Opening)
    }

    /// The file's name, without ending.
    fn file(self) -> String {
        let name = serde_json::to_value(self).unwrap_or_default();
        name.as_str().unwrap_or_default().to_owned()
    }

    /// Of several lines of a model, what those after the first are.
    fn variant(self, place: usize) -> Option<&'static str> {
        match (place, self) {
            (0, _) => None,
            (_, PictureName::Receivers) => Some("first"),
            (_, PictureName::Age) => Some("p99"),
            (_, PictureName::Requests) => Some("for nothing"),
            (_, PictureName::Bytes) => Some("sent"),
            _ => Some("uncorrected"),
        }
    }

    fn how_to_read(self) -> &'static str {
        match self {
            PictureName::Throughput => {
                "Higher is better. On loopback the client is as busy as the server, so lines close to the dashed \
                 ceiling (raw: plain TCP, no protocol) say as much about the client: look at CPU per message next."
            }
            PictureName::Payload => "Higher is better. Bytes of payload that came back, each counted once.",
            PictureName::Cpu => {
                "Lower is better. This is what the server itself pays, whatever the client does: the figure to compare \
                 models by."
            }
            PictureName::Latency => {
                "Lower is better. In a closed loop more messages under way wait in the same queue, so latency rises with them by \
                 itself (Little's law): compare models at one place."
            }
            PictureName::Median | PictureName::Tail | PictureName::FarTail => {
                "Lower is better. Thick: from when a message was due, so that a stalled server cannot hide. Thin and dashed: what a client \
                 would have measured that sends the next message only when the last has come back (coordinated omission)."
            }
            PictureName::Age => {
                "Lower is better. How old an event is when it has come, from when it was due to be published: the median (thick) over all events and receivers, and \
                 the 99th percentile (thin, dashed)."
            }
            PictureName::Requests => {
                "Lower is better. Requests that receivers make for each event that they get (thick), and those of them that bring nothing (thin, dashed). Where \
                 the server can speak by itself there are none."
            }
            PictureName::Bytes => {
                "Lower is better. Bytes that go over a receiver's connections for each event that it gets: received (thick) and sent (thin, dashed), with the heads of \
                 requests, answers and frames, but without those of TCP, UDP and IP."
            }
            PictureName::Receivers => {
                "Lower is better. From publishing a message until the last (thick) and the first (thin, dashed) of its receivers has verified it."
            }
            PictureName::Fairness => {
                "Jain's index of the receivers' mean waiting times: 1 if all wait equally long, 1/N if one waits for all."
            }
            PictureName::Lost => "Lower is better. Datagrams that never came back, of those sent.",
            PictureName::Blind | PictureName::LongestBlind => {
                "Lower is better. From the moment at which a subscriber's connection was found lost until it was subscribed again. Of UDP, which has no \
                 connection to lose, the longest silence."
            }
            PictureName::Missed => {
                "Lower is better. Deliveries of messages that the server had taken and that the subscriber never got. What was due while there was no server was \
                 published by nobody, and nobody has lost it."
            }
            PictureName::Replayed => {
                "Deliveries of messages that had been published before the subscriber began to come again: late, but not lost."
            }
            PictureName::Reordered => "Datagrams that came back behind a later one, of those that came back.",
            PictureName::Memory => {
                "Lower is better. User memory of the whole process tree; what the kernel holds for a socket or a process \
                 is not in it. With few connections this is mostly the server's own buffers."
            }
            PictureName::Opening => {
                "Higher is better. From the first connect(2) until the last WebSocket was open: connected, accepted and upgraded, as fast as server \
                 and load generator could."
            }
            PictureName::MemoryByPlace => {
                "What one connection holds at the most connections that a model reached: in all on the right, and by place. The bars show shares: a short \
                 part of a process may be more than all of a loop's connection. Buffers and objects of the kernel are those of both ends, the \
                 client's included."
            }
            PictureName::Map => {
                "A field is a model at a number of connections (rows) of which so many talk (columns); its number is CPU time per message \
                 relative to the model at the top left. ≈: not told apart, round by round; ?: doubtful."
            }
        }
    }
}

/// The figures of pictures, each once, the main one first.
pub(crate) fn figures(pictures: &[PictureName]) -> Vec<Quantity> {
    let mut figures = Vec::new();
    for figure in pictures.iter().flat_map(|picture| picture.quantities()) {
        if !figures.contains(figure) {
            figures.push(*figure);
        }
    }
    figures
}

/// A picture, its file name without ending, and a sentence on how to read it.
pub(super) struct Picture {
    pub(super) name: String,
    pub(super) how_to_read: &'static str,
    pub(super) title: String,
    pub(super) drawing: Drawing,
}

/// What is on a picture.
pub(super) enum Drawing {
    Chart(Chart),
    Map(Map),
    Shares(Shares),
    Timeline(Timeline),
}

impl Drawing {
    pub(super) fn svg(&self) -> Result<String, ReportError> {
        match self {
            Drawing::Chart(chart) => chart.svg(),
            Drawing::Map(map) => map.svg(),
            Drawing::Shares(shares) => shares.svg(),
            Drawing::Timeline(timeline) => timeline.svg(),
        }
    }

    pub(super) fn png(&self) -> Result<Vec<u8>, ReportError> {
        match self {
            Drawing::Chart(chart) => chart.png(),
            Drawing::Map(map) => map.png(),
            Drawing::Shares(shares) => shares.png(),
            Drawing::Timeline(timeline) => timeline.png(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            // That nothing was lost, say, is in the table.
            Drawing::Chart(chart) => {
                chart.lines.iter().flat_map(|line| &line.points).all(|dot| dot.value.max == 0.0)
            }
            Drawing::Map(map) => map.is_empty(),
            Drawing::Shares(shares) => shares.is_empty(),
            Drawing::Timeline(_) => false,
        }
    }
}

/// The pictures of an experiment, the main one first. One that nobody has figures for is left out.
pub(super) fn of(summary: &ExperimentSummary, names: &[PictureName], rounds: &[Round]) -> Vec<Picture> {
    let mut pictures: Vec<Picture> = names
        .iter()
        .flat_map(|name| {
            let levels = levels(summary, *name);
            levels.into_iter().map(|level| picture(summary, *name, level))
        })
        .collect();
    pictures.extend(Timeline::of(rounds).map(|timeline| Picture {
        name: "canary".to_owned(),
        how_to_read: "Computation and messages between the two cores, the same each time, run behind every point: where this \
             line moves, the machine has changed its speed, whatever was measured. Points more than a tenth off were repeated \
             once behind the others, and marked if that did not help.",
        title: "How fast the machine was over the run".to_owned(),
        drawing: Drawing::Timeline(timeline),
    }));
    pictures.retain(|picture| !picture.drawing.is_empty());
    pictures
}

/// The values of the second axis that have a picture each. What does not depend on it has one.
fn levels(summary: &ExperimentSummary, name: PictureName) -> Vec<Option<f64>> {
    match &summary.axes.by {
        Some(by) if name.has_lines() => {
            let levels = by.values.iter().copied().map(Some);
            levels.take(if name.is_before_the_load() { 1 } else { usize::MAX }).collect()
        }
        _ => vec![None],
    }
}

fn picture(summary: &ExperimentSummary, name: PictureName, level: Option<f64>) -> Picture {
    let drawing = match name {
        PictureName::Map => Drawing::Map(Map::of(summary)),
        PictureName::MemoryByPlace => Drawing::Shares(Shares::of(summary)),
        _ => Drawing::Chart(chart(summary, name, level)),
    };
    let title = match &drawing {
        Drawing::Chart(chart) => chart.title.clone(),
        Drawing::Map(map) => map.title.clone(),
        Drawing::Shares(_) => "What one connection holds".to_owned(),
        Drawing::Timeline(_) => String::new(),
    };
    let by = summary.axes.by.as_ref().zip(level).filter(|_| !name.is_before_the_load());
    let file = match by {
        Some((by, level)) => {
            let value: String =
                by.axis.show(level).chars().filter(|letter| letter.is_alphanumeric()).collect();
            format!("{}-{value}", name.file())
        }
        None => name.file(),
    };
    Picture { name: file, how_to_read: name.how_to_read(), title, drawing }
}

/// The main picture of a summary, or any other that has lines; of one value of the second axis, if there is one.
pub(super) fn chart(summary: &ExperimentSummary, name: PictureName, level: Option<f64>) -> Chart {
    let quantities = name.quantities();
    let main = quantities[0];
    let figure = match name {
        PictureName::Age => "median age of an event on arrival".to_owned(),
        _ => main.name(summary.words()),
    };
    let x = summary.axes.x.axis;
    let x_label = match (x, summary.is_broadcast()) {
        (Axis::Connections, true) => "receivers".to_owned(),
        _ => x.label().to_owned(),
    };
    let against = match x {
        Axis::Load => "offered load",
        Axis::PauseMs => "how long the server is stopped",
        Axis::RestartMs => "how long the server is away",
        Axis::Depth => "messages in flight",
        _ => &x_label,
    };
    let y_label = match main {
        Quantity::Cpu => "CPU time of the whole server".to_owned(),
        Quantity::Memory => "proportional set size, less that of the idle server".to_owned(),
        Quantity::P50 | Quantity::P99 | Quantity::P999 => "all rounds' messages together".to_owned(),
        Quantity::LastReceiver => "median over messages".to_owned(),
        Quantity::Opening => "from the first connect(2) to the last upgrade".to_owned(),
        Quantity::Blind | Quantity::BlindMax => "from losing the server to being subscribed again".to_owned(),
        Quantity::Lost | Quantity::Reordered => "share of the datagrams".to_owned(),
        Quantity::BytesReceived => "heads of HTTP and of frames included".to_owned(),
        Quantity::Requests => "of each receiver".to_owned(),
        _ => figure.clone(),
    };
    let scale = match main.unit() {
        Unit::Ns => Scale::Logarithmic,
        Unit::Bytes | Unit::BytesPerS => Scale::Binary,
        Unit::Number if main == Quantity::Requests => Scale::Logarithmic,
        Unit::PerS | Unit::Share | Unit::Number => Scale::Linear,
    };
    let lines = quantities.iter().enumerate().flat_map(|(place, quantity)| {
        summary
            .subjects
            .iter()
            .map(move |subject| line(summary, (&subject.model, level), *quantity, name.variant(place)))
    });
    let by = summary.axes.by.as_ref().zip(level).filter(|_| !name.is_before_the_load());
    let at =
        by.map_or_else(String::new, |(by, level)| format!(", {} {}", by.axis.show(level), by.axis.of_what()));
    Chart {
        title: capital(&format!("{figure} against {against}{at}")),
        y_label,
        x_label,
        x,
        scale,
        unit: main.unit(),
        lines: lines.filter(|line| line.variant.is_none() || !line.points.is_empty()).collect(),
    }
}

/// A model's line, at one value of the second axis.
fn line(
    summary: &ExperimentSummary,
    (model, level): (&str, Option<f64>),
    quantity: Quantity,
    variant: Option<&'static str>,
) -> Line {
    let is_here = |row: &&Row| row.model == model && (level.is_none() || row.place.by == level);
    let rows: Vec<&Row> = summary.rows.iter().filter(is_here).collect();
    // Zero is a result, and often the best one. Less than zero comes from subtracting, and would be below every axis.
    let is_drawn = |value: f64| value >= 0.0;
    let points = rows.iter().filter(|row| row.status != Status::Limit).filter_map(|row| {
        let value = quantity.of(row).filter(|value| is_drawn(value.median))?;
        let doubt = (row.status != Status::Ok).then(|| row.reason.clone().unwrap_or_default());
        Some(Dot { x: row.place.x, value, doubt })
    });
    let limit = rows.iter().find(|row| row.status == Status::Limit && variant.is_none());
    let limit = limit.map(|row| (row.place.x, row.reason.clone().unwrap_or_default()));
    Line { model: model.to_owned(), variant, points: points.collect(), limit }
}

pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + letters.as_str())
}
