//! The environment variables and the paths in them.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::PathBuf,
};

/// The environment variables of the process, or of a test.
pub type Variables = BTreeMap<OsString, OsString>;

/// Returns a base folder of the XDG Base Directory Specification: the variable `name`, or else
/// `below_home`. A relative path is ignored, as the specification demands.
pub(super) fn xdg_folder(variables: &Variables, name: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name| path_variable(variables, name).filter(|path| path.is_absolute());
    absolute(name).or_else(|| Some(absolute("HOME")?.join(below_home)))
}

/// Returns the path in a variable, if the variable is set and not empty.
pub(super) fn path_variable(variables: &Variables, name: &str) -> Option<PathBuf> {
    let value = variables.get(OsStr::new(name))?;
    (!value.is_empty()).then(|| value.into())
}
