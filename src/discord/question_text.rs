//! The message of a question to an owner, at each stage. It names the agent, the provider and nothing that
//! an agent has written.

use super::{
    question::{Question, Refused},
    wire::{Button, Message, inline_code},
};
use crate::ids::{Snowflake, Tenant};

/// The style of the grey button.
const GREY: u8 = 2;

/// The question with its buttons, which the owner alone can press. `elsewhere` names the thread of the
/// agent, for a message outside it.
pub(super) fn asking(
    tenant: &Tenant,
    owner: Snowflake,
    question: &Question,
    elsewhere: Option<Snowflake>,
) -> Message {
    let (agent, provider) = (inline_code(&question.agent), &tenant.provider);
    let place = elsewhere.map(|thread| format!(" in <#{thread}>")).unwrap_or_default();
    let state = match question.seen {
        Some(_) => "your sign-in there has ended",
        None => "you are not signed in there",
    };
    let text = format!(
        "<@{owner}> The agent {agent}{place} asks for your login at `{provider}`, and {state}.\n**Sign in** shows the link to you alone, and the agent goes on once you have finished. **Decline** refuses it: none of your agents asks for `{provider}` again within an hour."
    );
    let buttons = vec![
        Button::press("Sign in", question.sign_in.clone()),
        Button::press("Decline", question.decline.clone()).styled(GREY),
    ];
    Message::text(text).buttons(buttons).notifying(owner)
}

/// The question after the sign-in.
pub(super) fn answered(tenant: &Tenant, question: &Question) -> Message {
    Message::text(format!("{} You are signed in now.", asked(tenant, question)))
}

/// The question after a refusal.
pub(super) fn refused(tenant: &Tenant, question: &Question, refused: Refused) -> Message {
    let provider = &tenant.provider;
    let how = if refused.by_provider {
        format!("The access was denied at `{provider}`, so it gets no token.")
    } else {
        "You declined, so it gets no token.".to_owned()
    };
    Message::text(format!("{} {how} `/auth start` signs you in at any time.", asked(tenant, question)))
}

/// The question after a newer one has taken its place.
pub(super) fn replaced(tenant: &Tenant, question: &Question) -> Message {
    Message::text(format!("{} A newer question has taken the place of this one.", asked(tenant, question)))
}

fn asked(tenant: &Tenant, question: &Question) -> String {
    format!("The agent {} asked for your login at `{}`.", inline_code(&question.agent), tenant.provider)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Lineage;

    #[test]
    fn a_question_names_the_agent_the_provider_and_the_state_with_two_buttons() {
        let tenant: Tenant = "acme/user:5".parse().expect("a tenant");
        let question = Question::new(Snowflake(10), "cod`ex".to_owned(), 100, None);
        let mut message = asking(&tenant, Snowflake(5), &question, None);
        assert!(
            message.content.starts_with(
                "<@5> The agent `cod'ex` asks for your login at `acme`, and you are not signed in there."
            ),
            "{}",
            message.content
        );
        assert_eq!(message.custom_ids(), [question.sign_in.clone(), question.decline.clone()]);
        assert_eq!(message.labels().map(|label| label.clone()).collect::<Vec<_>>(), ["Sign in", "Decline"]);
        let ended = Question { seen: Some(Lineage([1; 16])), ..question.clone() };
        let elsewhere = asking(&tenant, Snowflake(5), &ended, Some(Snowflake(10))).content;
        assert!(elsewhere.contains(" in <#10> asks") && elsewhere.contains("has ended"), "{elsewhere}");
        for outcome in [
            answered(&tenant, &question),
            replaced(&tenant, &question),
            refused(&tenant, &question, Refused { at: 0, by_provider: false }),
        ] {
            assert!(outcome.custom_ids().is_empty(), "{}", outcome.content);
        }
    }
}
