//! Whether users may choose among agents.

/// Whether users may choose among agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HasAgents {
    /// There is none, or one without a name.
    One,
    /// The agents have names.
    Several,
}
