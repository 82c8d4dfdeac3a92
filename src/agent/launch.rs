//! Starts a worker's process from the settings: folders, program, sandbox, environment.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use super::{
    AgentSettings, Conversation, InjectWorker, Isolation, PromptError, Served, environment,
    folders::{FolderUse, Folders},
    mcp::McpOffers,
    program_files,
    tool_files::ToolFiles,
    worker_deps::WorkerDeps,
    worker_secrets::WorkerSecrets,
};
use crate::{
    ids::RouteName,
    sys::{
        cgroup::GroupLimits,
        detach, files,
        process::{self, Child, Pipes, Spec},
        sandbox::{self, Policy, Sandbox, SandboxError},
    },
    tools::Way,
};

/// The paths that every sandboxed program may read.
///
/// Of `/etc` these are the files that libraries look up, because others there hold secrets. Of
/// `/proc` and `/sys` these are the files that describe the machine. Of `/opt` and `/nix` a program
/// gets its own part only ([`program_files`]). `/usr` follows in [`usr`]. `/srv`, `/var` and `/run` are not among them.
const SYSTEM_PATHS: &[&str] = &[
    "/bin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/sbin",
    "/etc/alternatives",
    "/etc/bash.bashrc",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/gitconfig",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/inputrc",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/locale.alias",
    "/etc/locale.conf",
    "/etc/localtime",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/profile",
    "/etc/profile.d",
    "/etc/protocols",
    "/etc/python3",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/shells",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
    "/etc/timezone",
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys",
    "/proc/uptime",
    "/proc/version",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/sys/kernel/mm",
];

/// A running process before the ACP handshake.
pub(super) struct Launched {
    pub(super) child: Child,
    pub(super) pipes: Pipes,
    pub(super) secrets: WorkerSecrets,
    /// Its working folder.
    pub(super) work: PathBuf,
    /// The MCP servers to hand to it.
    pub(super) mcp: McpOffers,
    /// The files of its tools. They are dropped before the use of the folder ends.
    pub(super) files: Option<ToolFiles>,
    pub(super) in_use: FolderUse,
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// Starts a worker's process. The parts that need the disk are ready before it gets a capability. Even if this returns an error, its capability may be live, and the
/// caller has to revoke it.
pub(super) async fn launch(deps: &WorkerDeps, conversation: &Conversation) -> Result<Launched, PromptError> {
    let settings = deps.settings(conversation)?;
    let Some((name, args)) = settings.command.split_first() else {
        return Err(PromptError::NotConfigured);
    };
    let failed = |source| PromptError::Spawn { program: name.clone(), source };
    let checked = settings.clone();
    let program = blocking(move || find_program(&checked)).await.map_err(failed)??;
    let (folders, in_use) = deps.folders.open(conversation).await?;
    let sandbox = {
        let (settings, program, folders) = (settings.clone(), program.clone(), folders.clone());
        blocking(move || build_sandbox(&settings, &program, &folders)).await.map_err(failed)??
    };

    let holder = deps.capability_holder(conversation.clone());
    let capability = deps.capabilities.issue(holder.clone());
    let process = Arc::new(OnceLock::new());
    let worker = InjectWorker {
        serves: Served::Worker(deps.holder(conversation.clone())),
        capability: Some(capability.clone()),
        voided: deps.capabilities.voided(&capability),
        sockets: sockets(settings, &folders),
        open: settings.mcp.iter().map(|server| server.route.clone()).collect(),
        process: process.clone(),
    };
    let inject = match deps.ports.get() {
        Some(ports) => Some(ports.open(worker).await.map_err(PromptError::Inject)?),
        None => None,
    };
    let mcp = McpOffers::new(settings, inject.as_ref());
    let written = ToolFiles::write(settings, &folders, &holder, inject.clone(), &deps.tokens).await?;
    let (files, variables) = written;
    let given = environment::Given { holder: &holder, capability: &capability, inject: inject.as_ref() };
    let (env, secrets) = environment::build(settings, &folders, &given, &*deps.tokens, variables).await?;
    let (memory, processes) = (settings.limits.memory, settings.limits.processes);
    let limits = GroupLimits { memory, processes };
    let cgroup =
        deps.cgroups.get().map(|groups| groups.create(limits)).transpose().map_err(PromptError::Cgroup)?;
    let sandboxed = sandbox.is_some();
    let spec = Spec {
        program,
        args: args.iter().map(OsString::from).collect(),
        env,
        folder: folders.work.clone(),
        sandbox,
        limits: process::Limits {
            file_size: Some(settings.limits.file_size),
            open_files: Some(settings.limits.open_files),
        },
        cgroup,
    };
    let (child, pipes) = process::spawn(spec).await.map_err(|error| failed(explain(error, sandboxed)))?;
    if let Some(number) = child.number() {
        let _ = process.set(number);
    }
    Ok(Launched { child, pipes, secrets, work: folders.work, mcp, files, in_use })
}

/// Returns the sockets of the injecting proxy that the environment or an MCP server needs.
fn sockets(settings: &AgentSettings, folders: &Folders) -> BTreeMap<RouteName, PathBuf> {
    let mut routes = environment::named_sockets(settings);
    routes.extend(settings.mcp.iter().map(|server| server.route.clone()));
    let path = |route: RouteName| {
        let path = folders.sockets.join(route.as_str());
        (route, path)
    };
    routes.into_iter().map(path).collect()
}

/// Adds to a refusal of the sandbox the setting that may mend it.
fn explain(error: io::Error, sandboxed: bool) -> io::Error {
    if sandboxed && error.kind() == io::ErrorKind::PermissionDenied {
        let text = format!(
            "{error} (agents are isolated: add the folders of its interpreter and libraries to agent.read)"
        );
        return io::Error::new(error.kind(), text);
    }
    error
}

/// Checks the settings, and finds the program. This touches the disk, so async threads must not call
/// it.
fn find_program(settings: &AgentSettings) -> Result<PathBuf, PromptError> {
    settings.check()?;
    let name = settings.command.first().ok_or(PromptError::NotConfigured)?;
    let path = program_files::search_path(settings);
    let program = process::find_program(Path::new(name), &path)
        .map_err(|source| PromptError::Spawn { program: name.clone(), source })?;
    if settings.isolation != Isolation::None {
        sandbox::supported().map_err(no_sandbox)?;
    }
    Ok(program)
}

/// Builds the sandbox. This touches the disk, so async threads must not call it.
fn build_sandbox(
    settings: &AgentSettings,
    program: &Path,
    folders: &Folders,
) -> Result<Option<Sandbox>, PromptError> {
    match settings.isolation {
        Isolation::None => Ok(None),
        Isolation::Auto | Isolation::Landlock => {
            Sandbox::new(&policy(settings, program, folders)).map(Some).map_err(no_sandbox)
        }
    }
}

fn no_sandbox(error: SandboxError) -> PromptError {
    match error {
        SandboxError::Unsupported(missing) => PromptError::NoIsolation(missing),
        other => PromptError::Sandbox(other),
    }
}

/// Returns the entries of `/usr` and `/usr/local`, without `/usr/local/etc`: the machine's administrator
/// configures programs there, often with secrets. A symlink that leads out of `/usr` is left out.
fn usr() -> Vec<PathBuf> {
    let entries = |folder: &'static str, except: &'static str| {
        let names = files::names_in(Path::new(folder)).unwrap_or_default();
        let names = names.into_iter().filter(move |name| name != except);
        names.map(move |name| Path::new(folder).join(name))
    };
    let all = entries("/usr", "local").chain(entries("/usr/local", "etc"));
    all.filter(|path| sandbox::resolve(path).is_ok_and(|real| real.starts_with("/usr"))).collect()
}

fn policy(settings: &AgentSettings, program: &Path, folders: &Folders) -> Policy {
    let mut deny = settings.deny.clone();
    deny.push(settings.root.clone());
    let mut read_if_there: Vec<PathBuf> = SYSTEM_PATHS.iter().map(PathBuf::from).collect();
    read_if_there.extend(usr());
    read_if_there.extend(program_files::of(settings, program, &deny));
    if !settings.mcp.is_empty() || settings.tools.iter().any(|tool| tool.way == Way::Hook) {
        read_if_there.extend(detach::program_path().ok());
    }
    Policy {
        read: settings.read.clone(),
        read_if_there,
        write: vec![folders.home.clone(), folders.tmp.clone(), folders.work.clone()],
        connect: vec![settings.socket.clone(), folders.sockets.clone()],
        deny,
    }
}
