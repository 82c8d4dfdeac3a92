//! The choice after a sign-in with another account than the session's: switch to it, or keep the
//! session.

use super::{
    Exit, Failure,
    messages::{choice_commands, dropped_text, signed_in_text},
    print_notice,
    prompt::{self, Echo},
    stdin_is_terminal,
};
use crate::{
    broker::{Broker, ChoiceError, Undecided},
    ids::{Lineage, Tenant},
    session::{CHOICE_LIFETIME, in_words},
};

/// The answer of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Switch,
    Keep,
}

/// Asks the user on a terminal and does as the user chooses.
///
/// The question comes again until its answer is clear. Without a terminal, or if the user interrupts
/// the question, the sign-in stays saved and unused, and this fails with the commands that choose.
pub(super) async fn ask(broker: &Broker, undecided: &Undecided) -> Result<(), Failure> {
    let tenant = &undecided.tenant;
    let mut text = question(undecided);
    if let Some(dropped) = &undecided.dropped {
        text = format!("{text} {}", dropped_text(tenant, dropped));
    }
    if stdin_is_terminal() {
        print_notice(&text);
        let is_answer = |text: &str| parse(text).is_some();
        while let Some(answer) =
            prompt::ask_unless_interrupted("Switch or keep?", Echo::Text, is_answer).await?
        {
            match parse(answer.expose()) {
                Some(Choice::Switch) => return switch_to(broker, tenant, undecided.lineage).await,
                Some(Choice::Keep) => return keep_current(broker, tenant, undecided.lineage).await,
                None => print_notice("The answer is neither `switch` nor `keep`."),
            }
        }
        text = "Interrupted: the new sign-in is saved, and not used.".to_owned();
    }
    let text =
        format!("{text} Choose within {} with {}.", in_words(CHOICE_LIFETIME), choice_commands(tenant));
    Err(Failure::new(Exit::Usage, text))
}

/// Runs `threadkey auth switch`.
pub(super) async fn switch(broker: &Broker, tenant: &Tenant) -> Result<(), Failure> {
    switch_to(broker, tenant, undecided_lineage(broker, tenant).await?).await
}

/// Runs `threadkey auth keep`.
pub(super) async fn keep(broker: &Broker, tenant: &Tenant) -> Result<(), Failure> {
    keep_current(broker, tenant, undecided_lineage(broker, tenant).await?).await
}

/// Drops each sign-in whose time for a choice is over. An error here does not fail the command.
pub(super) async fn drop_expired(broker: &Broker) {
    if let Err(error) = broker.expire_undecided().await {
        tracing::debug!(%error, "sign-ins whose time for a choice is over cannot be dropped");
    }
}

async fn undecided_lineage(broker: &Broker, tenant: &Tenant) -> Result<Lineage, Failure> {
    let undecided = broker.undecided(tenant).await?;
    Ok(undecided.ok_or_else(|| ChoiceError::Gone(tenant.clone()))?.lineage)
}

async fn switch_to(broker: &Broker, tenant: &Tenant, lineage: Lineage) -> Result<(), Failure> {
    let signed_in = broker.switch(tenant, lineage).await?;
    let mut text = signed_in_text(&signed_in);
    if let Some(replaced) = &signed_in.replaced {
        text.push_str(&format!(
            " The access of {replaced} stays valid at {}: end it there if you do not need it.",
            tenant.provider
        ));
    }
    print_notice(&text);
    Ok(())
}

async fn keep_current(broker: &Broker, tenant: &Tenant, lineage: Lineage) -> Result<(), Failure> {
    let kept = broker.keep(tenant, lineage).await?;
    let account = kept.account.as_deref().unwrap_or("the current account");
    print_notice(&format!("{tenant} stays with {account}. {}", dropped_text(tenant, &kept.unchosen)));
    Ok(())
}

fn question(undecided: &Undecided) -> String {
    let Undecided { tenant, account, current, .. } = undecided;
    format!(
        "You signed in as {}, but {tenant} is signed in as {}. Nothing was replaced: `switch` uses the new sign-in from \
         now on, `keep` drops it.",
        account.as_deref().unwrap_or("an unnamed account"),
        current.as_deref().unwrap_or("a different account"),
    )
}

fn parse(answer: &str) -> Option<Choice> {
    match answer.trim().to_ascii_lowercase().as_str() {
        "switch" | "s" => Some(Choice::Switch),
        "keep" | "k" => Some(Choice::Keep),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::messages::tests::undecided;

    #[test]
    fn an_answer_is_a_word_or_its_first_letter_and_anything_else_chooses_nothing() {
        for (answer, choice) in [
            ("switch", Some(Choice::Switch)),
            (" S\n", Some(Choice::Switch)),
            ("Keep", Some(Choice::Keep)),
            ("k", Some(Choice::Keep)),
            ("", None),
            ("y", None),
            ("switch keep", None),
        ] {
            assert_eq!(parse(answer), choice, "{answer:?}");
        }
    }

    #[test]
    fn the_question_names_both_accounts_and_says_that_nothing_was_replaced() {
        let tenant: Tenant = "acme/local".parse().expect("a tenant");
        let text = question(&undecided(&tenant, 0));
        assert!(
            text.starts_with("You signed in as bob@example.com, but acme/local is signed in as alice@example.com. Nothing was replaced"),
            "{text}"
        );
        assert_eq!(choice_commands(&tenant), "`threadkey auth switch acme` or `threadkey auth keep acme`");
    }
}
