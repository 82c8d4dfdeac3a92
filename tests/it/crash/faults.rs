//! The ways in which programs end, and the steps that sabotage leaves out.

/// The durability of an answer in its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// Every reader finds it, until a power cut.
    Volatile,
    /// The program relies on its durability.
    Durable,
}

/// The end of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// The number of the call at which it ends, counted from now, starting at 1.
    pub(super) at: u64,
    /// Whether that call still takes effect. A write that does not takes effect in part.
    pub(super) when: When,
    /// Whether all other processes end too, and unsynced data is at stake.
    pub(super) how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Before,
    After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Kill,
    PowerCut,
}

/// The step that a disk or a program leaves out, to show that the walk notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sabotage {
    Nothing,
    FolderSync,
    JournalSync,
    SignInJournalSync,
    /// The sign-in's journal is emptied as soon as it is written, and not after the commit.
    SignInJournalKept,
    StoreSync,
    GlobalLock,
    TenantLock,
    SignInLock,
}
