//! The tools of `tools.toml`.

use std::{collections::BTreeMap, fmt, path::Path, sync::LazyLock};

use serde::Deserialize;

use super::{
    content::Content,
    escape::Format,
    values::{RenderError, Rendered, RenderedFile, Values},
};
use crate::secret::Secret;

const DATA: &str = include_str!("tools.toml");

static ALL: LazyLock<Data> = LazyLock::new(|| {
    let mut data: Data = toml::from_str(DATA).expect("a test parses the file");
    for (name, tool) in &mut data.tools {
        tool.name.clone_from(name);
    }
    for (name, template) in &mut data.templates {
        template.name.clone_from(name);
    }
    data
});

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    templates: BTreeMap<String, Template>,
    tools: BTreeMap<String, Tool>,
}

/// A way in which a tool gets a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// The tool runs `threadkey token` for each token.
    Hook,
    /// The tool speaks to a route of the injecting proxy, and holds no token.
    Inject,
    /// The tool reads a file that threadkey keeps fresh.
    File,
}

impl Way {
    /// All ways, best first.
    pub const ALL: [Self; 3] = [Self::Hook, Self::Inject, Self::File];

    /// Returns its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hook => "hook",
            Self::Inject => "inject",
            Self::File => "file",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A tool that people already use.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Its name in the configuration.
    #[serde(skip)]
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// The names of its programs.
    pub programs: Vec<String>,
    /// The presets of the providers whose tokens the vendor's addresses take.
    #[serde(default)]
    pub presets: Vec<String>,
    hook: Option<Means>,
    inject: Option<Means>,
    file: Option<Means>,
}

/// The parts of one way of a tool.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Means {
    /// The folder of the tool's files.
    pub folder: Option<Folder>,
    /// The vendor's address. It is empty if the user has to name it, and absent if the way needs none.
    pub base_url: Option<String>,
    /// The upstream of the right route, where a provider usually has several routes.
    pub upstream: Option<String>,
    /// Whether the user has to name a model.
    #[serde(default)]
    pub needs_model: bool,
    /// The reason why this way must not be taken, and the other way to take.
    pub refused: Option<String>,
    /// Variables that the tool needs in a worker's sandbox, unless the configuration has others.
    #[serde(default)]
    pub sandbox_variables: BTreeMap<String, String>,
    #[serde(default)]
    variables: BTreeMap<String, Variable>,
    #[serde(default)]
    files: BTreeMap<String, FileTemplate>,
}

/// The folder of a tool's files.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// The variable that moves it to another place. Without one it has a single place in a home.
    pub variable: Option<String>,
    /// Its path below a home.
    pub home: String,
}

/// A text, or the name of a built-in template.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum FileTemplate {
    /// The text with its placeholders.
    Text(String),
    /// A built-in template.
    Named {
        /// Its name.
        template: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Variable {
    Text(String),
    Json { json: String },
}

/// A built-in template of a credential file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Its name in the configuration.
    #[serde(skip)]
    pub name: String,
    /// The tool and the file, for people.
    pub title: String,
    /// The format.
    pub format: Format,
    /// The reason why a single process of the tool does not last longer than a token.
    pub read_once: Option<String>,
    text: String,
}

/// Returns all tools, by name.
pub fn tools() -> impl Iterator<Item = &'static Tool> + Clone {
    ALL.tools.values()
}

/// Returns the tool of a name.
pub fn named(name: &str) -> Option<&'static Tool> {
    ALL.tools.get(name)
}

/// Returns the tool that a program belongs to. `program` may be a path.
pub fn of_program(program: &Path) -> Option<&'static Tool> {
    let name = program.file_name()?.to_str()?;
    tools().find(|tool| tool.programs.iter().any(|program| program == name))
}

/// Returns all built-in templates, by name.
pub fn templates() -> impl Iterator<Item = &'static Template> + Clone {
    ALL.templates.values()
}

/// Returns the template of a name.
pub fn template(name: &str) -> Option<&'static Template> {
    ALL.templates.get(name)
}

// === impl Tool ===

impl Tool {
    /// Returns the parts of a way, if the tool has it.
    pub fn means(&self, way: Way) -> Option<&Means> {
        match way {
            Way::Hook => self.hook.as_ref(),
            Way::Inject => self.inject.as_ref(),
            Way::File => self.file.as_ref(),
        }
    }

    /// Returns the ways that it has and that are not refused, best first.
    pub fn ways(&self) -> impl Iterator<Item = Way> {
        Way::ALL.into_iter().filter(|way| self.means(*way).is_some_and(|means| means.refused.is_none()))
    }
}

// === impl Means ===

impl Means {
    /// Returns the paths of its files, relative to the tool's folder.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Returns the names of its variables, that of the folder among them.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        let folder = self.folder.iter().filter_map(|folder| folder.variable.as_deref());
        self.variables.keys().map(String::as_str).chain(folder)
    }

    /// Whether it has files, or a folder for those that the tool makes.
    pub fn has_files(&self) -> bool {
        self.folder.is_some() || !self.files.is_empty()
    }

    /// Whether a file has an access token in it, so that it goes stale.
    pub fn holds_token(&self) -> bool {
        self.files.iter().any(|(path, file)| file.content(path).holds_token())
    }

    /// Whether it needs a token to be rendered in full.
    pub fn needs_token(&self) -> bool {
        self.holds_token() || self.files.iter().any(|(path, file)| file.content(path).names_account())
    }

    /// Whether the file at a path has a token or a secret of the injecting proxy in it.
    pub fn is_secret_file(&self, path: &str) -> bool {
        self.files.get(path).is_some_and(|file| file.content(path).holds_secret())
    }

    /// Whether it uses the socket of the injecting proxy.
    pub fn uses_socket(&self) -> bool {
        self.files.iter().any(|(path, file)| file.content(path).text.contains("{socket}"))
    }

    /// Renders the files and the variables.
    ///
    /// # Errors
    /// [`RenderError`] if a value is missing, or cannot stand in its file.
    pub fn render(&self, values: &Values<'_>) -> Result<Rendered, RenderError> {
        let mut files = self.render_files(values, false)?;
        files.extend(self.render_files(values, true)?);
        Ok(Rendered { files, variables: self.render_variables(values)? })
    }

    /// Renders the files with an access token, or those without one.
    ///
    /// # Errors
    /// As [`Means::render`].
    pub fn render_files(
        &self,
        values: &Values<'_>,
        with_token: bool,
    ) -> Result<Vec<RenderedFile>, RenderError> {
        let contents = self.files.iter().map(|(path, file)| (path, file.content(path)));
        let files =
            contents.filter(|(_, content)| content.holds_token() == with_token).map(|(path, content)| {
                Ok(RenderedFile {
                    path: path.clone(),
                    text: content.render(values).map_err(|error| error.within(path))?,
                    holds_token: with_token,
                    holds_secret: content.holds_secret(),
                })
            });
        files.collect()
    }

    /// Renders the variables.
    ///
    /// # Errors
    /// As [`Means::render`].
    pub fn render_variables(&self, values: &Values<'_>) -> Result<BTreeMap<String, Secret>, RenderError> {
        let mut variables = BTreeMap::new();
        for (name, variable) in &self.variables {
            let value = variable.content().render(values).map_err(|error| error.within(name))?;
            variables.insert(name.clone(), value);
        }
        if let Some(variable) = self.folder.as_ref().and_then(|folder| folder.variable.as_ref()) {
            let folder = values.folder.to_str().ok_or(RenderError::NotText)?;
            variables.insert(variable.clone(), Secret::new(folder));
        }
        Ok(variables)
    }
}

impl FileTemplate {
    /// Returns the text of a file at `path`.
    fn content(&self, path: &str) -> Content<'_> {
        match self {
            Self::Text(text) => Content { text, format: Format::of_path(path) },
            Self::Named { template: name } => template(name).expect("a test finds each name").content(),
        }
    }
}

impl Variable {
    fn content(&self) -> Content<'_> {
        match self {
            Self::Text(text) => Content { text, format: Format::Raw },
            Self::Json { json } => Content { text: json, format: Format::Json },
        }
    }
}

impl Template {
    /// Returns its text.
    pub fn content(&self) -> Content<'_> {
        Content { text: &self.text, format: self.format }
    }
}
