//! Whether a rate that was counted in equal slices of time rises or falls.
//!
//! The test is that of Mann (1945) and Kendall: of all pairs of slices, do the later ones tend to be larger? It
//! assumes no distribution and no outlier can decide it. Enough slices make any drift significant, so a trend
//! must also be large enough to matter; its size is the slope of Theil (1950) and Sen (1968), the median of the
//! slopes of all pairs.

/// A trend is one that chance would show less often than this.
const SIGNIFICANCE: f64 = 0.01;

/// A trend is one that changes the rate by more than this share from the first slice to the last.
const MATERIAL: f64 = 0.05;

/// Fewer slices than these cannot show a trend: of four, even a perfect order has a p of 0.09.
const FEWEST: usize = 8;

/// What the slices say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// How often slices without any trend would look as ordered as these, or more so: the two-sided p-value.
    pub p: f64,
    /// Change from the first slice to the last by the median slope, as a share of the median slice.
    pub change: f64,
}

impl Trend {
    /// Whether the rate was not steady: neither chance nor too small to matter.
    pub fn is_trend(&self) -> bool {
        self.p < SIGNIFICANCE && self.change.abs() > MATERIAL
    }
}

/// Examines slices in the order of time. `None` if there are too few of them, or if most of them are empty.
pub fn trend(slices: &[u64]) -> Option<Trend> {
    let count = slices.len();
    let median = median(slices.iter().map(|&slice| slice as f64).collect());
    if count < FEWEST || median <= 0.0 {
        return None;
    }
    let pairs = (0..count).flat_map(|later| (0..later).map(move |earlier| (earlier, later)));
    let mut score = 0i64;
    let mut slopes = Vec::with_capacity(count * (count - 1) / 2);
    for (earlier, later) in pairs {
        let rise = slices[later] as f64 - slices[earlier] as f64;
        score += (slices[later].cmp(&slices[earlier]) as i8) as i64;
        slopes.push(rise / (later - earlier) as f64);
    }
    let change = self::median(slopes) * (count - 1) as f64 / median;
    Some(Trend { p: p_value(score, slices), change })
}

/// By the normal distribution, with Kendall's correction for ties and for continuity.
fn p_value(score: i64, slices: &[u64]) -> f64 {
    let spread = |count: usize| (count * (count - 1) * (2 * count + 5)) as f64;
    let mut sorted = slices.to_vec();
    sorted.sort_unstable();
    let ties: f64 = sorted.chunk_by(|one, other| one == other).map(|ties| spread(ties.len())).sum();
    let variance = (spread(slices.len()) - ties) / 18.0;
    let distance = (score.unsigned_abs() as f64 - 1.0).max(0.0);
    if variance > 0.0 { libm::erfc(distance / variance.sqrt() / std::f64::consts::SQRT_2) } else { 1.0 }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => 0.0,
        count if count % 2 == 1 => figures[count / 2],
        count => (figures[count / 2 - 1] + figures[count / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slices around `mean` with some noise, and a rise of `change` from first to last.
    fn slices(random: &mut fastrand::Rng, mean: f64, change: f64) -> Vec<u64> {
        let noise = |random: &mut fastrand::Rng| (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
        let at = |place: usize| mean * (1.0 + change * (place as f64 / 19.0 - 0.5));
        (0..20).map(|place| (at(place) + 0.02 * mean * noise(random)) as u64).collect()
    }

    #[test]
    fn noise_alone_is_rarely_called_a_trend() {
        let mut random = fastrand::Rng::with_seed(1);
        let alarms = (0..2000).filter(|_| trend(&slices(&mut random, 5000.0, 0.0)).unwrap().p < SIGNIFICANCE);
        let share = alarms.count() as f64 / 2000.0;
        assert!((0.002..0.02).contains(&share), "{share}");
    }

    #[test]
    fn a_planted_change_of_a_tenth_is_found_with_its_size() {
        let mut random = fastrand::Rng::with_seed(2);
        let found: Vec<Trend> =
            (0..500).map(|_| trend(&slices(&mut random, 5000.0, -0.1)).unwrap()).collect();
        assert!(found.iter().filter(|trend| trend.is_trend()).count() > 450);
        let mean = found.iter().map(|trend| trend.change).sum::<f64>() / 500.0;
        assert!((-0.11..-0.09).contains(&mean), "{mean}");
    }

    #[test]
    fn one_stall_is_no_trend() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut slices = slices(&mut random, 5000.0, 0.0);
        slices[19] = 0;
        assert!(!trend(&slices).unwrap().is_trend());
    }

    #[test]
    fn a_change_too_small_to_matter_is_none_however_certain() {
        let slices: Vec<u64> = (0..20).map(|place| 100_000 + place * 100).collect();
        let trend = trend(&slices).unwrap();
        assert!(trend.p < 1e-6 && !trend.is_trend(), "{trend:?}");
    }

    #[test]
    fn too_few_slices_and_empty_ones_say_nothing() {
        assert_eq!(trend(&[]), None);
        assert_eq!(trend(&[1, 2, 3, 4, 5, 6, 7]), None);
        assert_eq!(trend(&[0; 20]), None);
        assert_eq!(trend(&[5; 20]), Some(Trend { p: 1.0, change: 0.0 }));
    }
}
