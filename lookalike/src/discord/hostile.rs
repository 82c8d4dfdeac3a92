//! Hostile users: interactions that Discord's own client never creates. Discord stops some
//! itself; the bot must not rely on it.

use serde_json::Value;

use super::interact::Act;
use super::people::Person;
use super::places::Channel;
use super::reply::Answer;
use super::world::Id;

impl Person {
    /// A button press with a custom_id and a message seen elsewhere: maybe another's ephemeral
    /// answer.
    pub async fn forge_press(&self, channel: &Channel, message: Id, custom_id: &str) -> Answer {
        let label = format!("{} (forged): [{custom_id}]", self.name);
        let act = Act::button(self.id, channel.id, message, custom_id, label);
        Answer::wait(self, self.discord.interact(act)).await
    }

    /// Submits a modal that was never opened for this user: its custom_id, and values by custom_id.
    pub async fn forge_modal(
        &self,
        channel: &Channel,
        message: Option<Id>,
        custom_id: &str,
        values: &[(&str, &str)],
    ) -> Answer {
        let values: Vec<(String, String)> =
            values.iter().map(|(id, value)| ((*id).into(), (*value).into())).collect();
        let label = format!("{} (forged): modal {custom_id}", self.name);
        let act = Act::modal(self.id, channel.id, message, custom_id, &values, label);
        Answer::wait(self, self.discord.interact(act)).await
    }

    /// Sends a command with any data: unknown options, wrong types, missing options.
    pub async fn forge_command(&self, channel: &Channel, data: Value) -> Answer {
        let label = format!("{} (forged): command {data}", self.name);
        let act = Act::command(self.id, channel.id, data, label);
        Answer::wait(self, self.discord.interact(act)).await
    }
}
