//! The routes that a bot like ours uses, as Discord's own description writes them. Any other is a
//! violation.

/// One endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Gateway,
    GatewayBot,
    CurrentUser,
    CurrentUserGuilds,
    CurrentApplication,
    User,
    Guild,
    GuildChannels,
    GuildRoles,
    GuildMember,
    GuildActiveThreads,
    GlobalCommands,
    PutGlobalCommands,
    GuildCommands,
    PutGuildCommands,
    Callback,
    GetOriginal,
    EditOriginal,
    DeleteOriginal,
    Followup,
    GetFollowup,
    EditFollowup,
    DeleteFollowup,
    GetChannel,
    EditChannel,
    DeleteChannel,
    Messages,
    Message,
    CreateMessage,
    EditMessage,
    DeleteMessage,
    Typing,
    CreateThread,
    CreateThreadFromMessage,
    ThreadMembers,
    JoinThread,
    LeaveThread,
    AddThreadMember,
    RemoveThreadMember,
    CreateDm,
}

/// Method, path template, endpoint. Literal segments come before parameters of the same shape.
const ROUTES: &[(&str, &str, Route)] = &[
    ("GET", "/gateway", Route::Gateway),
    ("GET", "/gateway/bot", Route::GatewayBot),
    ("GET", "/users/@me", Route::CurrentUser),
    ("GET", "/users/@me/guilds", Route::CurrentUserGuilds),
    ("GET", "/applications/@me", Route::CurrentApplication),
    ("GET", "/oauth2/applications/@me", Route::CurrentApplication),
    ("POST", "/users/@me/channels", Route::CreateDm),
    ("GET", "/users/{user_id}", Route::User),
    ("GET", "/guilds/{guild_id}", Route::Guild),
    ("GET", "/guilds/{guild_id}/channels", Route::GuildChannels),
    ("GET", "/guilds/{guild_id}/roles", Route::GuildRoles),
    ("GET", "/guilds/{guild_id}/members/{user_id}", Route::GuildMember),
    ("GET", "/guilds/{guild_id}/threads/active", Route::GuildActiveThreads),
    ("GET", "/applications/{application_id}/commands", Route::GlobalCommands),
    ("PUT", "/applications/{application_id}/commands", Route::PutGlobalCommands),
    ("GET", "/applications/{application_id}/guilds/{guild_id}/commands", Route::GuildCommands),
    ("PUT", "/applications/{application_id}/guilds/{guild_id}/commands", Route::PutGuildCommands),
    ("POST", "/interactions/{interaction_id}/{interaction_token}/callback", Route::Callback),
    ("GET", "/webhooks/{webhook_id}/{webhook_token}/messages/@original", Route::GetOriginal),
    ("PATCH", "/webhooks/{webhook_id}/{webhook_token}/messages/@original", Route::EditOriginal),
    ("DELETE", "/webhooks/{webhook_id}/{webhook_token}/messages/@original", Route::DeleteOriginal),
    ("POST", "/webhooks/{webhook_id}/{webhook_token}", Route::Followup),
    ("GET", "/webhooks/{webhook_id}/{webhook_token}/messages/{message_id}", Route::GetFollowup),
    ("PATCH", "/webhooks/{webhook_id}/{webhook_token}/messages/{message_id}", Route::EditFollowup),
    ("DELETE", "/webhooks/{webhook_id}/{webhook_token}/messages/{message_id}", Route::DeleteFollowup),
    ("GET", "/channels/{channel_id}", Route::GetChannel),
    ("PATCH", "/channels/{channel_id}", Route::EditChannel),
    ("DELETE", "/channels/{channel_id}", Route::DeleteChannel),
    ("GET", "/channels/{channel_id}/messages", Route::Messages),
    ("POST", "/channels/{channel_id}/messages", Route::CreateMessage),
    ("GET", "/channels/{channel_id}/messages/{message_id}", Route::Message),
    ("PATCH", "/channels/{channel_id}/messages/{message_id}", Route::EditMessage),
    ("DELETE", "/channels/{channel_id}/messages/{message_id}", Route::DeleteMessage),
    ("POST", "/channels/{channel_id}/typing", Route::Typing),
    ("POST", "/channels/{channel_id}/threads", Route::CreateThread),
    ("POST", "/channels/{channel_id}/messages/{message_id}/threads", Route::CreateThreadFromMessage),
    ("GET", "/channels/{channel_id}/thread-members", Route::ThreadMembers),
    ("PUT", "/channels/{channel_id}/thread-members/@me", Route::JoinThread),
    ("DELETE", "/channels/{channel_id}/thread-members/@me", Route::LeaveThread),
    ("PUT", "/channels/{channel_id}/thread-members/{user_id}", Route::AddThreadMember),
    ("DELETE", "/channels/{channel_id}/thread-members/{user_id}", Route::RemoveThreadMember),
];

/// Method and path template of every route.
pub fn templates() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROUTES.iter().map(|(method, template, _)| (*method, *template))
}

/// A request's route, with the parameters of its path.
#[derive(Clone, Debug)]
pub struct Matched {
    pub(crate) route: Route,
    /// The HTTP method.
    pub method: &'static str,
    /// The path, with its parameters in braces.
    pub template: &'static str,
    /// The values of the template's parameters, in order.
    pub values: Vec<String>,
}

impl Matched {
    /// The n-th parameter as a snowflake, or 0, which no object has.
    pub fn id(&self, n: usize) -> u64 {
        self.values.get(n).and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// The n-th parameter, or an empty text.
    pub fn text(&self, n: usize) -> &str {
        self.values.get(n).map_or("", String::as_str)
    }
}

/// Finds the route of a path below `/api/v10`.
pub fn find_route(method: &str, path: &str) -> Option<Matched> {
    ROUTES.iter().filter(|(wanted, ..)| *wanted == method).find_map(|(method, template, route)| {
        let values = values(template, path)?;
        Some(Matched { route: *route, method, template, values })
    })
}

fn values(template: &str, path: &str) -> Option<Vec<String>> {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    let mut values = Vec::new();
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(values),
            (Some(name), Some(value)) if name.starts_with('{') && !value.is_empty() => {
                values.push(value.to_owned());
            }
            (Some(name), Some(value)) if name == value => {}
            _ => return None,
        }
    }
}
