//! What a handful of rounds can tell: medians and percentiles with intervals, ratios with intervals, and what to
//! call different when many rows are looked at once.
//!
//! A round is the unit. Messages of one round share its minute of the machine, so a hundred thousand of them are no
//! hundred thousand independent measurements: every interval here grows with the difference between rounds.

mod estimate;
mod fit;
mod quantile;
mod ratio;

pub use estimate::{Estimate, Method};
pub use fit::{Law, LawKind, Parameter};
pub(crate) use fit::{Points, fit};
pub(crate) use quantile::{histogram, quantile};
pub use ratio::Ratio;
pub(crate) use ratio::{discoveries, independent, independent_around, paired, paired_around};

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The part of all intervals that is to hold the true value.
const CONFIDENCE: f64 = 0.95;

/// Student's t: how many standard errors an interval reaches to either side.
fn t_quantile(freedom: f64) -> f64 {
    students_t(freedom).inverse_cdf((1.0 + CONFIDENCE) / 2.0)
}

/// How often chance alone would be at least so many standard errors away, on either side.
fn t_p_value(distance: f64, freedom: f64) -> f64 {
    2.0 * students_t(freedom).sf(distance.abs())
}

/// From some thousands on the distribution is the normal one, and its inverse is not found any more.
const MOST_FREEDOM: f64 = 1e4;

fn students_t(freedom: f64) -> StudentsT {
    StudentsT::new(0.0, 1.0, freedom.clamp(1.0, MOST_FREEDOM))
        .expect("the degrees of freedom are a positive number")
}

fn mean(figures: &[f64]) -> f64 {
    figures.iter().sum::<f64>() / figures.len() as f64
}

/// The middle one, or the mean of the two in the middle, of figures in ascending order.
fn median_of_sorted(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}

/// The logarithms, if every figure has one.
fn logarithms(figures: &[f64]) -> Option<Vec<f64>> {
    figures
        .iter()
        .all(|figure| *figure > 0.0 && figure.is_finite())
        .then(|| figures.iter().map(|figure| figure.ln()).collect())
}

/// Random figures whose true values are known.
#[cfg(test)]
mod simulated {
    use fastrand::Rng;

    /// A standard normal figure (Box and Muller 1958).
    pub(super) fn normal(random: &mut Rng) -> f64 {
        let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
        radius * (std::f64::consts::TAU * random.f64()).cos()
    }

    /// `count` rounds around 100 whose logarithms have the standard deviation `noise`.
    pub(super) fn rounds(random: &mut Rng, count: usize, noise: f64) -> Vec<f64> {
        (0..count).map(|_| 100.0 * (noise * normal(random)).exp()).collect()
    }

    /// How often a simulation comes true in a thousand.
    pub(super) fn share(mut happens: impl FnMut(&mut Rng) -> bool) -> f64 {
        let mut random = Rng::with_seed(7);
        (0..1000).filter(|_| happens(&mut random)).count() as f64 / 1000.0
    }
}
