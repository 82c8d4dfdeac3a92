//! The permissions that the bot needs in a server: one table, from which the invite, the check of
//! each `/ask` and doctor's check come.

use serenity::all::Permissions;
use url::Url;

/// A permission that the code uses.
struct Needed {
    permission: Permissions,
    /// The name in Discord's settings.
    name: &'static str,
}

/// All permissions that the code uses. The README lists them with their purposes.
const NEEDED: &[Needed] = &[
    Needed { permission: Permissions::VIEW_CHANNEL, name: "View Channels" },
    Needed { permission: Permissions::SEND_MESSAGES, name: "Send Messages" },
    Needed { permission: Permissions::SEND_MESSAGES_IN_THREADS, name: "Send Messages in Threads" },
    Needed { permission: Permissions::CREATE_PRIVATE_THREADS, name: "Create Private Threads" },
    Needed { permission: Permissions::EMBED_LINKS, name: "Embed Links" },
    Needed { permission: Permissions::ATTACH_FILES, name: "Attach Files" },
];

/// Returns the number of the invite for all permissions.
fn number() -> u64 {
    NEEDED.iter().fold(Permissions::empty(), |all, needed| all | needed.permission).bits()
}

/// Returns the link by which a manager of a server invites the application with this id.
pub fn invite(application: &str) -> Url {
    let permissions = number().to_string();
    let parameters =
        [("client_id", application), ("scope", "bot applications.commands"), ("permissions", &permissions)];
    Url::parse_with_params("https://discord.com/oauth2/authorize", parameters).expect("the base is a URL")
}

/// Returns the names of the permissions that are missing among `bits`, Discord's number for the
/// permissions of a member.
pub fn missing_names(bits: u64) -> Vec<&'static str> {
    missing(Permissions::from_bits_truncate(bits))
}

/// Returns the names of the permissions that are missing. An administrator has all.
pub(super) fn missing(own: Permissions) -> Vec<&'static str> {
    if own.contains(Permissions::ADMINISTRATOR) {
        return Vec::new();
    }
    NEEDED.iter().filter(|needed| !own.contains(needed.permission)).map(|needed| needed.name).collect()
}

/// Returns the names of all permissions in the table.
pub(super) fn all_names() -> Vec<&'static str> {
    NEEDED.iter().map(|needed| needed.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_permission_is_named_and_an_administrator_needs_none() {
        let all = Permissions::from_bits_truncate(number());
        assert!(missing(all).is_empty() && missing(Permissions::ADMINISTRATOR).is_empty());
        for needed in NEEDED {
            assert_eq!(missing(all - needed.permission), [needed.name]);
        }
        assert_eq!(missing_names(0), all_names());
    }

    #[test]
    fn the_readme_invites_with_the_permissions_of_the_table_and_lists_them() {
        let readme = include_str!("../../README.md");
        let link = invite("APPLICATION_ID");
        assert!(readme.contains(link.as_str()), "the README has no link {link}");
        let (_, table) = readme.split_once("| permission | purpose |").expect("a table");
        let (table, _) = table.split_once("\n\n").expect("an end");
        let rows: Vec<_> =
            table.lines().skip(2).filter_map(|row| row.split('|').nth(1)).map(str::trim).collect();
        assert_eq!(rows, all_names());
    }
}
