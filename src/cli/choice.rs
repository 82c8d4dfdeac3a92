//! A sign-in that came back as another account: asking which one it shall be, and doing that.

use super::{
    Exit, Failure, can_ask, read_line, say,
    words::{commands, dropped_words, signed_in_words},
};
use crate::{
    broker::{Broker, ChoiceError, Undecided},
    ids::{Lineage, Tenant},
};

/// What a person answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Switch,
    Keep,
}

/// Asks on a terminal; elsewhere, or without an answer, fails with the commands that decide: the sign-in is saved, and not in
/// use.
pub(super) async fn ask(broker: &Broker, undecided: &Undecided) -> Result<(), Failure> {
    let tenant = &undecided.tenant;
    let mut words = question(undecided);
    if let Some(dropped) = &undecided.dropped {
        words = format!("{words} {}", dropped_words(tenant, dropped));
    }
    if can_ask() {
        say(&words);
        let answer = read_line("Switch or keep?")?;
        match read(answer.expose()) {
            Some(Choice::Switch) => return switch_to(broker, tenant, undecided.lineage).await,
            Some(Choice::Keep) => return keep_it(broker, tenant, undecided.lineage).await,
            None => words = "That was neither `switch` nor `keep`.".to_owned(),
        }
    }
    let text = format!("{words} Decide within 15 minutes, by {}.", commands(tenant));
    Err(Failure::new(Exit::Usage, text))
}

/// `threadkey auth switch`.
pub(super) async fn switch(broker: &Broker, tenant: &Tenant) -> Result<(), Failure> {
    switch_to(broker, tenant, waiting(broker, tenant).await?).await
}

/// `threadkey auth keep`.
pub(super) async fn keep(broker: &Broker, tenant: &Tenant) -> Result<(), Failure> {
    keep_it(broker, tenant, waiting(broker, tenant).await?).await
}

/// Takes out what nobody chose in its time. What goes wrong with that is no failure of the command.
pub(super) async fn expire(broker: &Broker) {
    if let Err(error) = broker.expire_undecided().await {
        tracing::debug!(%error, "sign-ins that nobody chose cannot be taken out");
    }
}

async fn waiting(broker: &Broker, tenant: &Tenant) -> Result<Lineage, Failure> {
    let undecided = broker.undecided(tenant).await?;
    Ok(undecided.ok_or_else(|| ChoiceError::Gone(tenant.clone()))?.lineage)
}

async fn switch_to(broker: &Broker, tenant: &Tenant, lineage: Lineage) -> Result<(), Failure> {
    let done = broker.switch(tenant, lineage).await?;
    let mut words = signed_in_words(&done);
    if let Some(replaced) = &done.replaced {
        words.push_str(&format!(
            " The access of {replaced} lives on at {}: end it there if it is not wanted.",
            tenant.provider
        ));
    }
    say(&words);
    Ok(())
}

async fn keep_it(broker: &Broker, tenant: &Tenant, lineage: Lineage) -> Result<(), Failure> {
    let kept = broker.keep(tenant, lineage).await?;
    let account = kept.account.as_deref().unwrap_or("the session");
    say(&format!("{tenant} stays with {account}. {}", dropped_words(tenant, &kept.unchosen)));
    Ok(())
}

fn question(undecided: &Undecided) -> String {
    let Undecided { tenant, account, current, .. } = undecided;
    format!(
        "You signed in as {}, but {tenant} is signed in as {}. Nothing was replaced: `switch` uses the new sign-in from now \
         on, `keep` drops it.",
        account.as_deref().unwrap_or("another account"),
        current.as_deref().unwrap_or("somebody else"),
    )
}

fn read(answer: &str) -> Option<Choice> {
    match answer.trim().to_ascii_lowercase().as_str() {
        "switch" | "s" => Some(Choice::Switch),
        "keep" | "k" => Some(Choice::Keep),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::words::tests::undecided;

    #[test]
    fn an_answer_is_a_word_or_its_first_letter_and_anything_else_decides_nothing() {
        for (answer, choice) in [
            ("switch", Some(Choice::Switch)),
            (" S\n", Some(Choice::Switch)),
            ("Keep", Some(Choice::Keep)),
            ("k", Some(Choice::Keep)),
            ("", None),
            ("y", None),
            ("switch keep", None),
        ] {
            assert_eq!(read(answer), choice, "{answer:?}");
        }
    }

    #[test]
    fn it_says_whose_the_session_is_and_that_nothing_was_replaced() {
        let tenant: Tenant = "acme/local".parse().expect("a tenant");
        let words = question(&undecided(&tenant, 0));
        assert!(
            words.starts_with("You signed in as bob@example.com, but acme/local is signed in as alice@example.com. Nothing was replaced"),
            "{words}"
        );
        assert_eq!(commands(&tenant), "`threadkey auth switch acme` or `threadkey auth keep acme`");
    }
}
