//! The actions of users: they sign in, choose, log out, and view the status.

use threadkey::{
    broker::Revocation,
    ids::{Lineage, Principal},
    oauth::Pasted,
};

use super::{
    disk::Disk,
    reference::{Family, Presented, lock},
    steps::{ACCOUNTS, Choice, Named, PROVIDERS, Paste, TENANTS},
    user_results::Finish,
    world::{World, tenant_id},
};

impl World {
    pub(super) async fn sign_in(&mut self, tenant: usize, process: usize, account: usize) {
        let user = TENANTS[tenant].2[0];
        self.start_sign_in(tenant, process, user).await;
        self.finish(tenant, process, user, account, Paste::Fresh, true);
    }

    pub(super) async fn start_sign_in(&mut self, tenant: usize, process: usize, user: &str) {
        if !TENANTS[tenant].2.contains(&user) {
            return;
        }
        let (broker, reference) = (self.processes[process].broker.clone(), self.reference.clone());
        let user: Principal = user.parse().unwrap();
        let (send_link, link) = tokio::sync::oneshot::channel();
        self.at_once(process, async move {
            match broker.start(&tenant_id(tenant), user).await {
                Ok(started) => drop(send_link.send(started.link().unwrap().to_string())),
                Err(error) => lock(&reference).record_text("a start's error", format!("{error} {error:?}")),
            }
        })
        .await;
        if let Ok(link) = link.await {
            self.links[tenant] = Some(link);
        }
    }

    /// Pastes the answer to a sign-in. `in_server` is whether the user acts in the server of the tenant, which
    /// both users manage.
    pub(super) fn finish(
        &mut self,
        tenant: usize,
        process: usize,
        user: &str,
        account: usize,
        paste: Paste,
        in_server: bool,
    ) {
        let Some((address, text)) = self.paste(tenant, ACCOUNTS[account], paste) else { return };
        let pasted = Pasted::parse(&text).unwrap();
        let code = parameter(&address, "code").unwrap();
        let starter = Disk::read(&self.path).ok().and_then(|disk| {
            let pending = disk.pending(&tenant_id(tenant).to_string())?.1.clone();
            Some(pending["started_by"].as_str()?.to_owned())
        });
        let server = tenant_id(tenant).principal;
        let server = if let Principal::Guild(server) = server { Some(server) } else { None };
        let managed = server.filter(|_| in_server);
        let is_allowed = server == managed;
        let waits = self.is_waiting();
        let own = waits || starter.as_deref() == Some(user);
        let is_ours = own && !matches!(paste, Paste::WrongState);
        let mut finish = Finish {
            tenant,
            code,
            may_be_sent: is_allowed && (waits || matches!(paste, Paste::BareCode) || is_ours),
            may_sign_in: is_allowed && is_ours,
            sent_before: 0,
        };
        self.pasted[tenant] = Some(address);
        let (broker, reference) = (self.processes[process].broker.clone(), self.reference.clone());
        let user: Principal = user.parse().unwrap();
        let provider = PROVIDERS[TENANTS[tenant].0].name.parse().unwrap();
        let alive = self.processes[process].alive.clone();
        self.wait_for(process, tenant, async move {
            {
                let mut reference = lock(&reference);
                reference.begin_change(tenant);
                let code = Presented::Code(finish.code.clone());
                finish.sent_before =
                    reference.requests.iter().filter(|request| request.presented == code).count();
            }
            let result = broker.finish_in(user, managed, Some(&provider), pasted).await;
            if !alive.has_ended() {
                lock(&reference).check_finish_result(&finish, &result);
            }
        });
    }

    /// Returns the address at which a sign-in ended, and the part of it that is pasted.
    fn paste(&mut self, tenant: usize, account: &str, paste: Paste) -> Option<(String, String)> {
        if matches!(paste, Paste::Again) {
            let address = self.pasted[tenant].clone()?;
            return Some((address.clone(), address));
        }
        let provider = TENANTS[tenant].0;
        let address = self.servers[provider].allow(self.links[tenant].as_ref()?, account);
        let (code, state) = (parameter(&address, "code")?, parameter(&address, "state")?);
        let mut reference = lock(&self.reference);
        let account = format!("{account}@example.com");
        reference.codes.insert(code.clone(), Family { tenant, account, nameless: false });
        reference.secrets.insert(code.clone());
        drop(reference);
        let text = match paste {
            Paste::BareCode => code,
            Paste::WrongState => address.replace(&state, "another-state"),
            Paste::Fresh | Paste::Again => address.clone(),
        };
        Some((address, text))
    }

    pub(super) async fn cancel(&self, process: usize, user: &str) {
        let (broker, reference) = (self.processes[process].broker.clone(), self.reference.clone());
        let user: Principal = user.parse().unwrap();
        self.at_once(process, async move {
            let result = broker.cancel(user, None).await;
            let mut reference = lock(&reference);
            match result {
                Ok(dropped) => reference.check_cancel_result(user, &dropped),
                Err(error) => reference.violate(format!("a sign-in cannot be cancelled: {error}")),
            }
        })
        .await;
    }

    pub(super) async fn logout(&self, tenant: usize, process: usize, revoke: bool) {
        let (broker, reference) = (self.processes[process].broker.clone(), self.reference.clone());
        let revocation = if revoke { Revocation::Revoke } else { Revocation::Keep };
        self.at_once(process, async move {
            let before = {
                let mut reference = lock(&reference);
                reference.begin_change(tenant);
                reference.begin_logout(tenant, revocation)
            };
            let result = broker.logout(&tenant_id(tenant), revocation).await;
            lock(&reference).check_logout_result(tenant, &before, revocation, &result);
        })
        .await;
    }

    pub(super) async fn choose(&self, tenant: usize, process: usize, choice: Choice, named: Named) {
        let Some(named) = lock(&self.reference).named(tenant, named) else { return };
        let lineage: Lineage = named.parse().unwrap();
        let (broker, reference) = (self.processes[process].broker.clone(), self.reference.clone());
        self.at_once(process, async move {
            let before = lock(&reference).begin_choice(tenant, choice, &named);
            match choice {
                Choice::Switch => {
                    let result = broker.switch(&tenant_id(tenant), lineage).await;
                    lock(&reference).check_switch_result(tenant, &named, &before, &result);
                }
                Choice::Keep => {
                    let result = broker.keep(&tenant_id(tenant), lineage).await;
                    lock(&reference).check_keep_result(tenant, &named, &before, &result);
                }
            }
        })
        .await;
    }

    pub(super) async fn expire_choices(&self, process: usize) {
        let alone = !self.anything_held() && !self.is_waiting();
        let (broker, reference) = (self.processes[process].broker.clone(), self.reference.clone());
        self.at_once(process, async move {
            lock(&reference).set_expiring(Some(alone));
            let result = broker.expire_undecided().await;
            let mut reference = lock(&reference);
            reference.set_expiring(None);
            match result {
                Ok(next) => reference.check_expired_choices(alone, next),
                Err(error) => reference.violate(format!("choices cannot be expired: {error}")),
            }
        })
        .await;
    }

    pub(super) async fn status(&self, process: usize) {
        let (broker, reference) = (self.processes[process].broker.clone(), self.reference.clone());
        self.at_once(process, async move {
            let principals: Vec<Principal> =
                TENANTS.iter().map(|(_, principal, _)| principal.parse().unwrap()).collect();
            let before: Vec<_> =
                (0..TENANTS.len()).map(|tenant| lock(&reference).session_and_candidate(tenant)).collect();
            let status = broker.status(&principals).await;
            let mut reference = lock(&reference);
            reference.record_text("a status", format!("{status:?}"));
            match status {
                Ok(status) => reference.check_status(&before, &status),
                Err(error) => reference.violate(format!("the status cannot be read: {error}")),
            }
        })
        .await;
    }
}

/// Returns a parameter of an address.
fn parameter(address: &str, name: &str) -> Option<String> {
    let url = url::Url::parse(address).unwrap();
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
