use serde::{Deserialize, Serialize};

/// One connection as whoever holds it names it; nothing follows from the number.
///
/// A name may be used again once its connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port(pub u64);
