//! The grants: all codes, refresh tokens and access tokens, and the effect of presenting one.
//!
//! All decisions are pure functions of a time argument. Refresh tokens rotate at each use, unless
//! [`Rotation`] changes that. A spent token that comes back revokes its whole family (RFC 9700
//! §4.14.2), and so does a spent code (RFC 6749 §4.1.2). Each table has a bound: the oldest entry
//! is dropped, and a dropped token is an unknown token.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::grants::{Grant, Issued, Life, LifeState, Lifetimes, Refused, Rotation};
use super::shared::secret;
use crate::events::fingerprint;

const FAMILIES: usize = 1_000;
const TOKENS_IN_A_FAMILY: usize = 1_000;
const ACCESS_TOKENS: usize = 10_000;

/// One sign-in: a code, and the refresh tokens that follow from it.
struct Family {
    grant: Grant,
    code: String,
    code_expires_ms: i64,
    code_spent: bool,
    revoked: bool,
    refresh_tokens: Vec<RefreshToken>,
    /// How many came before those in `refresh_tokens`.
    forgotten: usize,
}

struct RefreshToken {
    token: String,
    born_ms: i64,
    expires_ms: i64,
    spent_ms: Option<i64>,
    reused: bool,
}

struct AccessToken {
    family: u64,
    expires_ms: i64,
}

/// The parts of an answer besides the access token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Issue {
    /// A refresh token, where the grant is for `offline_access`.
    RefreshToken,
    /// Nothing.
    AccessTokenAlone,
}

#[derive(Default)]
pub(super) struct Ledger {
    pub lifetimes: Lifetimes,
    pub rotation: Rotation,
    families: BTreeMap<u64, Family>,
    signed_in: u64,
    /// Codes and refresh tokens.
    index: BTreeMap<String, u64>,
    access_tokens: BTreeMap<String, AccessToken>,
}

impl Ledger {
    pub(super) fn new(lifetimes: Lifetimes) -> Self {
        Self { lifetimes, ..Self::default() }
    }

    /// Issues the authorization code for `grant`.
    pub(super) fn allow(&mut self, grant: Grant, now_ms: i64) -> String {
        if self.families.len() == FAMILIES
            && let Some((_, oldest)) = self.families.pop_first()
        {
            self.index.remove(&oldest.code);
            for refresh in oldest.refresh_tokens {
                self.index.remove(&refresh.token);
            }
        }
        let code = secret("code");
        self.signed_in += 1;
        self.index.insert(code.clone(), self.signed_in);
        let family = Family {
            grant,
            code: code.clone(),
            code_expires_ms: now_ms + millis(self.lifetimes.code),
            code_spent: false,
            revoked: false,
            refresh_tokens: Vec::new(),
            forgotten: 0,
        };
        self.families.insert(self.signed_in, family);
        code
    }

    /// Whose grant a code or a refresh token belongs to.
    pub(super) fn account(&self, presented: &str) -> Option<&str> {
        let family = self.families.get(self.index.get(presented)?)?;
        Some(&family.grant.account)
    }

    /// RFC 6749 §4.1.3 with RFC 7636 §4.6.
    pub(super) fn exchange(
        &mut self,
        code: &str,
        redirect_uri: &str,
        code_verifier: &str,
        now_ms: i64,
    ) -> Result<Issued, Refused> {
        let (id, family) = self.family(code)?;
        if family.code != code {
            return Err(Refused::Invalid("that is not an authorization code"));
        }
        if family.code_spent {
            let revoked = !std::mem::replace(&mut family.revoked, true);
            return Err(Refused::Reused { revoked });
        }
        if now_ms >= family.code_expires_ms {
            return Err(Refused::Invalid("the authorization code is expired"));
        }
        if family.grant.redirect_uri != redirect_uri {
            return Err(Refused::Invalid("the code was issued for another redirect_uri"));
        }
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(code_verifier));
        if challenge != family.grant.code_challenge {
            return Err(Refused::Invalid("the code_verifier does not fit the code_challenge"));
        }
        family.code_spent = true;
        let scopes = family.grant.scopes.clone();
        Ok(self.issue(id, scopes, Issue::RefreshToken, now_ms))
    }

    /// RFC 6749 §6.
    pub(super) fn refresh(
        &mut self,
        refresh_token: &str,
        scopes: Option<Vec<String>>,
        now_ms: i64,
    ) -> Result<Issued, Refused> {
        let rotation = self.rotation;
        let (id, family) = self.family(refresh_token)?;
        let tokens = &mut family.refresh_tokens;
        let Some(index) = tokens.iter().position(|refresh| refresh.token == refresh_token) else {
            return Err(Refused::Invalid("that is not a refresh token"));
        };
        let was_last_spent = tokens[index + 1..].iter().all(|later| later.spent_ms.is_none());
        let refresh = &mut tokens[index];
        let spent_ms = refresh.spent_ms;
        let again = |spent_ms| match rotation {
            Rotation::Grace(grace) => was_last_spent && now_ms < spent_ms + millis(grace),
            Rotation::Strict | Rotation::Fixed => false,
        };
        if spent_ms.is_some_and(|spent_ms| !again(spent_ms)) {
            refresh.reused = true;
            let revoked = !std::mem::replace(&mut family.revoked, true);
            return Err(Refused::Reused { revoked });
        }
        if family.revoked {
            return Err(Refused::Invalid("the grant is revoked"));
        }
        if now_ms >= refresh.expires_ms {
            return Err(Refused::Invalid("the refresh token is expired"));
        }
        let scopes = scopes.unwrap_or_else(|| family.grant.scopes.clone());
        if scopes.iter().any(|scope| !family.grant.scopes.contains(scope)) {
            return Err(Refused::Scope);
        }
        if rotation == Rotation::Fixed {
            return Ok(self.issue(id, scopes, Issue::AccessTokenAlone, now_ms));
        }
        refresh.spent_ms = Some(spent_ms.unwrap_or(now_ms));
        Ok(self.issue(id, scopes, Issue::RefreshToken, now_ms))
    }

    /// RFC 7009: the whole grant of a refresh token, or one access token. Returns the account of
    /// the revoked grant.
    pub(super) fn revoke(&mut self, token: &str) -> Option<String> {
        self.access_tokens.remove(token);
        let (_, family) = self.family(token).ok()?;
        let first = family.code != token && !std::mem::replace(&mut family.revoked, true);
        first.then(|| family.grant.account.clone())
    }

    /// Whose access token it is, and for which scopes, while it works.
    pub(super) fn userinfo(&self, access_token: &str, now_ms: i64) -> Option<String> {
        let access = self.access_tokens.get(access_token)?;
        let family = self.families.get(&access.family)?;
        (now_ms < access.expires_ms && !family.revoked).then(|| family.grant.account.clone())
    }

    /// Every refresh token that is remembered, in the order of sign-in and birth.
    pub(super) fn lives(&self, now_ms: i64) -> Vec<Life> {
        let mut lives = Vec::new();
        for (id, family) in &self.families {
            for (index, refresh) in family.refresh_tokens.iter().enumerate() {
                lives.push(Life {
                    fingerprint: fingerprint(&refresh.token),
                    family: *id,
                    account: family.grant.account.clone(),
                    position: family.forgotten + index,
                    born_ms: refresh.born_ms,
                    expires_ms: refresh.expires_ms,
                    spent_ms: refresh.spent_ms,
                    state: refresh.state(family.revoked, now_ms),
                });
            }
        }
        lives
    }

    fn family(&mut self, presented: &str) -> Result<(u64, &mut Family), Refused> {
        const UNKNOWN: Refused = Refused::Invalid("it was never issued here");
        let id = *self.index.get(presented).ok_or(UNKNOWN)?;
        let family = self.families.get_mut(&id).ok_or(UNKNOWN)?;
        Ok((id, family))
    }

    fn issue(&mut self, id: u64, scopes: Vec<String>, issue: Issue, now_ms: i64) -> Issued {
        let family = self.families.get_mut(&id).expect("the caller found it");
        let offline =
            issue == Issue::RefreshToken && family.grant.scopes.iter().any(|scope| scope == "offline_access");
        let refresh_token = offline.then(|| secret("refresh"));
        if let Some(token) = &refresh_token {
            if family.refresh_tokens.len() == TOKENS_IN_A_FAMILY {
                self.index.remove(&family.refresh_tokens.remove(0).token);
                family.forgotten += 1;
            }
            self.index.insert(token.clone(), id);
            family.refresh_tokens.push(RefreshToken {
                token: token.clone(),
                born_ms: now_ms,
                expires_ms: now_ms + millis(self.lifetimes.refresh_token),
                spent_ms: None,
                reused: false,
            });
        }
        self.access_tokens.retain(|_, access| access.expires_ms > now_ms);
        if self.access_tokens.len() == ACCESS_TOKENS {
            self.access_tokens.pop_first();
        }
        let access_token = secret("access");
        let access = AccessToken { family: id, expires_ms: now_ms + millis(self.lifetimes.access_token) };
        self.access_tokens.insert(access_token.clone(), access);
        Issued {
            account: family.grant.account.clone(),
            nonce: family.grant.nonce.clone(),
            access_token,
            refresh_token,
            expires_in: self.lifetimes.access_token.as_secs(),
            scopes,
        }
    }
}

impl RefreshToken {
    fn state(&self, revoked: bool, now_ms: i64) -> LifeState {
        match (self.reused, self.spent_ms) {
            (true, _) => LifeState::Reused,
            (false, Some(_)) => LifeState::Spent,
            (false, None) if revoked => LifeState::Revoked,
            (false, None) if now_ms >= self.expires_ms => LifeState::Expired,
            (false, None) => LifeState::Live,
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}
