use super::*;
use crate::{
    api::{Credential, RouteHeaders},
    net::Trust,
};

fn provider(id: &str, preset: Option<&str>) -> Named {
    Named { id: id.parse().expect("a name"), preset: preset.map(str::to_owned), git_host: None }
}

fn route(name: &str, provider: &str, upstream: &str) -> InjectRoute {
    InjectRoute {
        name: name.parse().expect("a name"),
        provider: provider.parse().expect("a name"),
        upstream: upstream.parse().expect("a URL"),
        trust: Trust::default(),
        credential: Credential::Bearer,
        headers: RouteHeaders::default(),
        methods: Vec::new(),
        path_prefixes: Vec::new(),
    }
}

fn chosen(
    providers: &[Named],
    program: &str,
    wanted: Wanted<'_>,
    routes: &[InjectRoute],
) -> Result<Vec<String>, String> {
    let planned = plan(providers, Path::new(program), wanted, routes);
    let shown = |choice: &Choice<'_>| format!("{} {} {}", choice.provider, choice.tool.name, choice.way);
    planned.map(|all| all.iter().map(shown).collect()).map_err(|failure| failure.text)
}

#[test]
fn a_coding_tool_gets_its_own_provider_and_finds_git_and_gh_signed_in() {
    let providers = [provider("openai-codex", Some("openai-codex")), provider("hub", Some("github"))];
    assert_eq!(
        chosen(&providers, "/usr/bin/codex", Wanted::default(), &[]),
        Ok(["openai-codex codex hook", "hub gh file", "hub git hook"].map(String::from).to_vec())
    );
}

#[test]
fn a_program_that_is_no_tool_gets_the_tools_of_the_presets() {
    let providers = [provider("anthropic", Some("anthropic"))];
    assert_eq!(
        chosen(&providers, "sh", Wanted::default(), &[]),
        Ok(["anthropic claude hook", "anthropic anthropic-sdk file"].map(String::from).to_vec())
    );
    assert_eq!(
        chosen(&providers, "claude", Wanted::default(), &[]),
        Ok(vec!["anthropic claude hook".to_owned()])
    );
}

#[test]
fn a_token_goes_to_no_vendor_that_is_not_its_own_unless_the_user_names_the_address() {
    let acme = || [provider("acme", None)];
    let refused = chosen(&acme(), "codex", Wanted::default(), &[]).expect_err("chatgpt.com is not acme's");
    assert!(refused.contains("--base-url") && refused.contains("[inject.NAME]"), "{refused}");
    let base_url = Some("https://api.acme.example/v1");
    let named = Wanted { base_url, ..Wanted::default() };
    assert_eq!(chosen(&acme(), "codex", named, &[]), Ok(vec!["acme codex hook".to_owned()]));
    let routes = [route("api", "acme", "https://api.acme.example/v1")];
    let routed = chosen(&acme(), "codex", Wanted::default(), &routes);
    assert_eq!(routed, Ok(vec!["acme codex inject".to_owned()]));
}

#[test]
fn gh_and_git_take_the_route_to_their_own_host() {
    let routes = [
        route("github", "hub", "https://api.github.com"),
        route("github-git", "hub", "https://github.com"),
        route("other", "else", "https://api.github.com"),
    ];
    let inject = Wanted { way: Some(Way::Inject), ..Wanted::default() };
    let hub = [provider("hub", Some("github"))];
    let planned = plan(&hub, Path::new("git"), inject, &routes).expect("both have routes");
    let names: Vec<_> = planned.iter().map(|choice| choice.route.map(|route| route.name.as_str())).collect();
    assert_eq!(names, [Some("github"), Some("github-git")]);
}

#[test]
fn a_tool_without_a_way_is_refused_with_the_reason_and_the_alternative() {
    for (program, id, preset, wanted, words) in [
        (
            "gemini",
            "gemini-cli",
            Some("gemini-cli"),
            Wanted::default(),
            &["[inject.NAME]", "reads oauth_creds.json once"][..],
        ),
        ("make", "acme", None, Wanted::default(), &["--tool", "threadkey token acme"]),
        ("opencode", "acme", None, Wanted::default(), &["--model"]),
        ("x", "acme", None, Wanted { tool: Some("netrc"), ..Wanted::default() }, &["one place in your home"]),
        (
            "gh",
            "hub",
            Some("github"),
            Wanted { tool: Some("codx"), ..Wanted::default() },
            &["did you mean codex?"],
        ),
    ] {
        let refused = chosen(&[provider(id, preset)], program, wanted, &[]).expect_err(program);
        for word in words {
            assert!(refused.contains(word), "{program}: {refused}");
        }
    }
}

#[test]
fn two_providers_for_one_tool_are_refused_except_for_git() {
    let lab = Named { git_host: Some("https://lab.example".into()), ..provider("lab", Some("gitlab")) };
    let both = [provider("hub", Some("github")), lab];
    assert_eq!(
        chosen(&both, "git", Wanted::default(), &[]),
        Ok(["hub gh file", "hub git hook", "lab git hook"].map(String::from).to_vec())
    );
    let two = [provider("a", Some("openai-codex")), provider("b", Some("openai-codex"))];
    let refused = chosen(&two, "codex", Wanted::default(), &[]).expect_err("one login");
    assert!(refused.contains("name either a or b"), "{refused}");
}

#[test]
fn gh_and_git_speak_to_the_host_that_issued_the_token() {
    let base_urls = |git_host: Option<&str>, preset| {
        let hub = [Named { git_host: git_host.map(str::to_owned), ..provider("hub", Some(preset)) }];
        let planned = plan(&hub, Path::new("git"), Wanted::default(), &[]);
        planned.map(|all| all.into_iter().filter_map(|choice| choice.base_url).collect::<Vec<_>>())
    };
    assert_eq!(base_urls(None, "github"), Ok(vec!["https://github.com".to_owned(); 2]));
    let own = Some("https://git.acme.example");
    assert_eq!(base_urls(own, "github"), Ok(vec!["https://git.acme.example".to_owned(); 2]));
    assert_eq!(base_urls(own, "gitlab"), Ok(vec!["https://git.acme.example".to_owned()]));
    assert!(base_urls(None, "gitlab").is_err(), "no token of gitlab goes to github.com");
}
