//! `threadkey doctor`: everything that can be looked at before it matters.

mod finding;
mod sockets;

pub use finding::{Finding, Verdict};

use std::{ffi::OsStr, fmt::Write as _, path::Path, time::Duration};

use super::Parts;
use crate::{
    agent::{AgentSettings, Isolation},
    cli::{Exit, Failure},
    discord::DiscordSettings,
    store,
    sys::{process, sandbox},
};

/// How long Discord gets to answer.
const DISCORD_WITHIN: Duration = Duration::from_secs(10);
/// Where Discord's REST is when nobody says otherwise.
const DISCORD: &str = "https://discord.com/";

/// Looks at everything. `discord` is the bot's settings, or the sentence that says what is missing. `path` is where
/// programs are looked for.
pub async fn examine(parts: &Parts, discord: Result<DiscordSettings, String>, path: &OsStr) -> Vec<Finding> {
    let mut findings =
        vec![Finding::new("configuration", Verdict::Ok, format!("{} is sound", parts.config.display()))];
    findings.extend(store_checks(parts).await);
    findings.push(providers(parts));
    findings.push(socket(&parts.api.socket).await);
    findings.push(match discord {
        Ok(settings) => ask_discord(&settings).await,
        Err(missing) => {
            Finding::new("discord", Verdict::Warn, format!("{missing}. Needed for `threadkey run` only"))
        }
    });
    match &parts.agent {
        Some(agent) => {
            findings.extend(workers(agent, path));
            findings.extend(sockets::reachable(agent).await);
        }
        None => findings.push(Finding::new(
            "agent",
            Verdict::Warn,
            "no agent is configured: /ask will not work. Set agent.command",
        )),
    }
    findings
}

/// The code to end with: 6 when the store alone is at fault, 2 when something else is, 0 where nothing is.
pub fn exit(findings: &[Finding]) -> Exit {
    let mut failed =
        findings.iter().filter(|finding| finding.verdict == Verdict::Fail).map(|finding| finding.exit);
    match failed.next() {
        None => Exit::Done,
        Some(first) => failed.find(|exit| *exit == Exit::Usage).unwrap_or(first),
    }
}

/// The findings as JSON or as text, a line each.
///
/// # Errors
/// When they cannot be put into JSON.
pub fn shown(findings: &[Finding], json: bool) -> Result<String, Failure> {
    if json {
        let text = serde_json::to_string(findings)
            .map_err(|e| Failure::new(Exit::Internal, format!("the result cannot be written: {e}")))?;
        return Ok(text + "\n");
    }
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    Ok(findings.iter().fold(String::new(), |mut text, finding| {
        let verdict = match finding.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        let _ = writeln!(text, "{verdict}  {:width$}  {}", finding.name, finding.text);
        text
    }))
}

/// The checks take locks, sync and start a process, so they have a thread that may block.
async fn store_checks(parts: &Parts) -> Vec<Finding> {
    let (path, options) = (parts.store.clone(), parts.store_options);
    let checks = tokio::task::spawn_blocking(move || store::doctor(&path, options)).await.unwrap_or_default();
    let finding = |check: store::Check| {
        let verdict = match check.verdict {
            store::Verdict::Ok => Verdict::Ok,
            store::Verdict::Warn => Verdict::Warn,
            store::Verdict::Fail => Verdict::Fail,
        };
        Finding { exit: Exit::Store, ..Finding::new(check.name, verdict, check.sentence) }
    };
    checks.into_iter().map(finding).collect()
}

/// What is wrong with a provider's settings was refused with the configuration.
fn providers(parts: &Parts) -> Finding {
    let names: Vec<_> = parts.providers.ids().map(ToString::to_string).collect();
    if names.is_empty() {
        return Finding::new(
            "providers",
            Verdict::Warn,
            "none is configured: add a [providers.NAME] section",
        );
    }
    let found = parts.providers.ids().filter_map(|id| parts.providers.get(id));
    let odd: Vec<_> = found
        .filter(|provider| provider.binding().client_id.contains(char::is_whitespace))
        .map(|provider| provider.id().to_string())
        .collect();
    if !odd.is_empty() {
        let text = format!(
            "the client_id of {} has spaces in it: is it the one that the provider gave?",
            odd.join(", ")
        );
        return Finding::new("providers", Verdict::Warn, text);
    }
    Finding::new("providers", Verdict::Ok, names.join(", "))
}

async fn socket(socket: &Path) -> Finding {
    if sockets::takes_connections(socket).await {
        let text = format!("{} is served by a threadkey that runs", socket.display());
        return Finding::new("socket", Verdict::Ok, text);
    }
    if crate::sys::socket::is_possible(socket) {
        return Finding::new("socket", Verdict::Ok, format!("{} can be made", socket.display()));
    }
    let text = format!("{} cannot be made: its folder is not writable. Set api.socket", socket.display());
    Finding::new("socket", Verdict::Fail, text)
}

async fn ask_discord(settings: &DiscordSettings) -> Finding {
    let base = settings.api_base.as_ref().map_or(DISCORD, url::Url::as_str);
    let url = format!("{}/api/v10/users/@me", base.trim_end_matches('/'));
    let answer = async {
        let client = reqwest::Client::builder()
            .timeout(DISCORD_WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let mut token = reqwest::header::HeaderValue::from_str(&format!("Bot {}", settings.token.expose()))
            .unwrap_or_else(|_| reqwest::header::HeaderValue::from_static("Bot"));
        token.set_sensitive(true);
        client.get(url).header(reqwest::header::AUTHORIZATION, token).send().await
    };
    let verdict = |verdict, text: String| Finding::new("discord", verdict, text);
    match answer.await.map(|answer| answer.status().as_u16()) {
        Ok(200) => verdict(Verdict::Ok, "takes the bot token".into()),
        Ok(401) => verdict(Verdict::Fail, crate::discord::DiscordError::TokenRefused.to_string()),
        Ok(status) => verdict(Verdict::Warn, format!("could not be asked about the token: HTTP {status}")),
        Err(error) => {
            let why = if error.is_timeout() { "no answer in time" } else { "no connection" };
            verdict(Verdict::Warn, format!("could not be asked about the token: {why}"))
        }
    }
}

fn workers(agent: &AgentSettings, path: &OsStr) -> Vec<Finding> {
    let program = agent.command.first().map(String::as_str).unwrap_or_default();
    let command = match process::find_program(Path::new(program), path) {
        Ok(found) => Finding::new("agent command", Verdict::Ok, found.display().to_string()),
        Err(error) => Finding::new(
            "agent command",
            Verdict::Fail,
            format!("{program:?} cannot be started: {error}. Check agent.command"),
        ),
    };
    let isolation = match (agent.isolation, sandbox::supported()) {
        (Isolation::None, _) => Finding::new(
            "agent isolation",
            Verdict::Warn,
            "none: agents can read whatever threadkey can read, the store included",
        ),
        (_, Ok(())) => Finding::new("agent isolation", Verdict::Ok, "Landlock"),
        (_, Err(error)) => Finding::new("agent isolation", Verdict::Fail, error.to_string()),
    };
    let settings = match agent.check() {
        Ok(()) => Finding::new("agent folders", Verdict::Ok, format!("{}", agent.root.display())),
        Err(error) => Finding::new("agent folders", Verdict::Fail, error.to_string()),
    };
    vec![command, isolation, settings]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_the_configuration_goes_before_one_of_the_store() {
        let finding = |verdict, exit| Finding { exit, ..Finding::new("x", verdict, "y") };
        assert_eq!(
            exit(&[finding(Verdict::Ok, Exit::Store), finding(Verdict::Warn, Exit::Usage)]),
            Exit::Done
        );
        assert_eq!(exit(&[finding(Verdict::Fail, Exit::Store)]), Exit::Store);
        assert_eq!(
            exit(&[finding(Verdict::Fail, Exit::Store), finding(Verdict::Fail, Exit::Usage)]),
            Exit::Usage
        );
    }
}
