use std::fmt;

use switchboard_proto::Counts;

/// What a server did in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    /// Connections served; refused ones are not among them.
    pub connections: u64,
    /// Data messages or datagrams received.
    pub messages: u64,
    /// Payload bytes of those.
    pub bytes: u64,
    /// Connections answered with 503 because a limit was reached.
    pub refused: u64,
    /// Subscribers closed with 1013 because they did not read; datagrams that could not be sent.
    pub dropped: u64,
    /// Datagrams longer than the limit, which were not returned.
    pub truncated: u64,
    /// Connections that ended because their worker process died. What they had counted is lost with them.
    pub lost: u64,
}

impl Tally {
    /// What two workers did together.
    pub(crate) fn plus(self, other: Tally) -> Tally {
        Tally {
            connections: self.connections + other.connections,
            messages: self.messages + other.messages,
            bytes: self.bytes + other.bytes,
            refused: self.refused + other.refused,
            dropped: self.dropped + other.dropped,
            truncated: self.truncated + other.truncated,
            lost: self.lost + other.lost,
        }
    }

    /// Adds what one session counted.
    pub(crate) fn add(&mut self, counts: Counts) {
        self.messages += counts.messages;
        self.bytes += counts.bytes;
        self.dropped += u64::from(counts.is_dropped);
        self.refused += u64::from(counts.is_refused);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { connections, messages, bytes, refused, dropped, truncated, lost } = self;
        write!(
            f,
            "{connections} connections, {messages} messages, {bytes} bytes, {refused} refused, {dropped} dropped"
        )?;
        if *truncated > 0 {
            write!(f, ", {truncated} truncated")?;
        }
        if *lost > 0 {
            write!(f, ", {lost} lost with their worker")?;
        }
        Ok(())
    }
}
