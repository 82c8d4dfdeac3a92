//! `[agent]`: how workers are run, and what is kept from them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{ConfigError, file::AgentSection, source::Source, variables::xdg, words::closest};
use crate::{
    agent::{AgentSettings, Isolation},
    api::ApiSettings,
    ids::ProviderId,
    oauth::Providers,
};

/// The most workers that can be asked for.
const MAX_WORKERS: usize = 128;
const DEFAULT_WORKERS: usize = 24;
const DEFAULT_IDLE: Duration = Duration::from_secs(30 * 60);
const DEFAULT_START_WITHIN: Duration = Duration::from_secs(30);
const MAX_START_WITHIN: Duration = Duration::from_secs(600);

/// What the section asks for. Workers are kept from `deny` and from the configuration.
pub(super) fn settings(
    source: &Source<'_>,
    section: AgentSection,
    providers: &Providers,
    api: &ApiSettings,
    mut deny: Vec<PathBuf>,
) -> Result<AgentSettings, ConfigError> {
    let about = |key: &str, what: &str| source.about(&["agent", key], format!("agent.{key} {what}"));
    let mut command = section.command;
    match command.first_mut() {
        Some(program) if !program.is_empty() => {
            if program.contains('/') {
                *program = source.absolute(Path::new(program)).to_string_lossy().into_owned();
            }
        }
        _ => {
            return Err(about(
                "command",
                "is needed: the program and its arguments, for example [\"codex-acp\"]",
            ));
        }
    }
    let named = section.providers.ok_or_else(|| {
        about("providers", "is needed: the providers whose tokens agents may use, for example [\"acme\"]")
    })?;
    let max_workers = section.max_workers.unwrap_or(DEFAULT_WORKERS);
    if !(1..=MAX_WORKERS).contains(&max_workers) {
        return Err(about("max_workers", &format!("is from 1 to {MAX_WORKERS}")));
    }
    let start_within = section.start_within.map_or(DEFAULT_START_WITHIN, |span| span.0);
    if start_within.is_zero() || start_within > MAX_START_WITHIN {
        return Err(about("start_within", "is from 1s to 10m"));
    }
    let idle = section.idle.map_or(DEFAULT_IDLE, |span| span.0);
    if idle.is_zero() {
        return Err(about("idle", "is at least 1s"));
    }
    deny.push(source.path.clone());
    let root = section.root.map(|root| source.absolute(&root));
    let default =
        || xdg(source.variables, "XDG_STATE_HOME", ".local/state").map(|d| d.join("threadkey/workers"));
    Ok(AgentSettings {
        command,
        providers: allowed(source, named, providers)?,
        isolation: isolation(source, section.isolation.as_deref())?,
        env: section.env,
        root: root
            .or_else(default)
            .ok_or_else(|| about("root", "is needed, because HOME is not set either"))?,
        socket: api.socket.clone(),
        read: section.read.iter().map(|path| source.absolute(path)).collect(),
        deny,
        max_workers,
        idle,
        start_within,
    })
}

/// The providers whose tokens agents may ask for, of those that there are.
fn allowed(
    source: &Source<'_>,
    named: Vec<String>,
    providers: &Providers,
) -> Result<Vec<ProviderId>, ConfigError> {
    let known = || providers.ids().map(ProviderId::as_str);
    let check = |name: String| match name.parse::<ProviderId>() {
        Ok(id) if providers.get(&id).is_some() => Ok(id),
        _ => {
            let meant = closest(&name, known()).map(|meant| format!("; did you mean {meant:?}?"));
            let what = format!(
                "agent.providers: there is no provider {name:?}{}",
                meant.unwrap_or_else(|| format!("; there are: {}", known().collect::<Vec<_>>().join(", ")))
            );
            Err(source.about(&["agent", "providers"], what))
        }
    };
    named.into_iter().map(check).collect()
}

fn isolation(source: &Source<'_>, text: Option<&str>) -> Result<Isolation, ConfigError> {
    let about = |what: &str| Err(source.about(&["agent", "isolation"], format!("agent.isolation {what}")));
    match text {
        None | Some("auto") => Ok(Isolation::Auto),
        Some("landlock") => Ok(Isolation::Landlock),
        Some("none") => Ok(Isolation::None),
        Some(later @ ("uid" | "seatbelt")) => {
            about(&format!("{later:?}: this version of threadkey does not have it yet; use \"auto\""))
        }
        Some(_) => about("is \"auto\", \"landlock\" or \"none\""),
    }
}
