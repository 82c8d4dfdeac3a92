//! `[hooks]`: the commands that run after events of logins.

use std::collections::BTreeMap;

use super::{ConfigError, file::HooksSection, source::Source};
use crate::hooks::{Hook, HookSettings};

/// Builds the commands. `doctor` finds out whether their programs exist.
pub(super) fn settings(source: &Source<'_>, section: HooksSection) -> Result<HookSettings, ConfigError> {
    let HooksSection { ended, stuck, recovered, signed_in, shared_login_changed } = section;
    let commands = [ended, stuck, recovered, signed_in, shared_login_changed];
    let mut settings = BTreeMap::new();
    for (hook, command) in Hook::ALL.into_iter().zip(commands) {
        let Some(command) = command else { continue };
        let problem = match command.first() {
            None => "it needs a program, as in [\"/usr/local/bin/notify\"]: without a hook, remove the line",
            Some(program) if program.trim().is_empty() => "the name of the program is empty",
            Some(_) if command.iter().any(|part| part.contains('\0')) => "a command cannot have a zero byte",
            Some(_) => {
                settings.insert(hook, command);
                continue;
            }
        };
        return Err(source.error_at(&["hooks", hook.name()], format!("hooks.{hook}: {problem}")));
    }
    Ok(HookSettings(settings))
}
