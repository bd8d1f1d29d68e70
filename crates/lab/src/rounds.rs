//! The points of a folder with their histograms, as figures are made from them.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use hdrhistogram::Histogram;

use crate::record::{Damaged, HISTOGRAMS, HistogramLine, Point, read_histograms, read_points};
use crate::stats::histogram;

/// A point and the latencies behind it.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    pub(crate) point: Point,
    pub(crate) latency: Option<Histogram<u64>>,
}

/// Reads all points of a folder. What is damaged is named and left out.
pub(crate) fn read(dir: &Path) -> io::Result<(Vec<Round>, Vec<Damaged>)> {
    let (points, mut damaged) = read_points(dir)?;
    let lines = match read_histograms(dir) {
        Ok((lines, broken)) => {
            damaged.extend(broken);
            lines
        }
        // A folder may have been copied without them; then there are no percentiles.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut latencies = HashMap::new();
    for (number, line) in lines.iter().enumerate() {
        match histogram(&line.latency_histogram) {
            Ok(latency) => drop(latencies.insert(key(line), latency)),
            Err(reason) => damaged.push(Damaged { file: dir.join(HISTOGRAMS), line: number + 1, reason }),
        }
    }
    let of = |point: &Point| {
        latencies.remove(&(point.model.clone(), point.connections, point.round, point.attempt))
    };
    let mut of = of;
    let rounds = points.into_iter().map(|point| Round { latency: of(&point), point }).collect();
    Ok((rounds, damaged))
}

/// Of every point the last try.
pub(crate) fn rounds(all: &[Round]) -> Vec<&Round> {
    let place = |point: &Point| (point.model.clone(), point.connections, point.round);
    let last: HashMap<_, u32> = all.iter().fold(HashMap::new(), |mut last, round| {
        let attempt = last.entry(place(&round.point)).or_insert(0);
        *attempt = round.point.attempt.max(*attempt);
        last
    });
    all.iter().filter(|round| last[&place(&round.point)] == round.point.attempt).collect()
}

fn key(line: &HistogramLine) -> (String, usize, u32, u32) {
    (line.model.clone(), line.connections, line.round, line.attempt)
}
