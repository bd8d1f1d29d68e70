//! Percentiles of all rounds' messages together. They are never averaged: the mean of two p99 is the p99 of nothing.

use std::io::{self, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

use super::{Estimate, Method, logarithms, mean, t_quantile};

/// Standard errors that an interval reaches to either side, where there are many messages.
const Z: f64 = 1.96;

/// Reads a histogram as the load generator writes it: V2 with deflate, in base64.
pub(crate) fn histogram(text: &str) -> Result<Histogram<u64>, String> {
    let bytes = STANDARD.decode(text).map_err(|error| format!("not base64: {error}"))?;
    let plain = inflated(&bytes).map_err(|error| format!("not a histogram: {error}"))?;
    Deserializer::new()
        .deserialize(&mut plain.as_slice())
        .map_err(|error| format!("not a histogram: {error}"))
}

/// A histogram of nanoseconds up to centuries has less.
const MOST_BYTES: u64 = 4 << 20;

/// What is within the compressed form: its head has eight bytes, two numbers. The plain form begins with the same two, of which the second says how
/// much memory it wants, and that is believed by whoever reads it: here it has to be there.
fn inflated(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let compressed = bytes.get(8..).ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut plain = Vec::new();
    ZlibDecoder::new(compressed).take(MOST_BYTES).read_to_end(&mut plain)?;
    let length = plain.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    match length {
        Some(length) if length as usize <= plain.len() => Ok(plain),
        _ => Err(io::Error::other("it is shorter than it says, or longer than any")),
    }
}

/// The quantile `q` of all rounds together, with an interval that holds both what the messages and what the rounds say.
pub(crate) fn quantile(rounds: &[&Histogram<u64>], q: f64) -> Option<Estimate> {
    let rounds: Vec<_> = rounds.iter().filter(|histogram| !histogram.is_empty()).collect();
    let mut merged = (**rounds.first()?).clone();
    for histogram in &rounds[1..] {
        merged.add(**histogram).ok()?;
    }
    let median = merged.value_at_quantile(q) as f64;
    let each: Vec<f64> = rounds.iter().map(|histogram| histogram.value_at_quantile(q) as f64).collect();
    let (min, max) = each.iter().fold((f64::INFINITY, 0f64), |(min, max), &one| (min.min(one), max.max(one)));
    let interval = (rounds.len() > 1).then(|| {
        let (low, high) = order_statistics(&merged, q);
        let reach = between_rounds(&each);
        (low.min(median / reach), high.max(median * reach))
    });
    Some(Estimate {
        median,
        low: interval.map(|(low, _)| low),
        high: interval.map(|(_, high)| high),
        min,
        max,
        rounds: rounds.len(),
        method: interval.map(|_| Method::OrderStatisticsAndRounds),
    })
}

/// The messages at those ranks between which the true quantile lies: of n messages, n q ± 1.96 √(n q (1 − q)) are smaller.
fn order_statistics(merged: &Histogram<u64>, q: f64) -> (f64, f64) {
    let reach = Z * (q * (1.0 - q) / merged.len() as f64).sqrt();
    let at = |q: f64| merged.value_at_quantile(q.clamp(0.0, 1.0)) as f64;
    (at(q - reach), at(q + reach))
}

/// The factor by which the quantile may be off to either side, by how much the rounds' own quantiles differ.
fn between_rounds(each: &[f64]) -> f64 {
    let Some(logarithms) = logarithms(each) else { return 1.0 };
    let mean = mean(&logarithms);
    let freedom = (each.len() - 1) as f64;
    let variance = logarithms.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / freedom;
    (t_quantile(freedom) * (variance / each.len() as f64).sqrt()).exp()
}

#[cfg(test)]
mod tests {
    use super::super::simulated::{normal, share};
    use super::*;
    use fastrand::Rng;

    /// Rounds of 500 exponential latencies; each round is slower or faster as a whole by `between`.
    fn rounds(random: &mut Rng, count: usize, between: f64) -> Vec<Histogram<u64>> {
        let round = |_| {
            let scale = 1e6 * (between * normal(random)).exp();
            let mut histogram = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
            (0..500).for_each(|_| histogram.record((-scale * (1.0 - random.f64()).ln()) as u64 + 1).unwrap());
            histogram
        };
        (0..count).map(round).collect()
    }

    fn of(rounds: &[Histogram<u64>], q: f64) -> Estimate {
        quantile(&rounds.iter().collect::<Vec<_>>(), q).unwrap()
    }

    #[test]
    fn percentiles_are_those_of_all_messages_and_not_means_of_percentiles() {
        let mut fast = Histogram::new_with_bounds(1, 1_000_000, 3).unwrap();
        fast.record_n(10, 990).unwrap();
        let mut slow = fast.clone();
        slow.record_n(1000, 1010).unwrap();
        assert_eq!(of(&[fast, slow], 0.5).median, 10.0);
    }

    #[test]
    fn intervals_hold_the_true_percentile_where_rounds_differ() {
        for (q, true_value) in [(0.5, 1e6 * 2f64.ln()), (0.99, 1e6 * 100f64.ln())] {
            let held = share(|random| {
                let estimate = of(&rounds(random, 6, 0.05), q);
                (estimate.low.unwrap()..=estimate.high.unwrap()).contains(&true_value)
            });
            assert!(held >= 0.93, "{q}: {held}");
        }
    }

    #[test]
    fn order_statistics_alone_would_hold_it_far_too_rarely() {
        let held = share(|random| {
            let rounds = rounds(random, 6, 0.1);
            let mut merged = rounds[0].clone();
            rounds[1..].iter().for_each(|histogram| merged.add(histogram).unwrap());
            let (low, high) = order_statistics(&merged, 0.5);
            (low..=high).contains(&(1e6 * 2f64.ln()))
        });
        assert!(held < 0.8, "{held}");
    }

    #[test]
    fn nothing_recorded_has_no_percentile_and_one_round_no_interval() {
        let empty = Histogram::new_with_bounds(1, 1000, 3).unwrap();
        assert_eq!(quantile(&[&empty], 0.5), None);
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(of(&rounds(&mut Rng::with_seed(1), 1, 0.0), 0.9).low, None);
        assert!(histogram("QUJD").unwrap_err().contains("not a histogram"));
        assert!(histogram("!").unwrap_err().contains("not base64"));
    }
}
