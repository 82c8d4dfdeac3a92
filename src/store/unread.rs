//! The `.unread` files: answers that could not be parsed, or that are for another account, kept for the
//! operator.
//!
//! Such an answer may hold the only copy of a new refresh token. It is kept before the journal is
//! emptied ([`super::locked_journal`]), in the form of the journal. A logout, a sign-in and the
//! next successful refresh remove it.

use std::{ffi::OsString, io, path::PathBuf};

use super::{
    StoreError,
    error::failed,
    journal,
    location::Location,
    locked_journal::MAX_JOURNAL,
    paths::{Paths, tenant_of_unread},
};
use crate::{
    ids::Tenant,
    session::journal::{Answer, Journal},
    sys::disk::Open,
};

/// A `.unread` file.
#[derive(Debug)]
pub(super) struct UnreadFile {
    pub(super) path: PathBuf,
    pub(super) tenant: Tenant,
    /// Its answer; an error if the file is damaged.
    pub(super) answer: Result<Answer, StoreError>,
}

/// Returns the `.unread` files of the store at `paths`, ordered by name.
pub(super) fn list(location: &Location, paths: &Paths) -> Result<Vec<UnreadFile>, StoreError> {
    let folder = paths.tenant_locks();
    let mut names = match location.disk.list(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names.map_err(failed("cannot read", &folder))?,
    };
    names.sort();
    let file = |name: OsString| {
        let tenant = tenant_of_unread(&name)?;
        let path = folder.join(name);
        let answer = read(location, path.clone());
        Some(UnreadFile { path, tenant, answer })
    };
    Ok(names.into_iter().filter_map(file).collect())
}

/// Returns the tenants that have such a file.
pub(super) fn tenants(location: &Location) -> Result<Vec<Tenant>, StoreError> {
    let folder = location.locate()?.tenant_locks();
    match location.disk.list(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => {
            let names = names.map_err(failed("cannot read", &folder))?;
            Ok(names.iter().filter_map(|name| tenant_of_unread(name)).collect())
        }
    }
}

fn read(location: &Location, path: PathBuf) -> Result<Answer, StoreError> {
    let file = location.disk.open(&path, Open::Read).map_err(failed("cannot read", &path))?;
    let bytes = file.read(MAX_JOURNAL).map_err(failed("cannot read", &path))?;
    match journal::read(&path, &bytes)?.journal {
        Journal::Answered(_, answer) => Ok(answer),
        Journal::Empty | Journal::Intended(_) => {
            Err(StoreError::Unsuitable { path, what: "it holds no whole answer".to_owned() })
        }
    }
}
