use super::*;
use crate::ids::{ConversationId, Snowflake};

fn holder(owner: u64, shared_guild: Option<u64>) -> Holder {
    let conversation = Conversation {
        id: ConversationId(Snowflake(1)),
        owner: Snowflake(owner),
        shared_guild: shared_guild.map(Snowflake),
        agent: None,
    };
    Holder { conversation, providers: vec!["acme".parse().expect("a provider id")] }
}

fn tenant(text: &str) -> Tenant {
    text.parse().expect("a tenant")
}

#[test]
fn a_provider_outside_the_holders_list_has_no_candidates() {
    assert!(Candidates::of(&holder(803, Some(9)), &"other".parse().expect("a provider id")).is_none());
}

#[test]
fn only_the_owners_and_the_shared_servers_tenants_are_candidates() {
    let acme = "acme".parse().expect("a provider id");
    let alone = Candidates::of(&holder(803, None), &acme).expect("the provider is allowed");
    assert_eq!((alone.own, alone.shared), (tenant("acme/user:803"), None));
    let shared = Candidates::of(&holder(803, Some(9)), &acme).expect("the provider is allowed");
    assert!(shared.contains(&tenant("acme/user:803")) && shared.contains(&tenant("acme/guild:9")));
    for other in ["acme/user:804", "acme/guild:8", "acme/local", "other/user:803"] {
        assert!(!shared.contains(&tenant(other)), "{other}");
    }
}

#[test]
fn each_owners_and_each_shared_tenant_is_in_use_once() {
    let tenants = WorkerTokens::in_use(&[holder(803, None), holder(803, Some(9)), holder(804, Some(9))]);
    let names: Vec<_> = tenants.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["acme/user:803", "acme/user:804", "acme/guild:9"]);
}
