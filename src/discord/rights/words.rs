//! The rights in plain words, for the log and `threadkey doctor`.

use super::{application::Application, rule::Lists};
use crate::{discord::DiscordSettings, ids::Snowflake};

/// The rights of a configuration in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RightsInWords {
    /// The users, and the places.
    pub text: String,
    /// A line to change, if the rights are most likely not those that the operator wants.
    pub advice: Option<String>,
}

/// Describes the rights. Without an `application` its owner has no name.
pub fn rights_in_words(settings: &DiscordSettings, application: Option<&Application>) -> RightsInWords {
    let lists = Lists::new(settings);
    let text = match users(&lists, application) {
        text if lists.are_closed() => text,
        text => format!("{text}; {}", places(&lists)),
    };
    RightsInWords { text, advice: advice(&lists) }
}

fn users(lists: &Lists, application: Option<&Application>) -> String {
    if lists.everyone {
        return "open to everyone (discord.allow_everyone)".to_owned();
    }
    if lists.are_closed() {
        let owner = application.map_or("the application's owner and team", |known| &known.owner_words);
        return format!("closed: only {owner} may use the bot");
    }
    let mut groups = Vec::new();
    if !lists.users.is_empty() {
        groups.push(format!("the users {}", join(&lists.users)));
    }
    if lists.admit_members() {
        let mut group = match lists.guilds.as_slice() {
            [] => "members of any server of the bot".to_owned(),
            guilds => format!("members of the servers {}", join(guilds)),
        };
        if !lists.roles.is_empty() {
            group.push_str(&format!(" with one of the roles {}", join(&lists.roles)));
        }
        if !lists.channels.is_empty() {
            group.push_str(&format!(" who see one of the channels {}", join(&lists.channels)));
        }
        groups.push(group);
    }
    format!("open to {}", groups.join(", and to "))
}

fn places(lists: &Lists) -> String {
    let servers = match (lists.guilds.as_slice(), lists.channels.as_slice()) {
        ([], []) => "in all servers of the bot".to_owned(),
        (guilds, []) => format!("in the servers {}", join(guilds)),
        ([], channels) => format!("in the channels {}", join(channels)),
        (guilds, channels) => {
            format!("in the channels {} of the servers {}", join(channels), join(guilds))
        }
    };
    format!("{servers}, and in direct messages")
}

fn advice(lists: &Lists) -> Option<String> {
    if lists.are_closed() {
        return Some(
            "no other user can use the bot. To open it, add one line under [discord]: allowed_guilds = [\"ID\"] for the members of a server, allowed_users = [\"ID\"] for single users, or allow_everyone = true for all"
                .to_owned(),
        );
    }
    let users_only = !lists.everyone && !lists.users.is_empty();
    (users_only && lists.admit_members() && lists.roles.is_empty()).then(|| {
        "allowed_users adds users to the members of the listed servers and does not limit them. If only these users may use the bot, remove allowed_guilds and allowed_channels under [discord]"
            .to_owned()
    })
}

fn join(ids: &[Snowflake]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
