//! `/auth`: each subcommand is one row of [`SUBCOMMANDS`] and one file. All answers are visible to
//! their user alone.

mod acting_for;
mod cancel;
mod code;
mod logout;
mod polled_message;
mod start;
mod status;
mod try_again;

pub(super) use acting_for::acts_for;
pub(super) use code::{finish, finish_by_message};
pub(super) use logout::log_out_as_chosen;
pub(super) use start::start;
pub(super) use try_again::try_again;

use super::command::{
    OptionKind::{Provider, Switch, Text},
    OptionRow, Row,
};

/// The subcommands, in the order in which Discord shows them.
pub(super) const SUBCOMMANDS: &[Row] = &[
    Row {
        name: "start",
        description: "Sign in to a provider",
        options: &[
            OptionRow {
                name: "provider",
                description: "The provider to sign in to; needed only if there are several",
                kind: Provider { required: false },
            },
            OptionRow {
                name: "shared",
                description: "Sign in for this whole server (server managers only)",
                kind: Switch,
            },
            OptionRow {
                name: "grant",
                description: "The way to sign in: code, device or ciba; needed only if the provider offers several",
                kind: Text { required: false, max_length: 16 },
            },
        ],
        handler: |bot, interaction, options| Box::pin(start::command(bot, interaction, options)),
    },
    Row {
        name: "code",
        description: "Finish a sign-in with the code or address of the last page",
        options: &[
            OptionRow {
                name: "code",
                description: "The code, or the full address of the last page",
                kind: Text { required: true, max_length: 6000 },
            },
            OptionRow {
                name: "provider",
                description: "The provider, if you have several sign-ins under way",
                kind: Provider { required: false },
            },
        ],
        handler: |bot, interaction, options| Box::pin(code::command(bot, interaction, options)),
    },
    Row {
        name: "status",
        description: "See where you are signed in, and the state of each session",
        options: &[],
        handler: |bot, interaction, _| Box::pin(status::command(bot, interaction)),
    },
    Row {
        name: "logout",
        description: "Log out of a provider",
        options: &[
            OptionRow {
                name: "provider",
                description: "The provider to log out of; needed only if there are several",
                kind: Provider { required: false },
            },
            OptionRow {
                name: "keep_grant",
                description: "Log out here only, and leave the access at the provider as it is",
                kind: Switch,
            },
            OptionRow {
                name: "shared",
                description: "Log this whole server out (server managers only)",
                kind: Switch,
            },
            OptionRow {
                name: "revoke",
                description: "End the access without a question, even if another sign-in has the same account",
                kind: Switch,
            },
        ],
        handler: |bot, interaction, options| Box::pin(logout::command(bot, interaction, options)),
    },
    Row {
        name: "cancel",
        description: "Cancel the sign-ins that you have under way",
        options: &[],
        handler: |bot, interaction, _| Box::pin(cancel::command(bot, interaction)),
    },
];
