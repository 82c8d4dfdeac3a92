//! `tools` and `files` of `[agents.NAME]`: which tool gets which provider's tokens, and how.
//!
//! Everything is checked here, before any worker exists: names, paths, placeholders, and that a
//! provider's token is not sent to another vendor.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use url::Url;

use super::{
    ConfigError,
    file::{FileEntry, FileSection, ToolSection},
    source::Source,
};
use crate::{
    agent::{AgentFile, AgentTool, FileNames, FileText, check_file_text},
    api::{ApiSettings, InjectRoute},
    ids::{ProviderId, RouteName, closest},
    net::is_loopback,
    oauth::Providers,
    sys::below,
    tools::{self, Format, Means, Tool, Way},
};

/// The parts of an agent that its tools depend on.
pub(super) struct ToolContext<'a> {
    pub(super) source: &'a Source<'a>,
    /// The agent's table.
    pub(super) table: &'a [&'a str],
    pub(super) configured: &'a Providers,
    /// The providers whose tokens the agent may use.
    pub(super) providers: &'a [ProviderId],
    /// The routes that the agent may use.
    pub(super) routes: &'a [RouteName],
    pub(super) api: &'a ApiSettings,
}

impl ToolContext<'_> {
    fn error(&self, key: &[&str], problem: &str) -> ConfigError {
        let path = [self.table, key].concat();
        self.source.error_at(&path, format!("{}: {problem}", path.join(".")))
    }

    /// Builds the tools. No variable of theirs may be in `env`.
    pub(super) fn tools(
        &self,
        sections: BTreeMap<String, ToolSection>,
        env: &BTreeMap<String, String>,
    ) -> Result<Vec<AgentTool>, ConfigError> {
        let mut found: Vec<AgentTool> = Vec::new();
        for (name, section) in sections {
            let tool = self.tool(&name, &section)?;
            for variable in tool.means.variables() {
                if env.contains_key(variable) {
                    let problem =
                        format!("the tool sets {variable}, and so does env: remove it from one of them");
                    return Err(self.error(&["tools", &name], &problem));
                }
                let same = |other: &&AgentTool| other.means.variables().any(|other| other == variable);
                if let Some(other) = found.iter().find(same) {
                    let problem =
                        format!("it sets {variable}, as {} does: remove one of them", other.tool.name);
                    return Err(self.error(&["tools", &name], &problem));
                }
            }
            for path in tool.paths() {
                if let Some(other) = found.iter().find(|other| other.paths().any(|other| other == path)) {
                    let problem = format!(
                        "it has the file {}, as {} does: remove one of them",
                        path.display(),
                        other.tool.name
                    );
                    return Err(self.error(&["tools", &name], &problem));
                }
            }
            found.push(tool);
        }
        Ok(found)
    }

    fn tool(&self, name: &str, section: &ToolSection) -> Result<AgentTool, ConfigError> {
        let error = |key: &[&str], problem: &str| Err(self.error(&[&["tools", name], key].concat(), problem));
        let Some(tool) = tools::named(name) else {
            let known = || tools::tools().map(|tool| tool.name.as_str());
            return error(&[], &format!("there is no tool {name:?}; {}", hint(name, known(), "tools")));
        };
        let provider = match section.provider.as_deref().unwrap_or_default() {
            "" => return error(&[], "provider is required, as in { provider = \"codex\" }"),
            text => self.provider(text).map_err(|problem| self.error(&["tools", name], &problem))?,
        };
        let routes: Vec<&InjectRoute> = self
            .api
            .inject
            .iter()
            .filter(|route| route.provider == provider && self.routes.contains(&route.name))
            .collect();
        let (way, means) = match self.way(tool, section, &routes) {
            Ok(found) => found,
            Err(problem) => return error(&["way"], &problem),
        };
        let route = match way {
            Way::Inject => Some(match self.route(section, means, &provider, &routes) {
                Ok(route) => route,
                Err(problem) => return error(&["route"], &problem),
            }),
            Way::Hook | Way::File if section.route.is_some() => {
                return error(
                    &["route"],
                    &format!("it is for way = \"inject\", and this is {way:?}", way = way.as_str()),
                );
            }
            Way::Hook | Way::File => None,
        };
        let base_url = match section.base_url.as_deref().filter(|text| !text.is_empty()) {
            Some(text) => match (address(text), &means.base_url) {
                (Ok(_), None) => {
                    return error(
                        &["base_url"],
                        &format!("{} takes no address in this way: remove it", tool.title),
                    );
                }
                (Ok(url), Some(_)) => Some(url),
                (Err(problem), _) => return error(&["base_url"], &problem),
            },
            None => match self.vendors_address(tool, way, means, &provider) {
                Ok(url) => url,
                Err(problem) => return error(&["base_url"], &problem),
            },
        };
        let model = section.model.clone().filter(|model| !model.is_empty());
        if means.needs_model && model.is_none() {
            return error(
                &["model"],
                &format!("{} needs the name of a model: write model = \"NAME\"", tool.title),
            );
        }
        Ok(AgentTool { tool, way, means, provider, base_url, model, route })
    }

    /// Returns the given way, or the best one that the configuration allows.
    fn way(
        &self,
        tool: &'static Tool,
        section: &ToolSection,
        routes: &[&InjectRoute],
    ) -> Result<(Way, &'static Means), String> {
        let inject_only = self.api.inject_only;
        let means = |way: Way| tool.means(way).map(|means| (way, means));
        if let Some(text) = section.way.as_deref().filter(|text| !text.is_empty()) {
            let ways = || tool.ways().map(Way::as_str).collect::<Vec<_>>().join(", ");
            let Some(way) = Way::ALL.into_iter().find(|way| way.as_str() == text) else {
                return Err(format!("there is no way {text:?}; {} has: {}", tool.title, ways()));
            };
            let Some((way, means)) = means(way) else {
                return Err(format!("{} has no way {text:?}; it has: {}", tool.title, ways()));
            };
            return match &means.refused {
                Some(reason) => Err(reason.clone()),
                None if inject_only && way != Way::Inject => Err(format!(
                    "agent.tokens = \"inject\" allows no token to agents, and {text:?} gives {} one: write way = \"inject\"",
                    tool.title
                )),
                None => Ok((way, means)),
            };
        }
        let has_route = section.route.is_some() || !routes.is_empty();
        let is_possible = |way: &Way| match way {
            Way::Inject => has_route,
            Way::Hook | Way::File => !inject_only,
        };
        match tool.ways().find(is_possible).and_then(means) {
            Some(found) => Ok(found),
            None if tool.ways().any(|way| way == Way::Inject) => {
                let reason = tool.means(Way::File).and_then(|means| means.refused.as_deref());
                Err(reason.map_or_else(
                    || format!("{} needs a route of this provider: add a table [inject.NAME]", tool.title),
                    str::to_owned,
                ))
            }
            None => Err(format!(
                "agent.tokens = \"inject\" allows no token to agents, and {} cannot use the injecting proxy: remove the tool",
                tool.title
            )),
        }
    }

    /// Returns the given route, or the only one that fits.
    fn route(
        &self,
        section: &ToolSection,
        means: &Means,
        provider: &ProviderId,
        routes: &[&InjectRoute],
    ) -> Result<RouteName, String> {
        let names = || routes.iter().map(|route| route.name.as_str());
        if let Some(text) = section.route.as_deref() {
            return match routes.iter().find(|route| route.name.as_str() == text) {
                Some(route) => Ok(route.name.clone()),
                None => Err(format!(
                    "{text:?} is no route of the provider {provider}; {}",
                    hint(text, names(), "its routes")
                )),
            };
        }
        let fits = |route: &&&InjectRoute| match &means.upstream {
            Some(upstream) => route.upstream.as_str().trim_end_matches('/') == upstream,
            None => true,
        };
        match routes.iter().filter(fits).collect::<Vec<_>>()[..] {
            [only] => Ok(only.name.clone()),
            [] if routes.is_empty() => Err(format!("{provider} has no route: add a table [inject.NAME]")),
            _ => Err(format!(
                "write which route it takes, as in route = {:?}. Those of {provider} are: {}",
                names().next().unwrap_or_default(),
                names().collect::<Vec<_>>().join(", ")
            )),
        }
    }

    /// Returns the vendor's own address, if the provider is the vendor's.
    fn vendors_address(
        &self,
        tool: &Tool,
        way: Way,
        means: &Means,
        provider: &ProviderId,
    ) -> Result<Option<String>, String> {
        let preset = self.configured.get(provider);
        let preset = preset.as_ref().and_then(|provider| provider.preset());
        let is_vendors = preset.is_some_and(|preset| tool.presets.iter().any(|known| known == preset));
        // The route alone decides where the token goes.
        if way == Way::Inject || is_vendors && means.base_url.as_deref() != Some("") {
            return Ok(means.base_url.clone());
        }
        match means.base_url.as_deref() {
            Some("") => Err(format!(
                "it is required: the address that {} uses, as in \"https://api.example.com\"",
                tool.title
            )),
            Some(url) => Err(format!(
                "it is required: without it {} sends the token of {provider} to {url}, and that provider has not the preset {}",
                tool.title,
                tool.presets.join(" or ")
            )),
            None if tool.presets.is_empty() => Ok(None),
            None => Err(format!(
                "{} takes only tokens of a provider with the preset {}",
                tool.title,
                tool.presets.join(" or ")
            )),
        }
    }

    fn provider(&self, text: &str) -> Result<ProviderId, String> {
        let known = || self.providers.iter().map(ProviderId::as_str);
        match self.providers.iter().find(|id| id.as_str() == text) {
            Some(id) => Ok(id.clone()),
            None => Err(format!(
                "{}.providers has no {text:?}; {}",
                self.table.join("."),
                hint(text, known(), "it lists")
            )),
        }
    }

    /// Builds the files. None may be a file of a tool.
    pub(super) fn files(
        &self,
        sections: BTreeMap<String, FileEntry>,
        tools: &[AgentTool],
    ) -> Result<Vec<AgentFile>, ConfigError> {
        let mut paths: BTreeSet<PathBuf> = BTreeSet::new();
        let mut found = Vec::new();
        for (path, entry) in sections {
            let error = |problem: &str| self.error(&["files", &path], problem);
            if !below::is_below(Path::new(&path)) {
                return Err(error(
                    "a file has a path below HOME, as in \".config/tool/auth.json\": not an absolute one, and without ..",
                ));
            }
            if path.chars().any(char::is_control) {
                return Err(error("the path has control characters: remove them"));
            }
            let parts: PathBuf = Path::new(&path).components().collect();
            let of_tools = tools.iter().find(|tool| tool.paths().any(|other| other == parts));
            if let Some(tool) = of_tools {
                return Err(error(&format!("tools.{} has this file: remove one of them", tool.tool.name)));
            }
            let all = || paths.iter().cloned().chain(tools.iter().flat_map(AgentTool::paths));
            if let Some(other) = all().find(|other| other.starts_with(&parts) || parts.starts_with(other)) {
                let problem = format!("another file has the path {}: choose another path", other.display());
                return Err(error(&problem));
            }
            let text = match entry {
                FileEntry::Text(text) => {
                    let known = FileNames {
                        providers: self.providers,
                        routes: self.routes,
                        raw_tokens: !self.api.inject_only,
                    };
                    check_file_text(&path, &text, &known).map_err(|problem| error(&problem))?;
                    FileText::Free(text)
                }
                FileEntry::Template(section) => {
                    self.template(&path, section).map_err(|problem| error(&problem))?
                }
            };
            paths.insert(parts);
            found.push(AgentFile { path, text });
        }
        Ok(found)
    }

    fn template(&self, path: &str, section: FileSection) -> Result<FileText, String> {
        let name = section.template.unwrap_or_default();
        let Some(template) = tools::template(&name) else {
            let known = tools::templates().map(|template| template.name.as_str());
            return Err(format!(
                "there is no template {name:?}; {}",
                hint(&name, known, "the templates are")
            ));
        };
        if self.api.inject_only {
            return Err("agent.tokens = \"inject\" allows no token to agents, and the template has one: remove the file".to_owned());
        }
        let provider = match section.provider.as_deref().unwrap_or_default() {
            "" => return Err("provider is required beside template".to_owned()),
            text => self.provider(text)?,
        };
        if let Some(reason) = template.read_once.as_ref().filter(|_| !section.read_once) {
            return Err(format!(
                "{reason}. Use tools with a route [inject.NAME] instead, or write read_once = true if the agent starts the tool anew for each task"
            ));
        }
        if Format::of_path(path) != template.format {
            return Err(format!(
                "the template {name} is {:?}, and the name of the file shows another format",
                template.format
            ));
        }
        let base_url = match section.base_url.as_deref().unwrap_or_default() {
            "" if template.content().text.contains("{host}") => {
                return Err(
                    "base_url is required with this template: the address whose host it names".to_owned()
                );
            }
            "" => None,
            text => Some(address(text)?),
        };
        Ok(FileText::Template { template, provider, base_url })
    }
}

/// Returns a sentence with the closest name, or all names after `all`.
fn hint<'a>(text: &str, known: impl Iterator<Item = &'a str> + Clone, all: &str) -> String {
    match closest(text, known.clone()) {
        Some(similar) => format!("did you mean {similar:?}?"),
        None => format!("{all}: {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// Checks an address of a vendor. Returns it without a slash at its end.
fn address(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| format!("{text:?} is no URL ({error})"))?;
    if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none() {
        return Err(format!("{text:?} must begin with https:// or http:// and a host"));
    }
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err("it must have neither a user, nor a query, nor a fragment".to_owned());
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err(format!(
            "{text:?} must begin with https://, because each request carries a token; http:// is for this machine"
        ));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}
