//! Placeholders in texts of the configuration.

/// Finds the next `{name}`, `{name?}` or `{name:argument}`, where the name has lower-case letters and
/// `_` only. Returns the text before it, its inside, and the text after it. Other braces, as in JSON,
/// are text.
pub fn next_placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(open) = text[from..].find('{').map(|at| from + at) {
        let inside = &text[open + 1..];
        let name = inside.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(inside.len());
        let close = inside.find(['{', '}', '"']).filter(|at| inside.as_bytes()[*at] == b'}');
        if let Some(close) = close
            && name > 0
            && (name == close
                || inside.as_bytes()[name] == b':'
                || (name + 1 == close && inside.as_bytes()[name] == b'?'))
        {
            return Some((&text[..open], &inside[..close], &inside[close + 1..]));
        }
        from = open + 1;
    }
    None
}
