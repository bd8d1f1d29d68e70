//! Laws fitted to figures: what one more connection costs, and where adding more stops to help.
//!
//! Every law here is linear in its coefficients, so that least squares have one answer and no starting point. Residuals are taken
//! relative to the figure, since its noise is in proportion to it. Each round is fitted by itself: rounds are what is independent, so
//! their coefficients give the interval.

use nalgebra::{DMatrix, DVector};
use serde::{Deserialize, Serialize};

use super::{Estimate, median_of_sorted};

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
    /// The median over the rounds, with its interval.
    pub value: Estimate,
}

impl Law {
    /// A coefficient.
    pub fn parameter(&self, name: &str) -> Option<&Estimate> {
        self.parameters.iter().find(|parameter| parameter.name == name).map(|parameter| &parameter.value)
    }

    /// The interval of the slope holds 0: nothing that these rounds can show depends on x. `None` without an interval.
    pub fn is_flat(&self) -> Option<bool> {
        let slope = self.parameter("slope")?;
        Some((slope.low?..=slope.high?).contains(&0.0))
    }

    /// The figure that the law gives.
    pub fn at(&self, x: f64) -> f64 {
        let values: Vec<f64> = self.parameters.iter().map(|parameter| parameter.value.median).collect();
        self.kind.value(&values, x)
    }
}

/// The points of one round: x, and the figure.
pub(crate) type Points = Vec<(f64, f64)>;

/// Fits a law to rounds. `None`: there are too few points.
pub(crate) fn fit(kind: LawKind, rounds: &[Points]) -> Option<Law> {
    let each: Vec<Vec<f64>> = rounds.iter().filter_map(|points| kind.fit(points)).collect();
    let names = kind.names();
    let parameters = names.iter().enumerate().map(|(place, name)| {
        let value = Estimate::of(each.iter().filter_map(|values| values.get(place)).copied())?;
        Some(Parameter { name: (*name).to_owned(), value })
    });
    let mut parameters: Vec<Parameter> = parameters.collect::<Option<_>>()?;
    if kind == LawKind::Usl {
        let peaks = each.iter().filter(|values| values[2] > 0.0);
        let peak = |values: &Vec<f64>| ((1.0 - values[1]).max(0.0) / values[2]).sqrt();
        // Where the rounds do not agree that there is one, there is none.
        if peaks.clone().count() == each.len()
            && let Some(value) = Estimate::of(peaks.map(peak))
        {
            parameters.push(Parameter { name: "peak_at".to_owned(), value });
        }
    }
    let mut law = Law { kind, parameters, r_squared: 0.0, worst: 0.0 };
    let medians = medians(rounds);
    law.worst = medians.iter().map(|(x, y)| (law.at(*x) / y - 1.0).abs()).fold(0.0, f64::max);
    law.r_squared = r_squared(&law, &medians);
    Some(law)
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

    /// The coefficients that meet the points best; `None` where there are fewer than one more of them than coefficients.
    fn fit(self, points: &Points) -> Option<Vec<f64>> {
        let mut counted: Vec<f64> = points.iter().map(|(x, _)| *x).collect();
        counted.sort_by(f64::total_cmp);
        counted.dedup();
        let usable = points.iter().all(|(x, y)| x.is_finite() && y.is_finite() && *y > 0.0);
        if counted.len() <= self.names().len() || !usable {
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
fn medians(rounds: &[Points]) -> Points {
    let mut all: Points = rounds.iter().flatten().copied().collect();
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
    use super::super::simulated::{normal, share};
    use super::*;
    use fastrand::Rng;

    const COUNTS: [f64; 7] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0];

    fn rounds(random: &mut Rng, count: usize, noise: f64, law: impl Fn(f64) -> f64) -> Vec<Points> {
        let round = |_| COUNTS.map(|x| (x, law(x) * (noise * normal(random)).exp())).to_vec();
        (0..count).map(round).collect()
    }

    #[test]
    fn the_interval_of_a_slope_holds_the_true_one_as_often_as_it_says() {
        for count in [4, 6, 10] {
            let held = share(|random| {
                let law = fit(LawKind::Linear, &rounds(random, count, 0.03, |x| 5000.0 + 14.0 * x)).unwrap();
                let slope = law.parameter("slope").unwrap();
                (slope.low.unwrap()..=slope.high.unwrap()).contains(&14.0)
            });
            assert!((0.91..=0.999).contains(&held), "{count} rounds: {held}");
        }
    }

    #[test]
    fn what_does_not_depend_on_x_is_flat_and_what_does_is_not() {
        let flat = share(|random| {
            let rounds = rounds(random, 6, 0.03, |_| 5000.0);
            fit(LawKind::Linear, &rounds).unwrap().is_flat().unwrap()
        });
        assert!(flat > 0.9, "{flat}");
        let mut random = Rng::with_seed(1);
        let law = fit(LawKind::Linear, &rounds(&mut random, 6, 0.03, |x| 5000.0 + x)).unwrap();
        assert_eq!(law.is_flat(), Some(false));
        assert!(law.r_squared > 0.9 && law.worst < 0.1, "{law:?}");
        let one = fit(LawKind::Linear, &rounds(&mut random, 1, 0.03, |x| 5000.0 + x)).unwrap();
        assert_eq!(one.is_flat(), None, "one round has no interval");
    }

    #[test]
    fn the_coefficients_of_scalability_are_found_again() {
        let mut random = Rng::with_seed(2);
        let usl = |n: f64| 1000.0 * n / (1.0 + 0.02 * (n - 1.0) + 1e-5 * n * (n - 1.0));
        let law = fit(LawKind::Usl, &rounds(&mut random, 8, 0.01, usl)).unwrap();
        for (name, value) in [("lambda", 1000.0), ("sigma", 0.02), ("kappa", 1e-5), ("peak_at", 313.05)] {
            let found = law.parameter(name).unwrap().median;
            assert!((found / value - 1.0).abs() < 0.05, "{name}: {found}");
        }
        assert!(law.r_squared > 0.99);
        let linear = fit(LawKind::Usl, &rounds(&mut random, 8, 0.001, |n| 1000.0 * n)).unwrap();
        assert!(linear.parameter("sigma").unwrap().median < 1e-3, "{linear:?}");
    }

    #[test]
    fn a_law_that_does_not_hold_is_said_not_to() {
        let mut random = Rng::with_seed(3);
        let law = fit(LawKind::Linear, &rounds(&mut random, 6, 0.01, |x| 10.0 + x * x)).unwrap();
        assert!(law.worst > 0.5 && law.r_squared < 0.95, "{law:?}");
    }

    #[test]
    fn too_little_is_no_law() {
        assert_eq!(fit(LawKind::Linear, &[]), None);
        assert_eq!(fit(LawKind::Linear, &[vec![(1.0, 1.0), (2.0, 2.0)]]), None);
        assert_eq!(fit(LawKind::Linear, &[vec![(1.0, 1.0), (1.0, 2.0), (2.0, 0.0)]]), None);
        assert_eq!(fit(LawKind::Usl, &[vec![(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]]), None);
        let gaps = [vec![(1.0, 1.0)], vec![(1.0, 2.0), (2.0, 3.0), (3.0, 4.0)]];
        let law = fit(LawKind::Linear, &gaps).unwrap();
        assert_eq!(law.parameter("slope").unwrap().rounds, 1, "a round with gaps is left out");
    }
}
