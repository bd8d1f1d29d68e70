//! How much larger one figure is than another, by their rounds.
//!
//! All of it is done on logarithms, where a ratio is a difference, with trimmed means and Winsorised variances (Yuen
//! 1974): from five rounds on the largest and the smallest fifth are cut off, so that one stalled round decides nothing.

use serde::{Deserialize, Serialize};

use super::{logarithms, t_p_value, t_quantile};

/// The part that is cut off at either end.
const TRIM: f64 = 0.2;

/// A ratio with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The second figure divided by the first.
    pub ratio: f64,
    /// Where the interval begins.
    pub low: f64,
    /// Where the interval ends.
    pub high: f64,
    /// How often figures that do not differ would be found to differ by as much.
    pub p: f64,
}

impl Ratio {
    /// Whether the interval holds 1: no difference that these rounds can show.
    pub fn holds_one(&self) -> bool {
        (self.low..=self.high).contains(&1.0)
    }

    /// The smallest difference that the interval could tell from none, as a share: half its width.
    pub fn resolution(&self) -> f64 {
        (self.high - self.low) / 2.0 / self.ratio
    }

    fn around(difference: f64, error: f64, freedom: f64) -> Ratio {
        // Rounds that are equal to the last digit leave no error to divide by.
        let distance = if error > 0.0 { difference / error } else { difference * f64::INFINITY };
        let p = if difference == 0.0 { 1.0 } else { t_p_value(distance, freedom) };
        let reach = if error > 0.0 { t_quantile(freedom) * error } else { 0.0 };
        Ratio {
            ratio: difference.exp(),
            low: (difference - reach).exp(),
            high: (difference + reach).exp(),
            p,
        }
    }
}

/// Rounds of two figures that were measured side by side: the ratios of the pairs. Needs two pairs.
pub(crate) fn paired(pairs: &[(f64, f64)]) -> Option<Ratio> {
    let sample = Trimmed::of(logarithms(&ratios(pairs))?)?;
    Some(Ratio::around(sample.mean, sample.variance.sqrt(), sample.freedom))
}

/// As [`paired`], but for a ratio that is known by other means, such as that of two percentiles of all rounds together: the
/// pairs only say how far it can be trusted.
pub(crate) fn paired_around(ratio: f64, pairs: &[(f64, f64)]) -> Option<Ratio> {
    let sample = Trimmed::of(logarithms(&ratios(pairs))?)?;
    (ratio > 0.0).then(|| Ratio::around(ratio.ln(), sample.variance.sqrt(), sample.freedom))
}

/// Rounds of two figures that were measured at different times. Needs two rounds of each. `doubt` is an error of the logarithm
/// that no number of rounds makes smaller.
pub(crate) fn independent(first: &[f64], second: &[f64], doubt: f64) -> Option<Ratio> {
    let (first, second) = (Trimmed::of(logarithms(first)?)?, Trimmed::of(logarithms(second)?)?);
    Some(difference(second.mean - first.mean, &first, &second, doubt))
}

/// As [`independent`], for a ratio that is known by other means.
pub(crate) fn independent_around(ratio: f64, first: &[f64], second: &[f64], doubt: f64) -> Option<Ratio> {
    let (first, second) = (Trimmed::of(logarithms(first)?)?, Trimmed::of(logarithms(second)?)?);
    (ratio > 0.0).then(|| difference(ratio.ln(), &first, &second, doubt))
}

fn ratios(pairs: &[(f64, f64)]) -> Vec<f64> {
    pairs.iter().map(|(first, second)| second / first).collect()
}

/// Which of many rows may be called different, if among those that are called so the share `rate` may be wrong on average
/// (Benjamini and Hochberg 1995). Of a hundred rows without any difference five have a p below 0.05.
pub(crate) fn discoveries(p_values: &[f64], rate: f64) -> Vec<bool> {
    let mut sorted = p_values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let allowed = |place: usize| (place + 1) as f64 / count * rate;
    let largest = (0..sorted.len()).rev().find(|&place| sorted[place] <= allowed(place));
    p_values.iter().map(|p| largest.is_some_and(|place| *p <= sorted[place])).collect()
}

/// Welch's degrees of freedom, for two samples with variances of their own.
fn difference(by: f64, first: &Trimmed, second: &Trimmed, doubt: f64) -> Ratio {
    let variance = first.variance + second.variance + doubt * doubt;
    let parts = first.variance.powi(2) / first.freedom + second.variance.powi(2) / second.freedom;
    let freedom = if parts > 0.0 { variance.powi(2) / parts } else { first.freedom + second.freedom };
    Ratio::around(by, variance.sqrt(), freedom)
}

/// A sample's trimmed mean.
struct Trimmed {
    mean: f64,
    /// The variance of that mean.
    variance: f64,
    freedom: f64,
}

impl Trimmed {
    fn of(mut figures: Vec<f64>) -> Option<Trimmed> {
        let count = figures.len();
        if count < 2 {
            return None;
        }
        figures.sort_by(f64::total_cmp);
        let cut = (TRIM * count as f64) as usize;
        let kept = count - 2 * cut;
        let mean = super::mean(&figures[cut..count - cut]);
        let (least, most) = (figures[cut], figures[count - cut - 1]);
        let winsorised: Vec<f64> = figures.iter().map(|figure| figure.clamp(least, most)).collect();
        let centre = super::mean(&winsorised);
        let squares: f64 = winsorised.iter().map(|figure| (figure - centre).powi(2)).sum();
        let freedom = (kept - 1) as f64;
        Some(Trimmed { mean, variance: squares / (kept as f64 * freedom), freedom })
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulated::{normal, rounds, share};
    use super::*;

    #[test]
    fn intervals_hold_the_true_ratio_as_often_as_they_say() {
        for count in [2, 3, 5, 6, 7, 10, 15] {
            let held = share(|random| {
                let second: Vec<f64> = rounds(random, count, 0.05).iter().map(|one| one * 1.2).collect();
                let ratio = independent(&rounds(random, count, 0.02), &second, 0.0).unwrap();
                (ratio.low..=ratio.high).contains(&1.2)
            });
            assert!((0.92..=0.999).contains(&held), "{count} rounds: {held}");
        }
    }

    #[test]
    fn pairs_do_not_see_the_drift_that_they_share() {
        let found = share(|random| {
            let pair = |_| {
                let minute = 100.0 * (0.2 * normal(random)).exp();
                (minute * (0.01 * normal(random)).exp(), 1.03 * minute * (0.01 * normal(random)).exp())
            };
            !paired(&(0..7).map(pair).collect::<Vec<_>>()).unwrap().holds_one()
        });
        assert!(found > 0.9, "a planted 3 % difference was found in {found}");
    }

    #[test]
    fn what_does_not_differ_is_rarely_called_different() {
        for count in [3, 6, 10] {
            let level = share(|random| {
                independent(&rounds(random, count, 0.1), &rounds(random, count, 0.1), 0.0)
                    .unwrap()
                    .holds_one()
            });
            assert!(level >= 0.93, "{count} rounds: {level}");
        }
    }

    #[test]
    fn one_stalled_round_hides_nothing() {
        let steady = [100.0, 101.0, 99.0, 100.5, 99.5, 100.2];
        let stalled = [110.0, 111.0, 109.0, 110.5, 109.5, 33.0];
        let ratio = independent(&steady, &stalled, 0.0).unwrap();
        assert!(!ratio.holds_one() && (1.08..1.11).contains(&ratio.ratio), "{ratio:?}");
    }

    #[test]
    fn too_little_is_no_ratio_and_no_noise_no_doubt() {
        assert_eq!(independent(&[1.0], &[2.0, 2.0], 0.0), None);
        assert_eq!(paired(&[(1.0, 2.0)]), None);
        assert_eq!(independent(&[1.0, 0.0], &[2.0, 2.0], 0.0), None, "zero has no logarithm");
        let ratio = independent(&[1.0; 3], &[2.0; 3], 0.0).unwrap();
        assert_eq!((ratio.p, ratio.holds_one()), (0.0, false));
        let same = independent(&[2.0; 3], &[2.0; 3], 0.0).unwrap();
        assert_eq!((same.ratio, same.p, same.holds_one()), (1.0, 1.0, true));
    }

    #[test]
    fn a_ratio_known_by_other_means_is_trusted_as_far_as_the_rounds_agree() {
        let (first, second) = ([1000.0, 1010.0, 990.0], [2000.0, 2020.0, 1980.0]);
        let ratio = independent_around(2.1, &first, &second, 0.0).unwrap();
        assert!((ratio.ratio - 2.1).abs() < 1e-9 && !ratio.holds_one(), "{ratio:?}");
        let doubtful = independent_around(2.1, &first, &second, 1.0).unwrap();
        assert!(doubtful.holds_one(), "{doubtful:?}");
        let pairs: Vec<(f64, f64)> = first.into_iter().zip(second).collect();
        assert!(!paired_around(2.1, &pairs).unwrap().holds_one());
        assert_eq!(paired_around(f64::NAN, &pairs), None);
    }

    #[test]
    fn among_many_rows_only_what_stands_out_is_called_different() {
        assert_eq!(discoveries(&[0.04, 0.5, 0.6, 0.9], 0.05), [false; 4]);
        assert_eq!(discoveries(&[0.001, 0.5, 0.02, 0.9], 0.05), [true, false, true, false]);
        assert_eq!(discoveries(&[], 0.05), [false; 0]);
        let false_alarm = share(|random| {
            let rows: Vec<f64> = (0..50)
                .map(|_| independent(&rounds(random, 6, 0.1), &rounds(random, 6, 0.1), 0.0).unwrap().p)
                .collect();
            discoveries(&rows, 0.05).contains(&true)
        });
        assert!(false_alarm < 0.09, "{false_alarm} of comparisons without any difference cry wolf");
    }
}
