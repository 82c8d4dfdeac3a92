//! The output formats of a token.

use std::fmt::Write as _;

use super::{Exit, Failure, args::Format, exec_credential, git_credential, json_line};
use crate::broker::{Lease, TokenJson};

/// Formats a lease and ends it with a line break.
pub(super) fn format_lease(lease: &Lease, format: Format) -> Result<String, Failure> {
    let token = lease.access_token.expose();
    let unescaped = match format {
        Format::Json | Format::ExecCredential => [""; 2],
        Format::Raw | Format::GitCredential => [token, ""],
        Format::Header | Format::Env => [token, lease.token_type.as_str()],
    };
    if unescaped.iter().any(|text| text.chars().any(char::is_control)) {
        let text = format!(
            "the token of {} or its type contains control characters: use --format json",
            lease.tenant
        );
        return Err(Failure::new(Exit::Internal, text));
    }
    Ok(match format {
        Format::Raw => format!("{token}\n"),
        Format::Header => format!("Authorization: {} {token}\n", lease.token_type),
        Format::Json => json_line(&TokenJson::from(lease))?,
        Format::ExecCredential => exec_credential::format(lease)?,
        Format::GitCredential => return Err(git_credential::needs_operation()),
        Format::Env => {
            let mut lines = String::new();
            let expires_at = lease.expires_at.to_string();
            for (name, value) in [
                ("THREADKEY_TOKEN", token),
                ("THREADKEY_TOKEN_TYPE", lease.token_type.as_str()),
                ("THREADKEY_EXPIRES_AT", expires_at.as_str()),
            ] {
                let _ = writeln!(lines, "{name}={}", shell_quoted(value));
            }
            lines
        }
    })
}

/// Quotes a value for a POSIX shell. A value without special characters stays as it is.
fn shell_quoted(value: &str) -> String {
    // A tilde at the start of a value or after a colon names a home folder, so it is not plain.
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._+/=:@%".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{broker::LeaseSource, secret::AccessToken};

    pub(in crate::cli) fn lease(token: &str) -> Lease {
        Lease {
            tenant: "acme/local".parse().expect("a tenant"),
            access_token: AccessToken::new(token),
            token_type: "Bearer".into(),
            expires_at: 1_795_362_272,
            expires_in: Duration::from_secs(3600),
            scope: None,
            account: Some("alice".into()),
            generation: 7,
            source: LeaseSource::Session,
            lineage: None,
        }
    }

    #[test]
    fn each_format_prints_its_documented_form() {
        let printed = |format| format_lease(&lease("a.b-c"), format).expect("prints");
        assert_eq!(printed(Format::Raw), "a.b-c\n");
        assert_eq!(printed(Format::Header), "Authorization: Bearer a.b-c\n");
        assert_eq!(
            printed(Format::Env),
            "THREADKEY_TOKEN=a.b-c\nTHREADKEY_TOKEN_TYPE=Bearer\nTHREADKEY_EXPIRES_AT=1795362272\n"
        );
        assert_eq!(
            printed(Format::Json),
            "{\"access_token\":\"a.b-c\",\"token_type\":\"Bearer\",\"expires_at\":1795362272,\"expires_in\":3600,\
             \"provider\":\"acme\",\"principal\":\"local\",\"generation\":7,\"account\":\"alice\"}\n"
        );
    }

    #[test]
    fn a_token_cannot_break_out_of_its_line_or_its_quotes() {
        assert!(format_lease(&lease("a\nSet-Cookie: b"), Format::Header).is_err());
        for home in ["~root", "a:~root"] {
            let env = format_lease(&lease(home), Format::Env).expect("prints");
            assert!(env.starts_with(&format!("THREADKEY_TOKEN='{home}'\n")), "{env}");
        }
        let mut typed = lease("a");
        typed.token_type = "Bearer a\r\nSet-Cookie: b\r\nX:".into();
        assert!(format_lease(&typed, Format::Header).is_err(), "a token API may answer this type");
        assert!(format_lease(&typed, Format::Env).is_err());
        assert!(format_lease(&typed, Format::Raw).is_ok());
        let env = format_lease(&lease("it's $HOME"), Format::Env).expect("prints");
        assert!(env.starts_with("THREADKEY_TOKEN='it'\\''s $HOME'\n"), "{env}");
    }
}
