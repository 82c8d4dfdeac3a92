//! The checks of the way out: certificates, proxies, and each host that threadkey connects to.
//!
//! A host that cannot be reached is a warning, because it may be back in a minute. A name that has
//! no address is a failure, and so is a fault that only a change on this machine can mend.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use http::{HeaderValue, header::AUTHORIZATION};
use serde::Deserialize;
use url::Url;

use super::{Finding, Verdict, tools};
use crate::{
    api::InjectRoute,
    app::AppSettings,
    cli::Exit,
    discord::{
        Application, DiscordError, DiscordSettings, RightsInWords, gateway_address, invite, missing_names,
        rights_in_words,
    },
    net::{Outward, Trust, Unreachable, is_loopback},
    oauth::Provider,
};

/// The time that Discord gets to answer.
const DISCORD_TIMEOUT: Duration = Duration::from_secs(5);

/// A host, and the parts of the configuration that use it.
struct Host<'a> {
    url: &'a Url,
    trust: &'a Trust,
    users: Vec<String>,
}

/// Checks everything about the network, all hosts at the same time.
pub(super) async fn check(settings: &AppSettings, discord: Option<&DiscordSettings>) -> Vec<Finding> {
    let outward = match Outward::from_environment() {
        Ok(outward) => outward,
        Err(error) => return vec![Finding::new("network", Verdict::Fail, error.to_string())],
    };
    let usable: Vec<_> = settings.providers.usable().collect();
    let tools = settings.agents.as_ref().map(tools::addresses).unwrap_or_default();
    let trust = Trust::default();
    let tools = tools.iter().map(|(tool, url)| (url, &trust, tool.clone()));
    let hosts = hosts(&usable, &settings.api.inject, tools);
    let used = hosts.values().map(|host| (host.url.clone(), host.trust));
    let base = discord.map(|discord| (discord.base(), &discord.trust));
    let mut findings = Vec::new();
    if used.chain(base).any(|(url, trust)| !is_loopback(&url) && !trust.has_file()) {
        findings.push(check_certificates());
    }
    findings.extend(check_proxy(&outward));
    let reached = join_all(hosts.values().map(|host| reach(&outward, host)));
    let asked = async {
        match discord {
            Some(discord) => check_discord(&outward, discord).await,
            None => Vec::new(),
        }
    };
    let (reached, asked) = tokio::join!(reached, asked);
    findings.extend(reached);
    findings.extend(asked);
    findings
}

/// Returns the hosts of all providers, of the routes of the injecting proxy and of the agents' tools, by
/// their names and ports.
fn hosts<'a>(
    providers: &'a [Arc<Provider>],
    routes: &'a [InjectRoute],
    tools: impl Iterator<Item = (&'a Url, &'a Trust, String)>,
) -> BTreeMap<(String, bool), Host<'a>> {
    let mut hosts = BTreeMap::new();
    let mut add = |url: &'a Url, trust: &'a Trust, user: String| {
        // A file of authorities makes a host another one: it is trusted in another way.
        let key = (address(url), trust.has_file());
        let host = hosts.entry(key).or_insert_with(|| Host { url, trust, users: Vec::new() });
        if !host.users.contains(&user) {
            host.users.push(user);
        }
    };
    for provider in providers {
        for url in provider.endpoints() {
            add(url, provider.trust(), provider.id().to_string());
        }
    }
    for route in routes {
        add(&route.upstream, &route.trust, format!("inject.{}", route.name));
    }
    tools.for_each(|(url, trust, tool)| add(url, trust, tool));
    hosts
}

fn address(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

fn check_certificates() -> Finding {
    match Trust::default().count() {
        Ok(count) => Finding::new("certificates", Verdict::Ok, format!("{count} authorities are trusted")),
        Err(problem) => {
            let text = problem.to_string();
            Finding::new("certificates", Verdict::Fail, text)
        }
    }
}

/// Checks the variables of the proxy. Without one there is nothing to report.
fn check_proxy(outward: &Outward) -> Option<Finding> {
    match outward.proxies().for_https() {
        Ok(proxy) => Some(Finding::new("proxy", Verdict::Ok, proxy?)),
        Err(error) => Some(Finding::new("proxy", Verdict::Fail, error.to_string())),
    }
}

async fn reach(outward: &Outward, host: &Host<'_>) -> Finding {
    let name = format!("network {}", host.users.join(", "));
    match outward.open(host.url, host.trust).await {
        Ok(_) => Finding::new(&name, Verdict::Ok, format!("{} can be reached", address(host.url))),
        // A wrong name stays wrong. Without any DNS threadkey does not work either.
        Err(cause @ Unreachable::Name { .. }) => {
            Finding { exit: Exit::Later, ..Finding::new(&name, Verdict::Fail, cause.to_string()) }
        }
        Err(cause) => Finding::new(&name, Verdict::Warn, cause.to_string()),
    }
}

/// Describes which users may use the bot, and how soon an ended right is noticed.
fn check_rights(settings: &DiscordSettings, application: Option<&Application>) -> Vec<Finding> {
    let RightsInWords { text, advice } = rights_in_words(settings, application);
    let rights = match advice {
        Some(advice) => Finding::new("rights", Verdict::Warn, format!("{text}. {advice}")),
        None => Finding::new("rights", Verdict::Ok, text),
    };
    let intents = application.map(|application| {
        let members = match application.has_members_intent() {
            true => "Server Members is on: agents of members who leave or lose a role end at once",
            false => "Server Members is off: agents of members who leave or lose a role get no token after a minute at most. Switch it on in the developer portal (Bot, Privileged Gateway Intents) to end them at once",
        };
        let content = match application.has_content_intent() {
            true => "Message Content is on",
            false => "Message Content is off: each prompt must mention the bot or use /ask",
        };
        let all_on = application.has_members_intent() && application.has_content_intent();
        let verdict = if all_on { Verdict::Ok } else { Verdict::Warn };
        Finding::new("discord intents", verdict, format!("{members}. {content}"))
    });
    std::iter::once(rights).chain(intents).collect()
}

/// The part of an answer that names the gateway.
#[derive(Deserialize)]
struct GatewayAnswer {
    url: String,
}

/// Checks the bot token, and the way to the gateway.
async fn check_discord(outward: &Outward, settings: &DiscordSettings) -> Vec<Finding> {
    let base = settings.base();
    let finding = |verdict, text: String| Finding::new("discord", verdict, text);
    let unreachable =
        |cause: Unreachable| finding(Verdict::Warn, format!("the bot token could not be checked: {cause}"));
    let client = outward
        .http_client(&settings.trust)
        .timeout(DISCORD_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build();
    let Ok(client) = client else {
        return vec![finding(Verdict::Fail, "an HTTP client cannot be built".to_owned())];
    };
    let get = |path: &str| {
        let mut token = HeaderValue::from_str(&format!("Bot {}", settings.token.expose()))
            .unwrap_or_else(|_| HeaderValue::from_static("Bot"));
        token.set_sensitive(true);
        let url = format!("{}/api/v10/{path}", base.as_str().trim_end_matches('/'));
        client.get(url).header(AUTHORIZATION, token).send()
    };
    let asked = get("users/@me").await;
    let token = match asked.as_ref().map(|answer| answer.status().as_u16()) {
        Ok(200) => finding(Verdict::Ok, "accepts the bot token".to_owned()),
        Ok(401) => finding(Verdict::Fail, DiscordError::TokenRefused.to_string()),
        Ok(status) => finding(Verdict::Warn, format!("the bot token could not be checked: HTTP {status}")),
        Err(error) => match outward.open(&base, &settings.trust).await {
            Err(cause) => return vec![unreachable(cause)],
            Ok(_) => {
                let reason = if error.is_timeout() { "no answer in time" } else { "no whole answer" };
                return vec![finding(
                    Verdict::Warn,
                    format!("the bot token could not be checked: {reason} from {base}"),
                )];
            }
        },
    };
    let gateway = async {
        let answer = get("gateway").await.ok()?.bytes().await.ok()?;
        gateway_address(&serde_json::from_slice::<GatewayAnswer>(&answer).ok()?.url)
    };
    let application = async {
        let answer = get("applications/@me").await.ok()?.bytes().await.ok()?;
        serde_json::from_slice::<Application>(&answer).ok()
    };
    let application = application.await;
    let mut findings = vec![token];
    findings.extend(check_rights(settings, application.as_ref()));
    let own = match asked {
        Ok(answer) => answer.bytes().await.ok().and_then(|own| serde_json::from_slice(&own).ok()),
        Err(_) => None,
    };
    if let Some(own) = own {
        findings.extend(check_servers(get("users/@me/guilds").await.ok(), &own).await);
    }
    if let Some(gateway) = gateway.await {
        let cause = outward.open(&gateway, &settings.trust).await.err();
        findings.push(match cause {
            None => {
                let text = format!("{} can be reached", address(&gateway));
                Finding::new("discord gateway", Verdict::Ok, text)
            }
            Some(cause) => Finding::new("discord gateway", Verdict::Warn, cause.to_string()),
        });
    }
    findings
}

/// The bot's own user, in Discord's answer.
#[derive(Deserialize)]
struct OwnAnswer {
    id: String,
}

/// A server of the bot, in Discord's answer.
#[derive(Deserialize)]
struct ServerAnswer {
    name: String,
    /// A number in decimal.
    permissions: String,
}

/// Checks the bot's permissions in its servers. An answer that cannot be read gives no finding: the
/// check of the token reports it.
async fn check_servers(answer: Option<reqwest::Response>, own: &OwnAnswer) -> Option<Finding> {
    // The bot's user has the id of its application.
    let invite = invite(&own.id);
    let answer = answer.filter(|answer| answer.status().is_success())?.bytes().await.ok()?;
    let servers: Vec<ServerAnswer> = serde_json::from_slice(&answer).ok()?;
    if servers.is_empty() {
        let text = format!("the bot is in no server. A manager of one can invite it with {invite}");
        return Some(Finding::new("discord servers", Verdict::Warn, text));
    }
    let missing = servers.iter().filter_map(|server| {
        let names = missing_names(server.permissions.parse().ok()?);
        // A server's manager chooses its name, so control characters are possible.
        (!names.is_empty()).then(|| format!("{} in {:?}", names.join(", "), server.name))
    });
    let missing: Vec<_> = missing.collect();
    Some(if missing.is_empty() {
        let text = format!("the bot has its permissions in each of {}", servers.len());
        Finding::new("discord servers", Verdict::Ok, text)
    } else {
        let text = format!(
            "the bot lacks {}. Give them to its role, or invite it again with {invite}",
            missing.join("; ")
        );
        Finding::new("discord servers", Verdict::Warn, text)
    })
}
