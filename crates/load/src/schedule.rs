//! When messages are due in an open loop, whatever comes back: evenly, or at random.

use std::time::Duration;

use crate::stamp::{STEP, mix};

/// How due times lie on the line of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Arrivals {
    /// The same gap between any two.
    #[default]
    Even,
    /// A Poisson process: gaps are exponential and independent. The same seed gives the same due times, whatever is loaded.
    Random {
        /// Which of all such streams.
        seed: u64,
    },
}

impl Arrivals {
    /// Those of one loop of several. Independent Poisson processes are one together.
    pub(crate) fn of_loop(self, index: usize) -> Arrivals {
        match self {
            Arrivals::Random { seed } if index > 0 => {
                Arrivals::Random { seed: mix(seed ^ mix(index as u64)) }
            }
            same => same,
        }
    }
}

/// Due times in ns since the load began, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    start_ns: u64,
    rate_per_s: f64,
    /// Messages that were due already.
    sent: u64,
    random: Option<Gaps>,
}

/// A random stream of due times.
#[derive(Debug, Clone)]
struct Gaps {
    seed: u64,
    /// Gaps so far.
    count: u64,
    /// The next due time, in ns since the start. Whole numbers of them are told apart for a hundred days.
    next_ns: f64,
}

impl Schedule {
    /// Even gaps; the first message is due at `start_ns`.
    pub(crate) fn new(start_ns: u64, rate_per_s: f64) -> Schedule {
        Schedule { start_ns, rate_per_s, sent: 0, random: None }
    }

    /// The first message is due at `start_ns`, or a gap behind it if they are random.
    pub(crate) fn with_arrivals(start_ns: u64, rate_per_s: f64, arrivals: Arrivals) -> Schedule {
        let random = match arrivals {
            Arrivals::Even => None,
            Arrivals::Random { seed } => {
                let mut gaps = Gaps { seed, count: 0, next_ns: 0.0 };
                gaps.advance(rate_per_s);
                Some(gaps)
            }
        };
        Schedule { random, ..Schedule::new(start_ns, rate_per_s) }
    }

    /// For what everybody does once in `period`, one after the other in equal steps: `turns` of them, the first at `start_ns`.
    pub(crate) fn in_turn(start_ns: u64, period: Duration, turns: usize) -> Schedule {
        Schedule::new(start_ns, turns as f64 / period.as_secs_f64())
    }

    /// Messages due from `open_ns` on and before `close_ns`, sent or not.
    pub(crate) fn due_between(&self, open_ns: u64, close_ns: u64) -> u64 {
        if let Some(gaps) = &self.random {
            let mut again =
                Schedule::with_arrivals(self.start_ns, self.rate_per_s, Arrivals::Random { seed: gaps.seed });
            let mut due = 0;
            while let Some(ns) = again.take(close_ns.saturating_sub(1)) {
                due += u64::from(ns >= open_ns);
            }
            return due;
        }
        // The first message that is not due before `ns`; rounding may be one off either way.
        let first_from = |ns: u64| {
            let guess = (ns.saturating_sub(self.start_ns) as f64 * self.rate_per_s / 1e9) as u64;
            (guess.saturating_sub(1)..).find(|&number| self.due_ns(number) >= ns).unwrap_or(guess)
        };
        first_from(close_ns) - first_from(open_ns)
    }

    fn due_ns(&self, number: u64) -> u64 {
        self.start_ns + (number as f64 * 1e9 / self.rate_per_s) as u64
    }

    /// When the next message is due. Even times are computed from the start each time, so that no rounding adds up.
    pub(crate) fn next_ns(&self) -> u64 {
        match &self.random {
            Some(gaps) => self.start_ns + gaps.next_ns as u64,
            None => self.due_ns(self.sent),
        }
    }

    /// The next message's due time, if that has come.
    pub(crate) fn take(&mut self, now_ns: u64) -> Option<u64> {
        let due = self.next_ns();
        (due <= now_ns).then(|| {
            self.sent += 1;
            if let Some(gaps) = &mut self.random {
                gaps.advance(self.rate_per_s);
            }
            due
        })
    }
}

impl Gaps {
    /// The next gap, by inversion of the exponential distribution. Random bits are those of SplitMix64 (Steele, Lea and Flood, 2014), which
    /// no library's next version changes.
    fn advance(&mut self, rate_per_s: f64) {
        self.count += 1;
        let bits = mix(self.seed.wrapping_add(self.count.wrapping_mul(STEP)));
        // Above 0, so that there is a logarithm, and at most 1.
        let share = ((bits >> 11) + 1) as f64 / (1u64 << 53) as f64;
        self.next_ns += -libm::log(share) * 1e9 / rate_per_s;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_look_finds_every_message_with_its_own_time() {
        let mut schedule = Schedule::new(1_000, 1e6);
        assert_eq!(schedule.take(999), None);
        assert_eq!(schedule.take(1_000), Some(1_000));
        assert_eq!(schedule.take(1_000), None);
        // A stall of 5 µs: the five messages that it kept back are due when they were due.
        let due: Vec<u64> = std::iter::from_fn(|| schedule.take(6_000)).collect();
        assert_eq!(due, [2_000, 3_000, 4_000, 5_000, 6_000]);
    }

    #[test]
    fn what_is_due_in_a_window_is_what_would_be_taken_in_it() {
        for rate in [1.0, 3.0, 999.9, 1e6, 1e9] {
            let (open, close) = (5_000_000, 5_700_000);
            let mut schedule = Schedule::new(1_000, rate);
            let due = schedule.due_between(open, close);
            let taken = std::iter::from_fn(|| schedule.take(close - 1));
            assert_eq!(due, taken.filter(|&due| due >= open).count() as u64, "{rate}");
        }
    }

    #[test]
    fn rounding_does_not_add_up() {
        let mut schedule = Schedule::new(0, 3.0);
        let last = std::iter::from_fn(|| schedule.take(1_000_000_000_000)).last();
        assert_eq!(last, Some(1_000_000_000_000));
    }

    fn random(seed: u64, rate: f64) -> Schedule {
        Schedule::with_arrivals(1_000, rate, Arrivals::Random { seed })
    }

    /// The first due times.
    fn first(schedule: &mut Schedule, count: usize) -> Vec<u64> {
        std::iter::from_fn(|| schedule.take(u64::MAX)).take(count).collect()
    }

    #[test]
    fn a_seed_is_a_stream_and_another_seed_another() {
        assert_eq!(first(&mut random(7, 20.0), 1000), first(&mut random(7, 20.0), 1000));
        assert_ne!(first(&mut random(7, 20.0), 10), first(&mut random(8, 20.0), 10));
        // Written down, so that no version of anything changes what is compared across results.
        assert_eq!(first(&mut random(7, 20.0), 3), [47_103_258, 251_456_928, 256_682_711]);
        // The same stream, faster.
        let (slow, fast) = (first(&mut random(7, 10.0), 50), first(&mut random(7, 1000.0), 50));
        assert!(
            slow.iter().zip(&fast).all(|(slow, fast)| (slow - 1_000).abs_diff((fast - 1_000) * 100) <= 100)
        );
        let [one, other] = [0, 1].map(|index| Arrivals::Random { seed: 7 }.of_loop(index));
        assert!(one == Arrivals::Random { seed: 7 } && one != other);
        assert_eq!(Arrivals::Even.of_loop(1), Arrivals::Even);
    }

    #[test]
    fn gaps_are_exponential_with_the_mean_that_was_asked_for() {
        const COUNT: usize = 100_000;
        let times = first(&mut random(1, 1e6), COUNT);
        let mut gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        // A standard error is 1000/sqrt(100,000) = 3.2 ns.
        assert!((mean - 1_000.0).abs() < 12.0, "{mean}");
        // Kolmogorov's distance from the distribution: above 1.63/sqrt(n) in one of a hundred samples.
        gaps.sort_by(f64::total_cmp);
        let count = gaps.len() as f64;
        let distance = gaps.iter().enumerate().map(|(place, gap)| {
            let share = 1.0 - (-gap / 1_000.0).exp();
            (share - place as f64 / count).abs().max((share - (place + 1) as f64 / count).abs())
        });
        let distance = distance.fold(0.0, f64::max);
        assert!(distance < 1.63 / count.sqrt(), "{distance}");
        // What came before says nothing of what comes next: neighbours do not go together.
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64 - mean).collect();
        let together = gaps.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>();
        let correlation = together / gaps.iter().map(|gap| gap * gap).sum::<f64>();
        assert!(correlation.abs() < 0.01, "{correlation}");
    }

    #[test]
    fn random_times_that_are_due_in_a_window_are_those_that_are_taken_in_it() {
        let (open, close) = (5_000_000, 900_000_000);
        let mut schedule = random(3, 5_000.0);
        let taken = std::iter::from_fn(|| schedule.take(close - 1)).filter(|&due| due >= open).count() as u64;
        assert!((4_000..5_000).contains(&taken), "{taken}");
        // Wherever the schedule has come to by then.
        assert_eq!(
            (schedule.due_between(open, close), random(3, 5_000.0).due_between(open, close)),
            (taken, taken)
        );
    }

    #[test]
    fn who_takes_turns_is_due_once_in_a_period() {
        let mut schedule = Schedule::in_turn(1_000, Duration::from_millis(100), 4);
        assert_eq!(
            first(&mut schedule, 6),
            [1_000, 25_001_000, 50_001_000, 75_001_000, 100_001_000, 125_001_000]
        );
    }
}
