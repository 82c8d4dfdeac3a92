//! The plan of `threadkey exec`: which tool gets which provider's token, and in which way.
//!
//! A provider with a preset belongs to the tools that its preset names. Any other provider goes to the
//! tool of the command. Invariant: a token goes to the vendor of its own provider. So an address that is
//! built in for a tool counts only for the presets of that tool's vendor. Elsewhere the user names the
//! address, or the provider has a route.

use std::path::Path;

use crate::{
    api::InjectRoute,
    cli::{Exit, Failure},
    ids::ProviderId,
    tools::{self, Means, Tool, Way},
};

/// The tools of each preset: those that people start, and those that only programs of another name use.
const OF_PRESET: &[(&str, &[&str], &[&str])] = &[
    ("anthropic", &["claude"], &["anthropic-sdk"]),
    ("gemini-cli", &["gemini-code-assist"], &[]),
    ("github", &["gh", "git"], &[]),
    ("gitlab", &["git"], &[]),
    ("google", &["gemini"], &[]),
    ("openai-codex", &["codex"], &["openai-sdk"]),
    ("xai", &["grok"], &[]),
];

/// A provider, as the plan needs it.
pub(super) struct Named {
    pub(super) id: ProviderId,
    pub(super) preset: Option<String>,
    /// The address of the git host that takes its tokens, without a path.
    pub(super) git_host: Option<String>,
}

/// The arguments of the user.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted<'a> {
    pub(super) tool: Option<&'a str>,
    pub(super) way: Option<Way>,
    pub(super) base_url: Option<&'a str>,
    pub(super) model: Option<&'a str>,
}

/// A tool that gets the token of a provider.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    pub(super) provider: ProviderId,
    pub(super) tool: &'static Tool,
    pub(super) way: Way,
    pub(super) means: &'static Means,
    /// The vendor's address.
    pub(super) base_url: Option<String>,
    /// The route of the injecting proxy, for [`Way::Inject`].
    pub(super) route: Option<&'a InjectRoute>,
}

/// Decides for a command.
///
/// # Errors
/// [`Exit::Usage`], with the reason and the alternative, if a provider's token fits no tool.
pub(super) fn plan<'a>(
    providers: &[Named],
    program: &Path,
    wanted: Wanted<'_>,
    routes: &'a [InjectRoute],
) -> Result<Vec<Choice<'a>>, Failure> {
    let own = match wanted.tool {
        Some(name) => Some(tools::named(name).ok_or_else(|| unknown_tool(name))?),
        None => tools::of_program(program),
    };
    let mut choices: Vec<Choice<'a>> = Vec::new();
    for provider in providers {
        let mut reasons = Vec::new();
        let before = choices.len();
        let tools = tools_of(provider, own, wanted.tool.is_some());
        for tool in &tools {
            let is_own = own.is_some_and(|own| own.name == tool.name);
            // The address and the way of the arguments are those of the command itself.
            let wanted = if is_own || tools.len() == 1 { wanted } else { Wanted::default() };
            match choose(provider, tool, wanted, routes) {
                Ok(choice) => {
                    if let Some(taken) = choices.iter().find(|taken| !fit_together(taken, &choice)) {
                        return Err(Failure::new(
                            Exit::Usage,
                            format!(
                                "{} takes one provider: name either {} or {}",
                                tool.title, taken.provider, provider.id
                            ),
                        ));
                    }
                    choices.push(choice);
                }
                Err(reason) => reasons.push(reason),
            }
        }
        if choices.len() == before {
            return Err(refused(provider, program, &reasons));
        }
    }
    Ok(choices)
}

/// Whether one run can have both. Only git keeps several hosts apart.
fn fit_together(one: &Choice<'_>, other: &Choice<'_>) -> bool {
    one.tool.name != other.tool.name || one.tool.name == "git" && one.provider != other.provider
}

/// Returns the tools that a provider's token goes to.
fn tools_of(provider: &Named, own: Option<&'static Tool>, is_named: bool) -> Vec<&'static Tool> {
    let preset = provider.preset.as_deref();
    let Some((_, direct, indirect)) = OF_PRESET.iter().find(|(name, ..)| Some(*name) == preset) else {
        return own.into_iter().collect();
    };
    let is_direct = own.is_some_and(|own| direct.contains(&own.name.as_str()));
    let names = direct.iter().chain(if is_direct { &[][..] } else { indirect }).copied();
    let mut found: Vec<_> = names.filter_map(tools::named).collect();
    if let Some(own) = own.filter(|own| is_named && found.iter().all(|tool| tool.name != own.name)) {
        found = vec![own];
    }
    found
}

/// Chooses the best way of a tool that works with a provider.
fn choose<'a>(
    provider: &Named,
    tool: &'static Tool,
    wanted: Wanted<'_>,
    routes: &'a [InjectRoute],
) -> Result<Choice<'a>, String> {
    let mut reasons = Vec::new();
    for way in Way::ALL.into_iter().filter(|way| wanted.way.is_none_or(|wanted| wanted == *way)) {
        let Some(means) = tool.means(way) else { continue };
        match usable(provider, tool, way, means, wanted, routes) {
            Ok((base_url, route)) => {
                let provider = provider.id.clone();
                return Ok(Choice { provider, tool, way, means, base_url, route });
            }
            Err(reason) => reasons.push(format!("{way}: {reason}")),
        }
    }
    if reasons.is_empty() {
        let ways: Vec<_> = tool.ways().map(Way::as_str).collect();
        reasons.push(format!("it has no such way; it has {}", ways.join(", ")));
    }
    Err(format!("{} ({})", tool.title, reasons.join("; ")))
}

/// Returns the vendor's address and the route of a way, or the reason why it cannot be taken.
fn usable<'a>(
    provider: &Named,
    tool: &Tool,
    way: Way,
    means: &Means,
    wanted: Wanted<'_>,
    routes: &'a [InjectRoute],
) -> Result<(Option<String>, Option<&'a InjectRoute>), String> {
    if let Some(refused) = &means.refused {
        return Err(refused.clone());
    }
    if means.needs_model && wanted.model.is_none() {
        return Err("name a model with --model".to_owned());
    }
    let is_in_home =
        means.folder.as_ref().is_some_and(|folder| folder.variable.is_none() && folder.home.is_empty());
    if is_in_home {
        return Err("its file has one place in your home folder, where it would stay".to_owned());
    }
    let route = match way {
        Way::Inject => Some(route(provider, tool, means, routes)?),
        Way::Hook | Way::File => None,
    };
    // gh and git speak to the host that issued the token.
    let is_git = ["gh", "git"].contains(&tool.name.as_str());
    let git_host = provider.git_host.clone().filter(|_| is_git);
    let is_vendor = provider.preset.as_ref().is_some_and(|preset| tool.presets.contains(preset));
    let built_in = means.base_url.clone().filter(|url| !url.is_empty() && is_vendor);
    let base_url = wanted.base_url.map(str::to_owned).or(git_host).or(built_in);
    if means.base_url.is_some() && base_url.is_none() {
        return Err(format!(
            "name the address of the API with --base-url, because {} is not its vendor",
            provider.id
        ));
    }
    Ok((base_url, route))
}

/// Returns the route of a provider for a tool: the one with the tool's name, the one to the tool's
/// upstream, or the only one.
fn route<'a>(
    provider: &Named,
    tool: &Tool,
    means: &Means,
    routes: &'a [InjectRoute],
) -> Result<&'a InjectRoute, String> {
    let own: Vec<_> = routes.iter().filter(|route| route.provider == provider.id).collect();
    let named = own.iter().find(|route| route.name.as_str() == tool.name);
    let by_upstream = own.iter().find(|route| {
        let upstream = route.upstream.as_str().trim_end_matches('/');
        means.upstream.as_deref().is_some_and(|wanted| wanted.trim_end_matches('/') == upstream)
    });
    let only = own.first().filter(|_| own.len() == 1 && means.upstream.is_none());
    if let Some(route) = named.or(by_upstream).or(only) {
        return Ok(route);
    }
    Err(match (own.is_empty(), &means.upstream) {
        (true, None) => format!("add a route [inject.NAME] with provider = \"{}\"", provider.id),
        (_, Some(upstream)) => {
            format!("add a route [inject.{}] to {upstream} with provider = \"{}\"", tool.name, provider.id)
        }
        (false, None) => {
            format!("several routes are of {}: call one of them [inject.{}]", provider.id, tool.name)
        }
    })
}

fn unknown_tool(name: &str) -> Failure {
    let known: Vec<_> = tools::tools().map(|tool| tool.name.as_str()).collect();
    let hint = match crate::ids::closest(name, known.iter().copied()) {
        Some(similar) => format!("did you mean {similar}?"),
        None => format!("known are {}", known.join(", ")),
    };
    Failure::new(Exit::Usage, format!("there is no tool {name:?}; {hint}"))
}

fn refused(provider: &Named, program: &Path, reasons: &[String]) -> Failure {
    let id = &provider.id;
    let text = if reasons.is_empty() {
        let known: Vec<_> = tools::tools().map(|tool| tool.name.as_str()).collect();
        format!(
            "{} is no tool that threadkey knows, and {id} has no preset that names its tools: name one with --tool ({}), or let the program run `threadkey token {id}` itself",
            program.display(),
            known.join(", ")
        )
    } else {
        format!(
            "{id} cannot be given to {}. `threadkey token {id}` prints a token for other uses",
            reasons.join(", nor to ")
        )
    };
    Failure::new(Exit::Usage, text)
}

#[cfg(test)]
mod tests;
