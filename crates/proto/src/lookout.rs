use std::time::{Duration, Instant};

/// How long at the least those who read are given before anybody is judged, and how long at the most.
const MIN_PAUSE: Duration = Duration::from_millis(25);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// When a deadline may be enforced that one thread or process looks after while others read what clients send.
///
/// A server may have been stopped (SIGSTOP, a laptop that slept), or its threads may have waited for a core: then the answer may lie in a socket, or be on
/// its way from another thread, though its time is over. So what is found overdue is left alone for a pause, in which whoever reads can read; and if it
/// is still overdue then, nobody has answered. The pause is as long as the deadline was found late, and begins anew if its own end is found late:
/// a server that does not run is no evidence against its clients.
#[derive(Debug, Default)]
pub struct Lookout {
    pause: Option<Pause>,
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    begun: Instant,
    length: Duration,
}

impl Pause {
    fn end(&self) -> Instant {
        self.begun + self.length
    }
}

impl Lookout {
    /// Given the earliest deadline that is overdue at `now`, says up to when deadlines may be enforced: all that came until then has been
    /// read. `None`: none may be.
    pub fn judge(&mut self, overdue: Option<Instant>, now: Instant) -> Option<Instant> {
        let Some(due) = overdue else {
            self.pause = None;
            return None;
        };
        match self.pause {
            Some(pause) if now < pause.end() => None,
            Some(pause) if now - pause.end() <= pause.length => {
                self.pause = None;
                Some(pause.begun)
            }
            _ => {
                let length = now.saturating_duration_since(due).clamp(MIN_PAUSE, MAX_PAUSE);
                self.pause = Some(Pause { begun: now, length });
                None
            }
        }
    }

    /// When [`judge`](Lookout::judge) is to be asked again, if something is overdue.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.pause.map(|pause| pause.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_nanos(1);

    #[test]
    fn what_is_overdue_is_enforced_after_a_pause() {
        let (mut lookout, due) = (Lookout::default(), Instant::now());
        assert_eq!(lookout.judge(Some(due), due), None);
        let end = due + MIN_PAUSE;
        assert_eq!(lookout.poll_timeout(), Some(end));
        assert_eq!(lookout.judge(Some(due), end - TICK), None);
        assert_eq!(lookout.judge(Some(due), end), Some(due));
        assert_eq!(lookout.poll_timeout(), None);
    }

    #[test]
    fn who_answers_within_the_pause_is_not_judged() {
        let (mut lookout, due) = (Lookout::default(), Instant::now());
        assert_eq!(lookout.judge(Some(due), due), None);
        assert_eq!(lookout.judge(None, due + TICK), None);
        assert_eq!(lookout.poll_timeout(), None);
    }

    #[test]
    fn a_server_that_was_late_pauses_as_long_as_it_was() {
        let (mut lookout, due) = (Lookout::default(), Instant::now());
        let now = due + Duration::from_secs(1);
        assert_eq!(lookout.judge(Some(due), now), None);
        assert_eq!(lookout.poll_timeout(), Some(now + Duration::from_secs(1)));
        let (mut lookout, now) = (Lookout::default(), due + Duration::from_secs(3600));
        assert_eq!(lookout.judge(Some(due), now), None);
        assert_eq!(lookout.poll_timeout(), Some(now + MAX_PAUSE));
    }

    #[test]
    fn a_server_that_is_stopped_in_the_pause_begins_it_anew() {
        let (mut lookout, due) = (Lookout::default(), Instant::now());
        assert_eq!(lookout.judge(Some(due), due), None);
        let late = due + 2 * MIN_PAUSE + TICK;
        assert_eq!(lookout.judge(Some(due), late), None);
        let end = late + (late - due);
        assert_eq!(lookout.poll_timeout(), Some(end));
        // It ends however slow the machine is, since the pause becomes as long as it is slow.
        assert_eq!(lookout.judge(Some(due), end + (late - due)), Some(late));
    }
}
