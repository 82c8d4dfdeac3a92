//! The provider, and its answers that are in a journal.

use std::path::Path;

use threadkey::{
    ids::{Tenant, UnixTime},
    oauth::Attempt,
    session::journal::Answer,
    store::Purpose,
};

use super::{Code, Granted, Reply, World};
use crate::{
    crash::{LIFETIME, NOW, faults::Durability},
    support::random::Random,
};

/// The treatment of a request by the provider.
enum Treatment {
    Unavailable,
    Unreachable,
    LostBefore,
    LostAfter,
    Refused,
    Answered,
}

impl World {
    pub(in crate::crash) fn mint(&mut self) -> u64 {
        self.minted += 1;
        self.minted
    }

    /// Whether this refresh token may be spent.
    pub(in crate::crash) fn was_sent(&self, token: u64) -> bool {
        self.sent.contains(&token)
    }

    /// The token endpoint, for a refresh (RFC 6749 §6). With `doubt_on_record` the store notes that
    /// the token may be spent.
    pub(in crate::crash) fn refresh(&mut self, token: u64, doubt_on_record: bool) -> Attempt<Answer> {
        self.requests += 1;
        if self.superseded.contains(&token) {
            self.violate(format!("refresh token {token} was sent, whose successor was acknowledged"));
        } else if self.sent.contains(&token) && !doubt_on_record {
            self.violate(format!(
                "refresh token {token} was sent again, without a record that it had been sent before"
            ));
        }
        let treatment = self.treatment(token, self.requests);
        let tenant = self.grants[&token].tenant.clone();
        self.record(&tenant).refreshed = None;
        match treatment {
            Treatment::Unavailable => return answer(503, String::new()),
            Treatment::Unreachable => return Attempt::NotSent("connect"),
            _ => {}
        }
        self.sent.insert(token);
        if let Treatment::LostBefore = treatment {
            return Attempt::Unanswered("reset");
        }
        let again = !self.taken.insert(token);
        if self.strict && again {
            let root = self.root(token);
            self.ended.insert(root);
        }
        if self.ended.contains(&self.root(token)) {
            return refused();
        }
        let number = self.grant(&tenant, Some(token));
        if let Treatment::LostAfter = treatment {
            return Attempt::Unanswered("timeout");
        }
        let record = self.record(&tenant);
        record.possible.push(Some(number));
        record.refreshed = Some(Reply::Granted(number));
        record.during.refreshed.insert(number);
        granted(number)
    }

    /// The token endpoint, for a code (RFC 6749 §4.1.3).
    pub(in crate::crash) fn exchange(&mut self, code: u64) -> Attempt<Answer> {
        self.requests += 1;
        let Some(Code { tenant, closed, taken, sent }) = self.codes.get_mut(&code) else { return refused() };
        *sent += 1;
        let (tenant, closed, taken, sent) = (tenant.clone(), *closed, *taken, *sent);
        if closed {
            self.violate(format!("code {code} was sent again, and was not known to be unspent"));
        }
        // The journal remembers only the code that was sent last.
        self.forget_codes_of(&tenant);
        let treatment = self.treatment(code, sent);
        self.record(&tenant).open.clear();
        self.record(&tenant).exchanged = Some(Reply::Unspent(code));
        if let Treatment::Unreachable = treatment {
            return Attempt::NotSent("connect");
        }
        self.code(code).closed = true;
        match treatment {
            Treatment::Unavailable => {
                self.record(&tenant).not_accepted += 1;
                return answer(503, String::new());
            }
            Treatment::LostBefore => return Attempt::Unanswered("reset"),
            Treatment::Refused => {
                self.record(&tenant).not_accepted += 1;
                return refused();
            }
            _ if taken => {
                self.record(&tenant).not_accepted += 1;
                return refused();
            }
            _ => self.code(code).taken = true,
        }
        if let Treatment::LostAfter = treatment {
            return Attempt::Unanswered("timeout");
        }
        let number = self.grant(&tenant, None);
        let record = self.record(&tenant);
        record.possible.push(Some(number));
        record.exchanged = Some(Reply::Granted(number));
        record.open.insert(number, record.link.clone());
        record.during.sign_ins.insert(number);
        granted(number)
    }

    /// Notes that an answer is in this journal.
    pub(in crate::crash) fn journalled(&mut self, path: &Path, written: Durability) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return };
        let purposes = [(Purpose::Refresh, ".lock"), (Purpose::SignIn, ".signin.lock")];
        let is = |tenant: &Tenant, end: &str| name.strip_suffix(end) == Some(&tenant.file_name());
        let found = self.records.keys().find_map(|tenant| {
            let (purpose, _) = purposes.iter().find(|(_, end)| is(tenant, end))?;
            Some((tenant.clone(), *purpose))
        });
        let Some((tenant, purpose)) = found else { return };
        let record = self.record(&tenant);
        let reply = match purpose {
            Purpose::Refresh => record.refreshed,
            Purpose::SignIn => record.exchanged,
        };
        if let Some(Reply::Granted(number)) = reply {
            self.written.insert(number);
        }
        let record = self.record(&tenant);
        if written == Durability::Volatile {
            // The next program knows it, unless the power fails first.
            if let Some(Reply::Unspent(code)) = reply {
                self.code(code).closed = false;
            }
            return;
        }
        match purpose {
            Purpose::Refresh => record.refreshed = None,
            Purpose::SignIn => record.exchanged = None,
        }
        match (purpose, reply) {
            (Purpose::SignIn, Some(Reply::Granted(number))) => record.answered = Some(number),
            (Purpose::Refresh, Some(Reply::Granted(number))) => self.supersede_parent(number),
            (_, Some(Reply::Unspent(code))) => self.code(code).closed = false,
            (_, None) => {}
        }
    }

    /// Chooses the treatment. The same request gets the same one, whichever program sends it first.
    fn treatment(&self, presented: u64, time: u64) -> Treatment {
        if self.healthy {
            return Treatment::Answered;
        }
        match Random::new(self.seed ^ (presented << 16) ^ time).below(12) {
            0 => Treatment::Unavailable,
            1 => Treatment::Unreachable,
            2 => Treatment::LostBefore,
            3 => Treatment::LostAfter,
            4 => Treatment::Refused,
            _ => Treatment::Answered,
        }
    }

    pub(super) fn grant(&mut self, tenant: &Tenant, parent: Option<u64>) -> u64 {
        let number = self.mint();
        self.grants.insert(number, Granted { tenant: tenant.clone(), parent, at: self.now });
        number
    }

    pub(super) fn forget_codes_of(&mut self, tenant: &Tenant) {
        self.codes.values_mut().filter(|code| code.tenant == *tenant).for_each(|code| code.closed = false);
    }

    fn code(&mut self, number: u64) -> &mut Code {
        self.codes.get_mut(&number).expect("it was handed out")
    }

    pub(super) fn supersede_parent(&mut self, number: u64) {
        self.superseded.extend(self.grants[&number].parent);
    }

    /// Returns the sign-in from which a token descends.
    pub(in crate::crash) fn root(&self, mut number: u64) -> u64 {
        while let Some(parent) = self.grants[&number].parent {
            number = parent;
        }
        number
    }

    /// Returns the time at which this token was issued.
    pub(in crate::crash) fn given_at(&self, number: u64) -> UnixTime {
        self.grants[&number].at
    }

    /// Returns the generation of the session that holds this token.
    pub(in crate::crash) fn generation(&self, mut number: u64) -> u64 {
        let mut generation = 1;
        while let Some(parent) = self.grants.get(&number).and_then(|grant| grant.parent) {
            number = parent;
            generation += 1;
        }
        generation
    }
}

fn answer(status: u16, body: String) -> Attempt<Answer> {
    Attempt::Answered(Answer { status, body: body.into_bytes().into(), at: NOW, ..Answer::default() })
}

fn refused() -> Attempt<Answer> {
    answer(400, r#"{"error":"invalid_grant"}"#.into())
}

/// RFC 6749 §5.1.
fn granted(number: u64) -> Attempt<Answer> {
    let body = format!(
        r#"{{"access_token":"access-{number}","token_type":"Bearer","refresh_token":"refresh-{number}","expires_in":{}}}"#,
        LIFETIME
    );
    answer(200, body)
}
