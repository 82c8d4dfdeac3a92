//! `tools` and `files` of agents.

use super::*;
use crate::{agent::AgentSettings, tools::Way};

const VENDORS: &str = "[providers.codex]\npreset = 'openai-codex'\naccept_terms_risk = true\n\
     [providers.github]\npreset = 'github'\nclient_id = 'x'\nredirect_uri = 'http://127.0.0.1:1/callback'\n";

fn agent(keys: &str, more: &str) -> String {
    format!(
        "{ACME}{VENDORS}[agents.a]\ncommand = ['x']\nproviders = ['acme', 'codex', 'github']\n{keys}\n{more}"
    )
}

fn only(keys: &str, more: &str) -> AgentSettings {
    let agents = load(&agent(keys, more), &[]).expect("is valid").agents.expect("is there");
    agents.default_agent().clone()
}

fn ways(keys: &str, more: &str) -> Vec<(String, Way, Option<String>)> {
    let settings = only(keys, more);
    let of = |tool: &crate::agent::AgentTool| {
        (tool.tool.name.clone(), tool.way, tool.route.as_ref().map(|route| route.as_str().to_owned()))
    };
    settings.tools.iter().map(of).collect()
}

/// Asserts that a configuration is refused with these words and its line.
#[track_caller]
fn assert_refused(text: &str, words: &str) {
    let error = error(text, &[]);
    assert!(error.contains(words) && error.contains("line "), "{text}\n{error}\n{words}");
}

const ROUTES: &str = "[inject.hub]\npreset = 'github'\nprovider = 'github'\n\
     [inject.hub-git]\npreset = 'github-git'\nprovider = 'github'\n";

#[test]
fn a_tool_gets_its_best_way_that_the_configuration_allows() {
    let tools = "tools = { codex = 'codex', gh = 'github', git = 'github' }";
    let found = |name: &str, way, route: Option<&str>| (name.to_owned(), way, route.map(str::to_owned));
    assert_eq!(
        ways(tools, ""),
        [found("codex", Way::Hook, None), found("gh", Way::File, None), found("git", Way::Hook, None)]
    );
    assert_eq!(
        ways(tools, ROUTES),
        [
            found("codex", Way::Hook, None),
            found("gh", Way::Inject, Some("hub")),
            found("git", Way::Hook, None)
        ]
    );
    let inject_only =
        format!("{ROUTES}[inject.codex]\npreset = 'openai-codex'\n[agent]\ntokens = 'inject'\n");
    assert_eq!(
        ways(tools, &inject_only),
        [
            found("codex", Way::Inject, Some("codex")),
            found("gh", Way::Inject, Some("hub")),
            found("git", Way::Inject, Some("hub-git")),
        ]
    );
    let chosen =
        "tools = { codex = { provider = 'codex', way = 'file', base_url = 'https://x.example/v1/' } }";
    let settings = only(chosen, "");
    assert_eq!(settings.tools[0].way, Way::File);
    assert_eq!(settings.tools[0].base_url.as_deref(), Some("https://x.example/v1"));
}

#[test]
fn a_wrong_tool_is_refused_with_its_place_and_a_way_out() {
    for (tools, more, part) in [
        ("{ codx = 'codex' }", "", "agents.a.tools.codx: there is no tool \"codx\"; did you mean \"codex\"?"),
        ("{ codex = 'codx' }", "", "agents.a.providers has no \"codx\"; did you mean \"codex\"?"),
        ("{ codex = {} }", "", "provider is required"),
        ("{ codex = 7 }", "", "expected a provider, or a table"),
        ("{ codex = { provider = 'codex', rout = 'x' } }", "", "did you mean `route`?"),
        ("{ codex = { provider = 'codex', way = 'env' } }", "", "Codex has: hook, inject, file"),
        (
            "{ gh = { provider = 'github', way = 'hook' } }",
            "",
            "GitHub CLI has no way \"hook\"; it has: inject, file",
        ),
        (
            "{ gemini = 'acme' }",
            "",
            "reads oauth_creds.json once, so it fails at the end of the token. Add a route",
        ),
        ("{ gemini = { provider = 'acme', way = 'file' } }", "", "reads oauth_creds.json once"),
        ("{ openai-sdk = 'acme' }", "", "needs a route of this provider: add a table [inject.NAME]"),
        (
            "{ codex = 'acme' }",
            "",
            "sends the token of acme to https://chatgpt.com/backend-api/codex, and that provider has not the preset openai-codex",
        ),
        ("{ grok = 'acme' }", "", "takes only tokens of a provider with the preset xai"),
        ("{ netrc = 'acme' }", "", "agents.a.tools.netrc.base_url: it is required"),
        ("{ netrc = { provider = 'acme', base_url = 'https://u:p@x.example' } }", "", "neither a user"),
        ("{ netrc = { provider = 'acme', base_url = 'ftp://x.example' } }", "", "must begin with https://"),
        (
            "{ codex = { provider = 'acme', base_url = 'http://x.example' } }",
            "",
            "because each request carries a token",
        ),
        (
            "{ codex = { provider = 'codex', route = 'hub' } }",
            ROUTES,
            "it is for way = \"inject\", and this is \"hook\"",
        ),
        ("{ gh = { provider = 'github', route = 'hubb' } }", ROUTES, "did you mean \"hub\"?"),
        (
            "{ openai-sdk = 'github' }",
            ROUTES,
            "write which route it takes, as in route = \"hub\". Those of github are: hub, hub-git",
        ),
        (
            "{ claude = { provider = 'acme', base_url = 'https://x.example' }, anthropic-sdk = { provider = 'github', route = 'hub' } }",
            ROUTES,
            "it sets ANTHROPIC_BASE_URL, as anthropic-sdk does",
        ),
        ("{ opencode = { provider = 'github', route = 'hub' } }", ROUTES, "needs the name of a model"),
        ("{ codex = 'codex' }\nenv = { CODEX_HOME = '/x' }", "", "the tool sets CODEX_HOME, and so does env"),
        (
            "{ netrc = { provider = 'acme', base_url = 'https://x.example' } }",
            "[agent]\ntokens = 'inject'\n",
            "cannot use the injecting proxy",
        ),
        (
            "{ gh = { provider = 'github', way = 'file' } }",
            "[agent]\ntokens = 'inject'\n",
            "write way = \"inject\"",
        ),
    ] {
        assert_refused(&agent(&format!("tools = {tools}"), more), part);
    }
}

#[test]
fn a_wrong_file_is_refused_with_its_place_and_a_way_out() {
    for (file, more, part) in [
        ("'/etc/passwd' = ''", "", "a path below HOME"),
        ("'a/../../b' = ''", "", "a path below HOME"),
        ("'' = ''", "", "a path below HOME"),
        ("'a' = ''\n'a/b' = ''", "", "another file has the path a: choose another path"),
        ("'a/./b' = ''\n'a/b' = ''", "", "another file has the path a/b"),
        ("'.codex/config.toml' = ''", "", "tools.codex has this file"),
        ("'.codex' = ''", "", "another file has the path"),
        ("'a.json' = '{token:acme}'", "", "must stand between double quotes"),
        ("'a.yml' = 'a: {token:acme}'", "", "must stand between double quotes"),
        ("'a.json' = '{\"a\": \"{token:acme}\"'", "", "it is no JSON"),
        ("'a.toml' = 'a = [\"{token:acme}\"'", "", "it is no TOML"),
        ("'a' = '{token:acne}'", "", "did you mean {token:acme}?"),
        ("'a' = '{tokn:acme}'", "", "did you mean {token:PROVIDER}?"),
        ("'a' = '{capability}'", "", "because a file can outlive its worker"),
        ("'a' = '{inject:x}'", "", "no table [inject.NAME]; there is none"),
        (
            "'a' = '{token:acme}'",
            "[inject.codex]\npreset = 'openai-codex'\n[agent]\ntokens = 'inject'\n",
            "agents hold no token",
        ),
        ("'a' = { template = 'netrcs' }", "", "did you mean \"netrc\"?"),
        ("'a.json' = { template = 'codex-auth' }", "", "provider is required"),
        ("'a' = { template = 'codex-auth', provider = 'codex' }", "", "shows another format"),
        (
            "'.netrc' = { template = 'netrc', provider = 'acme' }",
            "",
            "base_url is required with this template",
        ),
        (
            "'.netrc' = { template = 'netrc', provider = 'acme', base_url = 'http://x.example' }",
            "",
            "because each request carries a token",
        ),
        ("'a.json' = { template = 'gemini-oauth', provider = 'acme' }", "", "write read_once = true"),
        ("'a.json' = { template = 'codex-auth', provider = 'codex', x = 1 }", "", "unknown"),
    ] {
        let text = agent("tools = { codex = 'codex' }", &format!("[agents.a.files]\n{file}\n{more}"));
        assert_refused(&text, part);
    }
}

#[test]
fn files_and_tools_of_the_common_table_hold_for_each_agent() {
    let text = format!(
        "{ACME}[agent]\nproviders = ['acme']\ndefault = 'a'\ntools = {{ netrc = {{ provider = 'acme', base_url = 'https://x.example' }} }}\n\
         [agent.files]\n'a.json' = '{{\"t\": \"{{token:acme}}\"}}'\n'b.json' = {{ template = 'gemini-oauth', provider = 'acme', read_once = true }}\n\
         [agents.a]\ncommand = ['x']\n[agents.b]\ncommand = ['x']\ntools = {{}}\nfiles = {{ 'c' = 'x' }}\n"
    );
    let agents = load(&text, &[]).expect("is valid").agents.expect("is there");
    let found: Vec<_> = agents
        .all()
        .iter()
        .map(|agent| {
            let paths: Vec<_> = agent.files.iter().map(|file| file.path.as_str()).collect();
            (agent.tools.len(), paths.join(" "))
        })
        .collect();
    assert_eq!(found, [(1, "a.json b.json".to_owned()), (0, "a.json b.json c".to_owned())]);
}
