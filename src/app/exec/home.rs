//! The folder of a tool for one run: threadkey's own files, and links to the user's other ones.
//!
//! A tool with a folder of its own would not find its user's settings and history. So each entry of the
//! user's folder is linked, except credentials, and except the files that threadkey writes. A settings file
//! in TOML, JSON or YAML is both: the user's keys, and threadkey's over them. The user's files are read and never
//! written here.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
};

use super::yaml;
use crate::{
    cli::print_notice,
    secret::Secret,
    sys::{
        files,
        private_tree::{self, PrivateTree},
    },
    tools::{Folder, Rendered},
};

/// Entries of tools' folders that hold a login. None of them is linked: two programs would spend one
/// refresh token.
const LOGINS: [&str; 3] = ["auth.json", "google_accounts.json", "hosts.yml"];
/// Parts of the names of other such entries, and of the copies that a tool or a user makes of them.
const PARTS_OF_LOGINS: [&str; 2] = ["credential", "oauth_creds"];

/// Variables that move the folders which other tools have in the home folder alone. The second one is the
/// folder itself, and the first one the folder above it.
const ABOVE: &[(&str, &str)] = &[(".gemini", "GEMINI_CLI_HOME")];
const ITSELF: &[(&str, &str)] = &[(".qwen", "QWEN_HOME")];

/// Files beside a tool's folder in the home folder, which the tool looks for in its folder if a variable
/// moves that.
const BESIDE: &[(&str, &str)] = &[(".claude", ".claude.json")];

/// The place of one tool's files.
pub(super) struct ToolFolder {
    /// Relative to the private folder.
    relative: PathBuf,
    /// Absolute.
    pub(super) path: PathBuf,
    /// The variable that names it, if the tool's data have none.
    pub(super) variable: Option<(OsString, OsString)>,
    /// The user's own folder.
    own: Option<PathBuf>,
    /// The user's file beside it.
    beside: Option<PathBuf>,
    /// The variables that the tool prefers to ours, which its settings may have too.
    rivals: &'static [&'static str],
}

impl ToolFolder {
    /// Determines the place. `variable` reads a variable of the user's environment.
    pub(super) fn new(
        root: &Path,
        tool: &str,
        folder: Option<&Folder>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        let mut relative = PathBuf::from(tool);
        let rivals = rivals(tool);
        let Some(folder) = folder else {
            let path = root.join(&relative);
            return Self { path, relative, variable: None, own: None, beside: None, rivals };
        };
        let home_name = folder.home.as_str();
        let of = |table: &[(&str, &'static str)]| {
            table
                .iter()
                .find(|(name, _)| *name == home_name && folder.variable.is_none())
                .map(|(_, name)| *name)
        };
        let (above, itself) = (of(ABOVE), of(ITSELF));
        let outer = root.join(&relative);
        if above.is_some() {
            relative.push(home_name);
        }
        let path = root.join(&relative);
        let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("HOME");
        let in_home = || home.as_ref().map(|home| home.join(home_name));
        let moved = folder.variable.as_deref().or(itself).and_then(absolute);
        let moved = moved.or_else(|| above.and_then(absolute).map(|above| above.join(home_name)));
        let beside = BESIDE.iter().find(|(name, _)| *name == home_name && moved.is_none());
        Self {
            variable: above
                .map(|name| (name.into(), outer.into()))
                .or_else(|| itself.map(|name| (name.into(), path.clone().into()))),
            beside: beside.and_then(|(_, name)| home.as_ref().map(|home| home.join(name))),
            own: moved.or_else(in_home),
            relative,
            path,
            rivals,
        }
    }

    /// Writes the files, and links the user's other ones.
    pub(super) fn fill(&self, tree: &PrivateTree, rendered: &Rendered) -> io::Result<()> {
        tree.make_folder(&self.relative).map_err(at(&self.path))?;
        let mut taken: BTreeSet<&OsStr> = BTreeSet::new();
        for file in &rendered.files {
            let path = Path::new(&file.path);
            taken.extend(path.components().next().map(|first| first.as_os_str()));
            let text = match (&self.own, file.holds_token) {
                (Some(own), false) => {
                    merged(&own.join(path), &file.text, self.rivals).unwrap_or_else(|problem| {
                        let own = own.join(path);
                        print_notice(&format!(
                            "threadkey: warning: {} is left out: {problem}",
                            own.display()
                        ));
                        None
                    })
                }
                _ => None,
            };
            let text = text.as_ref().unwrap_or(&file.text);
            let written = tree.write(&self.relative.join(path), text.expose().as_bytes());
            written.map_err(at(&self.path.join(path)))?;
        }
        if let Some(own) = &self.own {
            for name in private_tree::names(own).map_err(at(own))? {
                if !is_login(&name) && !taken.contains(name.as_os_str()) {
                    let linked = tree.link(&self.relative.join(&name), &own.join(&name));
                    linked.map_err(at(&self.path.join(&name)))?;
                }
            }
        }
        match &self.beside {
            Some(beside) if files::exists(beside) => {
                let name = beside.file_name().unwrap_or_default();
                tree.link(&self.relative.join(name), beside).map_err(at(&self.path.join(name)))
            }
            _ => Ok(()),
        }
    }

    /// Writes the files with a token again.
    pub(super) fn refresh(&self, tree: &PrivateTree, rendered: &Rendered) -> io::Result<()> {
        for file in rendered.files.iter().filter(|file| file.holds_token) {
            let written = tree.write(&self.relative.join(&file.path), file.text.expose().as_bytes());
            written.map_err(at(&self.path.join(&file.path)))?;
        }
        Ok(())
    }

    /// Removes the files at these paths.
    pub(super) fn remove<'a>(
        &self,
        tree: &PrivateTree,
        mut paths: impl Iterator<Item = &'a str>,
    ) -> io::Result<()> {
        paths.try_for_each(|path| {
            tree.remove_file(&self.relative.join(path)).map_err(at(&self.path.join(path)))
        })
    }
}

/// Whether an entry of a tool's folder holds a login.
fn is_login(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_ascii_lowercase();
    let is_copy =
        |login: &str| name.strip_prefix(login).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric));
    LOGINS.iter().any(|login| is_copy(login)) || PARTS_OF_LOGINS.iter().any(|part| name.contains(part))
}

/// Adds the path to an error.
fn at(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Returns the user's settings with ours over them, and without the variables that the tool prefers to
/// ours. `None` if the user has none, or if the format is another one than TOML, JSON and YAML: then ours count
/// alone.
///
/// # Errors
/// The problem of the user's file.
fn merged(own: &Path, ours: &Secret, rivals: &[&str]) -> Result<Option<Secret>, String> {
    let extension = own.extension().and_then(OsStr::to_str).unwrap_or_default();
    if !["toml", "json", "yml"].contains(&extension) {
        return Ok(None);
    }
    let text = match files::read_text(own) {
        Ok(text) => Secret::new(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let text = match extension {
        "toml" => {
            let mut base: toml::Table =
                text.expose().parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
            merge_toml(&mut base, ours.expose().parse().map_err(|_| "ours is no TOML")?);
            toml::to_string(&base).map_err(|error| error.to_string())?
        }
        "yml" => yaml::merge(text.expose(), ours.expose()).ok_or("it is no mapping with a key per line")?,
        _ => {
            let json = |text: &str| serde_json::from_str(text).map_err(|error| error.to_string());
            let mut base: serde_json::Value = json(text.expose())?;
            if let Some(variables) = base.get_mut("env").and_then(serde_json::Value::as_object_mut) {
                variables.retain(|name, _| !rivals.contains(&name.as_str()));
            }
            merge_json(&mut base, json(ours.expose())?);
            serde_json::to_string_pretty(&base).map_err(|error| error.to_string())?
        }
    };
    Ok(Some(Secret::new(text)))
}

fn merge_toml(base: &mut toml::Table, ours: toml::Table) {
    for (key, value) in ours {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(ours)) => merge_toml(base, ours),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

fn merge_json(base: &mut serde_json::Value, ours: serde_json::Value) {
    match (base, ours) {
        (serde_json::Value::Object(base), serde_json::Value::Object(ours)) => {
            for (key, value) in ours {
                merge_json(base.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (base, ours) => *base = ours,
    }
}

/// The variables of the command beside those of this process. One without a value is removed.
#[derive(Default)]
pub(super) struct Variables {
    all: BTreeMap<OsString, Option<OsString>>,
    /// The pairs of git's configuration by variables, which several tools may add to.
    git: Vec<(OsString, OsString)>,
}

/// Variables that a tool prefers to what exec gives it: a login or an address of the user's own.
const RIVALS: &[(&str, &[&str])] = &[
    ("anthropic-sdk", &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"]),
    (
        "claude",
        &[
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "CLAUDE_CODE_USE_BEDROCK",
            "CLAUDE_CODE_USE_FOUNDRY",
            "CLAUDE_CODE_USE_VERTEX",
        ],
    ),
    ("codex", &["CODEX_ACCESS_TOKEN", "CODEX_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"]),
    ("gemini", &["GOOGLE_API_KEY", "GOOGLE_GENAI_USE_GCA", "GOOGLE_GENAI_USE_VERTEXAI"]),
    ("gemini-code-assist", &["GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI"]),
    ("gh", &["GH_ENTERPRISE_TOKEN", "GH_TOKEN", "GITHUB_ENTERPRISE_TOKEN", "GITHUB_TOKEN"]),
    ("git", &["GIT_ASKPASS"]),
    ("grok", &["XAI_API_KEY"]),
];

/// The names of the variables that belong to a proxy's exceptions. Tools read either one.
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];

fn rivals(tool: &str) -> &'static [&'static str] {
    RIVALS.iter().find(|(name, _)| *name == tool).map_or(&[], |(_, rivals)| rivals)
}

const GIT_COUNT: &str = "GIT_CONFIG_COUNT";

impl Variables {
    /// Starts with the user's own configuration of git by variables.
    pub(super) fn new(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let count = variable(GIT_COUNT).and_then(|count| count.to_str()?.parse::<usize>().ok()).unwrap_or(0);
        let pair = |at| {
            Some((variable(&format!("GIT_CONFIG_KEY_{at}"))?, variable(&format!("GIT_CONFIG_VALUE_{at}"))?))
        };
        Self { all: BTreeMap::new(), git: (0..count).map_while(pair).collect() }
    }

    /// Sets a variable.
    pub(super) fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.all.insert(name.into(), Some(value.into()));
    }

    /// Adds the variables of a tool, and removes those that would take their place. Returns false, and adds
    /// nothing, if another tool has set one of them to another value.
    pub(super) fn add(&mut self, tool: &str, variables: &BTreeMap<String, Secret>) -> bool {
        let is_git = |name: &str| name.starts_with("GIT_CONFIG_");
        let plain = || variables.iter().filter(|(name, _)| !is_git(name));
        let differs = |(name, value): (&String, &Secret)| matches!(self.all.get(OsStr::new(name)), Some(Some(set)) if *set != *value.expose());
        if plain().any(differs) {
            return false;
        }
        for rival in rivals(tool) {
            self.all.entry((*rival).into()).or_insert(None);
        }
        for (name, value) in plain() {
            self.set(name, value.expose());
        }
        let value = |name: String| variables.get(&name).map(|value| OsString::from(value.expose()));
        let pair =
            |at| Some((value(format!("GIT_CONFIG_KEY_{at}"))?, value(format!("GIT_CONFIG_VALUE_{at}"))?));
        self.git.extend((0..).map_while(pair));
        true
    }

    /// Keeps requests to the injecting proxy away from the user's own proxy. `variable` reads a variable of
    /// the user's environment.
    pub(super) fn exempt_loopback(&mut self, variable: impl Fn(&str) -> Option<OsString>) {
        let own = |name: &str| variable(name).filter(|value| !value.is_empty());
        for name in NO_PROXY {
            let mut value = own(name).or_else(|| NO_PROXY.into_iter().find_map(own)).unwrap_or_default();
            // A single asterisk exempts every host.
            if value != "*" {
                value.push(if value.is_empty() { "127.0.0.1" } else { ",127.0.0.1" });
            }
            self.set(name, value);
        }
    }

    /// Returns them all.
    pub(super) fn finish(mut self) -> BTreeMap<OsString, Option<OsString>> {
        if !self.git.is_empty() {
            let git = std::mem::take(&mut self.git);
            self.set(GIT_COUNT, git.len().to_string());
            for (at, (key, value)) in git.into_iter().enumerate() {
                self.set(format!("GIT_CONFIG_KEY_{at}"), key);
                self.set(format!("GIT_CONFIG_VALUE_{at}"), value);
            }
        }
        self.all
    }
}

#[cfg(test)]
mod tests;
