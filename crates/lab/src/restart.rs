//! A server that is told to stop in the middle of the window, and started again on its port a while later: what a deploy does to those
//! who are connected.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::observe::Watch;
use crate::plan::{Job, open_and_close};
use crate::process::{GLANCE, Process};
use crate::setting::Setting;
use crate::trial::{Failure, Trial, broken, died};

/// The part of the window that is over when the server is told to stop. What follows has to be long enough for everybody to come again.
const BEFORE: u32 = 4;
/// The server has to be there again for at least this part of the window.
pub(crate) const LEAST_AFTER: u32 = 2;

/// A restart that is planned for this window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Restart {
    /// When the server is told to stop.
    pub(crate) at: Instant,
    /// How long after that the next one is started.
    away: Duration,
}

impl Restart {
    /// What a setting wants to happen in a window that has begun `opened`.
    pub(crate) fn of(setting: &Setting, window: Duration, opened: Instant) -> Option<Restart> {
        let away = Duration::from_millis(setting.restart_ms);
        (!away.is_zero()).then(|| Restart { at: opened + window / BEFORE, away })
    }
}

impl Trial<'_> {
    /// Stops the server with SIGTERM and starts another in its place on the same port. Returns for how long there was none: from the signal until
    /// the next one listens.
    pub(crate) fn restart(
        &self,
        restart: Restart,
        job: &Job,
        prefix: &[String],
        server: &mut Process,
        address: SocketAddr,
        watch: &mut Watch,
    ) -> Result<Duration, Failure> {
        watch.is_stopping();
        let begun = Instant::now();
        match server.terminate(self.patience + open_and_close(job)) {
            Some(status) if self.is_fine_at_the_end(job, prefix, status) => {}
            Some(status) => return Err(died("server, restarted on purpose,", server, status)),
            None => return Err(broken("server", "did not stop on SIGTERM to be restarted, and was killed")),
        }
        while begun.elapsed() < restart.away {
            if self.is_stopped() {
                return Err(Failure::Stopped);
            }
            std::thread::sleep(restart.away.saturating_sub(begun.elapsed()).min(GLANCE));
        }
        let (next, next_address) = self.start_server(job, prefix, Some(address.port()))?;
        if next_address != address {
            return Err(broken("server", &format!("came back at {next_address}, not at {address}")));
        }
        let away = begun.elapsed();
        watch.is_succeeded_by(next.pid());
        *server = next;
        Ok(away)
    }
}
