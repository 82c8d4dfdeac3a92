//! The first message of a sign-in that needs no code here: the code to enter at the provider, or the
//! question on the user's other screen.
//!
//! Another user can be tricked into entering a code that an attacker asked for (RFC 8628 §5.4). The
//! message with the code is visible to its user alone, and warns.

use url::Url;

use super::super::{
    sign_in::for_server,
    wire::{Button, Embed, MAX_BUTTON_URL, Message, escape_markdown, relative_time},
};
use crate::broker::SignIn;

/// Returns the message with the code and the page where the user enters it.
pub(super) fn device_message(
    sign_in: &SignIn,
    user_code: &str,
    page: &Url,
    complete: Option<&Url>,
) -> Message {
    let provider = &sign_in.tenant.provider;
    let fits = |url: &&Url| url.as_str().len() <= MAX_BUTTON_URL;
    let button = complete.filter(fits).or(Some(page)).filter(fits);
    let buttons: Vec<Button> =
        button.map(|url| Button::link(&format!("Sign in to {provider}"), url.as_str())).into_iter().collect();
    let address = page.as_str().replace('`', "%60");
    let description = format!(
        "{resumed}1. Open `{address}`.\n2. Enter the code `{code}`, or compare it if the page shows it, and allow the access{server}.\n\nThis message then shows the result by itself. The code expires {when}. `/auth cancel` cancels the sign-in.\n\n**Enter only a code that you asked for here yourself.** A user who sends you a code wants to use your account. Give yours to nobody.",
        resumed = resumed(sign_in, "here is its code again"),
        code = user_code.replace('`', "'"),
        server = for_server(&sign_in.tenant),
        when = relative_time(sign_in.expires_at),
    );
    embed(format!("Sign in to {provider}"), description).buttons(buttons)
}

/// Returns the message about the question on the user's other screen.
pub(super) fn elsewhere_message(sign_in: &SignIn, binding_message: &str) -> Message {
    let provider = &sign_in.tenant.provider;
    let description = format!(
        "{resumed}`{provider}` now asks you on your own device, with the message **{message}**. Allow the access{server} there, if the message is the same.\n\nThis message then shows the result by itself. The question expires {when}. `/auth cancel` cancels the sign-in.\n\n**Allow only a question that you caused here yourself.**",
        resumed = resumed(sign_in, "the question is the same"),
        message = escape_markdown(binding_message),
        server = for_server(&sign_in.tenant),
        when = relative_time(sign_in.expires_at),
    );
    embed(format!("Sign in to {provider}"), description)
}

fn resumed(sign_in: &SignIn, again: &str) -> String {
    if sign_in.resumed { format!("This sign-in was already open; {again}.\n") } else { String::new() }
}

fn embed(title: String, description: String) -> Message {
    Message::embed(Embed { title, description, fields: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{SignInProgress, View};
    use serde_json::Value;

    fn sign_in(view: View) -> SignIn {
        let tenant: crate::ids::Tenant = "acme/user:5".parse().expect("a tenant");
        let shown = SignInProgress::for_tests(&tenant);
        SignIn { shown, tenant, view, expires_at: 1_795_359_500, resumed: false, by_digits: false }
    }

    fn json_of(message: &Message) -> Value {
        serde_json::to_value(message).expect("a value")
    }

    #[test]
    fn a_device_code_stands_beside_its_page_its_end_and_the_warning() {
        let page: Url = "https://id.example/device".parse().expect("a URL");
        let complete: Url = "https://id.example/device?user_code=AB-12".parse().expect("a URL");
        let sign_in = sign_in(View::Elsewhere { binding_message: String::new() });
        let message = json_of(&device_message(&sign_in, "AB-12", &page, Some(&complete)));
        let text = message["embeds"][0]["description"].as_str().expect("a text");
        for part in [
            "`https://id.example/device`",
            "`AB-12`",
            "<t:1795359500:R>",
            "Enter only a code that you asked for",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let button = &message["components"][0]["components"][0];
        assert_eq!(button["url"], complete.as_str());
        // A page whose address is too long for a button still stands in the text.
        let long: Url = format!("https://id.example/{}", "a".repeat(600)).parse().expect("a URL");
        let message = json_of(&device_message(&sign_in, "AB-12", &long, None));
        assert!(message["components"].as_array().is_none_or(Vec::is_empty), "{message}");
        assert!(
            message["embeds"][0]["description"].as_str().is_some_and(|text| text.contains(long.as_str()))
        );
    }

    #[test]
    fn a_question_elsewhere_stands_with_its_binding_message_and_no_button() {
        let sign_in = sign_in(View::Elsewhere { binding_message: String::new() });
        let message = json_of(&elsewhere_message(&sign_in, "threadkey for alice"));
        let text = message["embeds"][0]["description"].as_str().expect("a text");
        assert!(text.contains("**threadkey for alice**") && text.contains("<t:1795359500:R>"), "{text}");
        assert!(message["components"].as_array().is_none_or(Vec::is_empty), "{message}");
    }
}
