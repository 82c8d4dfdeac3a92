//! A sign-in as another account than the session's: the question to its user, and the two buttons.

use super::{
    super::{
        bot::Bot,
        buttons::{Action, Choice},
        wire::{Button, Message, relative_time},
    },
    messages::{account_name, dropped_sign_in, for_server},
};
use crate::{
    broker::{Kept, Undecided},
    ids::Snowflake,
};

/// The question, with buttons for `user` alone.
pub(super) fn question(bot: &Bot, user: Snowflake, undecided: &Undecided) -> Message {
    Message::text(question_text(undecided)).buttons(choice_buttons(bot, user, undecided, ""))
}

/// The buttons "Switch" and "Keep". `suffix` follows both labels and distinguishes several pairs.
pub(in crate::discord) fn choice_buttons(
    bot: &Bot,
    user: Snowflake,
    undecided: &Undecided,
    suffix: &str,
) -> Vec<Button> {
    [(Choice::Switch, "Switch"), (Choice::Keep, "Keep")]
        .map(|(choice, label)| {
            let (tenant, lineage) = (undecided.tenant.clone(), undecided.lineage);
            let id = bot.buttons.add(user, Action::Choose { tenant, lineage, choice });
            Button::press(&format!("{label}{suffix}"), id)
        })
        .into()
}

/// The line of `/auth status` about a sign-in that waits for a choice.
pub(in crate::discord) fn choice_line(undecided: &Undecided) -> String {
    format!(
        "You signed in as {} too: choose **Switch** or **Keep** {}.",
        account_name(undecided.account.as_deref()),
        deadline(undecided)
    )
}

fn question_text(undecided: &Undecided) -> String {
    let Undecided { tenant, account, current, .. } = undecided;
    let (new, current) = (account_name(account.as_deref()), account_name(current.as_deref()));
    let mut text = format!(
        "You signed in as {new}, but `{}` is connected as {current}{}. Nothing was replaced.\n**Switch** uses {new} from now on. **Keep** stays with {current} and drops the new sign-in. Choose {}; otherwise nothing changes.",
        tenant.provider,
        for_server(tenant),
        deadline(undecided)
    );
    if let Some(dropped) = &undecided.dropped {
        text.push('\n');
        text.push_str(&dropped_sign_in(tenant, dropped));
    }
    text
}

/// Reports that the session stays, and whether the grant of the dropped sign-in still works.
pub(super) fn kept_text(kept: &Kept) -> String {
    let tenant = &kept.tenant;
    format!(
        "`{}`{} stays with {}. {}",
        tenant.provider,
        for_server(tenant),
        account_name(kept.account.as_deref()),
        dropped_sign_in(tenant, &kept.unchosen)
    )
}

fn deadline(undecided: &Undecided) -> String {
    format!("before <t:{}:t> ({})", undecided.until, relative_time(undecided.until))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        broker::{GrantEnd, Unchosen},
        ids::Lineage,
    };

    pub(in crate::discord) fn undecided(tenant: &str) -> Undecided {
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
    fn the_question_names_both_accounts_the_effect_of_each_answer_and_the_deadline() {
        assert_eq!(
            question_text(&undecided("acme/user:5")),
            "You signed in as `bo'b@example.com`, but `acme` is connected as `alice@example.com`. Nothing was replaced.\n**Switch** uses `bo'b@example.com` from now on. **Keep** stays with `alice@example.com` and drops the new sign-in. Choose before <t:1795359572:t> (<t:1795359572:R>); otherwise nothing changes."
        );
        let mut shared = undecided("acme/guild:9");
        let grant = GrantEnd::MayLiveOn;
        shared.dropped = Some(Unchosen { account: Some("carol".into()), grant });
        let text = question_text(&shared);
        assert!(text.contains("is connected as `alice@example.com` for this server."), "{text}");
        assert!(text.ends_with("The sign-in as `carol` is dropped here. Its access may still work at `acme`: remove it in that account there."), "{text}");
    }

    #[test]
    fn a_user_who_keeps_the_session_reads_whether_the_other_grant_still_works() {
        let kept = |grant| Kept {
            tenant: "acme/user:5".parse().expect("a tenant"),
            account: Some("alice".into()),
            unchosen: Unchosen { account: Some("bob".into()), grant },
        };
        assert_eq!(
            kept_text(&kept(GrantEnd::Revoked)),
            "`acme` stays with `alice`. The sign-in as `bob` is dropped, and `acme` has ended its access."
        );
        assert!(kept_text(&kept(GrantEnd::MayLiveOn)).contains("may still work at `acme`"));
    }
}
