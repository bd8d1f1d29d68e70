//! Socket.IO v5 as a server speaks it.

/// The namespaces that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Namespace {
    /// `/`
    Main,
    /// `/custom`
    Custom,
}
