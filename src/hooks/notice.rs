//! The JSON object that a hook reads. Its members are stable: `docs/operators.md` has them.

use serde::Serialize;

use super::hook::Hook;
use crate::{
    broker::{Broker, Event, SignedIn},
    ids::{Principal, Tenant},
    session::Session,
    sys::clock::UnixTime,
};

/// The version of the object. It grows when a member changes its meaning or goes; new members may come
/// without that.
const VERSION: u32 = 1;

/// An event of a login, in public facts alone.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    pub(super) event: Hook,
    pub(super) tenant: Tenant,
    /// When it was published, in Unix seconds.
    time: UnixTime,
    /// The account, in the provider's words.
    account: Option<String>,
    /// A code for programs.
    reason: String,
}

#[derive(Serialize)]
struct Json<'a> {
    version: u32,
    event: &'static str,
    time: UnixTime,
    provider: &'a str,
    principal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    reason: &'a str,
}

impl Notice {
    /// Returns the object, with a line end.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let json = Json {
            version: VERSION,
            event: self.event.name(),
            time: self.time,
            provider: self.tenant.provider.as_str(),
            principal: self.tenant.principal.to_string(),
            account: self.account.as_deref(),
            reason: &self.reason,
        };
        let mut bytes = serde_json::to_vec(&json).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }
}

/// Returns the notices of an event. A server's login has a notice of its own besides.
pub(super) async fn of(broker: &Broker, event: Event) -> Vec<Notice> {
    let time = broker.now();
    let notice = |event, tenant: Tenant, account, reason: &str| Notice {
        event,
        tenant,
        time,
        account,
        reason: reason.to_owned(),
    };
    let signed_in = |SignedIn { tenant, account, .. }: SignedIn, reason| {
        let shared = is_shared(&tenant)
            .then(|| notice(Hook::SharedLoginChanged, tenant.clone(), account.clone(), reason));
        [Some(notice(Hook::SignedIn, tenant, account, reason)), shared].into_iter().flatten().collect()
    };
    match event {
        Event::SignedIn(done) => signed_in(done, "signed_in"),
        Event::Switched(done) => signed_in(done, "switched"),
        Event::LoggedOut(tenant) if is_shared(&tenant) => {
            vec![notice(Hook::SharedLoginChanged, tenant, None, "logged_out")]
        }
        Event::Ended { tenant, code } => {
            let account = account(broker, &tenant).await;
            vec![notice(Hook::Ended, tenant, account, &code)]
        }
        Event::Recovered { tenant, code } => {
            let account = account(broker, &tenant).await;
            vec![notice(Hook::Recovered, tenant, account, &code)]
        }
        Event::Stuck { tenant, is_new: true } => {
            let account = account(broker, &tenant).await;
            vec![notice(Hook::Stuck, tenant, account, Session::STUCK)]
        }
        Event::Stuck { is_new: false, .. }
        | Event::LoggedOut(_)
        | Event::Undecided(_)
        | Event::SignInConcluded(_)
        | Event::Lapsed(_)
        | Event::Reported(_)
        | Event::Denied(_)
        | Event::SaveFailed(_) => Vec::new(),
    }
}

fn is_shared(tenant: &Tenant) -> bool {
    matches!(tenant.principal, Principal::Guild(_))
}

/// The account of a stored session, if it can be read.
async fn account(broker: &Broker, tenant: &Tenant) -> Option<String> {
    broker.session(tenant).await.ok()??.account
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_has_these_members_and_no_other() {
        let notice = Notice {
            event: Hook::Ended,
            tenant: "acme/user:803".parse().expect("a tenant"),
            time: 1_795_358_672,
            account: Some("alice@example.com".into()),
            reason: "invalid_grant".into(),
        };
        let text = |notice: &Notice| String::from_utf8(notice.to_json()).expect("text");
        assert_eq!(
            text(&notice),
            "{\"version\":1,\"event\":\"ended\",\"time\":1795358672,\"provider\":\"acme\",\"principal\":\"user:803\",\"account\":\"alice@example.com\",\"reason\":\"invalid_grant\"}\n"
        );
        let unknown = text(&Notice { account: None, ..notice });
        assert!(!unknown.contains("account"), "{unknown}");
    }
}
