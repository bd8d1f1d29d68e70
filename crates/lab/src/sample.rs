//! Some for all: what is read of a few processes and counted for many.
//!
//! The children of a server are alike but not the same, so which of them are read is left to chance, and
//! every one is as likely as any other. What they did, times the number of all and divided by the number of
//! those that were read, is then right on average, whatever the differences among them. A parent is one of
//! its kind and is always read.

use fastrand::Rng;

/// At most `most` of `all`, each one equally likely.
pub(crate) fn choose<T: Copy>(all: &[T], most: usize, random: &mut Rng) -> Vec<T> {
    if all.len() <= most { all.to_vec() } else { random.choose_multiple(all.iter().copied(), most) }
}

/// What all of them come to, if `read` of them come to `sum`.
pub(crate) fn scaled(sum: u64, read: usize, all: usize) -> u64 {
    if read == 0 || read == all {
        return sum;
    }
    let (read, all) = (read as u128, all as u128);
    u64::try_from((u128::from(sum) * all + read / 2) / read).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_all_read_and_of_many_a_few() {
        let mut random = Rng::with_seed(1);
        assert_eq!(choose(&[3, 1, 2], 3, &mut random), [3, 1, 2]);
        let all: Vec<u64> = (0..1000).collect();
        let mut chosen = choose(&all, 64, &mut random);
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen.len(), 64, "nobody is read twice");
        assert_eq!(choose(&all, 64, &mut Rng::with_seed(1)), choose(&all, 64, &mut Rng::with_seed(1)));
    }

    #[test]
    fn scaling_up_rounds_and_leaves_alone_what_is_complete() {
        assert_eq!((scaled(7, 64, 64), scaled(10, 4, 6), scaled(0, 0, 5)), (7, 15, 0));
        assert_eq!(scaled(u64::MAX, 2, 3), u64::MAX);
    }

    #[test]
    fn a_sample_is_right_on_average_though_its_members_differ() {
        // One in a hundred does ten thousand times as much: no single sample is right.
        let all: Vec<u64> = (0..2000u64).map(|i| if i % 100 == 17 { 100_000 } else { i % 13 }).collect();
        let truth = all.iter().sum::<u64>() as f64;
        let mut random = Rng::with_seed(7);
        let estimates: Vec<f64> = (0..4000)
            .map(|_| scaled(choose(&all, 64, &mut random).iter().sum(), 64, all.len()) as f64)
            .collect();
        let mean = estimates.iter().sum::<f64>() / 4000.0;
        let variance = estimates.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / 3999.0;
        let standard_error = (variance / 4000.0).sqrt();
        assert!((mean - truth).abs() < 3.0 * standard_error, "{mean} ± {standard_error}, not {truth}");
        assert!(standard_error < truth / 30.0, "the test would not see a bias of a tenth");
    }
}
