use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{
    Format, InjectValues, RenderError, Rendered, TokenValues, Values, Way, named, of_program, template,
    templates, tools,
    values::{Value, fill},
};
use crate::{
    ids::ProviderId,
    secret::{AccessToken, IdToken, InjectSecret},
};

/// Characters that have a meaning in one of the formats.
const ODD: &str = "a\"b'\\c\n\r\t#: {}[],&*!|>%@`\u{0}\u{7f}\u{85}\u{2028}\u{feff}é🦀${x}";

/// A token with the claims {"https://api.openai.com/auth":{"chatgpt_account_id":"acc-1"}}.
const CHATGPT_TOKEN: &str =
    "e30.eyJodHRwczovL2FwaS5vcGVuYWkuY29tL2F1dGgiOnsiY2hhdGdwdF9hY2NvdW50X2lkIjoiYWNjLTEifX0.c2ln";

fn token(access_token: &str) -> TokenValues {
    TokenValues {
        access_token: AccessToken::new(access_token),
        expires_at: 1_795_362_272,
        account: Some("alice".into()),
        scope: Some("read write".into()),
        id_token: None,
    }
}

fn with_values<T>(token: Option<&TokenValues>, use_values: impl FnOnce(&Values<'_>) -> T) -> T {
    let provider: ProviderId = "acme".parse().expect("a name");
    let inject = InjectValues {
        base_url: "http://127.0.0.1:4711/inject/acme".into(),
        secret: InjectSecret::new("s3cr3t"),
        socket: Some(PathBuf::from("/run/w/acme")),
    };
    use_values(&Values {
        provider: &provider,
        program: Path::new("/opt/thread key/bin/thread'key"),
        folder: Path::new("/home/w/folder"),
        base_url: Some("https://vendor.example/api/v1/"),
        model: Some("m-1"),
        token,
        inject: inject_of(token).then_some(&inject),
        now: 1_795_358_672,
    })
}

/// The values of a route are there where no token is.
fn inject_of(token: Option<&TokenValues>) -> bool {
    token.is_none()
}

fn rendered(tool: &str, way: Way) -> Rendered {
    let token = token("at-1");
    let token = (way == Way::File).then_some(&token);
    let means = named(tool).expect("a tool").means(way).expect("a way");
    let render = |values: &Values<'_>| match way {
        Way::Hook => means.render(&Values { inject: None, ..*values }),
        Way::Inject | Way::File => means.render(values),
    };
    with_values(token, render).expect("it renders")
}

fn file(rendered: &Rendered, path: &str) -> String {
    let file = rendered.files.iter().find(|file| file.path == path).expect("the file");
    file.text.expose().to_owned()
}

fn json_of(rendered: &Rendered, path: &str) -> Json {
    serde_json::from_str(&file(rendered, path)).expect("it is JSON")
}

fn toml_of(rendered: &Rendered, path: &str) -> toml::Table {
    file(rendered, path).parse().expect("it is TOML")
}

#[test]
fn each_way_of_each_tool_renders_and_keeps_tokens_out_of_variables() {
    for tool in tools() {
        assert!(tool.ways().next().is_some(), "{} has a way", tool.name);
        for way in Way::ALL.into_iter().filter(|way| tool.means(*way).is_some()) {
            let found = rendered(&tool.name, way);
            assert!(!found.files.is_empty() || !found.variables.is_empty(), "{} {way}", tool.name);
            for file in &found.files {
                let has_token = file.text.expose().contains("at-1");
                assert_eq!(file.holds_token, has_token, "{} {way} {}", tool.name, file.path);
                assert!(!file.text.expose().contains("{access"), "{} {way}", tool.name);
            }
            assert!(found.variables.values().all(|value| !value.expose().contains("at-1")));
            assert_eq!(found.files.iter().any(|file| file.holds_token), way == Way::File, "{}", tool.name);
        }
    }
}

#[test]
fn a_program_names_its_tool() {
    assert_eq!(of_program(Path::new("/usr/bin/codex-acp")).map(|tool| tool.name.as_str()), Some("codex"));
    assert_eq!(of_program(Path::new("gh")).map(|tool| tool.name.as_str()), Some("gh"));
    assert!(of_program(Path::new("/bin/sh")).is_none());
}

#[test]
fn codex_runs_threadkey_for_its_token() {
    let found = rendered("codex", Way::Hook);
    let config = toml_of(&found, "config.toml");
    let provider = &config["model_providers"]["threadkey"];
    assert_eq!(config["model_provider"].as_str(), Some("threadkey"));
    assert_eq!(provider["base_url"].as_str(), Some("https://vendor.example/api/v1"));
    assert_eq!(provider["auth"]["command"].as_str(), Some("/opt/thread key/bin/thread'key"));
    assert_eq!(
        provider["auth"]["args"],
        toml::Value::from(["token", "acme", "--probe", "--min-ttl", "6m"].map(String::from).to_vec())
    );
    assert_eq!(provider["auth"]["timeout_ms"].as_integer(), Some(30_000));
    assert_eq!(config["analytics"]["enabled"].as_bool(), Some(false));
    assert_eq!(found.variables["CODEX_HOME"].expose(), "/home/w/folder");
}

#[test]
fn codex_leaves_no_file_with_its_variables() {
    for way in Way::ALL {
        let config = toml_of(&rendered("codex", way), "config.toml");
        assert_eq!(config["features"]["shell_snapshot"].as_bool(), Some(false), "{way}");
    }
}

#[test]
fn codex_sends_the_workspace_of_a_chatgpt_token() {
    let headers = |token: Option<&TokenValues>| {
        let means = named("codex").and_then(|tool| tool.means(Way::Hook)).expect("a way");
        assert!(means.needs_token() && !means.holds_token());
        let found = with_values(token, |values| means.render(&Values { inject: None, ..*values }));
        let config = toml_of(&found.expect("it renders"), "config.toml");
        config["model_providers"]["threadkey"].get("http_headers").cloned()
    };
    let header = toml::Table::from_iter([("ChatGPT-Account-Id".to_owned(), "acc-1".into())]);
    assert_eq!(headers(Some(&token(CHATGPT_TOKEN))), Some(header.into()));
    assert_eq!(headers(Some(&token("at-1"))), None);
    assert_eq!(headers(None), None);
}

#[test]
fn codex_gets_a_login_file_that_it_never_refreshes() {
    let jwt = CHATGPT_TOKEN;
    let content = template("codex-auth").expect("a template").content();
    let render = |token: &TokenValues| with_values(Some(token), |values| content.render(values));
    let parse = |text: &str| serde_json::from_str::<Json>(text).expect("it is JSON");
    let text = render(&token(jwt)).expect("it renders");
    assert_eq!(
        parse(text.expose()),
        json!({
            "auth_mode": "chatgptAuthTokens",
            "OPENAI_API_KEY": null,
            "tokens": { "id_token": jwt, "access_token": jwt, "refresh_token": "", "account_id": "acc-1" },
            "last_refresh": "2026-11-22T14:44:32Z",
        })
    );
    let with_id_token = TokenValues { id_token: Some(IdToken::new("id.t.x")), ..token(jwt) };
    assert_eq!(parse(render(&with_id_token).expect("it renders").expose())["tokens"]["id_token"], "id.t.x");
    let text = render(&token("no-jwt")).expect("an account id is not required");
    assert_eq!(parse(text.expose())["tokens"].get("account_id"), None);
}

#[test]
fn claude_gets_a_hook_a_route_or_a_profile() {
    let hook = rendered("claude", Way::Hook);
    let command = r"'/opt/thread key/bin/thread'\''key' token acme --probe --min-ttl 6m";
    assert_eq!(
        json_of(&hook, "settings.json"),
        json!({ "apiKeyHelper": command, "env": { "ANTHROPIC_BASE_URL": "https://vendor.example/api/v1" } })
    );
    assert_eq!(hook.variables["ANTHROPIC_BETAS"].expose(), "oauth-2025-04-20");
    assert_eq!(hook.variables["CLAUDE_CONFIG_DIR"].expose(), "/home/w/folder");

    let inject = rendered("claude", Way::Inject);
    assert_eq!(inject.variables["ANTHROPIC_BASE_URL"].expose(), "http://127.0.0.1:4711/inject/acme");
    assert_eq!(inject.variables["ANTHROPIC_AUTH_TOKEN"].expose(), "s3cr3t");

    let profile = rendered("claude", Way::File);
    assert_eq!(
        json_of(&profile, "credentials/default.json"),
        json!({
            "version": "1.0", "type": "oauth_token", "access_token": "at-1", "expires_at": 1_795_362_272,
        })
    );
    let config = json_of(&profile, "configs/default.json");
    assert_eq!(config["authentication"], json!({ "type": "user_oauth" }), "no client id");
    assert_eq!(profile.variables["ANTHROPIC_CONFIG_DIR"].expose(), "/home/w/folder");

    let content = template("claude-credentials").expect("a template").content();
    let text = with_values(Some(&token("at-1")), |values| content.render(values)).expect("it renders");
    let parsed: Json = serde_json::from_str(text.expose()).expect("it is JSON");
    assert_eq!(parsed, json!({ "claudeAiOauth": { "accessToken": "at-1", "scopes": ["user:inference"] } }));
}

#[test]
fn gemini_takes_a_route_and_its_file_is_refused() {
    let tool = named("gemini").expect("a tool");
    assert_eq!(tool.ways().collect::<Vec<_>>(), [Way::Inject]);
    let refused = tool.means(Way::File).and_then(|means| means.refused.as_deref()).expect("a reason");
    assert!(refused.contains("reads oauth_creds.json once") && refused.contains("[inject.NAME]"));
    let found = rendered("gemini", Way::Inject);
    assert_eq!(found.variables["GEMINI_API_KEY"].expose(), "s3cr3t");
    assert_eq!(json_of(&found, "settings.json")["security"]["auth"]["selectedType"], "gemini-api-key");
    let found = rendered("gemini", Way::File);
    assert_eq!(
        json_of(&found, "oauth_creds.json"),
        json!({
            "access_token": "at-1", "token_type": "Bearer", "scope": "read write",
            "expiry_date": 1_795_362_272_000_i64,
        })
    );
}

#[test]
fn gh_and_git_get_their_configuration() {
    let found = rendered("gh", Way::File);
    assert_eq!(
        file(&found, "hosts.yml"),
        "\"vendor.example\":\n  git_protocol: https\n  oauth_token: \"at-1\"\n  user: \"alice\"\n"
    );
    let found = rendered("gh", Way::Inject);
    assert!(file(&found, "hosts.yml").contains("oauth_token: \"s3cr3t\""));
    assert!(file(&found, "config.yml").contains("http_unix_socket: \"/run/w/acme\""));

    let found = rendered("git", Way::Hook);
    let pairs: Vec<_> = found.variables.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(
        pairs,
        [
            ("GIT_CONFIG_COUNT", "2"),
            ("GIT_CONFIG_KEY_0", "credential.https://vendor.example/api/v1.helper"),
            ("GIT_CONFIG_KEY_1", "credential.https://vendor.example/api/v1.helper"),
            ("GIT_CONFIG_VALUE_0", ""),
            (
                "GIT_CONFIG_VALUE_1",
                r"!'/opt/thread key/bin/thread'\''key' token acme --probe --format git-credential --host 'vendor.example'"
            ),
            ("GIT_TERMINAL_PROMPT", "0"),
        ]
    );
    let found = rendered("netrc", Way::File);
    assert_eq!(file(&found, ".netrc"), "machine vendor.example\nlogin oauth2\npassword at-1\n");
}

#[test]
fn no_template_has_a_refresh_token() {
    for template in templates() {
        let text = with_values(Some(&token("at-1")), |values| template.content().render(values))
            .expect("it renders");
        let without = text.expose().replace("\"refresh_token\": \"\"", "");
        assert!(!without.to_lowercase().contains("refresh_token"), "{}", template.name);
    }
}

#[test]
fn a_value_that_cannot_stand_in_a_file_is_refused() {
    let netrc = template("netrc").expect("a template").content();
    for odd in ["", "a b", "a\nmachine evil", "a\tb", "a\"b", "é"] {
        let error = with_values(Some(&token(odd)), |values| netrc.render(values)).expect_err(odd);
        assert_eq!(error, RenderError::Characters("access_token".into()));
    }
    let plain = |text, value: &str| {
        let content = super::Content { text, format: Format::of_path("a.ini") };
        fill(content, &mut |_| Ok(Some(Value::Text(value.to_owned().into()))))
    };
    assert!(plain("key = {token:acme}", "a-b_c.d~e+f/g=").is_ok());
    for odd in ["a\nb", "a b", "$(x)", "`x`", "a;b", "a\"b"] {
        assert!(plain("key = {token:acme}", odd).is_err(), "{odd}");
    }
    assert!(plain("key = \"{scope:acme}\"", "read write").is_ok());
}

#[test]
fn a_token_ends_no_string_around_its_double_quotes() {
    for (text, format) in [
        ("a: '\"{token:acme}\"'\n", Format::Yaml),
        ("a = '''\n\"{token:acme}\"\n'''\n", Format::Toml),
        ("a = '\"{token:acme}\"'\n", Format::Toml),
    ] {
        let mut value = |_: &str| Ok(Some(Value::Text("x'''\nb: c' '\nb = 'c".into())));
        let filled = fill(super::Content { text, format }, &mut value).expect("it renders");
        assert_eq!(filled.expose().matches('\'').count(), text.matches('\'').count(), "{text}");
        assert_eq!(filled.expose().lines().count(), text.lines().count(), "{text}");
    }
}

proptest! {
    #[test]
    fn any_token_stays_one_value_of_its_file(parts in prop::collection::vec(prop_oneof![
        "[A-Za-z0-9._~+/=-]{1,20}", "\\PC{1,5}", any::<char>().prop_map(String::from), Just(ODD.to_owned()),
    ], 1..6)) {
        let secret = parts.concat();
        let value = |name: &str| Ok(Some(match name {
            "expires_at" => Value::Number(7),
            _ => Value::Text(secret.clone().into()),
        }));
        let render = |text: &str, format| {
            fill(super::Content { text, format }, &mut value.clone()).expect("it renders").expose().to_owned()
        };
        for template in templates().filter(|template| template.format == Format::Json) {
            let text = fill(template.content(), &mut |name| match name {
                "expires_at_ms" => Ok(Some(Value::Number(7))),
                _ => value(name),
            }).expect("it renders");
            let parsed: Json = serde_json::from_str(text.expose()).expect("it is JSON");
            prop_assert!(holds(&parsed, &secret), "{}", template.name);
        }
        let parsed: toml::Table =
            render("a = \"{token:acme}\"\nb = {expires_at}\n", Format::Toml).parse().expect("it is TOML");
        prop_assert_eq!(parsed["a"].as_str(), Some(secret.as_str()));
        prop_assert_eq!(parsed.len(), 2);

        let yaml = render("a: \"{token:acme}\"\nb: c\n", Format::Yaml);
        prop_assert_eq!(yaml.lines().count(), 2, "{}", yaml);
        let scalar = yaml.lines().next().and_then(|line| line.strip_prefix("a: ")).expect("the first line");
        prop_assert!(scalar.chars().all(is_printable));
        // These double-quoted scalars are JSON strings as well.
        prop_assert_eq!(serde_json::from_str::<String>(scalar).expect("a scalar"), secret);
    }
}

fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

fn holds(value: &Json, secret: &str) -> bool {
    match value {
        Json::String(text) => text == secret,
        Json::Array(all) => all.iter().any(|value| holds(value, secret)),
        Json::Object(all) => all.values().any(|value| holds(value, secret)),
        _ => false,
    }
}
