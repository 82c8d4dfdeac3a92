//! `threadkey providers`, as text and as JSON: the configured providers, and the presets.
#![expect(clippy::disallowed_methods, reason = "the tests' own files are not the program's")]

use serde_json::{Value, json};

use crate::support::program::Home;

/// One provider of each kind.
const CONFIG: &str = r#"
[store]
path = "state/auth.json"
[providers.acme]
authorization_endpoint = "http://127.0.0.1:1/authorize"
token_endpoint = "http://127.0.0.1:1/token"
userinfo_endpoint = "http://127.0.0.1:1/userinfo"
client_id = "threadkey"
redirect_uri = "http://127.0.0.1:1/callback"
scopes = ["read", "write"]
scope_separator = ","
login_ends = "30d"
[providers.bank]
issuer = "https://id.bank.example"
client_id = "threadkey"
redirect_uri = "http://127.0.0.1:1/callback"
keepalive = "7d"
[providers.codex]
preset = "openai-codex"
accept_terms_risk = true
grants = ["device", "code"]
[providers.docs]
exchange_from = "acme"
audience = ["docs"]
[providers.github]
preset = "github"
client_id = "client-1"
redirect_uri = "http://127.0.0.1:1/callback"
probe_endpoint = "https://api.github.com/rate_limit"
token_env = ["GH_TOKEN"]
"#;

const CONFIGURED: &str = "\
acme    http://127.0.0.1:1/token
        grants: authorization_code; scopes: with commas; revocation: no; a login ends 30d after the
        sign-in
bank    published by https://id.bank.example, not fetched yet: `threadkey doctor` or a sign-in
        fetches it
        grants: authorization_code; idle logins are refreshed after 7d
codex   https://auth.openai.com/oauth/token
        grants: device_code, authorization_code; scopes: with spaces; revocation: yes
        OpenAI names some programs that may use this client, and gives no general permission.
docs    exchanges the tokens of acme
        grants: token_exchange
github  https://github.com/login/oauth/access_token
        grants: authorization_code, environment_token; scopes: none; revocation: no; an idle login
        ends after 180d; the token of GH_TOKEN goes before the session

Presets, each for a section with preset = \"NAME\" and the keys that it needs. The first grant is the
default; `grants` turns on the others, and `token_env` the token of the environment:

anthropic       Anthropic (Claude Code): needs accept_terms_risk = true
                grants: authorization_code, environment_token; scopes: with spaces; revocation: no;
                a login ends 27d after the sign-in
                token_env may name ANTHROPIC_AUTH_TOKEN, CLAUDE_CODE_OAUTH_TOKEN
                Anthropic forbids the use of this client in other programs.
";

const SLACK: &str = "
slack           Slack: needs client_id, redirect_uri, scopes
                grants: authorization_code; scopes: with commas in user_scope; revocation: no; an
                idle login ends after 30d
                register a client at https://api.slack.com/apps
";

async fn listed(arguments: &[&str]) -> String {
    let ended = Home::new(CONFIG).run_in(arguments, "", &[("GH_TOKEN", "canary-1")]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!ended.stdout.contains("canary"), "{ended:?}");
    ended.stdout
}

#[tokio::test]
async fn the_list_of_providers_describes_each_one_within_100_columns() {
    let text = listed(&["providers"]).await;
    let (configured, _) = text.split_at_checked(CONFIGURED.len()).unwrap();
    assert_eq!(configured, CONFIGURED);
    assert!(text.contains(SLACK), "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 100 && line.trim_end() == line, "{line}");
    }
}

#[tokio::test]
async fn the_list_of_providers_has_the_same_facts_in_json() {
    let list: Value = serde_json::from_str(&listed(&["providers", "--json"]).await).unwrap();
    let named = |list: &Value, key: &str, name: &str| {
        list.as_array().unwrap().iter().find(|one| one[key] == name).unwrap().clone()
    };
    let github = named(&list["configured"], "provider", "github");
    assert_eq!(
        github,
        json!({
            "provider": "github", "preset": "github",
            "token_endpoint": "https://github.com/login/oauth/access_token", "client_id": "client-1",
            "grants": ["authorization_code", "environment_token"], "token_env": "GH_TOKEN",
            "scopes": [], "scope_parameter": "scope", "scope_separator": " ", "can_revoke": false,
            "probe_endpoint": "https://api.github.com/rate_limit", "accept_terms_risk": false,
            "terms": null, "idle_ends": 180 * 86_400,
        })
    );
    let acme = named(&list["configured"], "provider", "acme");
    assert_eq!(acme["probe_endpoint"], "http://127.0.0.1:1/userinfo", "userinfo stands in for it");
    let bank = named(&list["configured"], "provider", "bank");
    assert_eq!((&bank["token_endpoint"], &bank["can_revoke"]), (&Value::Null, &Value::Null));
    let docs = named(&list["configured"], "provider", "docs");
    assert_eq!((&docs["grants"], &docs["exchange_from"]), (&json!(["token_exchange"]), &json!("acme")));
    let codex = named(&list["configured"], "provider", "codex");
    assert_eq!(codex["accept_terms_risk"], true);
    let github = named(&list["presets"], "preset", "github");
    assert_eq!(
        github,
        json!({
            "preset": "github", "title": "GitHub", "needs": ["client_id", "redirect_uri"],
            "grants": ["authorization_code", "device_code", "environment_token"],
            "scopes": [], "scope_parameter": "scope", "scope_separator": " ", "can_revoke": false,
            "probe_endpoint": "https://api.github.com/user",
            "vendor_token_env": ["GH_TOKEN", "GITHUB_TOKEN"],
            "register": "https://github.com/settings/apps/new", "accept_terms_risk": false,
            "terms": null, "login_ends": null, "idle_ends": "180d",
        })
    );
}

#[tokio::test]
async fn a_wrong_probe_endpoint_is_refused_with_its_key() {
    for wrong in ["http://api.example/me", "https://user@api.example/me", "api.example/me"] {
        let home = Home::new(&format!(
            "{CONFIG}\n[providers.wrong]\nauthorization_endpoint = 'https://a.example/a'\ntoken_endpoint = 'https://a.example/t'\nclient_id = 'x'\nredirect_uri = 'http://127.0.0.1:1/callback'\nprobe_endpoint = '{wrong}'\n"
        ));
        let ended = home.run(&["providers"]).await;
        assert_eq!(ended.code, 2, "{wrong}: {ended:?}");
        assert!(ended.stderr.contains("providers.wrong.probe_endpoint: "), "{wrong}: {ended:?}");
    }
}

#[tokio::test]
async fn a_new_configuration_names_the_vendors_variables_in_a_comment() {
    let home = Home::new("");
    let arguments = ["--config", "new.toml", "config", "init", "--preset", "github"];
    let set = ["--set", "client_id=x", "--set", "redirect_uri=http://127.0.0.1:1/callback"];
    let ended = home.run(&[&arguments[..], &set].concat()).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let text = std::fs::read_to_string(home.path().join("new.toml")).unwrap();
    assert!(text.contains("\n# token_env = [\"GH_TOKEN\", \"GITHUB_TOKEN\"]\n"), "{text}");
    let own = [&["--config", "own.toml"], &arguments[2..], &set, &["--set", "token_env=MY_TOKEN"]].concat();
    assert_eq!(home.run(&own).await.code, 0);
    let text = std::fs::read_to_string(home.path().join("own.toml")).unwrap();
    assert!(text.contains("\ntoken_env = \"MY_TOKEN\"\n") && !text.contains("GH_TOKEN"), "{text}");
}
