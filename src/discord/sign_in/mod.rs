//! The messages of sign-ins, and the one way in which they change.
//!
//! A sign-in's message starts with its link, or with the question between two accounts. From then
//! on it follows its sign-in through the stages of [`Stage`]. The stages have three sources, and
//! all of them end in [`show_stage`] or [`sync_messages`], which write the messages that
//! [`OpenMessages`] holds:
//!
//! - an event of the broker: this process has finished the sign-in,
//! - a change of the store: a command here or another process has finished, cancelled, replaced or
//!   decided it,
//! - time: the link has expired.
//!
//! A command that changes a sign-in never writes the messages of that sign-in. Its own answer has
//! the text of the same [`Stage`]. Only the press of "Switch" or "Keep" answers in the message that
//! it is on, and [`OpenMessages`] follows that message no longer.

mod account_choice;
mod choose;
mod messages;
mod open_messages;
mod sign_in_message;
mod sync_messages;

#[cfg(test)]
pub(super) use account_choice::tests::undecided;
pub(super) use account_choice::{choice_buttons, choice_line};
pub(super) use choose::{choose, notify_expired_choice};
pub(super) use messages::{for_server, known_providers, scope_list, undiscovered, unknown_provider};
pub(super) use open_messages::{OpenMessage, OpenMessages};
pub(super) use sign_in_message::{Stage, open, show_stage};
pub(super) use sync_messages::sync_messages;
