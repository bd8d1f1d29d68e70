//! The connections of a loop that asks which are ready: what happens to them when they are, and what each waits for.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use switchboard_proto::App;

use crate::Tally;
use crate::accept::address_of;
use crate::crew::Crew;
use crate::desk::{Desk, Job};
use crate::line::Line;
use crate::readiness::{Interest, Key, Poller, Ready};
use crate::roster::Roster;

/// The loop's one read buffer: idle connections own none.
const SCRATCH_BYTES: usize = 64 << 10;

/// The connections of one loop, with their sockets.
pub(crate) struct Table {
    app: Arc<App>,
    pub(crate) roster: Roster<Line>,
    /// Where sessions go that are to be computed elsewhere, if they are.
    desk: Option<Desk>,
    scratch: Vec<u8>,
}

impl Table {
    pub(crate) fn new(app: &Arc<App>, crew: Crew, desk: Option<Desk>) -> Table {
        Table { app: app.clone(), roster: Roster::new(app, crew), desk, scratch: vec![0; SCRATCH_BYTES] }
    }

    /// Watches what wakes this loop on behalf of its crew and of its desk.
    pub(crate) fn watch_aside(&self, crew: Key, desk: Key, poller: &mut impl Poller) -> io::Result<()> {
        if let Some(elsewhere) = self.roster.elsewhere() {
            poller.watch(crew, elsewhere.as_fd(), Interest::READ)?;
        }
        if let Some(sessions) = &self.desk {
            poller.watch(desk, sessions.as_fd(), Interest::READ)?;
        }
        Ok(())
    }

    /// Takes in a connection that was just accepted. One that cannot even be made non-blocking is closed by being dropped.
    pub(crate) fn insert(&mut self, stream: TcpStream, now: Instant) {
        match stream.set_nonblocking(true) {
            Ok(()) => {
                let address = address_of(&stream, &self.app);
                self.roster.insert(Line::new(stream), address, now);
            }
            Err(_) => self.roster.leave(),
        }
    }

    /// Reads what a ready line has to say, passes on what it publishes, and writes its replies: all replies to one
    /// read leave in one write. Others get their deliveries in `settle`, so that all of one turn leave together.
    pub(crate) fn ready(&mut self, ready: Ready, now: Instant, poller: &mut impl Poller) -> io::Result<()> {
        // It may have ended in this turn, before its event came up.
        let Some(member) = self.roster.get(ready.key) else { return Ok(()) };
        if member.is_away() {
            member.socket.has_unread = true;
            return Ok(());
        }
        if ready.readable {
            self.read(ready.key, ready.reads_short, now);
        }
        self.settle_one(ready.key, poller)
    }

    fn read(&mut self, key: Key, reads_short: bool, now: Instant) {
        let Some(member) = self.roster.get(key) else { return };
        let (line, session) = (&mut member.socket, &mut member.session);
        match &self.desk {
            None => {
                line.read(session, &mut self.scratch, reads_short, now);
                self.roster.handle_events(key, now);
            }
            Some(desk) => {
                let (bytes, has_ended) = line.collect(session, &mut self.scratch, reads_short);
                if !bytes.is_empty() || has_ended {
                    let session = self.roster.send_away(key, now);
                    desk.submit(Job { key, session, bytes, has_ended, now });
                }
            }
        }
    }

    /// Does what is due: for each connection after what it can write is written and what lies in its socket is read, however late this loop is,
    /// since that may be what its client had to do in time. `heard`: as [`Roster::expire_exchange`] has it.
    pub(crate) fn expire(&mut self, now: Instant, heard: Option<Instant>) {
        while let Some(key) = self.roster.next_due(now) {
            if let Some(member) = self.roster.get(key)
                && member.is_due(now)
            {
                member.socket.write(&mut member.session);
                self.read(key, true, now);
            }
            self.roster.time_out(key, now);
        }
        self.roster.expire_exchange(now, heard);
    }

    /// Takes back the sessions that the pool has done with.
    pub(crate) fn take_back(&mut self, now: Instant, poller: &mut impl Poller) -> io::Result<()> {
        let done = self.desk.as_mut().map(Desk::collect).unwrap_or_default();
        for done in done {
            self.roster.take_back(done.key, done.session, now);
            self.settle_one(done.key, poller)?;
        }
        Ok(())
    }

    /// Writes to every line that was touched and to all subscribers what was published, and tells the poller what each waits for now.
    pub(crate) fn settle(&mut self, now: Instant, poller: &mut impl Poller) -> io::Result<()> {
        loop {
            self.settle_touched(poller)?;
            self.roster.spread(now, |_, line, session, piece| line.write_published(session, piece));
            self.roster.handle_asked(now);
            // A long poll that has been answered may have another request behind it, and so on.
            self.roster.receive_published(false, now);
            if self.roster.is_settled() {
                return Ok(());
            }
        }
    }

    fn settle_touched(&mut self, poller: &mut impl Poller) -> io::Result<()> {
        while let Some(key) = self.roster.next_touched() {
            self.settle_one(key, poller)?;
        }
        Ok(())
    }

    fn settle_one(&mut self, key: Key, poller: &mut impl Poller) -> io::Result<()> {
        let Some(member) = self.roster.get(key).filter(|member| !member.is_away()) else { return Ok(()) };
        let (line, session) = (&mut member.socket, &mut member.session);
        line.write(session);
        let wants = session.wants();
        let interest = Interest { read: wants.read, write: wants.write };
        if line.is_broken || session.is_over() {
            let line = self.roster.remove(key);
            return match line.watched {
                Some(_) => poller.unwatch(key, line.stream.as_fd()),
                None => Ok(()),
            };
        }
        match line.watched {
            None => poller.watch(key, line.stream.as_fd(), interest)?,
            Some(before) if before != interest || (line.has_unread && interest.read) => {
                poller.rewatch(key, line.stream.as_fd(), interest)?;
                line.has_unread = false;
            }
            Some(_) => {}
        }
        line.watched = Some(interest);
        self.roster.note_deadline(key);
        Ok(())
    }

    pub(crate) fn tally(&self) -> Tally {
        self.roster.tally()
    }
}
