//! The checks of `tools` and `files` of an agent. The configuration is valid already: each tool exists, its
//! provider is one of the agent's, and a way leads to it.

use std::{collections::BTreeMap, ffi::OsStr, path::Path};

use url::Url;

use super::{Finding, Verdict};
use crate::{
    agent::{AgentSettings, AgentTool, Agents},
    sys::process,
    tools::Way,
};

/// Reports how each tool of the agent gets its token, and warns of one whose program is not installed.
/// Programs are searched in the folders of `path`.
pub(super) fn check(agent: &AgentSettings, path: &OsStr) -> Vec<Finding> {
    let mut findings: Vec<_> = agent.tools.iter().map(|tool| check_tool(tool, path)).collect();
    let files: Vec<_> = agent.files.iter().map(|file| file.path.as_str()).collect();
    if !files.is_empty() {
        let text = format!("below HOME, while the owner is signed in: {}", files.join(", "));
        findings.push(Finding::new("agent files", Verdict::Ok, text));
    }
    findings
}

fn check_tool(tool: &AgentTool, path: &OsStr) -> Finding {
    let (name, programs) = (&tool.tool.name, &tool.tool.programs);
    let is_found = |program: &String| process::find_program(Path::new(program), path).is_ok();
    if !programs.is_empty() && !programs.iter().any(is_found) {
        let text = format!(
            "no program of the tool {name} ({}) is in the agent's PATH, which is {}. Install it, or write a PATH with \
             its folder into agent.env. If the agent brings it along, nothing is to be done",
            programs.join(", "),
            path.display()
        );
        return Finding::new("agent tools", Verdict::Warn, text);
    }
    let way = match (&tool.route, tool.way) {
        (Some(route), _) => format!("through the route inject.{route}"),
        (None, Way::File) => "by a file that stays fresh".to_owned(),
        (None, Way::Hook | Way::Inject) => "by its hook, which runs threadkey".to_owned(),
    };
    Finding::new("agent tools", Verdict::Ok, format!("{name} gets the token of {} {way}", tool.provider))
}

/// Returns the addresses that the tools send tokens to, with the tools' names. A route's upstream is not
/// among them.
pub(super) fn addresses(agents: &Agents) -> BTreeMap<String, Url> {
    let tools = agents.all().into_iter().flat_map(|agent| &agent.tools);
    let direct = tools.filter(|tool| tool.way != Way::Inject);
    let address = |tool: &AgentTool| {
        let url = tool.base_url.as_deref().and_then(|url| Url::parse(url).ok())?;
        Some((format!("tool {}", tool.tool.name), url))
    };
    direct.filter_map(address).collect()
}
