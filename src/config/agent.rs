//! `[agent]`: the settings of the workers, and the files that workers must not read.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    ConfigError,
    file::{AgentSection, ConfigDuration},
    source::Source,
    variables::xdg_folder,
};
use crate::{
    agent::{
        AgentSettings, CAPABILITY_VARIABLE, Isolation, Placeholders, SOCKET_VARIABLE, WorkerLimits,
        builtin::{PROVIDER_VARIABLE, USERINFO_VARIABLE, resource_address},
        check_placeholders, example_socket,
    },
    api::ApiSettings,
    ids::{ProviderId, closest},
    oauth::Providers,
};

const MAX_WORKERS: usize = 128;
const DEFAULT_WORKERS: usize = 24;
const DEFAULT_WORKERS_PER_USER: usize = 4;
const DEFAULT_IDLE: Duration = Duration::from_secs(30 * 60);
const DEFAULT_KEEP_FILES: Duration = Duration::from_secs(30 * 24 * 3600);
const MIN_KEEP_FILES: Duration = Duration::from_secs(3600);
const DEFAULT_START_WITHIN: Duration = Duration::from_secs(30);
const DEFAULT_MAX_TURN: Duration = Duration::from_secs(60 * 60);
const DEFAULT_MAX_SILENCE: Duration = Duration::from_secs(15 * 60);
const MAX_START_WITHIN: Duration = Duration::from_secs(600);

/// Builds the settings of the section. Workers must not read the paths in `deny`, nor the
/// configuration.
pub(super) fn settings(
    source: &Source<'_>,
    section: AgentSection,
    providers: &Providers,
    api: &ApiSettings,
    mut deny: Vec<PathBuf>,
) -> Result<AgentSettings, ConfigError> {
    let error = |key: &str, problem: &str| source.error_at(&["agent", key], format!("agent.{key} {problem}"));
    let limits = limits(&section, &error)?;
    let mut command = section.command;
    match command.first_mut() {
        Some(program) if !program.is_empty() => {
            if program.contains('/') {
                *program = source.absolute(Path::new(program)).to_string_lossy().into_owned();
            }
        }
        _ => {
            return Err(error(
                "command",
                "is required: the program and its arguments, for example [\"codex-acp\"]",
            ));
        }
    }
    if let Some(secret) = ["{token:", "{capability}", "{inject_secret"].iter().find(|secret| {
        let is_in = |argument: &String| argument.contains(**secret);
        command.iter().any(is_in)
    }) {
        let problem = format!(
            "contains {secret}, which is not filled in there, because other users of the machine can see a program's \
             arguments: put it into a variable of [agent.env]"
        );
        return Err(error("command", &problem));
    }
    let allowed = section.providers.ok_or_else(|| {
        error("providers", "is required: the providers whose tokens agents may use, for example [\"acme\"]")
    })?;
    let max_workers = section.max_workers.unwrap_or(DEFAULT_WORKERS);
    if !(1..=MAX_WORKERS).contains(&max_workers) {
        return Err(error("max_workers", &format!("must be from 1 to {MAX_WORKERS}")));
    }
    let max_workers_per_user = section.max_workers_per_user.unwrap_or(DEFAULT_WORKERS_PER_USER);
    if !(1..=MAX_WORKERS).contains(&max_workers_per_user) {
        return Err(error("max_workers_per_user", &format!("must be from 1 to {MAX_WORKERS}")));
    }
    let start_within = section.start_within.map_or(DEFAULT_START_WITHIN, |duration| duration.0);
    if start_within.is_zero() || start_within > MAX_START_WITHIN {
        return Err(error("start_within", "must be from 1s to 10m"));
    }
    let idle = section.idle.map_or(DEFAULT_IDLE, |duration| duration.0);
    if idle.is_zero() {
        return Err(error("idle", "must be at least 1s"));
    }
    let keep_files = section.keep_files.map_or(DEFAULT_KEEP_FILES, |duration| duration.0);
    if keep_files < MIN_KEEP_FILES {
        return Err(error("keep_files", "must be at least 1h"));
    }
    let providers = allowed_providers(source, allowed, providers)?;
    check_routes(source, api, &providers)?;
    let routes: Vec<_> = api.inject.iter().map(|route| route.name.clone()).collect();
    let known = Placeholders { providers: &providers, routes: &routes, raw_tokens: !api.inject_only };
    check_environment(source, &section.env, &known)?;
    let limit = |key: &str, given: Option<ConfigDuration>, default: Duration| {
        let limit = given.map_or(default, |duration| duration.0);
        if limit.is_zero() { Err(error(key, "must be at least 1s")) } else { Ok(limit) }
    };
    let max_turn = limit("max_turn", section.max_turn, DEFAULT_MAX_TURN)?;
    let max_silence = limit("max_silence", section.max_silence, DEFAULT_MAX_SILENCE)?;
    deny.push(source.path.clone());
    let root = section.root.map(|root| source.absolute(&root));
    let default_root = || {
        xdg_folder(source.variables, "XDG_STATE_HOME", ".local/state").map(|d| d.join("threadkey/workers"))
    };
    let root = root
        .or_else(default_root)
        .ok_or_else(|| error("root", "is required, because HOME is not set either"))?;
    for route in routes.iter().filter(|route| {
        let placeholder = format!("{{inject_socket:{route}}}");
        section.env.values().any(|text| text.contains(&placeholder))
    }) {
        example_socket(&root, route).map_err(|problem| source.error_at(&["agent", "root"], problem))?;
    }
    Ok(AgentSettings {
        command,
        providers,
        isolation: isolation(source, section.isolation.as_deref())?,
        routes,
        env: section.env,
        root,
        socket: api.socket.clone(),
        read: section.read.iter().map(|path| source.absolute(path)).collect(),
        deny,
        max_workers,
        max_workers_per_user,
        limits,
        idle,
        keep_files,
        start_within,
        max_turn,
        max_silence,
    })
}

/// Builds the limits of a worker. Below the smallest values no agent starts.
fn limits(
    section: &AgentSection,
    error: &impl Fn(&str, &str) -> ConfigError,
) -> Result<WorkerLimits, ConfigError> {
    const MIN_BYTES: u64 = 1 << 20;
    let default = WorkerLimits::default();
    let limits = WorkerLimits {
        file_size: section.max_file_size.map_or(default.file_size, |size| size.0),
        open_files: section.max_open_files.unwrap_or(default.open_files),
        memory: section.max_memory.map_or(default.memory, |size| size.0),
        processes: section.max_processes.unwrap_or(default.processes),
    };
    if limits.file_size < MIN_BYTES {
        return Err(error("max_file_size", "must be at least 1MiB"));
    }
    if limits.open_files < 64 {
        return Err(error("max_open_files", "must be at least 64"));
    }
    if limits.memory < 16 * MIN_BYTES {
        return Err(error("max_memory", "must be at least 16MiB"));
    }
    if limits.processes < 16 {
        return Err(error("max_processes", "must be at least 16"));
    }
    Ok(limits)
}

/// Checks the names of the providers whose tokens agents may use.
fn allowed_providers(
    source: &Source<'_>,
    allowed: Vec<String>,
    providers: &Providers,
) -> Result<Vec<ProviderId>, ConfigError> {
    let known = || providers.ids().map(ProviderId::as_str);
    let check = |name: String| match name.parse::<ProviderId>() {
        Ok(id) if providers.contains(&id) => Ok(id),
        _ => {
            let hint = match closest(&name, known()) {
                Some(similar) => format!("did you mean {similar:?}?"),
                None => format!("configured providers: {}", known().collect::<Vec<_>>().join(", ")),
            };
            let problem = format!("agent.providers: there is no provider {name:?}; {hint}");
            Err(source.error_at(&["agent", "providers"], problem))
        }
    };
    allowed.into_iter().map(check).collect()
}

/// Checks the names and the placeholders of the agents' variables, and the settings of the built-in
/// agent among them.
fn check_environment(
    source: &Source<'_>,
    env: &BTreeMap<String, String>,
    known: &Placeholders<'_>,
) -> Result<(), ConfigError> {
    let providers = known.providers;
    for (name, text) in env {
        let error = |problem: String| {
            Err(source.error_at(&["agent", "env", name], format!("agent.env.{name}: {problem}")))
        };
        if name.is_empty() || name.contains(['=', '\0']) {
            return error("it cannot be the name of a variable: remove the = from it".to_owned());
        }
        if [SOCKET_VARIABLE, CAPABILITY_VARIABLE].contains(&name.as_str()) {
            return error("threadkey sets this variable itself: remove it".to_owned());
        }
        if text.contains('\0') {
            return error("its value contains a NUL character: remove it".to_owned());
        }
        if let Err(problem) = check_placeholders(text, known) {
            return error(problem);
        }
        if name == PROVIDER_VARIABLE && !providers.iter().any(|id| id.as_str() == text) {
            let known = || providers.iter().map(ProviderId::as_str);
            return error(match closest(text, known()) {
                Some(similar) => format!("agent.providers has no {text:?}; did you mean {similar:?}?"),
                None => {
                    let known = known().collect::<Vec<_>>().join(", ");
                    format!("agent.providers has no {text:?}, it lists: {known}")
                }
            });
        }
        if name == USERINFO_VARIABLE
            && !text.is_empty()
            && let Err(problem) = resource_address(text)
        {
            return error(problem);
        }
    }
    Ok(())
}

/// Refuses a route whose tokens no agent may use.
fn check_routes(source: &Source<'_>, api: &ApiSettings, providers: &[ProviderId]) -> Result<(), ConfigError> {
    match api.inject.iter().find(|route| !providers.contains(&route.provider)) {
        None => Ok(()),
        Some(route) => {
            let (name, provider) = (&route.name, &route.provider);
            let problem =
                format!("inject.{name}.provider: agents may not use {provider}: add it to agent.providers");
            Err(source.error_at(&["inject", name.as_str(), "provider"], problem))
        }
    }
}

/// Whether agents get tokens by the injecting proxy alone: `agent.tokens`.
pub(super) fn is_inject_only(
    source: &Source<'_>,
    section: Option<&AgentSection>,
) -> Result<bool, ConfigError> {
    match section.and_then(|section| section.tokens.as_deref()) {
        None | Some("raw") => Ok(false),
        Some("inject") => Ok(true),
        Some(_) => {
            let problem =
                "agent.tokens must be \"raw\" (agents may hold access tokens) or \"inject\" (they hold none)";
            Err(source.error_at(&["agent", "tokens"], problem))
        }
    }
}

fn isolation(source: &Source<'_>, text: Option<&str>) -> Result<Isolation, ConfigError> {
    let error =
        |problem: &str| Err(source.error_at(&["agent", "isolation"], format!("agent.isolation {problem}")));
    match text {
        None | Some("auto") => Ok(Isolation::Auto),
        Some("landlock") => Ok(Isolation::Landlock),
        Some("none") => Ok(Isolation::None),
        Some(planned @ ("uid" | "seatbelt")) => {
            error(&format!("= {planned:?} is not supported by this version of threadkey yet; use \"auto\""))
        }
        Some(_) => error("must be \"auto\", \"landlock\" or \"none\""),
    }
}
