//! `[agent]` and `[agents.NAME]`: the agents, the settings of their workers, and the files that
//! workers must not read.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    ConfigError,
    file::{AgentKey, AgentSection, ConfigDuration, NamedAgentSection},
    source::Source,
    tools::ToolContext,
    variables::xdg_folder,
};
use crate::{
    agent::{
        AgentSettings, Agents, CAPABILITY_VARIABLE, FileText, Isolation, MCP_PATH_VARIABLE,
        MCP_SOCKET_VARIABLE, McpServer, Placeholders, SOCKET_VARIABLE, WorkerLimits,
        builtin::{PROVIDER_VARIABLE, USERINFO_VARIABLE, resource_address},
        check_placeholders, example_socket, title_of,
    },
    api::ApiSettings,
    ids::{AgentName, ProviderId, closest},
    oauth::{Providers, no_provider_among},
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

/// Builds the agents of `[agent]` and of the tables `[agents.NAME]`. Workers must not read the paths
/// in `deny`, nor the configuration. Returns `None` if no agent is configured.
pub(super) fn agents(
    source: &Source<'_>,
    section: Option<AgentSection>,
    named: BTreeMap<AgentKey, NamedAgentSection>,
    (providers, mcp): (&Providers, &BTreeMap<ProviderId, McpServer>),
    api: &ApiSettings,
    deny: Vec<PathBuf>,
) -> Result<Option<Agents>, ConfigError> {
    if section.is_none() && named.is_empty() {
        return Ok(None);
    }
    let mut section = section.unwrap_or_default();
    let own = NamedAgentSection {
        command: std::mem::take(&mut section.command),
        providers: section.providers.take(),
        env: std::mem::take(&mut section.env),
        read: std::mem::take(&mut section.read),
        mcp: section.mcp.take(),
        mcp_transport: section.mcp_transport.take(),
        tools: section.tools.take(),
        files: std::mem::take(&mut section.files),
    };
    let default = section.default.take();
    let common = common(source, section, api, deny)?;
    let builder = Builder { source, providers, mcp, api, common };
    if named.is_empty() {
        if default.is_some() {
            let problem =
                "agent.default names a table [agents.NAME], and there is none: remove it, or add the table";
            return Err(source.error_at(&["agent", "default"], problem));
        }
        let title = title_of(&own.command);
        let agent = builder.agent(&["agent"], title, own)?;
        check_routes(source, api, &[&agent])?;
        return Ok(Some(agent.into()));
    }
    if !own.command.is_empty() {
        let problem =
            "agent.command is for a single agent: move it to a table [agents.NAME] beside the others";
        return Err(source.error_at(&["agent", "command"], problem));
    }
    let default = default_name(source, default, &named)?;
    let mut agents = BTreeMap::new();
    for (AgentKey(name), mut section) in named {
        // The keys of [agent] hold for each agent that does not set its own.
        section.providers = section.providers.or_else(|| own.providers.clone());
        section.env.extend(
            own.env.iter().filter(|(key, _)| !section.env.contains_key(*key)).map(owned).collect::<Vec<_>>(),
        );
        section.read.extend(own.read.iter().cloned());
        section.mcp = section.mcp.or_else(|| own.mcp.clone());
        section.mcp_transport = section.mcp_transport.or_else(|| own.mcp_transport.clone());
        section.tools = section.tools.or_else(|| own.tools.clone());
        for (path, entry) in &own.files {
            section.files.entry(path.clone()).or_insert_with(|| entry.clone());
        }
        let agent = builder.agent(&["agents", name.as_str()], name.to_string(), section)?;
        agents.insert(name, agent);
    }
    check_routes(source, api, &agents.values().collect::<Vec<_>>())?;
    Ok(Agents::named(agents, default))
}

fn owned((key, text): (&String, &String)) -> (String, String) {
    (key.clone(), text.clone())
}

/// Returns the agent of conversations for which the user chooses none.
fn default_name(
    source: &Source<'_>,
    default: Option<String>,
    named: &BTreeMap<AgentKey, NamedAgentSection>,
) -> Result<AgentName, ConfigError> {
    let names = || named.keys().map(|key| key.0.as_str());
    let all = || names().collect::<Vec<_>>().join(", ");
    let error = |problem: String| Err(source.error_at(&["agent", "default"], problem));
    match default {
        Some(text) => match named.keys().find(|key| key.0.as_str() == text) {
            Some(key) => Ok(key.0.clone()),
            None => error(match closest(&text, names()) {
                Some(similar) => {
                    format!("agent.default: there is no table [agents.{text}]; did you mean {similar:?}?")
                }
                None => format!("agent.default: there is no table [agents.{text}]; there are: {}", all()),
            }),
        },
        None => match named.keys().collect::<Vec<_>>()[..] {
            [only] => Ok(only.0.clone()),
            _ => error(format!("agent.default is required with several agents. Name one of: {}", all())),
        },
    }
}

/// Builds the values that hold for all workers. The command, the title, the providers, the routes and
/// the variables are empty yet.
fn common(
    source: &Source<'_>,
    section: AgentSection,
    api: &ApiSettings,
    mut deny: Vec<PathBuf>,
) -> Result<AgentSettings, ConfigError> {
    let error = |key: &str, problem: &str| source.error_at(&["agent", key], format!("agent.{key} {problem}"));
    let limits = limits(&section, &error)?;
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
    Ok(AgentSettings {
        title: String::new(),
        command: Vec::new(),
        providers: Vec::new(),
        routes: Vec::new(),
        mcp: Vec::new(),
        mcp_by_stdio: false,
        tools: Vec::new(),
        files: Vec::new(),
        env: BTreeMap::new(),
        read: Vec::new(),
        isolation: isolation(source, section.isolation.as_deref())?,
        root,
        socket: api.socket.clone(),
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

/// The parts of the configuration from which each agent is built.
struct Builder<'a> {
    source: &'a Source<'a>,
    providers: &'a Providers,
    /// The MCP servers that agents name.
    mcp: &'a BTreeMap<ProviderId, McpServer>,
    api: &'a ApiSettings,
    common: AgentSettings,
}

impl Builder<'_> {
    /// Builds the agent of a table.
    fn agent(
        &self,
        table: &[&str],
        title: String,
        section: NamedAgentSection,
    ) -> Result<AgentSettings, ConfigError> {
        let (source, api) = (self.source, self.api);
        let at = table.join(".");
        let error = |key: &str, problem: &str| {
            source.error_at(&[table, &[key]].concat(), format!("{at}.{key} {problem}"))
        };
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
                 arguments: put it into a variable of [{at}.env]"
            );
            return Err(error("command", &problem));
        }
        let mcp = self.mcp_servers(section.mcp.as_deref().unwrap_or_default());
        // An agent that only uses MCP servers needs no token of its own.
        let none = || (!mcp.is_empty()).then(Vec::new);
        let allowed = section.providers.or_else(none).ok_or_else(|| {
            error(
                "providers",
                "is required: the providers whose tokens agents may use, for example [\"acme\"]",
            )
        })?;
        let providers = allowed_providers(source, table, allowed, self.providers)?;
        let by_mcp = |id: &ProviderId| mcp.iter().any(|server| server.provider == *id);
        let usable =
            api.inject.iter().filter(|route| providers.contains(&route.provider) || by_mcp(&route.provider));
        let routes: Vec<_> = usable.map(|route| route.name.clone()).collect();
        let known = Placeholders { providers: &providers, routes: &routes, raw_tokens: !api.inject_only };
        check_environment(source, table, &section.env, &known)?;
        let tokens = ToolContext {
            source,
            table,
            configured: self.providers,
            providers: &providers,
            routes: &routes,
            api,
        };
        let tools = tokens.tools(section.tools.unwrap_or_default(), &section.env)?;
        let files = tokens.files(section.files, &tools)?;
        for route in routes.iter().filter(|route| {
            let placeholder = format!("{{inject_socket:{route}}}");
            let is_named = section.env.values().any(|text| text.contains(&placeholder));
            let is_tools =
                tools.iter().any(|tool| tool.means.uses_socket() && tool.route.as_ref() == Some(route));
            let is_files = files
                .iter()
                .any(|file| matches!(&file.text, FileText::Free(text) if text.contains(&placeholder)));
            is_named || is_tools || is_files || mcp.iter().any(|server| server.route == **route)
        }) {
            example_socket(&self.common.root, route)
                .map_err(|problem| source.error_at(&["agent", "root"], problem))?;
        }
        let read = section.read.iter().map(|path| source.absolute(path)).collect();
        let mcp_by_stdio = match section.mcp_transport.as_deref().unwrap_or_default() {
            "" => takes_servers_as_arguments(&command),
            "stdio" => true,
            "http" => false,
            _ => {
                return Err(error(
                    "mcp_transport",
                    "must be \"http\" (if the agent takes it) or \"stdio\" (by `threadkey mcp`)",
                ));
            }
        };
        let env = section.env;
        let common = self.common.clone();
        Ok(AgentSettings {
            title,
            command,
            providers,
            routes,
            mcp,
            mcp_by_stdio,
            tools,
            files,
            env,
            read,
            ..common
        })
    }

    /// Returns the MCP servers of checked names, each once.
    fn mcp_servers(&self, names: &[String]) -> Vec<McpServer> {
        let mut found: Vec<McpServer> = Vec::new();
        for server in names.iter().filter_map(|name| self.mcp.get(&name.parse().ok()?)) {
            if !found.contains(server) {
                found.push(server.clone());
            }
        }
        found
    }
}

/// Whether an agent is known to put its MCP servers into the arguments of a process, with their headers.
fn takes_servers_as_arguments(command: &[String]) -> bool {
    command.iter().any(|part| {
        let name = Path::new(part).file_name().unwrap_or_default();
        name.to_string_lossy().to_ascii_lowercase().contains("claude")
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
    table: &[&str],
    allowed: Vec<String>,
    providers: &Providers,
) -> Result<Vec<ProviderId>, ConfigError> {
    let known = || providers.ids().map(ProviderId::as_str);
    let check = |name: String| match name.parse::<ProviderId>() {
        Ok(id) if providers.contains(&id) => Ok(id),
        _ => {
            let problem = format!("{}.providers: {}", table.join("."), no_provider_among(&name, known()));
            Err(source.error_at(&[table, &["providers"]].concat(), problem))
        }
    };
    allowed.into_iter().map(check).collect()
}

/// Checks the names and the placeholders of the agents' variables, and the settings of the built-in
/// agent among them.
fn check_environment(
    source: &Source<'_>,
    table: &[&str],
    env: &BTreeMap<String, String>,
    known: &Placeholders<'_>,
) -> Result<(), ConfigError> {
    let (providers, at) = (known.providers, table.join("."));
    for (name, text) in env {
        let error = |problem: String| {
            Err(source.error_at(&[table, &["env", name]].concat(), format!("{at}.env.{name}: {problem}")))
        };
        if name.is_empty() || name.contains(['=', '\0']) {
            return error("it cannot be the name of a variable: remove the = from it".to_owned());
        }
        let own = [SOCKET_VARIABLE, CAPABILITY_VARIABLE, MCP_SOCKET_VARIABLE, MCP_PATH_VARIABLE];
        if own.contains(&name.as_str()) {
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
                Some(similar) => format!("{at}.providers has no {text:?}; did you mean {similar:?}?"),
                None => {
                    let known = known().collect::<Vec<_>>().join(", ");
                    format!("{at}.providers has no {text:?}, it lists: {known}")
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
fn check_routes(
    source: &Source<'_>,
    api: &ApiSettings,
    agents: &[&AgentSettings],
) -> Result<(), ConfigError> {
    match api.inject.iter().find(|route| !agents.iter().any(|agent| agent.routes.contains(&route.name))) {
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
