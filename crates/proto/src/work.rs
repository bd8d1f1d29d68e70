use std::hint::black_box;
use std::time::{Duration, Instant};

/// Simulated work: what a server would compute for each message if it had something to do.
///
/// It is a number of rounds of a computation on registers, not a wait until a time: a server that loses the CPU in the
/// middle has to finish its work all the same, and a slower core takes longer for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    rounds: u64,
}

/// Rounds in one trial of the calibration, half a millisecond or so.
const TRIAL_ROUNDS: u64 = 300_000;

/// Of so many trials the fastest counts: whatever interrupts one makes it slower.
const TRIALS: usize = 12;

impl Work {
    /// Nothing to do.
    pub const NONE: Work = Work { rounds: 0 };

    /// As much as this core does in `time`, as `now` measures it. Takes about six milliseconds.
    pub fn calibrated(time: Duration, mut now: impl FnMut() -> Instant) -> Work {
        if time.is_zero() {
            return Work::NONE;
        }
        let trial = |_| {
            let begun = now();
            Work { rounds: TRIAL_ROUNDS }.perform();
            now().duration_since(begun)
        };
        let fastest = (0..TRIALS).map(trial).min().unwrap_or_default().max(Duration::from_nanos(1));
        let rounds = time.as_secs_f64() / fastest.as_secs_f64() * TRIAL_ROUNDS as f64;
        Work { rounds: (rounds.round() as u64).max(1) }
    }

    /// Does the work of one message.
    #[inline]
    pub fn perform(self) {
        if self.rounds > 0 {
            compute(self.rounds);
        }
    }
}

/// Each round needs the one before, so that no compiler and no core can do several at once.
#[cold]
fn compute(rounds: u64) {
    let mut state = black_box(1u64);
    for _ in 0..rounds {
        state = (state ^ 0x9E37_79B9).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
    }
    black_box(state);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rounds_follow_from_the_fastest_trial() {
        let begun = Instant::now();
        // The trials take 3 ms, 4 ms, … by this clock.
        let (mut readings, mut time) = (0, begun);
        let clock = || {
            readings += 1;
            time += Duration::from_millis(if readings % 2 == 0 { 2 + readings / 2 } else { 50 });
            time
        };
        let work = Work::calibrated(Duration::from_micros(10), clock);
        assert_eq!(work.rounds, TRIAL_ROUNDS / 300);
    }

    #[test]
    fn no_work_needs_no_calibration() {
        assert_eq!(Work::calibrated(Duration::ZERO, || unreachable!("nothing to measure")), Work::NONE);
        Work::NONE.perform();
    }
}
