//! How programs end, what they leave out, and what they leave behind.

/// How safe an answer is in its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Whoever looks finds it, until a power cut.
    Volatile,
    /// A program believes it to be durable.
    Durable,
}

/// How a process ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// At which of its calls from now on, from 1.
    pub(super) at: u64,
    /// Whether that call still takes effect; a write does so in part otherwise.
    pub(super) when: When,
    /// Whether all others end with it, and what was not synced is at stake.
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

/// What a disk or a program leaves out, to show that the walk notices.
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
