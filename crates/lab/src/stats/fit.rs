//! Laws fitted to figures: what one more connection costs, and where adding more stops to help.
//!
//! Every law here is linear in its coefficients, so that least squares have one answer and no starting point. Residuals are taken
//! relative to the figure, since its noise is in proportion to it. The intervals are those of a bootstrap of these residuals (Efron 1979;
//! widened for few points as Hesterberg 2015, section 5.3 does): they hold what the rounds differ by and what the law misses.

use fastrand::Rng;
use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::{CONFIDENCE, median_of_sorted, t_quantile};

/// Resamples of the bootstrap, which gives the same interval for the same points.
const RESAMPLES: usize = 500;
const SEED: u64 = 0x5EED;

/// Singular values below this share of the largest are nothing but rounding.
const NOTHING: f64 = 1e-12;

/// A law that figures may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LawKind {
    /// y = `at_zero` + `slope` x.
    Linear,
    /// The Universal Scalability Law (Gunther 2007, "Guerrilla Capacity Planning"): the throughput of N is
    /// `lambda` N / (1 + `sigma` (N − 1) + `kappa` N (N − 1)). `sigma` is the share that only one can do at a time, `kappa` what
    /// each pays for every other. Where `kappa` is above 0, throughput has its peak at `peak_at`.
    Usl,
}

/// A law as it was found in a model's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Law {
    /// Which.
    pub kind: LawKind,
    /// Its coefficients, in the order in which [`LawKind`] names them.
    pub parameters: Vec<Parameter>,
    /// The share of the medians' variance that the law explains, on a logarithmic scale; 1 is all of it.
    pub r_squared: f64,
    /// How far the law is from the median that it meets worst, as a share of it.
    pub worst: f64,
}

/// A coefficient of a law.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name in [`LawKind`].
    pub name: String,
    /// What fits all points of all rounds best.
    pub value: f64,
    /// Where its 95 % interval begins.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
}

impl Law {
    /// A coefficient.
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }

    /// The interval of the slope holds 0: nothing that these points can show depends on x. `None`: the law has no slope.
    pub fn is_flat(&self) -> Option<bool> {
        let slope = self.parameter("slope")?;
        Some((slope.low..=slope.high).contains(&0.0))
    }

    /// The figure that the law gives.
    pub fn at(&self, x: f64) -> f64 {
        let values: Vec<f64> = self.parameters.iter().map(|parameter| parameter.value).collect();
        self.kind.value(&values, x)
    }
}

/// Points of all rounds: x, and the figure.
pub(crate) type Points = Vec<(f64, f64)>;

/// Fits a law to the points of all rounds. `None`: there are too few of them.
pub(crate) fn fit(kind: LawKind, points: &Points) -> Option<Law> {
    let values = kind.fit(points)?;
    let resampled = resampled(kind, &values, points);
    let interval = |of: &dyn Fn(&[f64]) -> Option<f64>| {
        let mut all: Vec<f64> = resampled.iter().filter_map(|values| of(values)).collect();
        all.sort_by(f64::total_cmp);
        // Where the resamples do not agree that there is such a value, there is none.
        (all.len() == resampled.len()).then_some(())?;
        ends(&all, points.len() - values.len())
    };
    let parameter = |name: &str, value: f64, of: &dyn Fn(&[f64]) -> Option<f64>| {
        let (low, high) = interval(of)?;
        Some(Parameter { name: name.to_owned(), value, low: low.min(value), high: high.max(value) })
    };
    let names = kind.names().iter().enumerate();
    let all = names.map(|(place, name)| parameter(name, values[place], &|values| Some(values[place])));
    let mut parameters: Vec<Parameter> = all.collect::<Option<_>>()?;
    if kind == LawKind::Usl
        && let Some(peak) = peak(&values)
    {
        parameters.extend(parameter("peak_at", peak, &peak_of));
    }
    let mut law = Law { kind, parameters, r_squared: 0.0, worst: 0.0 };
    let medians = medians(points);
    law.worst = medians.iter().map(|(x, y)| (law.at(*x) / y - 1.0).abs()).fold(0.0, f64::max);
    law.r_squared = r_squared(&law, &medians);
    Some(law)
}

/// Where the throughput of the Universal Scalability Law is highest, if anywhere.
fn peak(values: &[f64]) -> Option<f64> {
    (values[2] > 0.0).then(|| ((1.0 - values[1]).max(0.0) / values[2]).sqrt())
}

fn peak_of(values: &[f64]) -> Option<f64> {
    peak(values)
}

/// The law of points that are as far from it as those that were measured, only others of them: what the coefficients might as well have been.
fn resampled(kind: LawKind, values: &[f64], points: &Points) -> Vec<Vec<f64>> {
    let fitted: Vec<f64> = points.iter().map(|(x, _)| kind.value(values, *x)).collect();
    // A fit is nearer to its own points than the truth is.
    let freedom = (points.len() - values.len()) as f64;
    let widen = (points.len() as f64 / freedom).sqrt();
    let residuals: Vec<f64> = points
        .iter()
        .zip(&fitted)
        .map(|((_, y), fitted)| widen * (y / fitted).max(f64::MIN_POSITIVE).ln())
        .collect();
    let centre = super::mean(&residuals);
    let mut random = Rng::with_seed(SEED);
    let once = |_| {
        let another = points.iter().zip(&fitted).map(|((x, _), fitted)| {
            let residual = residuals[random.usize(..residuals.len())] - centre;
            (*x, fitted * residual.exp())
        });
        kind.fit(&another.collect())
    };
    (0..RESAMPLES).filter_map(once).collect()
}

/// The ends of the interval that holds as much of a sorted sample as Student's t would have it, for so many degrees of freedom.
fn ends(sorted: &[f64], freedom: usize) -> Option<(f64, f64)> {
    let normal = Normal::new(0.0, 1.0).ok()?;
    let usual = normal.inverse_cdf((1.0 + CONFIDENCE) / 2.0);
    let tail = normal.cdf(-usual * t_quantile(freedom as f64) / usual);
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
    (!sorted.is_empty()).then(|| (at(tail), at(1.0 - tail)))
}

impl LawKind {
    fn names(self) -> &'static [&'static str] {
        match self {
            LawKind::Linear => &["at_zero", "slope"],
            LawKind::Usl => &["lambda", "sigma", "kappa"],
        }
    }

    fn value(self, values: &[f64], x: f64) -> f64 {
        match self {
            LawKind::Linear => values[0] + values[1] * x,
            LawKind::Usl => values[0] * x / (1.0 + values[1] * (x - 1.0) + values[2] * x * (x - 1.0)),
        }
    }

    /// The coefficients that meet the points best; `None` where there are not at least one more different x than coefficients, and
    /// two more points.
    fn fit(self, points: &Points) -> Option<Vec<f64>> {
        let mut counted: Vec<f64> = points.iter().map(|(x, _)| *x).collect();
        counted.sort_by(f64::total_cmp);
        counted.dedup();
        let usable = points.iter().all(|(x, y)| x.is_finite() && y.is_finite() && *y > 0.0);
        let coefficients = self.names().len();
        if counted.len() <= coefficients || points.len() < coefficients + 2 || !usable {
            return None;
        }
        match self {
            LawKind::Linear => least_squares(points, &[&|_| 1.0, &|x| x]),
            LawKind::Usl => usl(points),
        }
    }
}

/// N / X = (1 + σ (N − 1) + κ N (N − 1)) / λ is linear. A coefficient that comes out below zero has no meaning: the law is
/// fitted again without it.
fn usl(points: &Points) -> Option<Vec<f64>> {
    let inverted: Points = points.iter().filter(|(n, _)| *n >= 1.0).map(|(n, x)| (*n, n / x)).collect();
    let (one, serial, crosstalk): (Basis<'_>, Basis<'_>, Basis<'_>) =
        (&|_| 1.0, &|n| n - 1.0, &|n| n * (n - 1.0));
    let all = least_squares(&inverted, &[one, serial, crosstalk])?;
    let (base, sigma, kappa) = match (all[1] >= 0.0, all[2] >= 0.0) {
        (true, true) => (all[0], all[1], all[2]),
        (false, true) => {
            let fitted = least_squares(&inverted, &[one, crosstalk])?;
            (fitted[0], 0.0, fitted[1].max(0.0))
        }
        _ => {
            let fitted = least_squares(&inverted, &[one, serial])?;
            (fitted[0], fitted[1].max(0.0), 0.0)
        }
    };
    (base > 0.0).then(|| vec![1.0 / base, sigma / base, kappa / base])
}

type Basis<'a> = &'a dyn Fn(f64) -> f64;

/// The factors of the given functions whose sum is, relative to the figures, as close to them as can be.
fn least_squares(points: &Points, basis: &[Basis<'_>]) -> Option<Vec<f64>> {
    let mut matrix = DMatrix::from_fn(points.len(), basis.len(), |row, column| {
        let (x, y) = points[row];
        basis[column](x) / y
    });
    // Columns of one length: N² beside 1 would be lost in rounding.
    let lengths: Vec<f64> = (0..basis.len()).map(|column| matrix.column(column).norm()).collect();
    for (column, length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0.0) {
        matrix.column_mut(column).unscale_mut(*length);
    }
    let ones = DVector::from_element(points.len(), 1.0);
    let solution = matrix.svd(true, true).solve(&ones, NOTHING).ok()?;
    Some(solution.iter().zip(lengths).map(|(value, length)| value / length).collect())
}

/// For each x the median over the rounds.
fn medians(points: &Points) -> Points {
    let mut all = points.clone();
    all.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1)));
    let same = all.chunk_by(|one, other| one.0 == other.0);
    let median = |chunk: &[(f64, f64)]| {
        let sorted: Vec<f64> = chunk.iter().map(|(_, y)| *y).collect();
        (chunk[0].0, median_of_sorted(&sorted))
    };
    same.map(median).collect()
}

fn r_squared(law: &Law, medians: &Points) -> f64 {
    let logs: Vec<f64> = medians.iter().map(|(_, y)| y.ln()).collect();
    let mean = super::mean(&logs);
    let around = |centre: &dyn Fn(f64) -> f64| -> f64 {
        medians.iter().zip(&logs).map(|((x, _), log)| (log - centre(*x)).powi(2)).sum()
    };
    let (left, all) = (around(&|x| law.at(x).max(f64::MIN_POSITIVE).ln()), around(&|_| mean));
    if all > 0.0 { 1.0 - left / all } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::super::simulated::normal;
    use super::*;
    use fastrand::Rng;

    const COUNTS: [f64; 7] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0];

    fn points(random: &mut Rng, rounds: usize, noise: f64, law: impl Fn(f64) -> f64) -> Points {
        let round = |_| COUNTS.map(|x| (x, law(x) * (noise * normal(random)).exp()));
        (0..rounds).flat_map(round).collect()
    }

    #[test]
    fn the_interval_of_a_slope_holds_the_true_one_as_often_as_it_says() {
        for rounds in [1, 2, 5] {
            let held = some(|random| {
                let law = fit(LawKind::Linear, &points(random, rounds, 0.05, |x| 5000.0 + 14.0 * x)).unwrap();
                let slope = law.parameter("slope").unwrap();
                (slope.low..=slope.high).contains(&14.0)
            });
            assert!((0.91..=0.995).contains(&held), "{rounds} rounds: {held}");
        }
    }

    #[test]
    fn what_does_not_depend_on_x_is_flat_and_what_does_is_not() {
        let flat = some(|random| {
            fit(LawKind::Linear, &points(random, 4, 0.05, |_| 5000.0)).unwrap().is_flat().unwrap()
        });
        assert!(flat > 0.91, "{flat}");
        let mut random = Rng::with_seed(1);
        let law = fit(LawKind::Linear, &points(&mut random, 4, 0.03, |x| 5000.0 + x)).unwrap();
        assert_eq!(law.is_flat(), Some(false));
        assert!(law.r_squared > 0.9 && law.worst < 0.1, "{law:?}");
    }

    #[test]
    fn rounds_with_gaps_are_used_as_far_as_they_go() {
        let mut random = Rng::with_seed(4);
        let whole = points(&mut random, 4, 0.03, |x| 5000.0 + 14.0 * x);
        let gaps: Points = whole.into_iter().filter(|_| random.bool()).collect();
        let law = fit(LawKind::Linear, &gaps).unwrap();
        let slope = law.parameter("slope").unwrap();
        assert!((slope.value / 14.0 - 1.0).abs() < 0.05 && slope.low < slope.high, "{law:?}");
    }

    #[test]
    fn the_coefficients_of_scalability_are_found_again() {
        let mut random = Rng::with_seed(2);
        let usl = |n: f64| 1000.0 * n / (1.0 + 0.02 * (n - 1.0) + 1e-5 * n * (n - 1.0));
        let law = fit(LawKind::Usl, &points(&mut random, 6, 0.02, usl)).unwrap();
        for (name, value) in [("lambda", 1000.0), ("sigma", 0.02), ("kappa", 1e-5), ("peak_at", 313.05)] {
            let Parameter { value: found, low, high, .. } = law.parameter(name).unwrap();
            assert!((found / value - 1.0).abs() < 0.08 && (low..=high).contains(&&value), "{name}: {law:?}");
        }
        assert!(law.r_squared > 0.99);
        let linear = fit(LawKind::Usl, &points(&mut random, 6, 0.001, |n| 1000.0 * n)).unwrap();
        assert!(linear.parameter("sigma").unwrap().value < 1e-3, "{linear:?}");
        assert_eq!(linear.parameter("peak_at"), None, "what only rises has no peak: {linear:?}");
    }

    #[test]
    fn a_law_that_does_not_hold_is_said_not_to() {
        let mut random = Rng::with_seed(3);
        let law = fit(LawKind::Linear, &points(&mut random, 6, 0.01, |x| 10.0 + x * x)).unwrap();
        assert!(law.worst > 0.5 && law.r_squared < 0.95, "{law:?}");
    }

    #[test]
    fn too_little_is_no_law() {
        assert_eq!(fit(LawKind::Linear, &Vec::new()), None);
        assert_eq!(fit(LawKind::Linear, &vec![(1.0, 1.0), (2.0, 2.0), (1.0, 1.0), (2.0, 2.1)]), None);
        assert_eq!(fit(LawKind::Linear, &vec![(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]), None);
        assert_eq!(fit(LawKind::Linear, &vec![(1.0, 1.0), (2.0, 2.0), (3.0, 0.0), (4.0, 1.0)]), None);
        let few: Points = (1..=4).map(|n| (f64::from(n), f64::from(n))).collect();
        assert_eq!(fit(LawKind::Usl, &few), None);
    }

    /// As `share`, with fewer simulations: each of them fits five hundred times.
    fn some(mut happens: impl FnMut(&mut Rng) -> bool) -> f64 {
        let mut random = Rng::with_seed(7);
        (0..300).filter(|_| happens(&mut random)).count() as f64 / 300.0
    }
}
