//! Permission bits, as Discord numbers them.

/// All permissions.
pub const ADMINISTRATOR: u64 = 1 << 3;
/// Manage Server.
pub const MANAGE_GUILD: u64 = 1 << 5;
/// View Channel.
pub const VIEW_CHANNEL: u64 = 1 << 10;
/// Send Messages.
pub const SEND_MESSAGES: u64 = 1 << 11;
/// Manage Messages.
pub const MANAGE_MESSAGES: u64 = 1 << 13;
/// Embed Links.
pub const EMBED_LINKS: u64 = 1 << 14;
/// Attach Files.
pub const ATTACH_FILES: u64 = 1 << 15;
/// Read Message History.
pub const READ_MESSAGE_HISTORY: u64 = 1 << 16;
/// Mention everyone, here and all roles.
pub const MENTION_EVERYONE: u64 = 1 << 17;
/// Use Application Commands.
pub const USE_APPLICATION_COMMANDS: u64 = 1 << 31;
/// Manage Threads.
pub const MANAGE_THREADS: u64 = 1 << 34;
/// Create Public Threads.
pub const CREATE_PUBLIC_THREADS: u64 = 1 << 35;
/// Create Private Threads.
pub const CREATE_PRIVATE_THREADS: u64 = 1 << 36;
/// Send Messages in Threads.
pub const SEND_MESSAGES_IN_THREADS: u64 = 1 << 38;

/// The permissions of an ordinary member.
pub const MEMBER: u64 = VIEW_CHANNEL
    | SEND_MESSAGES
    | EMBED_LINKS
    | ATTACH_FILES
    | READ_MESSAGE_HISTORY
    | USE_APPLICATION_COMMANDS
    | CREATE_PUBLIC_THREADS
    | CREATE_PRIVATE_THREADS
    | SEND_MESSAGES_IN_THREADS;
