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
    secret::Secret,
    sys::{
        files,
        private_tree::{self, PrivateTree},
    },
    tools::{Folder, Rendered},
};

/// Entries of tools' folders that hold a login. None of them is linked: two programs would spend one
/// refresh token.
const CREDENTIALS: [&str; 7] = [
    "auth.json",
    ".credentials.json",
    "credentials",
    "credentials.json",
    "hosts.yml",
    "oauth_creds.json",
    "google_accounts.json",
];

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
        let Some(folder) = folder else {
            return Self { path: root.join(&relative), relative, variable: None, own: None, beside: None };
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
        }
    }

    /// Writes the files, and links the user's other ones.
    pub(super) fn fill(&self, tree: &PrivateTree, rendered: &Rendered) -> io::Result<()> {
        tree.make_folder(&self.relative)?;
        let mut taken: BTreeSet<&OsStr> = BTreeSet::new();
        for file in &rendered.files {
            let path = Path::new(&file.path);
            taken.extend(path.components().next().map(|first| first.as_os_str()));
            let text = match (&self.own, file.holds_token) {
                (Some(own), false) => merged(&own.join(path), &file.text),
                _ => None,
            };
            let text = text.as_ref().unwrap_or(&file.text);
            tree.write(&self.relative.join(path), text.expose().as_bytes())?;
        }
        let own = self.own.as_deref();
        let entries = own.map(private_tree::names).transpose()?.unwrap_or_default();
        for (own, name) in own.into_iter().flat_map(|own| entries.iter().map(move |name| (own, name))) {
            let is_credential = CREDENTIALS.iter().any(|credential| name.as_os_str() == *credential);
            if !is_credential && !taken.contains(name.as_os_str()) {
                tree.link(&self.relative.join(name), &own.join(name))?;
            }
        }
        match &self.beside {
            Some(beside) if files::exists(beside) => {
                let name = beside.file_name().unwrap_or_default();
                tree.link(&self.relative.join(name), beside)
            }
            _ => Ok(()),
        }
    }

    /// Writes the files with a token again.
    pub(super) fn refresh(&self, tree: &PrivateTree, rendered: &Rendered) -> io::Result<()> {
        for file in rendered.files.iter().filter(|file| file.holds_token) {
            tree.write(&self.relative.join(&file.path), file.text.expose().as_bytes())?;
        }
        Ok(())
    }
}

/// Returns the user's settings with ours over them. `None` if there are none, or if they are in another
/// format than their name shows: then ours count alone.
fn merged(own: &Path, ours: &Secret) -> Option<Secret> {
    let extension = own.extension()?.to_str()?;
    if !["toml", "json", "yml"].contains(&extension) {
        return None;
    }
    let text = Secret::new(files::read_text(own).ok()?);
    let text = match extension {
        "toml" => {
            let mut base: toml::Table = text.expose().parse().ok()?;
            merge_toml(&mut base, ours.expose().parse().ok()?);
            toml::to_string(&base).ok()
        }
        "yml" => yaml::merge(text.expose(), ours.expose()),
        _ => {
            let mut base: serde_json::Value = serde_json::from_str(text.expose()).ok()?;
            merge_json(&mut base, serde_json::from_str(ours.expose()).ok()?);
            serde_json::to_string_pretty(&base).ok()
        }
    };
    text.map(Secret::new)
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
        let rivals = RIVALS.iter().find(|(name, _)| *name == tool).map_or(&[][..], |(_, rivals)| rivals);
        for rival in rivals {
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
