//! A token as the command line prints it.

use std::fmt::Write as _;

use super::{Exit, Failure, args::Format};
use crate::broker::{Lease, TokenJson};

/// The lease in the format that was asked for, with a line end.
pub(super) fn formatted(lease: &Lease, format: Format) -> Result<String, Failure> {
    let token = lease.access_token.expose();
    let printed = match format {
        Format::Json => [""; 2],
        Format::Raw => [token, ""],
        Format::Header | Format::Env => [token, lease.token_type.as_str()],
    };
    if printed.iter().any(|text| text.chars().any(char::is_control)) {
        let text = format!(
            "the token of {} or its type has control characters in it: use --format json",
            lease.tenant
        );
        return Err(Failure::new(Exit::Internal, text));
    }
    Ok(match format {
        Format::Raw => format!("{token}\n"),
        Format::Header => format!("Authorization: {} {token}\n", scheme(&lease.token_type)),
        Format::Json => {
            let json = serde_json::to_string(&TokenJson::from(lease))
                .map_err(|e| Failure::new(Exit::Internal, format!("the result cannot be written: {e}")))?;
            format!("{json}\n")
        }
        Format::Env => {
            let mut lines = String::new();
            let expires_at = lease.expires_at.to_string();
            for (name, value) in [
                ("THREADKEY_TOKEN", token),
                ("THREADKEY_TOKEN_TYPE", lease.token_type.as_str()),
                ("THREADKEY_EXPIRES_AT", expires_at.as_str()),
            ] {
                let _ = writeln!(lines, "{name}={}", quoted(value));
            }
            lines
        }
    })
}

/// The scheme is compared without case (RFC 9110 §11.1), and some providers spell it `bearer` in the token response while
/// their resources want `Bearer`.
fn scheme(token_type: &str) -> &str {
    if token_type.eq_ignore_ascii_case("bearer") { "Bearer" } else { token_type }
}

/// The value for a POSIX shell; left as it is where nothing in it is special.
fn quoted(value: &str) -> String {
    // No tilde: at the start of a value, or behind a colon, it is somebody's home.
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._+/=:@%".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::secret::AccessToken;

    fn lease(token: &str) -> Lease {
        Lease {
            tenant: "acme/local".parse().expect("a tenant"),
            access_token: AccessToken::new(token),
            token_type: "bearer".into(),
            expires_at: 1_795_362_272,
            expires_in: Duration::from_secs(3600),
            scope: None,
            account: Some("alice".into()),
            generation: 7,
        }
    }

    #[test]
    fn each_format_prints_what_it_says() {
        let shown = |format| formatted(&lease("a.b-c"), format).expect("prints");
        assert_eq!(shown(Format::Raw), "a.b-c\n");
        assert_eq!(shown(Format::Header), "Authorization: Bearer a.b-c\n");
        assert_eq!(
            shown(Format::Env),
            "THREADKEY_TOKEN=a.b-c\nTHREADKEY_TOKEN_TYPE=bearer\nTHREADKEY_EXPIRES_AT=1795362272\n"
        );
        assert_eq!(
            shown(Format::Json),
            "{\"access_token\":\"a.b-c\",\"token_type\":\"bearer\",\"expires_at\":1795362272,\"expires_in\":3600,\
             \"provider\":\"acme\",\"principal\":\"local\",\"generation\":7,\"account\":\"alice\"}\n"
        );
    }

    #[test]
    fn a_token_cannot_break_out_of_its_line_or_its_quotes() {
        assert!(formatted(&lease("a\nSet-Cookie: b"), Format::Header).is_err());
        for home in ["~root", "a:~root"] {
            let env = formatted(&lease(home), Format::Env).expect("prints");
            assert!(env.starts_with(&format!("THREADKEY_TOKEN='{home}'\n")), "{env}");
        }
        let mut typed = lease("a");
        typed.token_type = "Bearer a\r\nSet-Cookie: b\r\nX:".into();
        assert!(formatted(&typed, Format::Header).is_err(), "another program may have stored it");
        assert!(formatted(&typed, Format::Env).is_err());
        assert!(formatted(&typed, Format::Raw).is_ok());
        let env = formatted(&lease("it's $HOME"), Format::Env).expect("prints");
        assert!(env.starts_with("THREADKEY_TOKEN='it'\\''s $HOME'\n"), "{env}");
    }
}
