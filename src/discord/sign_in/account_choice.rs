//! A sign-in that came back as another account: the question, its two buttons, and what a press does.

use super::{
    super::{
        asked::Asked,
        bot::{Bot, trouble},
        buttons::{Action, Choice},
        wire::{Button, Message, relative},
    },
    words::{dropped_words, for_whom, named, signed_in},
};
use crate::{
    broker::{ChoiceError, GrantEnd, Kept, Undecided},
    ids::{Lineage, Principal, Snowflake, Tenant},
};

pub(super) const GONE: &str = "Nothing waits for your choice any more: it was decided, replaced by a newer sign-in, or its time was over. `/auth status` shows how it stands.";

/// The question, with buttons for `person` alone.
pub(super) fn question(bot: &Bot, person: Snowflake, undecided: &Undecided) -> Message {
    Message::text(question_words(undecided)).buttons(buttons(bot, person, undecided, ""))
}

/// "Switch" and "Keep", with `of` behind the words where there are several.
pub(super) fn buttons(bot: &Bot, person: Snowflake, undecided: &Undecided, of: &str) -> Vec<Button> {
    [(Choice::Switch, "Switch"), (Choice::Keep, "Keep")]
        .map(|(choice, label)| {
            let (tenant, lineage) = (undecided.tenant.clone(), undecided.lineage);
            let id = bot.buttons.add(person, Action::Choose { tenant, lineage, choice });
            Button::press(&format!("{label}{of}"), id)
        })
        .into()
}

/// Whether the person may still choose for this tenant, from where they press. A button is for whoever signed in, or could see
/// the question as a manager; one who presses it on the server has to be one still.
pub(in crate::discord) fn may_choose(asked: &Asked, tenant: &Tenant) -> bool {
    match tenant.principal {
        Principal::Guild(guild) if asked.guild == Some(guild) => asked.manages_guild(),
        Principal::Guild(_) => true,
        Principal::User(user) => user == asked.user,
        Principal::Local => false,
    }
}

/// Does what was chosen.
pub(in crate::discord) async fn choose(
    bot: &Bot,
    tenant: &Tenant,
    lineage: Lineage,
    choice: Choice,
) -> Message {
    let chosen = match choice {
        Choice::Switch => bot.broker.switch(tenant, lineage).await.map(|done| {
            let mut told = signed_in(&done);
            if done.replaced.is_some() {
                let provider = &tenant.provider;
                told.content.push_str(&format!(
                    " Its access lives on at `{provider}` until you remove it in that account there."
                ));
            }
            told
        }),
        Choice::Keep => bot.broker.keep(tenant, lineage).await.map(|kept| Message::text(kept_words(&kept))),
    };
    match chosen {
        Ok(message) => message,
        Err(ChoiceError::Gone(_)) => Message::text(GONE),
        Err(ChoiceError::Store(error)) => trouble("choosing between two sign-ins", &error),
    }
}

/// What stands in place of the link when the sign-in that it was for waits for a choice.
pub(in crate::discord) fn waits(undecided: &Undecided) -> Message {
    Message::text(format!(
        "You signed in as {}, and that waits for your choice: in the newest answer, or by `/auth status`.",
        named(undecided.account.as_deref())
    ))
}

/// Tells whoever it concerns that a choice was not made in its time, where something is left for them to do.
pub(in crate::discord) async fn lapsed(bot: &Bot, kept: &Kept) {
    if kept.unchosen.grant == GrantEnd::Revoked {
        return;
    }
    let tenant = &kept.tenant;
    let whom = match tenant.principal {
        Principal::User(user) => Ok(user),
        // Who signed the server in is not on record; its owner can look after it.
        Principal::Guild(guild) => bot.rest.guild_owner(guild).await,
        Principal::Local => return,
    };
    let message = Message::text(format!("You did not choose in time. {}", kept_words(kept)));
    let told = match whom {
        Ok(user) => bot.rest.direct(user, &message).await,
        Err(error) => Err(error),
    };
    if let Err(error) = told {
        tracing::info!(%tenant, %error, "nobody could be told that a sign-in was not chosen in its time");
    }
}

/// What a question says once it was decided elsewhere that the session stays.
pub(super) fn not_chosen(tenant: &Tenant, account: Option<&str>, current: Option<&str>) -> Message {
    let (provider, whom) = (&tenant.provider, for_whom(tenant));
    let (account, current) = (named(account), named(current));
    Message::text(format!(
        "`{provider}`{whom} stays with {current}. The sign-in as {account} was not chosen and is dropped."
    ))
}

/// The line of a status.
pub(super) fn status_line(undecided: &Undecided) -> String {
    format!(
        "You signed in as {} too: choose **Switch** or **Keep** {}.",
        named(undecided.account.as_deref()),
        before(undecided)
    )
}

fn question_words(undecided: &Undecided) -> String {
    let Undecided { tenant, account, current, .. } = undecided;
    let (new, old, provider) = (named(account.as_deref()), named(current.as_deref()), &tenant.provider);
    let mut words = format!(
        "You signed in as {new}, but this is {old}'s place at `{provider}`{}. Nothing was replaced.\n**Switch**: {new} is used from now on. **Keep**: it stays {old}'s, and the new sign-in is dropped. Choose {}; otherwise it stays as it is.",
        for_whom(tenant),
        before(undecided)
    );
    if let Some(dropped) = &undecided.dropped {
        words.push('\n');
        words.push_str(&dropped_words(tenant, dropped));
    }
    words
}

fn kept_words(kept: &Kept) -> String {
    let tenant = &kept.tenant;
    format!(
        "`{}`{} stays with {}. {}",
        tenant.provider,
        for_whom(tenant),
        named(kept.account.as_deref()),
        dropped_words(tenant, &kept.unchosen)
    )
}

fn before(undecided: &Undecided) -> String {
    format!("before <t:{}:t> ({})", undecided.until, relative(undecided.until))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::broker::Unchosen;

    pub(in super::super) fn undecided(tenant: &str) -> Undecided {
        Undecided {
            tenant: tenant.parse().expect("a tenant"),
            lineage: Lineage([8; 16]),
            account: Some("bo`b@example.com".into()),
            current: Some("alice@example.com".into()),
            until: 1_795_359_572,
            dropped: None,
        }
    }

    #[test]
    fn the_question_names_both_accounts_and_says_what_each_answer_does_and_until_when() {
        assert_eq!(
            question_words(&undecided("acme/user:5")),
            "You signed in as `bo'b@example.com`, but this is `alice@example.com`'s place at `acme`. Nothing was replaced.\n**Switch**: `bo'b@example.com` is used from now on. **Keep**: it stays `alice@example.com`'s, and the new sign-in is dropped. Choose before <t:1795359572:t> (<t:1795359572:R>); otherwise it stays as it is."
        );
        let mut shared = undecided("acme/guild:9");
        let grant = GrantEnd::MayLiveOn;
        shared.dropped = Some(Unchosen { account: Some("carol".into()), grant });
        let words = question_words(&shared);
        assert!(words.contains("'s place at `acme` for this server."), "{words}");
        assert!(words.ends_with("The sign-in as `carol` is dropped here. Its access may live on at `acme`: remove it in that account there."), "{words}");
    }

    #[test]
    fn who_keeps_their_session_reads_whether_the_other_grant_lives_on() {
        let kept = |grant| Kept {
            tenant: "acme/user:5".parse().expect("a tenant"),
            account: Some("alice".into()),
            unchosen: Unchosen { account: Some("bob".into()), grant },
        };
        assert_eq!(
            kept_words(&kept(GrantEnd::Revoked)),
            "`acme` stays with `alice`. The sign-in as `bob` is dropped, and `acme` has ended its access."
        );
        assert!(kept_words(&kept(GrantEnd::MayLiveOn)).contains("may live on at `acme`"));
    }
}
