//! The identity of an account at its issuer, as an id token proves it.

use crate::secret::IdToken;

/// An account at its issuer, as an accepted id token names it. `iss` and `sub` together never change
/// and never name another account (OpenID Connect Core §5.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The `iss` of the id token.
    pub issuer: String,
    /// The `sub` of the id token.
    pub subject: String,
    /// The id token itself.
    pub id_token: IdToken,
}
