use std::sync::Arc;

use serde_json::json;
use serenity::all::Permissions;
use threadkey_lookalike::discord::{Discord, Guild as Team, Options, Person, Trouble};

use super::{
    facts::tests::{channel, guild},
    *,
};
use crate::{
    discord::{first_contact, rest},
    secret::Scrubber,
};

const TEAM: Snowflake = Snowflake(1);
const GENERAL: Snowflake = Snowflake(2);
const ROLE: Snowflake = Snowflake(4);
const ALICE: Snowflake = Snowflake(5);
const NOW: i64 = 1_795_358_672;

fn request(place: Place) -> Request {
    Request { user: ALICE, place, member: None, sees_channel: true }
}

fn in_thread(thread: u64, parent: u64) -> Request {
    request(Place::Server { guild: TEAM, channel: Snowflake(thread), parent: Some(Snowflake(parent)) })
}

fn decide(lists: &Lists, request: &Request, known: &[Found]) -> Verdict {
    let mut facts = Facts::new();
    for found in known {
        facts.learn(found.clone(), Duration::ZERO);
    }
    lists.decide(request, &facts.view(Duration::ZERO, FRESH))
}

fn needs(facts: &[Fact]) -> Verdict {
    Verdict::Needs(facts.iter().copied().collect())
}

#[test]
fn without_lists_only_the_application_owner_is_entitled() {
    let application = json!({"id": "7", "owner": {"id": "5", "username": "alice"}, "team": null});
    let owned = Found::Application(serde_json::from_value(application).expect("an application"));
    let (closed, direct) = (Lists::default(), request(Place::Outside));
    assert_eq!(decide(&closed, &direct, &[]), needs(&[Fact::Application]));
    assert_eq!(decide(&closed, &direct, std::slice::from_ref(&owned)), Verdict::Entitled);
    let other = Request { user: Snowflake(6), ..direct };
    assert_eq!(decide(&closed, &other, &[owned]), Verdict::Refused(Refusal::Closed));
}

#[test]
fn a_place_outside_the_lists_is_refused_to_every_user() {
    let lists = Lists { everyone: true, guilds: vec![TEAM], channels: vec![GENERAL], ..Lists::default() };
    assert_eq!(decide(&lists, &in_thread(3, 2), &[]), Verdict::Entitled, "a thread counts as its channel");
    assert_eq!(decide(&lists, &in_thread(3, 9), &[]), Verdict::Refused(Refusal::Channel));
    let elsewhere = request(Place::Server { guild: Snowflake(8), channel: GENERAL, parent: None });
    assert_eq!(decide(&lists, &elsewhere, &[]), Verdict::Refused(Refusal::Guild));
    assert_eq!(decide(&lists, &request(Place::Outside), &[]), Verdict::Entitled);
}

#[test]
fn a_member_needs_a_listed_role_and_the_sight_of_a_listed_channel() {
    let lists = Lists { guilds: vec![TEAM], channels: vec![GENERAL], roles: vec![ROLE], ..Lists::default() };
    let direct = request(Place::Outside);
    let hidden = [(0, TEAM.0, Permissions::empty(), Permissions::VIEW_CHANNEL)];
    let (open, closed) = (
        Found::Channel(GENERAL, Some(channel(TEAM.0, &[]))),
        Found::Channel(GENERAL, Some(channel(TEAM.0, &hidden))),
    );
    let team = Found::Guild(TEAM, Some(guild(TEAM.0, 99, &[(ROLE.0, Permissions::empty())])));
    let member = |roles: Option<Vec<Snowflake>>| Found::Member(TEAM, ALICE, roles);
    assert_eq!(decide(&lists, &direct, &[]), needs(&[Fact::Channel(GENERAL)]));
    assert_eq!(decide(&lists, &direct, std::slice::from_ref(&open)), needs(&[Fact::Member(TEAM, ALICE)]));
    let with =
        |channel: &Found, roles| decide(&lists, &direct, &[channel.clone(), member(roles), team.clone()]);
    assert_eq!(with(&open, Some(vec![ROLE])), Verdict::Entitled);
    assert_eq!(with(&closed, Some(vec![ROLE])), Verdict::Refused(Refusal::User), "the channel is hidden");
    assert_eq!(with(&open, Some(vec![])), Verdict::Refused(Refusal::User), "the role is missing");
    assert_eq!(with(&open, None), Verdict::Refused(Refusal::User), "a former member");
    let foreign = Found::Channel(GENERAL, Some(channel(8, &[])));
    assert_eq!(with(&foreign, Some(vec![ROLE])), Verdict::Refused(Refusal::User), "another server's channel");
    let here = Request { member: Some((TEAM, vec![ROLE])), ..in_thread(3, GENERAL.0) };
    assert_eq!(
        decide(&lists, &here, &[member(Some(vec![ROLE]))]),
        Verdict::Entitled,
        "the request proves it"
    );
}

#[test]
fn a_listed_user_is_entitled_without_any_fact_and_no_member_is_by_that_list() {
    let lists = Lists { users: vec![ALICE], ..Lists::default() };
    assert_eq!(decide(&lists, &request(Place::Outside), &[]), Verdict::Entitled);
    let member = Request { user: Snowflake(6), ..in_thread(3, 2) };
    assert_eq!(decide(&lists, &member, &[]), Verdict::Refused(Refusal::User));
}

#[test]
fn each_refusal_names_the_reason_and_the_role_that_can_mend_it() {
    for (refusal, words) in [
        (Refusal::Guild, ["not on my operator's list", "Ask my operator"]),
        (Refusal::Channel, ["not on my operator's list", "ask my operator"]),
        (Refusal::User, ["not on my operator's lists", "a manager of a listed server"]),
        (Refusal::Closed, ["only the owner of my application", "My operator can open me"]),
        (Refusal::Unchecked, ["I cannot ask Discord", "this passes by itself"]),
    ] {
        let text = refusal.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}

#[test]
fn the_rights_in_words_name_users_places_and_the_line_to_add() {
    let mut settings = settings("http://127.0.0.1:1");
    let words = |settings: &DiscordSettings| rights_in_words(settings, None);
    assert_eq!(words(&settings).text, "closed: only the application's owner and team may use the bot");
    assert!(words(&settings).advice.is_some_and(|advice| advice.contains("allow_everyone = true")));
    settings.allowed_guilds = vec![TEAM];
    settings.allowed_roles = vec![ROLE];
    assert_eq!(
        words(&settings).text,
        "open to members of the servers 1 with one of the roles 4; in the servers 1, and in direct messages"
    );
    assert_eq!(words(&settings).advice, None);
    settings.allowed_roles = vec![];
    settings.allowed_users = vec![ALICE];
    assert!(words(&settings).text.starts_with("open to the users 5, and to members of the servers 1;"));
    assert!(words(&settings).advice.is_some_and(|advice| advice.contains("remove allowed_guilds")));
    settings.allow_everyone = true;
    assert_eq!(
        words(&settings),
        RightsInWords {
            text: "open to everyone (discord.allow_everyone); in the servers 1, and in direct messages"
                .into(),
            advice: None,
        }
    );
}

fn settings(api_base: &str) -> DiscordSettings {
    DiscordSettings {
        token: crate::secret::Secret::new("bot-token"),
        api_base: Some(api_base.parse().expect("a URL")),
        trust: crate::net::Trust::default(),
        allow_everyone: false,
        allowed_guilds: vec![],
        allowed_channels: vec![],
        allowed_roles: vec![],
        allowed_users: vec![],
        log_channel: None,
        guild_sessions: false,
        conversations: "unused.json".into(),
    }
}

/// Rights for the members of a server of the look-alike, with a clock that the test sets.
async fn connected() -> (Discord, Team, Person, Rights, Clock) {
    let discord = Discord::start(Options::default()).await;
    let team = discord.guild("team");
    let alice = discord.person("alice");
    team.join(&alice);
    let mut settings = settings(&discord.api_base());
    settings.allowed_guilds = vec![Snowflake(team.id)];
    let clock = Clock::fixed(NOW);
    let rights = Rights::new(&settings, clock.clone());
    let http = Arc::new(first_contact::http(&settings, reqwest::Client::new()));
    let application = rest::application(&http).await.expect("an application");
    rights.connect(Arc::new(Rest::new(http, Scrubber::new())), application);
    rights.facts().joined(Snowflake(team.id), vec![]);
    (discord, team, alice, rights, clock)
}

fn direct(person: &Person) -> Request {
    Request { user: Snowflake(person.id), place: Place::Outside, member: None, sees_channel: true }
}

fn asked(discord: &Discord) -> usize {
    discord.requests().iter().filter(|request| request.path.contains("/members/")).count()
}

#[tokio::test]
async fn a_membership_is_requested_once_a_minute_and_its_end_is_noticed_then() {
    let (discord, team, alice, rights, clock) = connected().await;
    for _ in 0..3 {
        assert_eq!(rights.check(&direct(&alice)).await, Ok(()));
    }
    assert_eq!(asked(&discord), 1);
    team.leave(&alice);
    clock.advance(60);
    assert_eq!(rights.check(&direct(&alice)).await, Ok(()), "60 s are not too old");
    clock.advance(1);
    assert_eq!(rights.check(&direct(&alice)).await, Err(Refusal::User));
    assert_eq!(asked(&discord), 2);
    discord.assert_no_violations();
}

#[tokio::test]
async fn without_discord_the_last_answer_counts_for_15_minutes_and_then_nothing_does() {
    let (discord, _team, alice, rights, clock) = connected().await;
    assert_eq!(rights.check(&direct(&alice)).await, Ok(()));
    discord.trouble("GET", "/members/", Trouble::status(503), u32::MAX);
    clock.advance(100);
    assert_eq!(rights.check(&direct(&alice)).await, Ok(()));
    assert_eq!(rights.check(&direct(&alice)).await, Ok(()));
    assert_eq!(asked(&discord), 2, "the failed request is followed by a pause");
    clock.advance(800);
    assert_eq!(rights.check(&direct(&alice)).await, Ok(()), "15 minutes");
    clock.advance(1);
    assert_eq!(rights.check(&direct(&alice)).await, Err(Refusal::Unchecked));
    let conversation = Conversation {
        id: ConversationId(Snowflake(9)),
        owner: Snowflake(alice.id),
        shared_guild: None,
        agent: None,
    };
    assert!(matches!(rights.of(&conversation).await, Err(RightsError::Unknown { .. })));
    discord.calm();
    clock.advance(6);
    assert_eq!(rights.check(&direct(&alice)).await, Ok(()));
}

#[tokio::test]
async fn a_refusal_that_is_not_discords_own_ends_no_right() {
    let (discord, _team, alice, rights, clock) = connected().await;
    assert_eq!(rights.check(&direct(&alice)).await, Ok(()));
    for (status, body) in [
        (403, json!("<html>Access denied</html>")),
        (404, json!("<html>Not found</html>")),
        (403, json!({"message": "Forbidden", "code": 0})),
    ] {
        clock.advance(61);
        let trouble = Trouble::Answer { status, body: body.clone(), retry_after: None };
        discord.trouble("GET", "/members/", trouble, 1);
        assert_eq!(rights.check(&direct(&alice)).await, Ok(()), "{status} {body}");
    }
    discord.calm();
}

#[tokio::test]
async fn memory_alone_answers_a_form_and_an_unknown_right_is_requested_for_the_next() {
    let (discord, _team, alice, rights, _clock) = connected().await;
    assert_eq!(rights.check_from_memory(&direct(&alice)), Err(Refusal::Unchecked));
    discord.requested("GET", "/members/", 1).await;
    let known = async {
        while rights.check_from_memory(&direct(&alice)) == Err(Refusal::Unchecked) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), known).await.expect("the answer arrives");
    assert_eq!(rights.check_from_memory(&direct(&alice)), Ok(()));
}
