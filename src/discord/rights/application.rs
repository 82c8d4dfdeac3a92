//! The bot's application: its owner, its team, and the privileged intents that it is granted.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::ids::{IdError, Snowflake};

/// The flags that grant the intent GUILD_MEMBERS: for many servers, and for fewer than 100.
const MEMBERS: u64 = 1 << 14 | 1 << 15;
/// The flags that grant the intent MESSAGE_CONTENT.
const CONTENT: u64 = 1 << 18 | 1 << 19;
/// The state of a team's member who has accepted the invitation.
const ACCEPTED: u8 = 2;

/// The application, from `GET /applications/@me`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Answer")]
pub struct Application {
    /// Its id.
    pub id: Snowflake,
    pub(super) owners: BTreeSet<Snowflake>,
    /// Names the owner, or the team and its members.
    pub(super) owner_words: String,
    flags: u64,
}

impl Application {
    /// Whether Discord sends events about members.
    pub fn has_members_intent(&self) -> bool {
        self.flags & MEMBERS != 0
    }

    /// Whether Discord sends the content of messages.
    pub fn has_content_intent(&self) -> bool {
        self.flags & CONTENT != 0
    }
}

/// The parts of Discord's answer.
#[derive(Deserialize)]
struct Answer {
    id: String,
    #[serde(default)]
    flags: Option<u64>,
    owner: Option<User>,
    team: Option<Team>,
}

#[derive(Deserialize)]
struct User {
    id: String,
    #[serde(default)]
    username: String,
}

#[derive(Deserialize)]
struct Team {
    #[serde(default)]
    name: String,
    members: Vec<TeamMember>,
}

#[derive(Deserialize)]
struct TeamMember {
    membership_state: u8,
    user: User,
}

impl TryFrom<Answer> for Application {
    type Error = IdError;

    /// The owner of a team's application is not a user, so that its members alone count.
    fn try_from(answer: Answer) -> Result<Self, IdError> {
        let (users, of_team) = match answer.team {
            Some(team) => {
                let members = team.members.into_iter().filter(|member| member.membership_state == ACCEPTED);
                (members.map(|member| member.user).collect(), Some(team.name))
            }
            None => (Vec::from_iter(answer.owner), None),
        };
        let names: Vec<&str> = users.iter().map(|user| user.username.as_str()).collect();
        let names = names.join(", ");
        let owner_words = match of_team {
            Some(team) => format!("the application's team {team} ({names})"),
            None => format!("the application's owner {names}"),
        };
        let owners = users.iter().filter_map(|user| user.id.parse().ok()).collect();
        Ok(Self { id: answer.id.parse()?, owners, owner_words, flags: answer.flags.unwrap_or(0) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(answer: Value) -> Application {
        serde_json::from_value(answer).expect("an application")
    }

    #[test]
    fn a_user_owns_an_application_or_the_accepted_members_of_its_team_do() {
        let own = read(
            json!({"id": "1", "owner": {"id": "7", "username": "alice"}, "team": null, "flags": 1 << 15}),
        );
        assert_eq!(own.owners, [Snowflake(7)].into());
        assert_eq!(own.owner_words, "the application's owner alice");
        assert!(own.has_members_intent() && !own.has_content_intent());
        let member = |id: &str, name: &str, state: u8| json!({"membership_state": state, "user": {"id": id, "username": name}, "role": "admin"});
        let team = read(json!({
            "id": "1",
            "owner": {"id": "99", "username": "team99"},
            "team": {"id": "99", "name": "Builders", "owner_user_id": "7",
                "members": [member("7", "alice", 2), member("8", "bob", 1), member("9", "carol", 2)]},
        }));
        assert_eq!(team.owners, [Snowflake(7), Snowflake(9)].into(), "an invitation alone counts nothing");
        assert_eq!(team.owner_words, "the application's team Builders (alice, carol)");
    }
}
