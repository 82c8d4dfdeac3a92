//! `ca_file`: certificate authorities besides those of the system.

use std::path::Path;

use super::{ConfigError, source::Source};
use crate::{net::Trust, sys::files};

/// Reads the file that `ca_file` of a section names. Without the key the system's authorities
/// alone are trusted.
pub(super) fn with_file(
    source: &Source<'_>,
    section: &[&str],
    file: Option<&Path>,
) -> Result<Trust, ConfigError> {
    let Some(file) = file.filter(|file| !file.as_os_str().is_empty()) else { return Ok(Trust::default()) };
    let path = source.absolute(file);
    let error = |problem: String| {
        let key: Vec<&str> = section.iter().copied().chain(["ca_file"]).collect();
        let problem = format!("the file {}, which {} names, {problem}", path.display(), key.join("."));
        source.error_at(&key, problem)
    };
    let bytes = files::read_bytes(&path)
        .map_err(|cause| error(format!("cannot be read: {cause}. Correct the path or the file's mode")))?;
    Trust::with_pem(&bytes).map_err(|cause| error(cause.to_string()))
}
