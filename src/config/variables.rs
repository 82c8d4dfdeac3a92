//! The environment, and the paths that are in it.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::PathBuf,
};

/// The process's environment, or a test's.
pub type Variables = BTreeMap<OsString, OsString>;

/// A base folder of the XDG Base Directory Specification; relative ones are ignored, as it asks.
pub(super) fn xdg(variables: &Variables, name: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name| variable(variables, name).filter(|path| path.is_absolute());
    absolute(name).or_else(|| Some(absolute("HOME")?.join(below_home)))
}

/// The path that a variable names, if it names one.
pub(super) fn variable(variables: &Variables, name: &str) -> Option<PathBuf> {
    let value = variables.get(OsStr::new(name))?;
    (!value.is_empty()).then(|| value.into())
}
