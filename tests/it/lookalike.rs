//! The Discord look-alike, used by a real serenity client and by a bot that breaks the rules.

mod bot;
mod conversation;
mod description;
mod gateway;
mod limits;
mod page;
mod users;
