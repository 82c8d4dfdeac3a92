//! `threadkey doctor`: checks everything that can be checked before `run`.

mod agent;
mod certificate;
mod discovery;
mod finding;
mod health;
mod hooks;
mod limits;
mod network;
mod operators;
mod redirect_page;
mod sign_in_pages;
mod sockets;
mod tools;

pub use finding::{Finding, Verdict};
pub use health::examine as examine_health;

use std::{
    ffi::OsStr,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use super::AppSettings;
use crate::{
    api::OperatorKeySettings,
    cli::{Exit, Failure, json_line},
    discord::DiscordSettings,
    hooks::HookSettings,
    store,
    sys::files,
};

/// Runs all checks. `discord` has the bot's settings, or the text about the missing token. Programs
/// are searched in the folders of `path`.
pub async fn examine(
    settings: &AppSettings,
    discord: Result<DiscordSettings, String>,
    path: &OsStr,
) -> Vec<Finding> {
    let mut findings =
        vec![Finding::new("configuration", Verdict::Ok, format!("{} is valid", settings.config.display()))];
    findings.extend(check_store(settings).await);
    findings.extend(discovery::check(&settings.providers, &settings.clock).await);
    findings.extend(check_providers(settings).await);
    findings.push(check_socket(&settings.api.socket).await);
    findings.extend(operators::check(&settings.api, &settings.clock).await);
    findings.extend(check_secret_files(&settings.secret_files));
    findings.extend(hooks::check(&settings.hooks, path));
    if let Some(public) = &settings.api.public {
        findings.extend(sign_in_pages::check(public, &settings.providers, &settings.clock).await);
    }
    findings.extend(network::check(settings, discord.as_ref().ok()).await);
    if let Err(missing) = discord {
        let text = format!("{missing}. Only `threadkey run` needs it");
        findings.push(Finding::new("discord", Verdict::Warn, text));
    }
    match &settings.agents {
        Some(agents) => {
            findings.extend(agent::check(agents, path));
            findings.extend(sockets::check(agents.default_agent()).await);
            findings.push(limits::check(agents.default_agent()));
        }
        None => findings.push(Finding::new(
            "agent",
            Verdict::Warn,
            "no agent is configured, so /ask does not work. Set agent.command",
        )),
    }
    findings
}

/// Runs the checks of `config check`, which need neither the store nor the network.
pub async fn examine_programs_and_keys(
    settings: &HookSettings,
    keys: &[OperatorKeySettings],
    path: &OsStr,
) -> Vec<Finding> {
    let mut findings = hooks::check(settings, path);
    findings.extend(operators::check_keys(keys).await);
    findings
}

/// Warns of files with secrets that other users can read.
fn check_secret_files(secrets: &[PathBuf]) -> Option<Finding> {
    let readable: Vec<_> = secrets.iter().filter(|file| files::is_readable_by_others(file)).collect();
    let names: Vec<_> = readable.iter().map(|file| file.display().to_string()).collect();
    (!names.is_empty()).then(|| {
        let text =
            format!("{} can be read by its group or by others: run `chmod 600` on it", names.join(", "));
        Finding::new("secret files", Verdict::Warn, text)
    })
}

/// Returns the exit code: 0 without a failure, 2 if a check of the configuration failed, 6 if one of
/// the store failed, and 5 if all failures may end by themselves.
pub fn exit(findings: &[Finding]) -> Exit {
    let failed = findings.iter().filter(|finding| finding.verdict == Verdict::Fail);
    let failed: Vec<_> = failed.map(|finding| finding.exit).collect();
    let ranked = [Exit::Usage, Exit::Store, Exit::Later].into_iter().find(|exit| failed.contains(exit));
    ranked.or(failed.first().copied()).unwrap_or(Exit::Done)
}

/// Returns the findings as JSON, or as text with one line each.
///
/// # Errors
/// When a finding has no JSON form.
pub fn render(findings: &[Finding], json: bool) -> Result<String, Failure> {
    if json {
        return json_line(&findings);
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

/// Checks the store. This takes locks, syncs files and starts a process, so it runs on a blocking
/// thread.
async fn check_store(settings: &AppSettings) -> Vec<Finding> {
    let (path, options) = (settings.store.clone(), settings.store_options);
    let checks = tokio::task::spawn_blocking(move || store::doctor(&path, options)).await.unwrap_or_default();
    let finding = |check: store::Check| {
        let verdict = match check.verdict {
            store::Verdict::Ok => Verdict::Ok,
            store::Verdict::Warn => Verdict::Warn,
            store::Verdict::Fail => Verdict::Fail,
        };
        let exit = if check.is_temporary { Exit::Later } else { Exit::Store };
        Finding { exit, ..Finding::new(check.name, verdict, check.sentence) }
    };
    checks.into_iter().map(finding).collect()
}

/// Lists the providers, and runs the commands that print their clients' secrets. Invalid settings are
/// errors of the configuration already.
async fn check_providers(settings: &AppSettings) -> Vec<Finding> {
    let names: Vec<_> = settings.providers.ids().map(ToString::to_string).collect();
    if names.is_empty() {
        let text = "none is configured: add a [providers.NAME] section";
        return vec![Finding::new("providers", Verdict::Warn, text)];
    }
    let mut findings = vec![Finding::new("providers", Verdict::Ok, names.join(", "))];
    for provider in settings.providers.usable() {
        let id = provider.id();
        if provider.binding().client_id.contains(' ') {
            let text =
                format!("the client_id of {id} contains spaces: check that it is the one from the provider");
            findings.push(Finding::new("client id", Verdict::Warn, text));
        }
        if let Err(problem) = provider.check_secret().await {
            let text = format!("providers.{id}.client_secret_command: {problem}");
            findings.push(Finding::new("client secret", Verdict::Fail, text));
        }
        if let Some(problem) = redirect_page::problem(provider.redirect_uri()) {
            let text = format!("providers.{id}.redirect_uri: {problem}");
            findings.push(Finding::new("redirect page", Verdict::Warn, text));
        }
    }
    findings
}

async fn check_socket(socket: &Path) -> Finding {
    let path = socket.display();
    if sockets::accepts_connections(socket).await {
        return Finding::new("socket", Verdict::Ok, format!("{path} is served by a running threadkey"));
    }
    match crate::sys::socket::check_path(socket) {
        Ok(()) => Finding::new("socket", Verdict::Ok, format!("{path} can be created")),
        Err(error) => Finding::new("socket", Verdict::Fail, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_of_the_configuration_outranks_one_of_the_store() {
        let finding = |verdict, exit| Finding { exit, ..Finding::new("x", verdict, "y") };
        assert_eq!(
            exit(&[finding(Verdict::Ok, Exit::Store), finding(Verdict::Warn, Exit::Usage)]),
            Exit::Done
        );
        assert_eq!(exit(&[finding(Verdict::Fail, Exit::Store)]), Exit::Store);
        let (later, store) = (finding(Verdict::Fail, Exit::Later), finding(Verdict::Fail, Exit::Store));
        assert_eq!(exit(std::slice::from_ref(&later)), Exit::Later);
        assert_eq!(exit(&[later, store]), Exit::Store);
        assert_eq!(
            exit(&[finding(Verdict::Fail, Exit::Store), finding(Verdict::Fail, Exit::Usage)]),
            Exit::Usage
        );
    }
}
