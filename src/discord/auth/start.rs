//! `/auth start`: the first view of a sign-in, and the button for its code.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{
    super::{
        bot::{Bot, internal_error},
        buttons::Action,
        command::Options,
        interaction::Interaction,
        rights::Fact,
        sign_in::{self, OpenMessage, for_server, undiscovered, unknown_provider},
        wire::{Button, Embed, MAX_BUTTON_URL, Message, escape_markdown, relative_time},
    },
    acting_for::ActingFor,
    polled_message::{device_message, elsewhere_message},
};
use crate::{
    broker::{Opener, SignIn, StartError, StartOptions, View, WayBack},
    ids::{Principal, Tenant},
    session::{GrantKind, NoGrantKind},
};

/// How long the name of a server may take to arrive. The page names the user alone without it.
const NAME_WITHIN: Duration = Duration::from_secs(3);
/// The longest link that fits into an embed's description beside the instructions.
const MAX_MASKED_URL: usize = 3400;

/// Starts a sign-in for the user or the server.
pub(super) async fn command(bot: &Bot, interaction: &Interaction, options: &Options) {
    let acting_for = ActingFor::shared(options.is_set("shared"));
    let grant = match options.text("grant").map(|name| name.trim().to_lowercase().parse()).transpose() {
        Ok(grant) => grant,
        Err(NoGrantKind) => {
            let text = "The option `grant` is `code`, `device` or `ciba`. Without it I take the provider's usual way.";
            return bot.edit_reply(interaction, &Message::text(text)).await;
        }
    };
    match acting_for.tenant(bot, interaction, options.text("provider")) {
        Ok(tenant) => {
            start_with(bot, interaction, &tenant, "", grant).await;
        }
        Err(refusal) => bot.edit_reply(interaction, &Message::text(refusal)).await,
    }
}

/// Starts a sign-in, and answers a deferred interaction with its link and the sentence `above` it.
/// Returns whether there is a link.
pub(in crate::discord) async fn start(
    bot: &Bot,
    interaction: &Interaction,
    tenant: &Tenant,
    above: &str,
) -> bool {
    start_with(bot, interaction, tenant, above, None).await
}

async fn start_with(
    bot: &Bot,
    interaction: &Interaction,
    tenant: &Tenant,
    above: &str,
    grant: Option<GrantKind>,
) -> bool {
    let since = Instant::now();
    let opener = opener(bot, interaction).await;
    let options = || StartOptions {
        grant,
        way_back: WayBack::Browser(opener.clone()),
        user_name: Some(interaction.user_name.clone()),
    };
    let starter = Principal::User(interaction.user);
    let mut started = bot.broker.start_with(tenant, starter, options()).await;
    if matches!(started, Err(StartError::Busy { .. })) && drops_former_managers(bot, tenant).await {
        started = bot.broker.start_with(tenant, starter, options()).await;
    }
    let sign_in = match started {
        Ok(sign_in) => sign_in,
        Err(error) => {
            bot.edit_reply(interaction, &refused(bot, error)).await;
            return false;
        }
    };
    let mut buttons = Vec::new();
    let message = match &sign_in.view {
        View::DeviceCode { user_code, verification_uri: page, verification_uri_complete: complete } => {
            Some(device_message(&sign_in, user_code, page, complete.as_ref()))
        }
        View::Elsewhere { binding_message } => Some(elsewhere_message(&sign_in, binding_message)),
        _ => {
            let action = if sign_in.by_digits { Action::EnterDigits } else { Action::EnterCode };
            buttons.push(bot.buttons.add(interaction.user, action(tenant.clone())));
            link_message(&sign_in, &buttons[0])
        }
    };
    let Some(mut message) = message else {
        let provider = &tenant.provider;
        let error = format!("the authorization URL of {provider} is longer than {MAX_MASKED_URL} characters");
        tracing::error!(%error, "cannot show a sign-in link: shorten the scopes or the extra parameters of the provider");
        let text = format!(
            "The sign-in link of `{provider}` is too long for Discord. Ask my operator to shorten its scopes or extra parameters."
        );
        bot.edit_reply(interaction, &Message::text(text)).await;
        return false;
    };
    message.content.push_str(above);
    let left = sign_in.expires_at.saturating_sub(bot.clock.now()).try_into().unwrap_or(0);
    let open = OpenMessage::new(sign_in.shown, interaction, since, buttons);
    sign_in::open(bot, interaction, open.ending(since + Duration::from_secs(left)), &message).await;
    true
}

/// Drops the open sign-in of a server if its starter no longer manages the server: only the starter
/// could finish it, and may not. Returns whether it is dropped.
async fn drops_former_managers(bot: &Bot, tenant: &Tenant) -> bool {
    let Principal::Guild(guild) = tenant.principal else { return false };
    let Ok(Some(former @ Principal::User(user))) = bot.broker.started_by(tenant).await else { return false };
    // The fact may be a minute old, and the user may have lost the right since.
    bot.rights.forget(Fact::Member(guild, user));
    if bot.rights.manages(guild, user).await != Some(false) {
        return false;
    }
    match bot.broker.drop_sign_in_of(tenant, former).await {
        Ok(()) => {
            tracing::info!(%tenant, %former, "dropped the sign-in of a former manager of the server");
            true
        }
        Err(error) => {
            tracing::warn!(%tenant, %error, "the sign-in of a former manager could not be dropped");
            false
        }
    }
}

/// The names on the start page. The name of the server is asked for only if a page shows it.
async fn opener(bot: &Bot, interaction: &Interaction) -> Opener {
    let user = interaction.user_name.clone();
    let guild = interaction.guild.filter(|_| interaction.has_bot() && bot.broker.public_url().is_some());
    let server = match guild {
        Some(guild) => match timeout(NAME_WITHIN, bot.rest.guild_name(guild)).await {
            Ok(Ok(name)) => Some(name),
            Ok(Err(_)) | Err(_) => None,
        },
        None => None,
    };
    Opener { user, server }
}

fn refused(bot: &Bot, error: StartError) -> Message {
    match error {
        StartError::UnknownProvider(provider) => unknown_provider(bot, &provider),
        error @ StartError::Exchanged { .. } => Message::text(format!("{error} with `/auth start`.")),
        StartError::Undiscovered { provider, problem } => undiscovered(&provider, &problem),
        StartError::Busy { tenant, until } => Message::text(format!(
            "Another user is signing in to `{}`{} right now. That sign-in expires {}; try again after that.",
            tenant.provider,
            for_server(&tenant),
            relative_time(until)
        )),
        StartError::NotOffered { provider, grant, offered } => {
            let names: Vec<String> = offered.iter().map(|grant| format!("`{grant}`")).collect();
            Message::text(format!(
                "`{provider}` offers no sign-in by `{grant}` here. Leave the option out, or choose {}.",
                names.join(" or ")
            ))
        }
        StartError::NoLoginHint { .. }
        | StartError::NoClientSecret { .. }
        | StartError::Unreachable { .. }
        | StartError::NotBegun { .. } => {
            tracing::error!(%error, "a sign-in cannot begin");
            Message::text(format!("The sign-in has not begun: {}.", operators_text(&error)))
        }
        StartError::Store(error) => internal_error("start a sign-in", &error),
    }
}

/// The text for a user about a sign-in that did not begin. The log has the details.
fn operators_text(error: &StartError) -> String {
    let ask = "Only my operator can correct this: ask them to look at my log";
    match error {
        StartError::NoLoginHint { provider, .. } => {
            format!("I do not know your name at `{provider}`. Ask my operator to add it to `login_hints`")
        }
        StartError::NoClientSecret { provider, .. } => {
            format!("my client at `{provider}` has no secret at the moment. {ask}")
        }
        StartError::Unreachable { provider, code, .. } => format!(
            "I cannot reach `{provider}` (`{code}`). Try again in a moment; if it stays so, ask my operator to look at my log"
        ),
        StartError::NotBegun { provider, problem, .. } => {
            format!("`{provider}` refuses my request ({}). {ask}", escape_markdown(problem))
        }
        error => escape_markdown(&error.to_string()),
    }
}

/// The message with the link, the button and the instructions. Returns `None` when the link is too
/// long for any message.
fn link_message(sign_in: &SignIn, custom_id: &str) -> Option<Message> {
    let provider = &sign_in.tenant.provider;
    let label = format!("Sign in to {provider}");
    let url = sign_in.link()?;
    let url = url.as_str();
    let enter = if sign_in.by_digits { "Enter digits" } else { "Enter code" };
    let mut buttons = vec![Button::press(enter, custom_id.to_owned())];
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
    let steps = if sign_in.by_digits {
        "2. The last page shows six digits.\n3. Press **Enter digits** and type them."
    } else {
        "2. Copy the code from the last page. If that page shows an error or no code, copy its full address.\n3. Press **Enter code** and paste it."
    };
    let description = format!(
        "{link}{resumed}1. Open the link and allow the access{server}.\n{steps}\n\nThe link is for you alone and expires {when}.",
        server = for_server(&sign_in.tenant),
        when = relative_time(sign_in.expires_at),
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
            view: View::Link(url.parse().expect("a URL")),
            expires_at: 1_795_359_500,
            resumed: false,
            by_digits: false,
        }
    }

    fn json_of(sign_in: &SignIn) -> Value {
        serde_json::to_value(link_message(sign_in, "opaque").expect("a message")).expect("a value")
    }

    #[test]
    fn a_short_link_is_a_button() {
        let message = json_of(&sign_in("acme/user:5", "https://id.example/authorize?state=s"));
        assert_eq!(
            message,
            json!({
                "content": "",
                "embeds": [{
                    "title": "Sign in to acme",
                    "description": "1. Open the link and allow the access.\n2. Copy the code from the last page. If that page shows an error or no code, copy its full address.\n3. Press **Enter code** and paste it.\n\nThe link is for you alone and expires <t:1795359500:R>."
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
    fn a_link_of_more_than_512_characters_is_a_masked_link_in_the_text() {
        let base = "https://id.example/authorize?x=(";
        let fits = format!("{base}{}", "a".repeat(MAX_BUTTON_URL - base.len()));
        let long = format!("{fits}a");
        assert_eq!(
            json_of(&sign_in("acme/user:5", &fits))["components"][0]["components"].as_array().map(Vec::len),
            Some(2)
        );
        let masked = json_of(&sign_in("acme/guild:9", &long));
        assert_eq!(masked["components"][0]["components"].as_array().map(Vec::len), Some(1));
        let text = masked["embeds"][0]["description"].as_str().expect("a text");
        assert!(text.starts_with("**[Sign in to acme](https://id.example/authorize?x=%28aaa"), "{text}");
        assert!(text.contains("allow the access for this server."));
        assert!(text.chars().count() <= 4096);
        let endless = format!("{base}{}", "a".repeat(MAX_MASKED_URL));
        assert!(link_message(&sign_in("acme/user:5", &endless), "opaque").is_none());
    }
}
