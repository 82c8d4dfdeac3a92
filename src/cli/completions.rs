//! `threadkey completions`: the completion script of a shell, without hidden commands and with the
//! providers that are configured when it is made.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _, builder::PossibleValuesParser};
use clap_complete::Shell;

use super::Cli;
use crate::{
    ids::ProviderId,
    oauth::Providers,
    tools::{self, Way},
};

/// Returns the script. Without a valid configuration there are no providers to complete.
pub fn script(shell: Shell, providers: Option<&Providers>) -> String {
    let names: Vec<_> = providers.into_iter().flat_map(Providers::ids).map(ProviderId::as_str).collect();
    let mut all = Cli::command();
    all.build();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown(&all, &names), "threadkey", &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if shell == Shell::Fish && !names.is_empty() {
        // The generator for fish leaves positional arguments out.
        let commands = "token exec mcp login start code switch keep logout cancel";
        let _ = writeln!(
            script,
            "complete -c threadkey -n \"__fish_seen_subcommand_from {commands}\" -f -a \"{}\"",
            names.join(" ")
        );
    }
    script
}

/// Returns a copy of a command without its hidden subcommands: the generators complete them too.
fn shown(command: &Command, providers: &[&str]) -> Command {
    let is_root = command.get_name() == "threadkey";
    let arguments = command.get_arguments().filter(|arg| is_root || !arg.is_global_set()).cloned();
    let arguments = arguments.map(|arg| match arg.get_id().as_str() {
        "provider" | "providers" if !providers.is_empty() => {
            arg.value_parser(PossibleValuesParser::new(providers.iter().map(|name| forever(name))))
        }
        "tool" => arg.value_parser(PossibleValuesParser::new(tools::tools().map(|tool| tool.name.as_str()))),
        "way" => arg.value_parser(PossibleValuesParser::new(Way::ALL.map(Way::as_str))),
        _ => arg,
    });
    let subcommands = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    let copy = Command::new(forever(command.get_name()))
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .disable_version_flag(true)
        .version(env!("CARGO_PKG_VERSION"))
        .args(arguments)
        .subcommands(subcommands.map(|subcommand| shown(subcommand, providers)));
    match command.get_about() {
        Some(about) => copy.about(about.clone()),
        None => copy,
    }
}

/// Names of commands and values live as long as the process, which ends after the script.
fn forever(name: &str) -> &'static str {
    Box::leak(name.to_owned().into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::{Provider, ProviderSettings};

    fn providers() -> Providers {
        let settings = ProviderSettings {
            authorization_endpoint: "https://id.example/authorize".into(),
            token_endpoint: "https://id.example/token".into(),
            client_id: "threadkey".into(),
            redirect_uri: "http://127.0.0.1:1/callback".into(),
            ..ProviderSettings::default()
        };
        Providers::new([Provider::new("big-acme".parse().expect("an id"), settings).expect("a provider")])
    }

    #[test]
    fn a_completion_script_has_the_configured_providers_and_no_hidden_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let script = script(shell, Some(&providers()));
            for hidden in ["lock-probe", "__refresh", "whoami"] {
                assert!(!script.contains(hidden), "{shell}: {hidden}");
            }
            assert!(script.contains("keep-grant") && script.contains("completions"), "{shell}");
            assert!(script.contains("--config") || script.contains("config"), "{shell}");
            // The other generators complete no positional argument.
            let completes_values = matches!(shell, Shell::Bash | Shell::Zsh | Shell::Fish);
            assert_eq!(script.contains("big-acme"), completes_values, "{shell}");
        }
        assert!(!script(Shell::Bash, None).contains("big-acme"));
    }
}
