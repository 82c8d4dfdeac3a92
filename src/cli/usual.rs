//! `threadkey token` in its usual form, read without the parser of all commands.
//!
//! clap puts together all commands with their help before it looks at the first argument. For a token that serves, that is more work than
//! everything else together; and `token` is what agents and scripts start all the time. So its plain form is read here. Whatever
//! is not exactly that, with help and errors, is left to clap, and where both understand something, a test holds them to
//! the same meaning.

use std::ffi::OsString;

use clap::ValueEnum as _;

use super::{
    Cli, Command, TokenArgs,
    args::{DEFAULT_MIN_TTL, Format},
    parse_duration,
};

impl Cli {
    /// The arguments (without the program's name), if they are `token PROVIDER` with any of `--as`, `--min-ttl`, `--format` and `--config`,
    /// each once at most and its value an argument of its own. `None` when clap has to tell.
    pub fn usual_token(arguments: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let mut arguments = arguments.into_iter();
        let (mut token, mut config, mut provider) = (false, None, None);
        let (mut principal, mut min_ttl, mut format) = (None, None, None);
        while let Some(argument) = arguments.next() {
            let argument = argument.to_str()?;
            let mut value = || arguments.next()?.into_string().ok().filter(|text| is_value(text));
            match argument {
                "--config" => once(&mut config, value()?.into())?,
                "token" if !token => token = true,
                _ if !token => return None,
                "--as" => once(&mut principal, value()?.parse().ok()?)?,
                "--min-ttl" => once(&mut min_ttl, parse_duration(&value()?).ok()?)?,
                "--format" => once(&mut format, Format::from_str(&value()?, false).ok()?)?,
                text => once(&mut provider, Some(text).filter(|text| is_value(text))?.parse().ok()?)?,
            }
        }
        let command = Command::Token(TokenArgs {
            provider: provider?,
            principal,
            min_ttl: min_ttl.or_else(|| parse_duration(DEFAULT_MIN_TTL).ok())?,
            rejected: None,
            format: format.unwrap_or(Format::Raw),
        });
        Some(Self { config, command })
    }
}

/// Whether it can be nothing but a value.
fn is_value(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('-')
}

fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    const WORDS: [&str; 17] = [
        "token",
        "acme",
        "--as",
        "local",
        "user:1",
        "--min-ttl",
        "5m",
        "--format",
        "json",
        "--config",
        "x.toml",
        "--rejected",
        "-",
        "--",
        "--format=env",
        "--help",
        "",
    ];

    fn usual(words: &[&str]) -> Option<String> {
        Cli::usual_token(words.iter().map(OsString::from)).map(|cli| format!("{cli:?}"))
    }

    fn by_clap(words: &[&str]) -> Option<String> {
        let all = ["threadkey"].iter().chain(words);
        Cli::try_parse_from(all).ok().map(|cli| format!("{cli:?}"))
    }

    /// `start` with up to `more` words behind it: those that are understood here.
    fn understood<'a>(start: &mut Vec<&'a str>, more: usize, found: &mut Vec<Vec<&'a str>>) {
        if usual(start).is_some() {
            found.push(start.clone());
        }
        if more > 0 {
            for word in WORDS {
                start.push(word);
                understood(start, more - 1, found);
                start.pop();
            }
        }
    }

    #[test]
    fn what_is_understood_without_clap_means_the_same_to_clap() {
        let mut found = Vec::new();
        understood(&mut Vec::new(), 4, &mut found);
        understood(&mut vec!["token", "acme"], 4, &mut found);
        understood(&mut vec!["--config", "x.toml", "token", "acme", "--as", "user:1"], 2, &mut found);
        assert!(found.len() > 100, "{} of them", found.len());
        for words in found {
            assert_eq!(usual(&words), by_clap(&words), "{words:?}");
        }
    }

    #[test]
    fn the_usual_forms_are_understood() {
        for words in [
            "token acme",
            "token acme --as user:80351110224678912",
            "token --as guild:1 acme --min-ttl 5m --format header",
            "--config /etc/threadkey.toml token acme --format json",
        ] {
            let words: Vec<&str> = words.split(' ').collect();
            assert!(usual(&words).is_some(), "{words:?}");
        }
    }

    #[test]
    fn everything_else_is_left_to_clap() {
        for words in [
            "",
            "token",
            "run",
            "acme token",
            "token acme codex",
            "token Acme",
            "token acme --as nobody",
            "token acme --as local --as local",
            "token acme --min-ttl soon",
            "token acme --format yaml",
            "token acme --format=json",
            "token acme --rejected -",
            "token acme --help",
            "--as local token acme",
        ] {
            let words: Vec<&str> = words.split(' ').collect();
            assert_eq!(usual(&words), None, "{words:?}");
        }
    }
}
