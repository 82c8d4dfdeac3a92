//! Stand-ins for the services that a Discord bot with OAuth sign-ins talks to, and for its users.
//!
//! | module | owns |
//! | --- | --- |
//! | [`discord`] | a Discord look-alike: gateway, REST, users that a test moves, and a chat page |
//! | [`authserver`] | an OAuth authorization server with strict rotation and scripted faults |
//! | [`browser`] | a user's browser at a sign-in page |
//! | [`events`] | the log of a token endpoint |
//! | [`raw`] | a token endpoint that answers with scripted bytes |
//! | [`settings`] | sections of threadkey.toml |
//! | [`upstream`] | an API that takes only live access tokens |
//!
//! Everything listens on loopback alone. The library knows nothing of threadkey's own.

pub mod authserver;
pub mod browser;
pub mod discord;
pub mod events;
pub mod raw;
pub mod settings;
pub mod upstream;
