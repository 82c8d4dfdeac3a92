//! A worker's own folders: its home, its temporary files, and where it works. Private to the user that runs the bot.

use std::path::{Path, PathBuf};

use super::{Conversation, PromptError};
use crate::sys::{files, sandbox};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Folders {
    /// All of it.
    pub(super) own: PathBuf,
    /// `HOME`.
    pub(super) home: PathBuf,
    /// `TMPDIR`.
    pub(super) tmp: PathBuf,
    /// Where it works.
    pub(super) work: PathBuf,
}

impl Folders {
    /// Those of one conversation, for one owner: in a direct message between two people that both may use, each has a worker in turn,
    /// and what the one's has written is not for the other. Touches the disk, so not for an async thread.
    pub(super) fn make(root: &Path, conversation: &Conversation) -> Result<Self, PromptError> {
        let made = |path: PathBuf| match files::create_private_folder(&path) {
            Ok(()) => Ok(path),
            Err(source) => Err(PromptError::Folder { path, source }),
        };
        made(root.to_owned())?;
        let root =
            sandbox::resolve(root).map_err(|source| PromptError::Folder { path: root.to_owned(), source })?;
        let own = made(root.join(format!("{}-{}", conversation.id.0, conversation.owner)))?;
        Ok(Self {
            home: made(own.join("home"))?,
            tmp: made(own.join("tmp"))?,
            work: made(own.join("cwd"))?,
            own,
        })
    }
}
