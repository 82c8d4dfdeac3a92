//! Settings in YAML, as `gh` has them: a mapping with one key at the beginning of a line. They are merged line
//! by line, so the user's comments stay.

use std::collections::BTreeSet;

/// The keys of earlier versions of `gh` that hold a login.
const LOGINS: [&str; 1] = ["hosts"];

/// Returns the user's settings with ours instead of theirs, and without a login. `None` if the user's text is
/// not such a mapping.
pub(super) fn merge(own: &str, ours: &str) -> Option<String> {
    let replaced: BTreeSet<&str> = ours.lines().filter_map(key).chain(LOGINS).collect();
    let mut merged = String::new();
    let mut is_kept = true;
    for line in own.lines() {
        let is_of_the_key_above = line.starts_with([' ', '\t']) || line == "-" || line.starts_with("- ");
        let is_comment = line.starts_with('#');
        if !is_of_the_key_above && !is_comment && !line.is_empty() {
            is_kept = !replaced.contains(key(line)?);
        }
        if is_kept || is_comment {
            merged.push_str(line);
            merged.push('\n');
        }
    }
    merged.push_str(ours.trim_start());
    Some(merged)
}

/// Returns the key that a line begins with.
fn key(line: &str) -> Option<&str> {
    let (key, rest) = line.split_once(':')?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let is_key = !key.is_empty() && key.chars().all(is_plain) && (rest.is_empty() || rest.starts_with(' '));
    is_key.then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "\nversion: \"1\"\nhttp_unix_socket: \"/run/s\"\n";

    #[test]
    fn settings_in_yaml_are_merged_and_a_login_in_them_is_left_out() {
        let own = "# mine\nversion: 1\neditor: vim # best\nhttp_unix_socket: /mine\nhosts:\n# theirs\n    github.com:\n        \
                   oauth_token: mine\n\naliases:\n    co: |\n        pr checkout\n\n# the last one\nlist:\n- a\n- b\npager:\n";
        let merged = merge(own, OURS).unwrap();
        assert_eq!(
            merged,
            "# mine\neditor: vim # best\n# theirs\naliases:\n    co: |\n        pr checkout\n\n# the last one\nlist:\n- a\n- b\npager:\n\
             version: \"1\"\nhttp_unix_socket: \"/run/s\"\n"
        );
        assert_eq!(merge("", OURS).unwrap(), OURS.trim_start());
        assert_eq!(merge("a: 1\r\nversion: 2\r\n", OURS).unwrap(), format!("a: 1{OURS}"));
    }

    #[test]
    fn settings_in_another_form_are_not_merged() {
        for own in
            ["{a: 1}\n", "--- \na: 1\n", "\"a\": 1\n", "? a\n", "a\n", "a:1\n", "&x a: 1\n", "\u{feff}a: 1\n"]
        {
            assert_eq!(merge(own, OURS), None, "{own:?}");
        }
    }
}
