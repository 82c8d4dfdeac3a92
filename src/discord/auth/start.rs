//! `/auth start`: the link, and the way back.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    super::{
        asked::Asked,
        bot::{Bot, trouble},
        buttons::Action,
        sign_ins::OpenSignIn,
        wire::{Button, Embed, MAX_BUTTON_URL, Message, relative},
    },
    close::show,
    words::{for_whom, known_providers},
};
use crate::{
    broker::{SignIn, StartError},
    ids::{Principal, Tenant},
};

/// The longest link that fits in an embed's description besides the rest of it.
const MAX_MASKED_URL: usize = 3400;

/// Starts a sign-in and answers an interaction that was deferred.
pub(in crate::discord) async fn start(bot: &Bot, asked: &Asked, tenant: &Tenant) {
    let since = Instant::now();
    let sign_in = match bot.broker.start(tenant, Principal::User(asked.user)).await {
        Ok(sign_in) => sign_in,
        Err(error) => return bot.finish(asked, &refused(bot, error)).await,
    };
    let button = bot.buttons.add(asked.user, Action::EnterCode(tenant.clone()));
    let Some(message) = message(&sign_in, &button) else {
        let error =
            format!("the authorization URL of {} has more than {MAX_MASKED_URL} characters", tenant.provider);
        tracing::error!(%error, "a sign-in link cannot be shown");
        let text = format!(
            "The sign-in link of `{}` is too long for Discord. The operator has to shorten its scopes or extra parameters.",
            tenant.provider
        );
        return bot.finish(asked, &Message::text(text)).await;
    };
    let left = sign_in.expires_at.saturating_sub(bot.clock.now()).try_into().unwrap_or(0);
    let open = OpenSignIn::new(sign_in.shown, asked, since, vec![button]);
    show(bot, asked, open.ending(since + Duration::from_secs(left)), &message).await;
}

fn refused(bot: &Bot, error: StartError) -> Message {
    match error {
        StartError::UnknownProvider(provider) => Message::text(format!(
            "There is no provider `{provider}`. {}",
            known_providers(bot.broker.providers().ids())
        )),
        StartError::Busy { tenant, until } => Message::text(format!(
            "Somebody else is just signing in to `{}`{}. That sign-in ends by itself {}; try again then.",
            tenant.provider,
            for_whom(&tenant),
            relative(until)
        )),
        StartError::Store(error) => trouble("starting a sign-in", &error),
    }
}

/// The link, the button, and what to do. `None` when the link is too long for any message.
fn message(sign_in: &SignIn, custom_id: &str) -> Option<Message> {
    let provider = &sign_in.tenant.provider;
    let label = format!("Sign in to {provider}");
    let url = sign_in.authorize_url.as_str();
    let mut buttons = vec![Button::press("Enter code", custom_id.to_owned())];
    let mut link = String::new();
    if url.len() <= MAX_BUTTON_URL {
        buttons.insert(0, Button::link(&label, url));
    } else if url.len() <= MAX_MASKED_URL {
        // A bracket would end the Markdown link.
        let url = url.replace('(', "%28").replace(')', "%29");
        link = format!("**[{label}]({url})**\n\n");
    } else {
        return None;
    }
    let resumed =
        if sign_in.resumed { "This sign-in was already open; here is its link again.\n" } else { "" };
    let description = format!(
        "{link}{resumed}1. Open the link and allow the access{whom}.\n2. Copy the code that the last page shows. If it shows none, or an error, copy its whole address.\n3. Press **Enter code** and paste it.\n\nThe link is for you alone and expires {when}.",
        whom = for_whom(&sign_in.tenant),
        when = relative(sign_in.expires_at),
    );
    Some(Message::embed(Embed { title: label, description, fields: Vec::new() }).buttons(buttons))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::SignInProgress;
    use serde_json::{Value, json};

    fn sign_in(tenant: &str, url: &str) -> SignIn {
        let tenant: Tenant = tenant.parse().expect("a tenant");
        SignIn {
            shown: SignInProgress::for_tests(&tenant),
            tenant,
            authorize_url: url.parse().expect("a URL"),
            expires_at: 1_795_359_500,
            resumed: false,
        }
    }

    fn shown(sign_in: &SignIn) -> Value {
        serde_json::to_value(message(sign_in, "opaque").expect("a message")).expect("a value")
    }

    #[test]
    fn a_short_link_is_a_button() {
        let shown = shown(&sign_in("acme/user:5", "https://id.example/authorize?state=s"));
        assert_eq!(
            shown,
            json!({
                "content": "",
                "embeds": [{
                    "title": "Sign in to acme",
                    "description": "1. Open the link and allow the access.\n2. Copy the code that the last page shows. If it shows none, or an error, copy its whole address.\n3. Press **Enter code** and paste it.\n\nThe link is for you alone and expires <t:1795359500:R>."
                }],
                "components": [{"type": 1, "components": [
                    {"type": 2, "style": 5, "label": "Sign in to acme", "url": "https://id.example/authorize?state=s"},
                    {"type": 2, "style": 1, "label": "Enter code", "custom_id": "opaque"}
                ]}],
                "allowed_mentions": {"parse": []}
            })
        );
    }

    #[test]
    fn a_link_of_more_than_512_characters_is_masked_in_the_text() {
        let base = "https://id.example/authorize?x=(";
        let fits = format!("{base}{}", "a".repeat(MAX_BUTTON_URL - base.len()));
        let long = format!("{fits}a");
        assert_eq!(
            shown(&sign_in("acme/user:5", &fits))["components"][0]["components"].as_array().map(Vec::len),
            Some(2)
        );
        let masked = shown(&sign_in("acme/guild:9", &long));
        assert_eq!(masked["components"][0]["components"].as_array().map(Vec::len), Some(1));
        let text = masked["embeds"][0]["description"].as_str().expect("a text");
        assert!(text.starts_with("**[Sign in to acme](https://id.example/authorize?x=%28aaa"), "{text}");
        assert!(text.contains("allow the access for this server."));
        assert!(text.chars().count() <= 4096);
        let endless = format!("{base}{}", "a".repeat(MAX_MASKED_URL));
        assert!(message(&sign_in("acme/user:5", &endless), "opaque").is_none());
    }
}
