//! The first requests to Discord: the bot's own id, and the address of the gateway.

use std::time::Duration;

use serenity::{
    all::ApplicationId,
    http::{Http, HttpBuilder},
};
use tokio_util::sync::CancellationToken;
use tracing::info;
use url::Url;

use super::{
    DiscordError, DiscordSettings,
    link::{Knock, Link},
    rest::{self, RestError},
    rights::Application,
};
use crate::{
    ids::Snowflake,
    net::{Outward, Unreachable, is_loopback},
};

/// The longest time for one REST call.
const REST_TIMEOUT: Duration = Duration::from_secs(30);

/// Discord's gateway, where its REST API does not name one.
const DISCORD_GATEWAY: &str = "wss://gateway.discord.gg/";

/// Returns the HTTP client of all REST calls.
pub(super) fn http_client(
    settings: &DiscordSettings,
    outward: &Outward,
) -> Result<reqwest::Client, DiscordError> {
    outward
        .http_client(&settings.trust)
        .timeout(REST_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| no_tls(settings, &error))
}

/// Returns serenity's REST client over an HTTP client.
pub(super) fn http(settings: &DiscordSettings, client: reqwest::Client) -> Http {
    let builder = HttpBuilder::new(settings.token.expose()).client(client);
    match &settings.api_base {
        Some(base) => builder.proxy(base.as_str()).ratelimiter_disabled(true).build(),
        None => builder.build(),
    }
}

pub(super) fn no_tls(settings: &DiscordSettings, error: &dyn std::error::Error) -> DiscordError {
    DiscordError::Unreachable {
        address: settings.base().to_string(),
        detail: format!("cannot build an HTTP client ({error})"),
    }
}

/// The answers to the first requests.
pub(super) struct Contact {
    /// The bot's own user id.
    pub(super) own_id: Snowflake,
    pub(super) application: Application,
    /// The address of the gateway.
    pub(super) gateway: Url,
}

/// Makes the first contact, however long Discord is away. Returns `None` at `stop`.
pub(super) async fn first_contact_at_last(
    settings: &DiscordSettings,
    outward: &Outward,
    http: &Http,
    (link, knock): (&Link, &Knock),
    stop: &CancellationToken,
) -> Result<Option<Contact>, DiscordError> {
    let mut attempts = link.attempts(knock, stop);
    while attempts.next().await? {
        tokio::select! {
            contact = first_contact(settings, outward, http) => match contact {
                Ok(contact) => return Ok(Some(contact)),
                Err(error) => attempts.failed(error)?,
            },
            () = stop.cancelled() => return Ok(None),
        }
    }
    Ok(None)
}

async fn first_contact(
    settings: &DiscordSettings,
    outward: &Outward,
    http: &Http,
) -> Result<Contact, DiscordError> {
    let me = match http.get_current_user().await {
        Ok(me) => me,
        Err(error) => return Err(refused(settings, outward, error).await),
    };
    let application = match rest::application(http).await {
        Ok(application) => application,
        Err(error) => return Err(refused(settings, outward, error).await),
    };
    http.set_application_id(ApplicationId::new(application.id.0));
    info!(user = %me.id, name = %me.name, application = %application.id, "Discord accepts the token");
    let gateway = match http.get_gateway().await.map_err(RestError::from) {
        Err(error) if error.is_temporary() => {
            let detail = format!("its gateway's address: {error}");
            return Err(DiscordError::Unreachable { address: settings.base().to_string(), detail });
        }
        gateway => gateway,
    };
    let gateway = match (&settings.api_base, gateway) {
        (Some(api_base), gateway) => {
            let no_gateway = |detail: String| DiscordError::NoGateway { api_base: api_base.clone(), detail };
            let gateway = gateway.map_err(|error| no_gateway(error.to_string()))?;
            gateway_address(&gateway.url).ok_or_else(|| {
                no_gateway("its answer is not a wss:// address, or ws:// on loopback".to_owned())
            })?
        }
        (None, gateway) => gateway
            .ok()
            .and_then(|gateway| gateway_address(&gateway.url))
            .unwrap_or_else(|| Url::parse(DISCORD_GATEWAY).expect("the constant is a URL")),
    };
    Ok(Contact { own_id: Snowflake(me.id.get()), application, gateway })
}

/// Parses the address of a gateway. The bot token is sent there, so it must use TLS or be on this
/// machine.
pub fn gateway_address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    (url.scheme() == "wss" || url.scheme() == "ws" && is_loopback(&url)).then_some(url)
}

/// Returns the reason of a failed first request. If Discord gave no answer, a second connection
/// finds the cause.
async fn refused(settings: &DiscordSettings, outward: &Outward, error: serenity::Error) -> DiscordError {
    let bad_token = matches!(&error, serenity::Error::Http(serenity::http::HttpError::InvalidHeader(_)));
    let error = RestError::from(error);
    if error.status == Some(401) || error.status.is_none() && bad_token {
        return DiscordError::TokenRefused;
    }
    let base = settings.base();
    let cause = match error.status {
        None => outward.open(&base, &settings.trust).await.err(),
        Some(_) => None,
    };
    let detail = cause.as_ref().map_or_else(|| error.to_string(), Unreachable::to_string);
    DiscordError::Unreachable { address: base.to_string(), detail }
}
