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

/// Due times in ns since the load began, one after the other: all of a stream, or those of one loop of several.
///
/// There is one stream for all loops, and each takes its own slots of it: whoever sends, the gaps between any two messages are those that were
/// asked for.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    start_ns: u64,
    rate_per_s: f64,
    slots: Slots,
    random: Option<Gaps>,
}

/// The slots of a stream that a loop takes.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    /// Its places in each round, in order.
    own: Box<[u32]>,
    /// Slots in a round.
    round: u64,
    /// The first slot of the round under way, and the next place in it.
    base: u64,
    next: usize,
}

impl Slots {
    /// Every slot.
    pub(crate) fn all() -> Slots {
        Slots::every(1, 0)
    }

    /// Every `round`-th slot, the first of them `place`.
    pub(crate) fn every(round: usize, place: usize) -> Slots {
        Slots::of(vec![place as u32], round)
    }

    /// Those at these places of each round, of which there is at least one.
    pub(crate) fn of(own: Vec<u32>, round: usize) -> Slots {
        Slots { own: own.into(), round: round as u64, base: 0, next: 0 }
    }

    /// The number of the next slot in the stream.
    fn number(&self) -> u64 {
        self.base + u64::from(self.own[self.next])
    }

    fn advance(&mut self) {
        self.next += 1;
        if self.next == self.own.len() {
            self.next = 0;
            self.base += self.round;
        }
    }

    /// How many of them come before slot `number` of the stream.
    fn before(&self, number: u64) -> u64 {
        let (rounds, place) = (number / self.round, number % self.round);
        rounds * self.own.len() as u64 + self.own.partition_point(|own| u64::from(*own) < place) as u64
    }
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
        Schedule { start_ns, rate_per_s, slots: Slots::all(), random: None }
    }

    /// The first message is due at `start_ns`, or a gap behind it if they are random.
    pub(crate) fn with_arrivals(start_ns: u64, rate_per_s: f64, arrivals: Arrivals) -> Schedule {
        let random = match arrivals {
            Arrivals::Even => None,
            Arrivals::Random { seed } => Some(Gaps { seed, count: 0, next_ns: 0.0 }),
        };
        Schedule { random, ..Schedule::new(start_ns, rate_per_s) }.taking(Slots::all())
    }

    /// The same stream, of which only these slots are taken.
    pub(crate) fn taking(mut self, slots: Slots) -> Schedule {
        self.slots = slots;
        self.catch_up();
        self
    }

    /// For what everybody does once in `period`, one after the other in equal steps: `turns` of them, the first at `start_ns`.
    pub(crate) fn in_turn(start_ns: u64, period: Duration, turns: usize) -> Schedule {
        Schedule::new(start_ns, turns as f64 / period.as_secs_f64())
    }

    /// Messages due from `open_ns` on and before `close_ns`, sent or not.
    pub(crate) fn due_between(&self, open_ns: u64, close_ns: u64) -> u64 {
        if let Some(gaps) = &self.random {
            let slots = Slots { base: 0, next: 0, ..self.slots.clone() };
            let arrivals = Arrivals::Random { seed: gaps.seed };
            let mut again =
                Schedule::with_arrivals(self.start_ns, self.rate_per_s, arrivals).taking(slots);
            let mut due = 0;
            while let Some(ns) = again.take(close_ns.saturating_sub(1)) {
                due += u64::from(ns >= open_ns);
            }
            return due;
        }
        // The first message that is not due before `ns`; rounding may be one off either way.
        let first_from = |ns: u64| {
            let guess = (ns.saturating_sub(self.start_ns) as f64 * self.rate_per_s / 1e9) as u64;
            let first = (guess.saturating_sub(1)..).find(|&number| self.due_ns(number) >= ns);
            self.slots.before(first.unwrap_or(guess))
        };
        first_from(close_ns) - first_from(open_ns)
    }

    fn due_ns(&self, number: u64) -> u64 {
        self.start_ns.saturating_add((number as f64 * 1e9 / self.rate_per_s) as u64)
    }

    /// When the next message is due. Even times are computed from the start each time, so that no rounding adds up.
    pub(crate) fn next_ns(&self) -> u64 {
        match &self.random {
            Some(gaps) => self.start_ns + gaps.next_ns as u64,
            None => self.due_ns(self.slots.number()),
        }
    }

    /// The next message's due time, if that has come.
    pub(crate) fn take(&mut self, now_ns: u64) -> Option<u64> {
        let due = self.next_ns();
        (due <= now_ns).then(|| {
            self.slots.advance();
            self.catch_up();
            due
        })
    }

    /// Passes over everything that is due by now.
    pub(crate) fn pass_over(&mut self, now_ns: u64) {
        while self.take(now_ns).is_some() {}
    }

    /// Adds up random gaps as far as the next slot. Those of other loops' slots are made as well: they are the same stream.
    fn catch_up(&mut self) {
        let number = self.slots.number();
        if let Some(gaps) = &mut self.random {
            while gaps.count <= number {
                gaps.advance(self.rate_per_s);
            }
        }
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
    }

    #[test]
    fn all_loops_together_are_one_stream_and_each_is_due_in_turn() {
        for arrivals in [Arrivals::Even, Arrivals::Random { seed: 7 }] {
            let whole = Schedule::with_arrivals(1_000, 20.0, arrivals);
            // Loops with one, two and no places; with places in any order of threads.
            for (round, loops) in [
                (4, vec![vec![0], vec![1], vec![2], vec![3]]),
                (5, vec![vec![0, 3], vec![1, 4], vec![2]]),
                (3, vec![vec![2], vec![0, 1]]),
            ] {
                let parts: Vec<Schedule> = loops
                    .into_iter()
                    .map(|own| whole.clone().taking(Slots::of(own, round)))
                    .collect();
                let mut all: Vec<u64> = parts
                    .iter()
                    .flat_map(|part| {
                        let mut part = part.clone();
                        std::iter::from_fn(move || part.take(10_000_000_000))
                    })
                    .collect();
                all.sort_unstable();
                let mut single = whole.clone();
                let expected: Vec<u64> = std::iter::from_fn(|| single.take(10_000_000_000)).collect();
                assert_eq!(all, expected, "{arrivals:?}");
                let (open, close) = (1_234_567_890, 8_765_432_100);
                let due: u64 = parts.iter().map(|part| part.due_between(open, close)).sum();
                assert_eq!(due, whole.due_between(open, close), "{arrivals:?}");
                if arrivals == Arrivals::Even {
                    // 20 a second by four loops: one every 50 ms, and not four every 200 ms.
                    assert!(all.windows(2).all(|pair| pair[1] - pair[0] == 50_000_000));
                }
            }
        }
    }

    #[test]
    fn the_slowest_rate_is_never_due() {
        let mut schedule = Schedule::new(u64::MAX / 2, f64::MIN_POSITIVE);
        assert!(schedule.take(u64::MAX - 1).is_some());
        assert_eq!((schedule.next_ns(), schedule.take(u64::MAX - 1)), (u64::MAX, None));
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
