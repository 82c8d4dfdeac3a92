//! The commands of `[hooks]`: whether their programs exist.

use std::ffi::OsStr;

use super::{Finding, Verdict};
use crate::hooks::HookSettings;

/// Returns a finding for each hook. Programs are searched in the folders of `path`.
pub(super) fn check(settings: &HookSettings, path: &OsStr) -> Vec<Finding> {
    let findings = settings.programs(path).map(|(hook, program, found)| match found {
        Ok(found) => Finding::new("hook", Verdict::Ok, format!("{hook}: {}", found.display())),
        Err(error) => {
            let text = format!(
                "hooks.{hook}: {program:?} cannot be started: {error}. Write the whole path of the program, or correct PATH"
            );
            Finding::new("hook", Verdict::Fail, text)
        }
    });
    findings.collect()
}
