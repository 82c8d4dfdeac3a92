//! The cases of cases.toml.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;

use crate::vendors::{PLAIN_ANSWER, SHELL_ANSWER, Vendors};

/// The folders of the installed packages.
pub(crate) struct Packages {
    /// npm's `node_modules`.
    node: PathBuf,
    /// A virtual environment of Python.
    python: PathBuf,
    /// The unpacked package of gh.
    gh: PathBuf,
    /// This folder.
    here: PathBuf,
}

impl Packages {
    /// Reads the folders from the variables that tests/tools/run sets.
    pub(crate) fn from_environment() -> Self {
        let folder = |name: &str| {
            let path = std::env::var_os(name);
            PathBuf::from(path.unwrap_or_else(|| panic!("{name} is not set: start tests/tools/run")))
        };
        let here = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools"));
        Self { node: folder("TOOLS_NODE"), python: folder("TOOLS_PYTHON"), gh: folder("TOOLS_GH"), here }
    }

    /// Whether gh is there.
    pub(crate) fn has_gh(&self) -> bool {
        self.gh.join("usr/bin/gh").exists()
    }

    /// Returns the folder of the Python that the virtual environment links to.
    fn interpreter(&self) -> PathBuf {
        let program = std::fs::canonicalize(self.python.join("bin/python3")).expect("Python is there");
        program.ancestors().nth(2).expect("it is in bin").to_owned()
    }

    /// Returns the version of a package, or of a program of this name.
    pub(crate) fn version(&self, package: &str) -> String {
        let manifest = self.node.join(package).join("package.json");
        if let Ok(text) = std::fs::read_to_string(manifest) {
            let manifest: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            return manifest["version"].as_str().unwrap_or_default().to_owned();
        }
        let pinned = include_str!("requirements.txt").lines();
        if let Some((_, version)) =
            pinned.filter_map(|line| line.split_once("==")).find(|(name, _)| *name == package)
        {
            return version.to_owned();
        }
        let output = std::process::Command::new(package).arg("--version").env("PATH", self.path()).output();
        let text =
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        text.split_whitespace().nth(2).unwrap_or("?").to_owned()
    }

    /// The value of `PATH`: the tools before the system's programs.
    pub(crate) fn path(&self) -> String {
        let own = [self.node.join(".bin"), self.python.join("bin"), self.gh.join("usr/bin")];
        let own: Vec<_> = own.iter().map(|folder| folder.to_string_lossy()).collect();
        format!("{}:/usr/local/bin:/usr/bin:/bin", own.join(":"))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    configs: BTreeMap<String, String>,
    envs: BTreeMap<String, BTreeMap<String, String>>,
    case: Vec<Case>,
}

/// A tool in one of its ways.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) tool: String,
    pub(crate) way: String,
    pub(crate) package: String,
    #[serde(default)]
    pub(crate) short: bool,
    pub(crate) acp: Option<String>,
    #[serde(default)]
    pub(crate) steps: Vec<String>,
    #[serde(default)]
    pub(crate) exec: Option<Vec<String>>,
    #[serde(default = "of_a_model")]
    pub(crate) answers: [String; 3],
    #[serde(default)]
    pub(crate) ends_early: bool,
    #[serde(default)]
    pub(crate) first_end: End,
    #[serde(default)]
    pub(crate) refused: usize,
    #[serde(default)]
    pub(crate) may_fail: Vec<String>,
    config: String,
    #[serde(default = "without_tokens")]
    agent: String,
    env: Option<String>,
}

/// How a token ends in the second turn.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum End {
    /// The vendor ends it, when the last answer about it is no longer remembered.
    #[default]
    Early,
    /// The vendor ends it, right after a good answer about it.
    AtOnce,
    /// It reaches its end by the clock, as in the third turn, and threadkey has renewed the tool's file before.
    Renewed,
}

fn of_a_model() -> [String; 3] {
    [PLAIN_ANSWER, SHELL_ANSWER, PLAIN_ANSWER].map(str::to_owned)
}

fn without_tokens() -> String {
    "tokens = \"inject\"\n".to_owned()
}

/// All cases, with the named configurations and variables.
pub(crate) struct Cases(File);

impl Cases {
    pub(crate) fn read(packages: &Packages) -> Self {
        let path = packages.here.join("cases.toml");
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    pub(crate) fn all(&self) -> &[Case] {
        &self.0.case
    }

    /// Returns the sections of threadkey.toml for a case.
    pub(crate) fn config(&self, case: &Case, vendors: &Vendors, packages: &Packages) -> String {
        let config =
            self.0.configs.get(&case.config).unwrap_or_else(|| panic!("there is no {}", case.config));
        let command = case.acp.clone().unwrap_or_else(|| crate::script::script(RUN_ONE_STEP));
        let interpreter = packages.interpreter();
        let ca = vendors.ca_file.parent().expect("it is in a folder").to_owned();
        let folders = [&packages.node, &packages.python, &interpreter, &packages.gh, &packages.here, &ca];
        let read = folders.map(|path| format!("{:?}", path.display().to_string())).join(", ");
        let mut text = format!(
            "{config}\n[agent]\ncommand = [\"/bin/sh\", \"-c\", {command:?}]\nproviders = [\"acme\"]\nroot = \"workers\"\n\
             read = [{read}]\n{}\n[agent.env]\nPATH = {:?}\n",
            case.agent,
            packages.path(),
        );
        for (name, value) in self.env(case) {
            text += &format!("{name} = {value:?}\n");
        }
        for (at, step) in case.steps.iter().enumerate() {
            text += &format!("STEP_{} = {step:?}\n", at + 1);
        }
        fill(&text, vendors, packages)
    }

    /// Returns the variables of a case.
    pub(crate) fn env<'a>(&'a self, case: &'a Case) -> impl Iterator<Item = (&'a String, &'a String)> {
        let named = case.env.as_ref().map(|name| &self.0.envs[name]);
        named.into_iter().flatten()
    }
}

impl Case {
    /// The name by which it is chosen.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.tool, self.way)
    }
}

/// Fills in the addresses.
pub(crate) fn fill(text: &str, vendors: &Vendors, packages: &Packages) -> String {
    let mut text = text.replace("@here@", &packages.here.to_string_lossy());
    for (name, path) in [
        ("openai", "openai/v1"),
        ("anthropic", "anthropic"),
        ("gemini", "gemini"),
        ("github", "github"),
        ("git", "git"),
        ("control", "control"),
    ] {
        text = text.replace(&format!("@{name}@"), &vendors.url(path));
    }
    text = text.replace("@https@", &vendors.https);
    text = text.replace("@ca_file@", &vendors.ca_file.to_string_lossy());
    let git = vendors.url("git");
    text.replace("@git_host@", git.trim_start_matches("http://").trim_end_matches("/git"))
}

/// The script agent runs the command of the step that the prompt names.
const RUN_ONE_STEP: &str = r#"
n=$(printf '%s' "$line" | sed -E 's/.*step ([0-9]).*/\1/'); eval "step=\$STEP_$n"
if sh -e -c "$step" </dev/null >"step$n" 2>&1; then say "step $n is done"; else say "step $n failed"; fi
done_with end_turn"#;
