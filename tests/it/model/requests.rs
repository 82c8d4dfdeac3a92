//! The rules for requests to a provider, checked at the moment of each arrival. The sender waits
//! then, with the tenant's lock held, so the disk and the journal are as they were when it sent the
//! request.

use std::collections::BTreeMap;

use super::{
    disk::{Stored, fingerprint, journal},
    reference::{Meaning, Presented, Reference, Request},
    steps::{LONGEST_MIN_TTL, PROVIDERS, TENANTS},
    tenant_name,
};

/// The longest pause, in seconds.
const LONGEST_PAUSE: i64 = 3600;

/// The difference that unadjusted clocks may have, in seconds.
const SKEW: i64 = 300;

impl Reference {
    /// Checks a token request that has arrived at a provider and is not decided yet.
    pub(super) fn arrived(&mut self, provider: usize, seq: u64, form: &BTreeMap<String, String>) {
        self.observe();
        let request = match (form.get("refresh_token"), form.get("code")) {
            (Some(token), None) => self.refresh(provider, seq, token),
            (None, Some(code)) => self.exchange(provider, seq, code),
            _ => None,
        };
        match request {
            Some(request) if PROVIDERS[TENANTS[request.tenant].0].name == PROVIDERS[provider].name => {
                self.requests.push(request);
            }
            _ => self.violate(format!(
                "promise 12: {} got a secret that it never issued: {form:?}",
                PROVIDERS[provider].name
            )),
        }
    }

    fn new_request(&self, provider: usize, seq: u64, tenant: usize, presented: Presented) -> Request {
        let (Presented::Code(token) | Presented::Refresh(token, _)) = &presented;
        let orphan = self.late.contains(token);
        Request {
            provider,
            seq,
            tenant,
            presented,
            repeated: false,
            meaning: None,
            issue: None,
            answered: None,
            settled: false,
            orphan,
        }
    }

    fn exchange(&mut self, provider: usize, seq: u64, code: &str) -> Option<Request> {
        let tenant = self.codes.get(code)?.tenant;
        let presented = Presented::Code(code.to_owned());
        let of_tenant =
            |request: &&Request| request.tenant == tenant && matches!(request.presented, Presented::Code(_));
        let newest = self.requests.iter().rfind(of_tenant).filter(|request| request.presented == presented);
        let taken = self.requests.iter().any(|request| {
            request.presented == presented && request.meaning == Some(Meaning::Granted) && !request.orphan
        });
        let in_doubt = newest.is_some_and(|request| {
            !request.orphan && matches!(request.meaning, None | Some(Meaning::Ambiguous))
        });
        if taken || in_doubt {
            self.violate("promise 1: a code is sent again that was taken, or may have been");
        }
        Some(self.new_request(provider, seq, tenant, presented))
    }

    fn refresh(&mut self, provider: usize, seq: u64, token: &str) -> Option<Request> {
        let family = *self.by_refresh.get(token)?;
        let tenant = self.families[family].tenant;
        if self.was_not_chosen(family) {
            self.violate(format!("adr/0016: a sign-in that no user chose is refreshed, for tenant {tenant}"));
        }
        let stored = self.tenants[tenant].stored.clone();
        // The user logged out or signed in anew since the token was read, so the stored session
        // allows no conclusion.
        let stored = stored.filter(|stored| {
            self.by_access.get(&stored.access).is_some_and(|issue| self.issues[*issue].family == family)
        });
        // A dead sender's request may arrive after the next holder of the lock has settled it.
        if !self.late.contains(token) {
            self.check_journal(tenant, token);
        }
        let access = stored.as_ref().map(|stored| stored.access.clone());
        let mut request =
            self.new_request(provider, seq, tenant, Presented::Refresh(token.to_owned(), access));
        self.check_never_spent(token);
        if let Some(stored) = stored {
            if stored.refresh != token {
                self.violate("promise 2: the refresh token that is sent is not the one in the store");
            }
            self.check_due(&request, &stored);
            request.repeated = self.check_patience(&request, &stored);
        }
        Some(request)
    }

    /// Promise 4: the journal names the token that is being spent, and holds no answer.
    fn check_journal(&mut self, tenant: usize, token: &str) {
        let (of, principal, _) = TENANTS[tenant];
        let text = journal(&self.store, &tenant_name(of, principal));
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() != 1 || !lines[0].contains(&fingerprint(token)) {
            self.violate(format!("promise 4: a refresh token is sent, and the journal holds {text:?}"));
        }
    }

    /// Promise 1: a token whose successor came back whole to a living sender is never sent again.
    fn check_never_spent(&mut self, token: &str) {
        let spent = self.requests.iter().any(|request| {
            matches!(&request.presented, Presented::Refresh(sent, _) if sent == token)
                && !request.orphan
                && request.meaning == Some(Meaning::Granted)
                && request.answered.is_some()
                && request.issue.is_some_and(|issue| self.issues[issue].refresh != token)
        });
        if spent {
            self.violate("promise 1: a refresh token is sent again that was spent");
        }
    }

    /// Promise 1: there is a reason for this refresh.
    fn check_due(&mut self, request: &Request, stored: &Stored) {
        let quirks = PROVIDERS[request.provider];
        let lifetime = stored.expires_at - stored.issued_at;
        let due = |now: &i64| {
            let stale = !stored.fresh(*now, LONGEST_MIN_TTL);
            let old = *now >= stored.issued_at + lifetime - lifetime / 4 || stored.issued_at > now + SKEW;
            stale || stored.is_reported() || (old && !quirks.refresh_revokes_access)
        };
        if !self.times.iter().any(due) {
            self.violate(format!("promise 1: a refresh without a reason, at {:?}: {stored:?}", self.times));
        }
    }

    /// Promise 1: an earlier failure is is_over out for as long as its outcome demands. Returns
    /// whether this is the repetition that a provider's grace allows.
    fn check_patience(&mut self, request: &Request, stored: &Stored) -> bool {
        let of = |before: &&Request| before.presented == request.presented;
        let before: Vec<&Request> = self.requests.iter().filter(of).collect();
        let patience = self.patience(&before, PROVIDERS[request.provider].reuse_grace > 0, stored);
        let violation = match patience {
            Ok(repeated) => return repeated,
            Err(violation) => violation,
        };
        let before: Vec<_> = before
            .iter()
            .map(|before| (&before.meaning, &before.answered, before.repeated, before.orphan))
            .collect();
        let violation =
            format!("{violation}: tenant {} at {:?}; before: {before:?}", request.tenant, self.times);
        self.violate(violation);
        false
    }

    fn patience(&self, before: &[&Request], grace: bool, stored: &Stored) -> Result<bool, &'static str> {
        let Some(last) = before.last() else { return Ok(false) };
        let in_doubt = before.iter().any(|request| {
            request.meaning == Some(Meaning::Ambiguous) || (request.orphan && request.meaning.is_none())
        });
        let works = self.times.iter().all(|now| stored.usable(*now));
        if last.orphan {
            let blind = in_doubt && works && !grace;
            let violation = "promise 1: sent again after a sender's death although the access token works";
            return if blind { Err(violation) } else { Ok(false) };
        }
        let Some(answered) = &last.answered else { return Err("promise 1: two requests at once") };
        let failures = before.iter().filter(|request| !request.orphan).count();
        let repeated = grace && last.meaning == Some(Meaning::Ambiguous) && !last.repeated;
        let pause = match &last.meaning {
            Some(Meaning::Ambiguous) => backoff(failures),
            Some(Meaning::Unspent(seconds)) => {
                seconds.map_or_else(|| backoff(failures), |seconds| seconds.min(LONGEST_PAUSE))
            }
            Some(Meaning::Misconfigured) => 210,
            Some(Meaning::Granted) => return Err("promise 1: a second refresh for one expiry"),
            Some(Meaning::Verdict) => return Err("promise 6: sent again after the provider's verdict"),
            None => return Err("promise 1: two requests at once"),
        };
        let is_over_at = |then: &i64, now: &i64| *now >= then + pause || now < then;
        // One repetition may follow an attempt at once. An attempt after the pause has its own.
        let is_surely_over = answered.iter().all(|then| self.times.iter().all(|now| is_over_at(then, now)));
        if repeated && !is_surely_over {
            return Ok(true);
        }
        if !answered.iter().any(|then| self.times.iter().any(|now| is_over_at(then, now))) {
            return Err("promise 1: Retry-After or the pause is not kept");
        }
        if in_doubt && works {
            return Err("promise 1: sent again in doubt although the access token works");
        }
        Ok(false)
    }
}

/// Returns the shortest pause after so many failures in a row, in seconds.
fn backoff(failures: usize) -> i64 {
    let seconds = (1_i64 << failures.saturating_sub(1).min(16)).min(300);
    (seconds * 7 + 9) / 10
}
