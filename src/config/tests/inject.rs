//! The routes of the injecting proxy.

use super::*;
use crate::api::Credential;

fn route(more: &str) -> Result<crate::api::InjectRoute, String> {
    let loaded = load(&format!("{ACME}\n[inject.acme]\n{more}\n"), &[]);
    loaded.map(|config| config.api.inject[0].clone()).map_err(|error| error.to_string())
}

#[test]
fn every_preset_of_an_upstream_makes_a_route() {
    let file: toml::Table = include_str!("../../oauth/upstreams.toml").parse().expect("TOML");
    for (preset, keys) in &file {
        let missing = keys.get("upstream").is_none();
        let upstream = if missing { "upstream = 'https://api.example.com'" } else { "" };
        let built = route(&format!("preset = '{preset}'\n{upstream}")).expect(preset);
        assert_eq!(built.upstream.scheme(), "https", "{preset}");
        if missing {
            let error = route(&format!("preset = '{preset}'")).expect_err(preset);
            assert!(error.contains("inject.acme.upstream: it is required"), "{error}");
        }
    }
    let twitch = route("preset = 'twitch'").expect("valid");
    assert_eq!(twitch.headers.fixed[0].1, "threadkey", "the provider's own client");
    let git = route("preset = 'github-git'").expect("valid");
    assert_eq!(git.credential, Credential::Basic("x-access-token".into()));
}

#[test]
fn a_section_replaces_single_keys_of_its_preset() {
    let own = route("preset = 'gitlab'\nupstream = 'https://git.example/api/v4/'\nmethods = ['get']")
        .expect("valid");
    assert_eq!(own.upstream.as_str(), "https://git.example/api/v4");
    assert_eq!((own.provider.as_str(), own.methods.len()), ("acme", 1));
}

#[test]
fn a_wrong_route_is_refused_with_the_next_step() {
    const UP: &str = "upstream = 'https://api.example.com'\n";
    for (more, part) in [
        ("", "inject.acme.upstream: it is required"),
        ("preset = 'githb'", "did you mean \"github\"?"),
        ("upstream = 'http://api.example.com'", "must begin with https://"),
        ("upstream = 'https://api.example.com/a/../b'", "not a plain URL"),
        ("upstream = 'https://api.example.com/a?b=c'", "no query"),
        ("upstream = 'https://u:p@api.example.com'", "no user name"),
        ("upstream = 'https://api.example.com//a'", "no empty part"),
        ("upstream = 'api.example.com'", "not a plain URL"),
        (&format!("{UP}provider = 'acm'"), "did you mean acme?"),
        (&format!("{UP}auth = 'digest'"), "inject.acme.auth: it must be \"bearer\""),
        (&format!("{UP}auth = 'header:host'"), "inject.acme.auth"),
        (&format!("{UP}headers = {{ Authorization = 'x' }}"), "threadkey sets Authorization itself"),
        (&format!("{UP}headers = {{ Connection = 'x' }}"), "threadkey sets Connection itself"),
        (&format!("{UP}default_headers = {{ 'a b' = 'x' }}"), "not the name of a header"),
        (&format!("{UP}methods = ['CONNECT']"), "cannot be forwarded"),
        (&format!("{UP}path_prefixes = ['v1']"), "must begin with one slash"),
        (&format!("{UP}path_prefixes = ['/a/../b']"), "must begin with one slash"),
        (&format!("{UP}claim_headers = {{ X-A = [] }}"), "needs the names of the claim"),
        (&format!("{UP}upsteam = 'x'"), "did you mean `upstream`?"),
    ] {
        let error = route(more).map(drop).expect_err(more);
        assert!(error.contains(part), "{more}: {error}");
    }
    let named = load(&format!("{ACME}\n[inject.Acme]\n{UP}"), &[]).map(drop).expect_err("a wrong name");
    assert!(named.to_string().contains("is not a route name"), "{named}");
}

#[test]
fn agents_get_routes_only_for_their_providers_and_no_token_beside_them() {
    let agent = |agent: &str, env: &str| {
        let text = format!(
            "{ACME}\n[inject.acme]\nupstream = 'https://api.example.com'\n[agent]\ncommand = ['x']\n{agent}\n[agent.env]\n{env}\n"
        );
        load(&text, &[]).map_err(|error| error.to_string())
    };
    let good = agent("providers = ['acme']\ntokens = 'inject'", "A = '{inject:acme}'\nB = '{inject_secret}'");
    let good = good.expect("valid");
    assert!(good.api.inject_only);
    assert_eq!(good.agents.expect("there is one").default_agent().routes.len(), 1);
    for (settings, env, part) in [
        ("providers = []", "", "agents may not use acme: add it to agent.providers"),
        ("providers = ['acme']\ntokens = 'none'", "", "agent.tokens must be \"raw\""),
        ("providers = ['acme']\ntokens = 'inject'", "A = '{token:acme}'", "{inject:ROUTE}"),
        ("providers = ['acme']", "A = '{inject:acm}'", "did you mean {inject:acme}?"),
    ] {
        let error = agent(settings, env).map(drop).expect_err(settings);
        assert!(error.contains(part), "{error}");
    }
    let long = format!("providers = ['acme']\nroot = '/{}'", "r".repeat(80));
    let error = agent(&long, "A = '{inject_socket:acme}'").map(drop).expect_err("too long");
    assert!(error.contains("choose a shorter agent.root"), "{error}");
}

#[test]
fn an_mcp_server_is_the_upstream_of_its_provider() {
    let text = "[providers.linear]\nmcp = 'https://mcp.linear.app/mcp'\n[inject.linear]\n";
    let config = load(text, &[]).expect("valid");
    let route = &config.api.inject[0];
    assert_eq!(
        (route.upstream.as_str(), &route.path_prefixes[..]),
        ("https://mcp.linear.app/", &["/mcp".to_owned()][..])
    );
}

const LINEAR: &str = "[providers.linear]\nmcp = 'https://mcp.linear.app/v2/mcp?a=b'\n";

fn agent_of(text: &str) -> Result<(crate::agent::AgentSettings, Vec<crate::api::InjectRoute>), String> {
    let config = load(&format!("{ACME}\n{LINEAR}{text}"), &[]).map_err(|error| error.to_string())?;
    Ok((config.agents.expect("there is one").default_agent().clone(), config.api.inject))
}

#[test]
fn an_mcp_server_of_an_agent_gets_a_route_and_no_raw_token() {
    let (agent, routes) =
        agent_of("[agent]\ncommand = ['codex-acp']\nmcp = ['linear', 'linear']\n").expect("valid");
    assert!(agent.providers.is_empty() && !agent.mcp_by_stdio);
    assert_eq!((agent.mcp.len(), agent.mcp[0].path.as_str()), (1, "/v2/mcp?a=b"));
    assert_eq!(
        (routes.len(), routes[0].name.as_str(), routes[0].upstream.as_str()),
        (1, "linear", "https://mcp.linear.app/")
    );
    assert_eq!(routes[0].path_prefixes, ["/v2/mcp"]);
    // A table that leads there is used, and one for another address of the provider is not.
    let own = "[inject.mine]\nprovider = 'linear'\nupstream = 'https://mcp.linear.app/v2/'\nmethods = ['GET', 'POST']\n\
               [inject.api]\nprovider = 'linear'\nupstream = 'https://api.linear.app'\n[agent]\ncommand = ['x']\nmcp = ['linear']\n";
    let (agent, routes) = agent_of(own).expect("valid");
    assert_eq!((agent.mcp[0].route.as_str(), agent.mcp[0].path.as_str()), ("mine", "/mcp?a=b"));
    assert_eq!(routes.len(), 2);
    let (agent, routes) = agent_of(&own.replace("'GET', 'POST'", "'GET'")).expect("valid");
    assert_eq!((agent.mcp[0].route.as_str(), routes.len()), ("linear", 3));
}

#[test]
fn each_agent_has_its_own_mcp_servers_or_those_of_all() {
    let text = "[agent]\ndefault = 'claude'\nmcp = ['linear']\n[agents.claude]\ncommand = ['/opt/bin/claude-agent-acp']\n\
                [agents.none]\ncommand = ['x']\nproviders = []\nmcp = []\n[agents.http]\ncommand = ['claude']\nmcp_transport = 'http'\n";
    let config = load(&format!("{ACME}\n{LINEAR}{text}"), &[]).expect("valid");
    let agents = config.agents.expect("there are some");
    let found: Vec<_> =
        agents.all().iter().map(|agent| (agent.title.clone(), agent.mcp.len(), agent.mcp_by_stdio)).collect();
    let expected = [("claude", 1, true), ("http", 1, false), ("none", 0, false)];
    assert_eq!(found, expected.map(|(title, servers, by_stdio)| (title.to_owned(), servers, by_stdio)));
}

#[test]
fn a_wrong_mcp_server_of_an_agent_is_refused_with_the_next_step() {
    for (text, part) in [
        (
            "[agent]\ncommand = ['x']\nmcp = ['linaer']",
            "agent.mcp: there is no provider linaer in the configuration; did you mean linear?",
        ),
        (
            "[agent]\ncommand = ['x']\nmcp = ['acme']",
            "agent.mcp: the provider acme has no MCP server: write its URL into providers.acme.mcp",
        ),
        (
            "[agents.a]\ncommand = ['x']\nmcp = ['zzz']",
            "agents.a.mcp: there is no provider zzz in the configuration; configured are linear",
        ),
        (
            "[agent]\ncommand = ['x']\nmcp = ['linear']\nmcp_transport = 'sse'",
            "agent.mcp_transport must be \"http\"",
        ),
        (
            "[inject.linear]\nupstream = 'https://api.linear.app'\n[agent]\ncommand = ['x']\nmcp = ['linear']",
            "the table [inject.linear] does not lead to the MCP server of linear",
        ),
        (
            "[agent]\ncommand = ['x']\nmcp = ['linear']\nenv = { THREADKEY_MCP_PATH = 'x' }",
            "threadkey sets this variable itself",
        ),
    ] {
        let error = agent_of(text).map(drop).expect_err(text);
        assert!(error.contains(part), "{text}: {error}");
    }
    let long = format!("[agent]\ncommand = ['x']\nmcp = ['linear']\nroot = '/{}'", "r".repeat(80));
    let error = agent_of(&long).map(drop).expect_err("too long");
    assert!(error.contains("choose a shorter agent.root"), "{error}");
}
