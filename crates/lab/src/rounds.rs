//! The points of a folder with their histograms, as figures are made from them.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use hdrhistogram::Histogram;

use crate::error::LabError;
use crate::record::{Damaged, HISTOGRAMS, HistogramLine, POINTS, Point, read_histograms, read_points};
use crate::stats::histogram;
use crate::text;

/// A point and the latencies behind it.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    pub(crate) point: Point,
    pub(crate) latency: Latencies,
    /// See [`Point::uncorrected_ns`].
    pub(crate) uncorrected: Latencies,
}

/// A histogram as the load generator wrote it. It is taken apart only where it is looked at: half a megabyte each, those of a run would
/// fill the memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latencies(Option<String>);

impl Latencies {
    fn read(text: String) -> Result<Latencies, String> {
        histogram(&text).map(|_| Latencies(Some(text)))
    }

    /// `None` if there is none.
    pub(crate) fn histogram(&self) -> Option<Histogram<u64>> {
        self.0.as_deref().and_then(|text| histogram(text).ok())
    }
}

/// Reads all points of a folder. What is damaged is named and left out.
pub(crate) fn read(dir: &Path) -> Result<(Vec<Round>, Vec<Damaged>), LabError> {
    let (points, mut damaged) = read_points(dir).map_err(LabError::file(&dir.join(POINTS)))?;
    let lines = match read_histograms(dir) {
        Ok((lines, broken)) => {
            damaged.extend(broken);
            lines
        }
        // A folder may have been copied without them; then there are no percentiles.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(LabError::file(&dir.join(HISTOGRAMS))(error)),
    };
    let mut found = HashMap::new();
    for (number, line) in lines.into_iter().enumerate() {
        let key = Key::of_line(&line);
        let uncorrected = line.uncorrected_histogram.map_or(Ok(Latencies::default()), Latencies::read);
        match Latencies::read(line.latency_histogram).and_then(|latency| Ok((latency, uncorrected?))) {
            Ok(histograms) => drop(found.insert(key, histograms)),
            Err(reason) => damaged.push(Damaged::new(&dir.join(HISTOGRAMS), number + 1, &reason)),
        }
    }
    let round = |point: Point| {
        let histograms = found.remove(&Key::of(&point)).or_else(|| found.remove(&Key::old(&point)));
        let (latency, uncorrected) = histograms.unwrap_or_default();
        Round { latency, uncorrected, point }
    };
    let rounds = points.into_iter().map(round).collect();
    Ok((rounds, damaged))
}

/// Makes all text of points fit to be shown. What is checked is checked as it was written.
pub(crate) fn tidy(rounds: &mut [Round]) {
    for Round { point, .. } in rounds {
        let checks = point.checks.iter_mut().map(|check| &mut check.evidence);
        let limiters = point.limiters.iter_mut().map(|limiter| &mut limiter.evidence);
        let names = [&mut point.experiment, &mut point.model, &mut point.mechanism];
        names.into_iter().chain(&mut point.reason).chain(checks).chain(limiters).for_each(text::tidy);
    }
}

/// Of every point the last try.
pub(crate) fn rounds(all: &[Round]) -> Vec<&Round> {
    let mut last: HashMap<usize, u32> = HashMap::new();
    for round in all {
        let attempt = last.entry(round.point.order).or_insert(0);
        *attempt = round.point.attempt.max(*attempt);
    }
    all.iter().filter(|round| last[&round.point.order] == round.point.attempt).collect()
}

/// What a histogram and its point have in common.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    /// The place in the order of the run, and the try.
    Order(usize, u32),
    /// In older files: model, connections, round and try.
    Old(String, usize, u32, u32),
}

impl Key {
    fn of_line(line: &HistogramLine) -> Key {
        match line.order {
            Some(order) => Key::Order(order, line.attempt),
            None => Key::Old(line.model.clone(), line.connections, line.round, line.attempt),
        }
    }

    fn of(point: &Point) -> Key {
        Key::Order(point.order, point.attempt)
    }

    fn old(point: &Point) -> Key {
        Key::Old(point.model.clone(), point.setting.connections, point.round, point.attempt)
    }
}
