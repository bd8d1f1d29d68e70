use fastrand::Rng;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::{logarithms, mean, median_of_sorted, t_quantile};

/// From so many rounds on the median's interval needs no assumption about their distribution.
const ENOUGH: usize = 6;
/// Resamples of the bootstrap.
const RESAMPLES: usize = 4000;
/// The same rounds give the same interval.
const SEED: u64 = 0x5EED;

/// A figure over several rounds, with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The median of the rounds; of a percentile, that of all rounds' messages together.
    pub median: f64,
    /// Where the interval begins; `null` with one round.
    pub low: Option<f64>,
    /// Where the interval ends.
    pub high: Option<f64>,
    /// The smallest round.
    pub min: f64,
    /// The largest round.
    pub max: f64,
    /// Rounds that it rests on.
    pub rounds: usize,
    /// How the interval was found; `null` with one round.
    pub method: Option<Method>,
}

/// How an interval was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Percentiles of the bootstrap distribution of the median (Efron 1979), set further apart because few rounds make
    /// that distribution too narrow (Hesterberg 2015, section 5.3: the expanded percentile interval).
    Bootstrap,
    /// Student's t on the logarithms. Between the smallest and the largest of n rounds lies the true median with a probability of only
    /// 1 − 2^(1 − n), so below six rounds there is no 95 % interval without an assumption; this is it.
    TOnLogarithms,
    /// The wider of two: order statistics of all rounds' messages together (binomial ranks), and Student's t on the logarithms
    /// of each round's own percentile. The first alone takes the messages of one round for independent.
    OrderStatisticsAndRounds,
}

impl Estimate {
    /// The median of the rounds. `None` if there is no figure at all.
    pub fn of(figures: impl Iterator<Item = f64>) -> Option<Estimate> {
        let mut sorted: Vec<f64> = figures.filter(|figure| figure.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let median = median_of_sorted(&sorted);
        let rounds = sorted.len();
        let (interval, method) = match rounds {
            1 => (None, None),
            2..ENOUGH => (Some(t_interval(&sorted)), Some(Method::TOnLogarithms)),
            _ => (Some(bootstrap(&sorted)), Some(Method::Bootstrap)),
        };
        let (low, high) =
            interval.map_or((None, None), |(low, high)| (Some(low.min(median)), Some(high.max(median))));
        Some(Estimate { median, low, high, min, max, rounds, method })
    }

    /// Half the width of the interval as a share of the median.
    pub fn half_width(&self) -> Option<f64> {
        Some((self.high? - self.low?) / 2.0 / self.median.abs()).filter(|share| share.is_finite())
    }
}

/// Figures that have no logarithm are taken as they are.
fn t_interval(figures: &[f64]) -> (f64, f64) {
    let reach = |figures: &[f64]| {
        let mean = mean(figures);
        let freedom = (figures.len() - 1) as f64;
        let variance = figures.iter().map(|figure| (figure - mean).powi(2)).sum::<f64>() / freedom;
        let error = (variance / figures.len() as f64).sqrt();
        (mean - t_quantile(freedom) * error, mean + t_quantile(freedom) * error)
    };
    match logarithms(figures) {
        Some(logarithms) => {
            let (low, high) = reach(&logarithms);
            (low.exp(), high.exp())
        }
        None => reach(figures),
    }
}

fn bootstrap(sorted: &[f64]) -> (f64, f64) {
    let count = sorted.len();
    let mut random = Rng::with_seed(SEED);
    let mut resample = vec![0.0; count];
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            resample.fill_with(|| sorted[random.usize(..count)]);
            resample.sort_by(f64::total_cmp);
            median_of_sorted(&resample)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    let correction = (count as f64 / (count as f64 - 1.0)).sqrt();
    let tail = Normal::standard().cdf(-correction * t_quantile(count as f64 - 1.0));
    let at = |share: f64| medians[((share * RESAMPLES as f64) as usize).min(RESAMPLES - 1)];
    (at(tail), at(1.0 - tail))
}

#[cfg(test)]
mod tests {
    use super::super::simulated::{normal, rounds, share};
    use super::*;

    fn of(figures: &[f64]) -> Estimate {
        Estimate::of(figures.iter().copied()).unwrap()
    }

    #[test]
    fn the_median_is_the_middle_and_nothing_has_none() {
        let estimate = of(&[3.0, 1.0, 2.0]);
        assert_eq!((estimate.median, estimate.min, estimate.max, estimate.rounds), (2.0, 1.0, 3.0, 3));
        assert_eq!(of(&[4.0, 1.0]).median, 2.5);
        assert_eq!(Estimate::of([].into_iter()), None);
        assert_eq!(Estimate::of([f64::NAN, f64::INFINITY].into_iter()), None);
    }

    #[test]
    fn one_round_has_no_interval_and_equal_rounds_one_without_width() {
        assert_eq!((of(&[5.0]).low, of(&[5.0]).method), (None, None));
        assert_eq!(of(&[5.0; 9]).half_width(), Some(0.0));
        assert!(of(&[5.0; 3]).half_width().unwrap() < 1e-12);
        assert!(of(&[-5.0, 0.0, 5.0]).low.unwrap() < -5.0, "no logarithms, and yet an interval");
    }

    #[test]
    fn the_same_rounds_give_the_same_interval() {
        let figures = rounds(&mut Rng::with_seed(3), 9, 0.1);
        assert_eq!(of(&figures), of(&figures));
    }

    #[test]
    fn intervals_hold_the_true_median_as_often_as_they_say() {
        for count in [2, 3, 5, 6, 7, 10, 15] {
            let held = share(|random| {
                let estimate = of(&rounds(random, count, 0.1));
                (estimate.low.unwrap()..=estimate.high.unwrap()).contains(&100.0)
            });
            assert!((0.93..=0.999).contains(&held), "{count} rounds: {held}");
        }
    }

    #[test]
    fn a_skewed_distribution_does_not_deceive_them() {
        for count in [6, 10, 15] {
            // Mostly quiet, now and then a stall: the median of the squared normal is 0.455.
            let held = share(|random| {
                let figures: Vec<f64> = (0..count).map(|_| 100.0 + normal(random).powi(2)).collect();
                let estimate = of(&figures);
                (estimate.low.unwrap()..=estimate.high.unwrap()).contains(&100.454_936)
            });
            assert!((0.93..=0.999).contains(&held), "{count} rounds: {held}");
        }
    }
}
