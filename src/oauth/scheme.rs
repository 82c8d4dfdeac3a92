//! The HTTP authentication scheme of an access token.

/// The scheme of nearly all tokens (RFC 6750 §2.1).
const BEARER: &str = "Bearer";

/// The registered authentication schemes (IANA, "HTTP Authentication Scheme Registry"), and `MAC`,
/// a token type of drafts that some providers implement. Any other token type has no
/// meaning for the header.
const SCHEMES: [&str; 15] = [
    BEARER,
    "Basic",
    "Concealed",
    "Digest",
    "DPoP",
    "GNAP",
    "HOBA",
    "MAC",
    "Mutual",
    "Negotiate",
    "OAuth",
    "PrivateToken",
    "SCRAM-SHA-1",
    "SCRAM-SHA-256",
    "vapid",
];

/// Returns the authentication scheme for a token of this type (RFC 6749 §7.1), in its canonical
/// spelling. Providers also answer `user`, `bot` or `BearerToken`, and mean `Bearer`.
pub fn authentication_scheme(token_type: &str) -> &'static str {
    let token_type = token_type.trim();
    SCHEMES.iter().copied().find(|scheme| scheme.eq_ignore_ascii_case(token_type)).unwrap_or(BEARER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_type_is_bearer_unless_it_names_another_registered_scheme() {
        for bearer in [
            "Bearer",
            "bearer",
            "BEARER",
            " bearer ",
            "user",
            "bot",
            "BearerToken",
            "N_A",
            "",
            "a b",
            "x\r\ny",
        ] {
            assert_eq!(authentication_scheme(bearer), "Bearer", "{bearer:?}");
        }
        for (token_type, scheme) in
            [("dpop", "DPoP"), ("DPoP", "DPoP"), ("mac", "MAC"), ("GNAP", "GNAP"), ("BASIC", "Basic")]
        {
            assert_eq!(authentication_scheme(token_type), scheme);
        }
    }
}
