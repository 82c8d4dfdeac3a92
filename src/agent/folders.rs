//! A worker's own folders: its home, its temporary files and its working folder. They are private
//! to the bot's system user.

use std::path::{Path, PathBuf};

use super::{Conversation, PromptError};
use crate::sys::{files, sandbox};

/// The folders of one conversation and owner.
#[derive(Clone, Debug)]
pub(super) struct Folders {
    /// The folder that holds the others.
    pub(super) own: PathBuf,
    /// `HOME`.
    pub(super) home: PathBuf,
    /// `TMPDIR`.
    pub(super) tmp: PathBuf,
    /// The working folder.
    pub(super) work: PathBuf,
}

impl Folders {
    /// Creates the folders of one conversation and owner.
    ///
    /// The owner is part of the folder's name, because a conversation can have two owners: two
    /// users may share a direct message and both prompt in it. Each of them has a worker in turn,
    /// and the files of one owner's worker must stay hidden from the other owner.
    ///
    /// This touches the disk, so async threads must not call it.
    pub(super) fn create(root: &Path, conversation: &Conversation) -> Result<Self, PromptError> {
        let created = |path: PathBuf| match files::create_private_folder(&path) {
            Ok(()) => Ok(path),
            Err(source) => Err(PromptError::Folder { path, source }),
        };
        created(root.to_owned())?;
        let root =
            sandbox::resolve(root).map_err(|source| PromptError::Folder { path: root.to_owned(), source })?;
        let own = created(root.join(format!("{}-{}", conversation.id.0, conversation.owner)))?;
        Ok(Self {
            home: created(own.join("home"))?,
            tmp: created(own.join("tmp"))?,
            work: created(own.join("cwd"))?,
            own,
        })
    }
}
