//! What is sent, and when: in a closed loop in the place of what came back, in an open loop by the clock.

use std::io::ErrorKind;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{Expiration, TimerSetTimeFlags};

use super::{LOOK_UP, Shared, Window, Worker};
use crate::connect;
use crate::line::{Line, Stage};
use crate::recorder::Traffic;
use crate::schedule::{Schedule, Slots};
use crate::target::Mechanism;

/// How long before a message is due the loop stays awake: setting the alarm and waking up takes about that.
const AWAKE: Duration = Duration::from_micros(20);

/// Messages that are sent before what has come is looked at again: a schedule that cannot be kept must not keep
/// anybody from reading.
const SENDS_PER_TURN: usize = 64;

/// How often a datagram receiver says that it is still there; a server forgets it after 30 s.
const ANNOUNCE_EVERY_NS: u64 = 10_000_000_000;

/// Announcements in one go: more would overrun the server's receive buffer.
const ANNOUNCE_AT_ONCE: usize = 64;

impl Worker {
    /// Sends the first messages: in a closed loop as many as may be in flight, in an open loop those due.
    pub(super) fn begin(&mut self, start_ns: u64) {
        self.has_begun = true;
        self.begin_again(start_ns);
        self.now = self.shared.now_ns();
        let is_broadcast = self.shared.target.mechanism.is_broadcast();
        // One schedule for all loops. A broadcast is published by the first of them; of echoes each takes the slots of its own connections.
        let plan = &self.shared.plan;
        let schedule = plan.rate_per_s.map(|rate| Schedule::with_arrivals(start_ns, rate, plan.arrivals));
        self.schedule = match is_broadcast {
            true => schedule.filter(|_| self.index == 0),
            false => schedule.zip(self.slots(&self.talkers)).map(|(schedule, slots)| schedule.taking(slots)),
        };
        if let Some(every) = plan.every {
            // All connections of all loops together ask in equal steps.
            let is_poller = |(_, line): &(usize, &Line)| line.stage == Stage::Open && !line.is_publisher;
            self.pollers = self.lines.iter().enumerate().filter(is_poller).map(|(index, _)| index).collect();
            let slots = self.slots(&self.pollers);
            let count = self.shared.talkers().len();
            self.polls = slots.map(|slots| Schedule::in_turn(start_ns, every, count).taking(slots));
        }
        // Connections that come and go are opened from now on.
        if plan.churn
            && let (Some(rate), slots) = (plan.connect_rate_per_s, Slots::every(plan.threads, self.index))
        {
            self.pace = Some(Schedule::new(start_ns, rate).taking(slots));
        }
        if is_broadcast {
            return self.publish_more();
        }
        if self.shared.plan.churn {
            return self.fill_vacant();
        }
        for place in 0..self.talkers.len() {
            let index = self.talkers[place];
            self.refill(index);
            self.flush(index);
        }
    }

    /// The slots of some of this worker's connections, in the order in which those of all workers have their turn. `None`: it has none.
    fn slots(&self, mine: &[usize]) -> Option<Slots> {
        let all = self.shared.talkers();
        let place = |index: &usize| all.binary_search(&self.lines[*index].id).ok().map(|place| place as u32);
        let places: Vec<u32> = mine.iter().filter_map(place).collect();
        (!places.is_empty()).then(|| Slots::of(places, all.len()))
    }

    /// The one message of a connection that comes and goes. It counts from when the connection was begun.
    pub(super) fn say_something(&mut self, index: usize) {
        if self.shared.plan.churn {
            self.send(index, self.lines[index].since_ns);
            self.flush(index);
        }
    }

    /// Sends and asks what is due by the clock. Returns how long nothing will be.
    pub(super) fn send_due(&mut self) -> Duration {
        let next = [self.send_scheduled(), self.ask_scheduled(), self.next_opening_ns()];
        let next = next.into_iter().flatten().min();
        self.set_alarm(next)
    }

    /// Asks what is due by the clock, when nothing is sent any more.
    pub(super) fn ask_due(&mut self) -> Duration {
        let next = self.ask_scheduled();
        self.set_alarm(next)
    }

    /// Sends what is due in an open loop. Returns when something will be again.
    fn send_scheduled(&mut self) -> Option<u64> {
        let mut schedule = self.schedule.take()?;
        let now = self.shared.now_ns();
        self.now = now;
        let is_broadcast = self.shared.target.mechanism.is_broadcast();
        self.pass_over(&mut schedule, now);
        let mut sent = 0;
        if is_broadcast {
            while sent < SENDS_PER_TURN
                && self.may_publish(u64::MAX)
                && let Some(due) = schedule.take(now)
            {
                sent += 1;
                self.take_note(due);
                self.publish(due);
            }
        } else {
            while sent < SENDS_PER_TURN
                && let Some(index) = self.next_in_turn()
                && let Some(due) = schedule.take(now)
            {
                sent += 1;
                self.take_note(due);
                self.send(index, due);
                self.flush(index);
                self.turn += 1;
            }
        }
        // Unless nobody is left who could send.
        let next = (is_broadcast || self.next_in_turn().is_some()).then(|| schedule.next_ns());
        self.schedule = Some(schedule);
        next
    }

    /// Asks what is new on the connections whose time has come. Returns when that of the next one will.
    fn ask_scheduled(&mut self) -> Option<u64> {
        let mut polls = self.polls.take()?;
        self.now = self.shared.now_ns();
        for _ in 0..SENDS_PER_TURN {
            let Some(due) = polls.take(self.now) else { break };
            let index = self.pollers[self.poll_turn];
            self.poll_turn = (self.poll_turn + 1) % self.pollers.len();
            if self.lines[index].stage != Stage::Open {
                self.comes_in_turn(index);
                continue;
            }
            let is_asked = self.lines[index].ask();
            if self.window.is_some_and(|window| window.contains(due)) {
                self.recorder.polls_due += 1;
                self.recorder.polls_skipped += u64::from(!is_asked);
            }
            self.flush(index);
        }
        let next = polls.next_ns();
        self.polls = Some(polls);
        Some(next)
    }

    /// Sees to it that the loop is awake at `next_ns`. Returns how long it may wait for anything else.
    fn set_alarm(&mut self, next_ns: Option<u64>) -> Duration {
        let Some(next_ns) = next_ns else { return LOOK_UP };
        let left = Duration::from_nanos(next_ns.saturating_sub(self.shared.now_ns()));
        if left <= AWAKE {
            return Duration::ZERO;
        }
        let next = TimeSpec::from_duration(left);
        match self.alarm.set(Expiration::OneShot(next), TimerSetTimeFlags::empty()) {
            Ok(()) => LOOK_UP,
            Err(_) => Duration::ZERO,
        }
    }

    /// Sends in a closed loop as many messages on a connection as may be in flight.
    pub(super) fn refill(&mut self, index: usize) {
        let is_closed_loop = self.shared.plan.rate_per_s.is_none();
        let Shared { plan, target, .. } = &*self.shared;
        if !is_closed_loop || !self.is_sending() || target.mechanism.is_broadcast() || plan.churn {
            return;
        }
        if !plan.is_active(self.lines[index].id) {
            return;
        }
        let depth = self.shared.plan.depth as u64;
        while self.lines[index].stage == Stage::Open && self.lines[index].in_flight() < depth {
            self.send(index, self.now);
        }
    }

    /// Publishes as much as a closed loop allows. Only the worker that has connection 0 does.
    pub(super) fn publish_more(&mut self) {
        let is_closed_loop = self.shared.plan.rate_per_s.is_none();
        while is_closed_loop && self.is_sending() && self.may_publish(self.shared.plan.depth as u64) {
            self.publish(self.now);
        }
    }

    /// Lets the worker that publishes know that a message is complete.
    pub(super) fn tell_publisher(&mut self) {
        if self.index == 0 {
            self.publish_more();
        } else if let Some(waker) = self.shared.publisher.get() {
            // It fails only when that worker has ended.
            let _ = waker.wake();
        }
    }

    /// Writes what a connection has queued.
    pub(super) fn flush(&mut self, index: usize) {
        if self.lines[index].stage == Stage::Gone {
            return;
        }
        match self.lines[index].flush() {
            Ok(written) if self.is_measured() => self.traffic_from(index).bytes_sent += written,
            Ok(_) => {}
            Err(error) => self.gone(index, connect::kind(&error)),
        }
    }

    /// Where is counted what a connection sends. In a broadcast the one that publishes may also be one that hears: what it sends is the publisher's.
    fn traffic_from(&mut self, index: usize) -> &mut Traffic {
        let line = &self.lines[index];
        let publishes = line.is_publisher
            || line.id == 0
                && self.shared.target.mechanism.is_broadcast()
                && self.shared.target.publisher.is_none();
        if publishes { &mut self.recorder.publisher } else { &mut self.recorder.traffic }
    }

    /// Does what is due every now and then: gives up on connections and datagrams, announces receivers.
    pub(super) fn time_out(&mut self, now: u64) {
        let patience = self.shared.plan.patience.as_nanos() as u64;
        let mechanism = self.shared.target.mechanism;
        let is_churn = self.shared.plan.churn;
        let message_patience = self.message_patience_ns();
        let next_address = connect::NEXT_ADDRESS.as_nanos() as u64;
        if self.opening > 0 || is_churn {
            for index in 0..self.lines.len() {
                let is_old = now.saturating_sub(self.lines[index].since_ns) > 2 * patience;
                match self.lines[index].stage {
                    // It has done its work; that the server does not end it is not held against it.
                    Stage::Closing if is_old => self.end(index),
                    Stage::Open
                        if is_churn && now.saturating_sub(self.lines[index].since_ns) > message_patience =>
                    {
                        let patience = Duration::from_millis(message_patience / 1_000_000);
                        self.gone(index, format!("no answer within {patience:?}"));
                    }
                    Stage::Connecting(since) if now.saturating_sub(since) > next_address => {
                        self.tries_next_address(index);
                    }
                    _ => {}
                }
                if let Stage::Connecting(since) | Stage::Upgrading(since) = self.lines[index].stage
                    && now.saturating_sub(since) > 2 * patience
                {
                    self.gone(index, format!("no answer within {:?}", 2 * self.shared.plan.patience));
                }
            }
        }
        let datagram_patience = self.shared.plan.datagram_timeout.as_nanos() as u64;
        if mechanism.is_broadcast() {
            let patience = if mechanism.is_datagram() { datagram_patience } else { message_patience };
            self.give_up_published(now, patience);
        } else if mechanism.is_datagram() {
            self.now = now;
            for index in 0..self.lines.len() {
                let mut given_up = 0;
                while let Some(sent_ns) = self.lines[index].give_up(now, datagram_patience) {
                    given_up += 1;
                    self.recorder.in_flight_ns +=
                        self.window.map_or(0, |window| window.overlap(sent_ns, now));
                }
                if given_up > 0 {
                    self.refill(index);
                }
            }
        }
        if mechanism.is_broadcast() && mechanism.is_datagram() {
            self.announce(now);
        }
        self.lose_patience(now);
    }

    /// Whether something that was sent may still come back.
    pub(super) fn is_waiting(&self) -> bool {
        match self.shared.target.mechanism.is_broadcast() {
            true if self.again.is_some() => self.is_catching_up(),
            true => self.shared.board.in_flight() > 0,
            false => self.lines.iter().any(|line| match line.stage {
                Stage::Open => line.in_flight() > 0,
                // Of connections that come and go, those that are on their way.
                Stage::Connecting(_) | Stage::Upgrading(_) | Stage::Closing => true,
                Stage::Gone => false,
            }),
        }
    }

    /// Counts what has not come.
    pub(super) fn judge(&mut self, window: Window) {
        self.is_judged = true;
        if let Some(schedule) = &self.schedule {
            self.recorder.due = schedule.due_between(window.open_ns, window.close_ns);
        }
        self.judge_again(window);
        let published = self.shared.board.published();
        for line in &self.lines {
            if line.heard > 0 {
                self.recorder.fairness.add(line.waited_ns as f64 / line.heard as f64);
            }
            if self.again.is_some() {
                continue;
            }
            self.recorder.lost += match self.shared.target.mechanism.is_broadcast() {
                // Who has left was promised nothing more; that it left is counted by itself. Who does not read has not lost
                // anything either.
                _ if line.is_publisher => 0,
                true if line.stage == Stage::Gone || self.shared.plan.is_slow(line.id) => 0,
                true => line.sequence.lost(published),
                false => line.sequence.lost(line.sent),
            };
        }
    }

    /// Closes what is open, politely.
    pub(super) fn say_goodbye(&mut self) {
        for index in 0..self.lines.len() {
            if self.lines[index].stage == Stage::Open {
                self.lines[index].say_goodbye();
                self.flush(index);
            }
        }
    }

    /// Whether bytes that are read or written now belong to the window.
    pub(super) fn is_measured(&self) -> bool {
        self.window.is_some_and(|window| window.contains(self.now))
    }

    pub(super) fn is_sending(&self) -> bool {
        self.has_begun && self.window.is_none_or(|window| self.now < window.close_ns)
    }

    /// Sends a message that counts from `sent_ns`. Of datagrams and requests it is remembered when they were sent.
    fn send(&mut self, index: usize, sent_ns: u64) {
        let payload_bytes = self.shared.plan.payload_bytes;
        let mechanism = self.shared.target.mechanism;
        if mechanism.is_request() {
            let line = &mut self.lines[index];
            line.under_way.push_back((line.sent, sent_ns));
        }
        if mechanism == Mechanism::UdpEcho {
            let line = &mut self.lines[index];
            line.under_way.push_back((line.sent, self.now));
        }
        match self.lines[index].send(self.shared.run, payload_bytes, sent_ns, &mut self.workspace) {
            // Somebody's closed port refused a datagram: that says nothing about the next one.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused && mechanism.is_datagram() => {
                self.datagram_refused(index);
            }
            // What goes over a connection is counted when it is written.
            Ok(()) if mechanism.is_datagram() && self.is_measured() => {
                self.traffic_from(index).bytes_sent += payload_bytes as u64;
            }
            Ok(()) => {}
            Err(error) => self.gone(index, connect::kind(&error)),
        }
    }

    /// Counts a message of an open loop that is about to be sent.
    fn take_note(&mut self, due_ns: u64) {
        self.now = self.shared.now_ns();
        if let Some(window) = self.window.filter(|window| window.contains(self.now)) {
            self.recorder.sent += u64::from(window.contains(due_ns));
            self.recorder.lateness.record(self.now - due_ns);
        }
    }

    /// The open connection whose turn it is in an open loop.
    fn next_in_turn(&mut self) -> Option<usize> {
        let count = self.talkers.len();
        let is_open = |turn: &usize| self.lines[self.talkers[turn % count]].stage == Stage::Open;
        let place = (self.turn..self.turn + count).find(is_open)?;
        self.turn = place;
        Some(self.talkers[place % count])
    }

    /// Whether connection 0 may publish one more, with `depth` under way at the most.
    fn may_publish(&self, depth: u64) -> bool {
        let board = &self.shared.board;
        let is_publisher = self.lines.first().is_some_and(|line| line.id == 0 && line.stage == Stage::Open);
        is_publisher && board.has_room() && board.in_flight() < depth
    }

    fn publish(&mut self, sent_ns: u64) {
        let number = self.shared.board.published();
        let slot = (number % self.published_at.len() as u64) as usize;
        self.published_at[slot] = self.now.max(sent_ns);
        self.has_sent();
        self.shared.board.publish();
        self.recorder.published += u64::from(self.is_measured());
        self.send(0, sent_ns);
        self.flush(0);
    }

    /// Waits no longer for those published messages that take too long.
    fn give_up_published(&mut self, now: u64, patience: u64) {
        if self.index != 0 {
            return;
        }
        let published = self.shared.board.published();
        let slots = self.published_at.len() as u64;
        self.oldest = self.oldest.max(published.saturating_sub(slots));
        let mut has_given_up = false;
        while self.oldest < published
            && now.saturating_sub(self.published_at[(self.oldest % slots) as usize]) > patience
        {
            has_given_up |= self.shared.board.give_up(self.oldest);
            self.oldest += 1;
        }
        if has_given_up {
            self.now = now;
            self.publish_more();
        }
    }

    fn announce(&mut self, now: u64) {
        if now < self.next_announce_ns {
            return;
        }
        self.next_announce_ns = now + ANNOUNCE_EVERY_NS;
        for lines in self.lines.chunks(ANNOUNCE_AT_ONCE) {
            lines.iter().for_each(|line| line.announce());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
