//! The JSON that Discord sends for each thing of the look-alike.

use serde_json::{Value, json};

use super::clock::iso8601;
use super::world::{Channel, DM, Guild, Id, Message, Ownership, Role, User, World};

fn text(id: Id) -> String {
    id.to_string()
}

pub(super) fn user(user: &User) -> Value {
    json!({
        "id": text(user.id),
        "username": user.name,
        "discriminator": if user.bot { "0042" } else { "0" },
        "global_name": if user.bot { Value::Null } else { json!(display_name(&user.name)) },
        "avatar": null,
        "bot": user.bot,
        "public_flags": 0,
        "flags": 0,
        "primary_guild": null,
    })
}

/// `alice` → `Alice`.
fn display_name(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

impl World {
    pub(crate) fn user_json(&self, id: Id) -> Value {
        self.users.get(&id).map_or(Value::Null, user)
    }

    /// The bot as its own `users/@me`.
    pub(crate) fn current_user_json(&self) -> Value {
        let mut me = self.user_json(self.bot());
        me["verified"] = json!(true);
        me["mfa_enabled"] = json!(false);
        me["flags"] = json!(0);
        me["email"] = Value::Null;
        me["locale"] = json!("en-US");
        me
    }

    pub(crate) fn application_json(&self) -> Value {
        json!({
            "id": text(self.options.application_id),
            "name": self.options.bot_name,
            "icon": null,
            "description": "",
            "bot_public": true,
            "bot_require_code_grant": false,
            "verify_key": "0".repeat(64),
            "type": null,
            "owner": self.owner_json(),
            "flags": self.application_flags(),
            "flags_new": self.application_flags().to_string(),
            "redirect_uris": [],
            "interactions_endpoint_url": null,
            "role_connections_verification_url": null,
            "approximate_guild_count": self.guilds.len(),
            "approximate_user_install_count": 0,
            "approximate_user_authorization_count": 0,
            "explicit_content_filter": 0,
            "eligible_oauth2_scopes": [],
            "team": self.team_json(),
            "bot": self.user_json(self.bot()),
            "integration_types_config": {"0": {}, "1": {}},
        })
    }

    /// The owner. A team has a user of its own here, which nobody is.
    fn owner_json(&self) -> Value {
        let other = |name: &str| User {
            id: self.options.application_id + 2,
            name: name.into(),
            bot: false,
            dms_open: false,
            installed: false,
            is_extra: true,
        };
        match &self.ownership {
            Ownership::Operator => user(&other("operator")),
            Ownership::User(id) => self.user_json(*id),
            Ownership::Team(..) => user(&other("team")),
        }
    }

    fn team_json(&self) -> Value {
        let Ownership::Team(name, members) = &self.ownership else { return Value::Null };
        let team = text(self.options.application_id + 2);
        let members: Vec<Value> = members
            .iter()
            .map(|(id, accepted)| {
                json!({
                    "user": self.user_json(*id),
                    "team_id": team,
                    "membership_state": if *accepted { 2 } else { 1 },
                    "role": "admin",
                    "permissions": ["*"],
                })
            })
            .collect();
        let owner = members.first().map(|member| member["user"]["id"].clone());
        json!({"id": team, "icon": null, "name": name, "owner_user_id": owner, "members": members})
    }

    /// `GATEWAY_GUILD_MEMBERS_LIMITED` and `GATEWAY_MESSAGE_CONTENT_LIMITED` where the portal grants
    /// the intents.
    pub(crate) fn application_flags(&self) -> u64 {
        let flag = |granted: bool, bit: u32| if granted { 1 << bit } else { 0 };
        flag(self.options.guild_members_intent, 15) | flag(self.options.message_content_intent, 19)
    }

    pub(crate) fn member_json(&self, guild: &Guild, id: Id, with_user: bool) -> Value {
        let roles: Vec<String> = guild.members.get(&id).into_iter().flatten().copied().map(text).collect();
        let mut member = json!({
            "nick": null,
            "avatar": null,
            "banner": null,
            "roles": roles,
            "joined_at": iso8601(1_700_000_000_000),
            "premium_since": null,
            "deaf": false,
            "mute": false,
            "flags": 0,
            "pending": false,
            "communication_disabled_until": null,
        });
        if with_user {
            member["user"] = self.user_json(id);
        }
        member
    }

    pub(crate) fn channel_json(&self, channel: &Channel) -> Value {
        if channel.kind == DM {
            let others = channel.members.iter().filter(|id| **id != self.bot());
            return json!({
                "id": text(channel.id),
                "type": DM,
                "last_message_id": channel.last_message.map(text),
                "recipients": others.map(|id| self.user_json(*id)).collect::<Vec<_>>(),
                "flags": 0,
            });
        }
        let mut value = json!({
            "id": text(channel.id),
            "type": channel.kind,
            "guild_id": channel.guild.map(text),
            "name": channel.name,
            "parent_id": channel.parent.map(text),
            "last_message_id": channel.last_message.map(text),
            "rate_limit_per_user": 0,
            "flags": 0,
        });
        if channel.is_thread() {
            value["owner_id"] = json!(channel.owner.map(text));
            value["member_count"] = json!(channel.members.len());
            value["message_count"] = json!(self.thread_messages(channel.id));
            value["total_message_sent"] = value["message_count"].clone();
            value["thread_metadata"] = thread_metadata(channel);
            if channel.members.contains(&self.bot()) {
                value["member"] = self.thread_member_json(channel, self.bot());
            }
        } else {
            value["topic"] = Value::Null;
            value["position"] = json!(0);
            value["nsfw"] = json!(false);
            value["permission_overwrites"] = channel
                .overwrites
                .iter()
                .map(|rule| {
                    json!({
                        "id": text(rule.target),
                        "type": u8::from(rule.member),
                        "allow": rule.allow.to_string(),
                        "deny": rule.deny.to_string(),
                    })
                })
                .collect();
        }
        value
    }

    fn thread_messages(&self, channel: Id) -> usize {
        self.messages.values().filter(|m| m.channel == channel && !m.deleted).count()
    }

    pub(crate) fn thread_member_json(&self, channel: &Channel, user: Id) -> Value {
        json!({
            "id": text(channel.id),
            "user_id": text(user),
            "join_timestamp": iso8601(channel.created_ms),
            "flags": 1,
        })
    }

    /// The part of a channel that an interaction carries.
    pub(crate) fn partial_channel_json(&self, channel: &Channel, user: Id) -> Value {
        let mut value = json!({
            "id": text(channel.id),
            "type": channel.kind,
            "last_message_id": channel.last_message.map(text),
            "permissions": self.permissions(user, channel.id).to_string(),
        });
        if channel.kind != DM {
            value["name"] = json!(channel.name);
            value["guild_id"] = json!(channel.guild.map(text));
            value["parent_id"] = json!(channel.parent.map(text));
        }
        if channel.is_thread() {
            value["thread_metadata"] = thread_metadata(channel);
        }
        value
    }

    /// The guilds of the bot, with its permissions in each.
    pub(crate) fn current_user_guilds_json(&self) -> Value {
        let bot = self.bot();
        let of_bot = self.guilds.values().filter(|guild| guild.members.contains_key(&bot));
        let listed = of_bot.map(|guild| {
            json!({
                "id": text(guild.id), "name": guild.name, "icon": null, "banner": null, "owner": false,
                "permissions": guild.permissions(bot).to_string(), "features": [],
            })
        });
        listed.collect()
    }

    pub(crate) fn guild_json(&self, guild: &Guild) -> Value {
        json!({
            "id": text(guild.id),
            "name": guild.name,
            "icon": null,
            "splash": null,
            "discovery_splash": null,
            "owner_id": text(guild.owner),
            "afk_channel_id": null,
            "afk_timeout": 300,
            "widget_enabled": false,
            "widget_channel_id": null,
            "home_header": null,
            "verification_level": 0,
            "default_message_notifications": 1,
            "explicit_content_filter": 0,
            "roles": guild.roles.iter().enumerate().map(role).collect::<Vec<_>>(),
            "emojis": [],
            "stickers": [],
            "features": [],
            "mfa_level": 0,
            "application_id": null,
            "system_channel_id": null,
            "system_channel_flags": 0,
            "rules_channel_id": null,
            "vanity_url_code": null,
            "description": null,
            "banner": null,
            "premium_tier": 0,
            "premium_subscription_count": 0,
            "preferred_locale": "en-US",
            "public_updates_channel_id": null,
            "nsfw": false,
            "nsfw_level": 0,
            "premium_progress_bar_enabled": false,
            "safety_alerts_channel_id": null,
            "incidents_data": null,
            "region": "deprecated",
            "max_members": 500_000,
            "max_presences": null,
            "max_stage_video_channel_users": 50,
            "max_video_channel_users": 25,
        })
    }

    /// GUILD_CREATE: the guild with its channels, members and the threads that the bot sees.
    pub(crate) fn guild_create_json(&self, guild: &Guild) -> Value {
        let here = |thread: bool| {
            self.channels
                .values()
                .filter(|c| c.guild == Some(guild.id) && !c.deleted && c.is_thread() == thread)
                .filter(|c| !thread || (!c.archived && self.can_see(self.bot(), c.id)))
                .map(|c| self.channel_json(c))
                .collect::<Vec<_>>()
        };
        let mut value = self.guild_json(guild);
        value["joined_at"] = json!(iso8601(1_700_000_000_000));
        value["large"] = json!(false);
        value["unavailable"] = json!(false);
        value["member_count"] = json!(guild.members.len());
        value["voice_states"] = json!([]);
        value["members"] = guild.members.keys().map(|id| self.member_json(guild, *id, true)).collect();
        value["channels"] = json!(here(false));
        value["threads"] = json!(here(true));
        value["presences"] = json!([]);
        value["stage_instances"] = json!([]);
        value["guild_scheduled_events"] = json!([]);
        value["soundboard_sounds"] = json!([]);
        value
    }

    pub(crate) fn message_json(&self, message: &Message) -> Value {
        let mut value = json!({
            "id": text(message.id),
            "channel_id": text(message.channel),
            "author": self.user_json(message.author),
            "content": message.now.content,
            "timestamp": iso8601(message.created_ms),
            "edited_timestamp": message.edited_ms.map(iso8601),
            "tts": false,
            "mention_everyone": message.mention_everyone,
            "mentions": message.mentions.iter().map(|id| self.user_json(*id)).collect::<Vec<_>>(),
            "mention_roles": [],
            "attachments": message.files.iter().enumerate().map(|(at, file)| attachment(message.id, at, file)).collect::<Vec<_>>(),
            "embeds": message.now.embeds,
            "components": message.now.components,
            "pinned": false,
            "type": message.kind,
            "flags": message.flags,
        });
        if let Some(nonce) = &message.nonce {
            value["nonce"] = nonce.clone();
        }
        if message.interaction.is_some() {
            value["application_id"] = json!(text(self.options.application_id));
            value["webhook_id"] = json!(text(self.options.application_id));
        }
        if let Some(reference) = message.reference {
            value["message_reference"] = json!({
                "type": 0,
                "message_id": text(reference),
                "channel_id": text(message.channel),
                "guild_id": self.channel(message.channel).and_then(|c| c.guild).map(text),
            });
        }
        value
    }

    /// A message as a gateway event carries it: with the guild and the author's membership.
    pub(crate) fn message_event_json(&self, message: &Message) -> Value {
        let mut value = self.message_json(message);
        let guild = self
            .channel(message.channel)
            .and_then(|channel| channel.guild)
            .and_then(|id| self.guilds.get(&id));
        if let Some(guild) = guild {
            value["guild_id"] = json!(text(guild.id));
            if guild.members.contains_key(&message.author) {
                value["member"] = self.member_json(guild, message.author, false);
            }
        }
        value
    }
}

pub(super) fn role((position, role): (usize, &Role)) -> Value {
    json!({
        "id": text(role.id),
        "name": role.name,
        "color": 0,
        "colors": {"primary_color": 0, "secondary_color": null, "tertiary_color": null},
        "hoist": false,
        "icon": null,
        "unicode_emoji": null,
        "position": position,
        "permissions": role.permissions.to_string(),
        "managed": false,
        "mentionable": false,
        "flags": 0,
    })
}

fn thread_metadata(channel: &Channel) -> Value {
    json!({
        "archived": channel.archived,
        "auto_archive_duration": channel.auto_archive_minutes,
        "archive_timestamp": iso8601(channel.archive_ms),
        "create_timestamp": iso8601(channel.created_ms),
        "locked": channel.locked,
        "invitable": channel.invitable,
    })
}

fn attachment(message: Id, at: usize, (name, content): &(String, String)) -> Value {
    let url = format!("https://cdn.example/{message}/{at}/{name}");
    json!({"id": text(message + 1 + at as u64), "filename": name, "size": content.len(), "url": url, "proxy_url": url})
}
