//! The checks of the agents: their program, its arguments, their folders and their isolation.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use super::{Finding, Verdict, tools};
use crate::{
    agent::{
        AgentSettings, Agents, Isolation,
        builtin::{PROVIDER_VARIABLE, is_builtin},
    },
    sys::{files, process, sandbox},
};

/// Checks everything that the agents need. A program is searched in the folders of its agent's own
/// `PATH`, or else of `path`, which is threadkey's.
pub(super) fn check(agents: &Agents, path: &OsStr) -> Vec<Finding> {
    let common = agents.default_agent();
    let isolation = match (common.isolation, sandbox::supported()) {
        (Isolation::None, _) => Finding::new(
            "agent isolation",
            Verdict::Warn,
            "none: agents can read everything that threadkey can read, including the store",
        ),
        (_, Ok(())) => Finding::new("agent isolation", Verdict::Ok, "Landlock"),
        (_, Err(error)) => Finding::new("agent isolation", Verdict::Fail, error.to_string()),
    };
    let paths = agents.all().into_iter().try_for_each(AgentSettings::check);
    let folders = match paths.map_err(|error| error.to_string()).and_then(|()| root(&common.root)) {
        Ok(()) => Finding::new("agent folders", Verdict::Ok, common.root.display().to_string()),
        Err(error) => Finding::new("agent folders", Verdict::Fail, error),
    };
    let named: Vec<_> = agents.names().zip(agents.all()).collect();
    let mut findings = Vec::new();
    for (name, agent) in &named {
        findings.extend(
            program(agent, path)
                .into_iter()
                .map(|finding| Finding { text: format!("{name}: {}", finding.text), ..finding }),
        );
    }
    if named.is_empty() {
        findings = program(common, path);
    }
    let at = findings.len().min(1);
    findings.splice(at..at, [isolation, folders]);
    findings
}

/// Checks the parts of one agent, its command first and its tools last.
fn program(agent: &AgentSettings, path: &OsStr) -> Vec<Finding> {
    let mut findings = vec![command(agent, path)];
    findings.extend(missing_provider(agent));
    findings.extend(missing_arguments(agent));
    findings.extend(missing_read_folders(agent));
    findings.extend(tools::check(agent, own_path(agent).unwrap_or(path)));
    findings
}

/// Returns the agent's own `PATH`, if it has one.
fn own_path(agent: &AgentSettings) -> Option<&OsStr> {
    agent.env.get("PATH").map(OsStr::new)
}

fn command(agent: &AgentSettings, path: &OsStr) -> Finding {
    let program = agent.command.first().map(String::as_str).unwrap_or_default();
    let (path, source) = match own_path(agent) {
        Some(own) => (own, "PATH in agent.env"),
        None => (path, "PATH of this process"),
    };
    match process::find_program(Path::new(program), path) {
        Ok(found) => Finding::new("agent command", Verdict::Ok, found.display().to_string()),
        Err(error) => {
            let text = if program.contains('/') {
                format!("{program:?} cannot be started: {error}. Correct its path in agent.command")
            } else {
                format!(
                    "{program:?} cannot be started: {error}. The {source} is {}. Run `command -v {program}` in a \
                     shell that finds it, and write the whole path into agent.command",
                    path.display()
                )
            };
            Finding::new("agent command", Verdict::Fail, text)
        }
    }
}

/// Checks that the folder of the agents exists or can be made.
fn root(root: &Path) -> Result<(), String> {
    let existing = root.ancestors().find(|path| files::exists(path)).unwrap_or(Path::new("/"));
    files::check_writable_folder(existing).map_err(|error| {
        format!(
            "agent.root: {} cannot be used, because {} is not a folder that threadkey's user may write ({error}). \
             Choose another folder, or change its owner",
            root.display(),
            existing.display()
        )
    })
}

/// Fails for a built-in agent that does not know its provider: it ends at its start.
fn missing_provider(agent: &AgentSettings) -> Option<Finding> {
    let is_missing = is_builtin(&agent.command) && !agent.env.contains_key(PROVIDER_VARIABLE);
    is_missing.then(|| {
        let providers: Vec<_> = agent.providers.iter().map(ToString::to_string).collect();
        let text = format!(
            "`threadkey agent` needs the name of its provider. Add {PROVIDER_VARIABLE} = \"NAME\" to [agent.env]; \
             agent.providers lists: {}",
            providers.join(", ")
        );
        Finding::new("agent variables", Verdict::Fail, text)
    })
}

/// Warns of arguments that are absolute paths of missing files, for example of a script.
fn missing_arguments(agent: &AgentSettings) -> Option<Finding> {
    let arguments = agent.command.iter().skip(1).filter(|argument| argument.starts_with('/'));
    let missing: Vec<_> = arguments.filter(|argument| !files::exists(Path::new(argument))).cloned().collect();
    (!missing.is_empty()).then(|| {
        let text = format!(
            "no file exists at {}, which agent.command passes to its program. Correct the path",
            missing.join(", ")
        );
        Finding::new("agent arguments", Verdict::Warn, text)
    })
}

fn missing_read_folders(agent: &AgentSettings) -> Option<Finding> {
    let missing: Vec<_> = agent.read.iter().filter(|path| !files::exists(path)).collect();
    (!missing.is_empty()).then(|| {
        let names: Vec<_> = missing.iter().map(|path: &&PathBuf| path.display().to_string()).collect();
        let text = format!("{} does not exist, so no agent starts. Correct agent.read", names.join(", "));
        Finding::new("agent read", Verdict::Fail, text)
    })
}
