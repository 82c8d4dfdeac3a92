//! Characters that a reader does not see, or that change the order of others: controls, line ends,
//! bidirectional marks, characters without a width, and blanks that look like a space.

/// Whether a reader cannot see this character as it is. The space itself is not such a character.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{2800}' | '\u{3164}'
            | '\u{feff}' | '\u{ffa0}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Writes a text for a person who must see all of it: line ends and tabs stay, and each other hidden
/// character is named.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            '\0'..='\x1f' => shown.push(char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}')),
            '\x7f' => shown.push('␡'),
            _ if is_hidden(c) => shown.push_str(&format!("⟨U+{:04X}⟩", u32::from(c))),
            _ => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hidden_character_is_named_and_line_ends_stay() {
        assert_eq!(visible("a\n\tb \u{1b}[1m\0\r\u{7f}"), "a\n\tb ␛[1m␀␍␡");
        assert_eq!(
            visible("x\u{202e}y\u{200b}z\u{85}\u{a0}\u{2028}\u{e0041}\u{fe0f}"),
            "x⟨U+202E⟩y⟨U+200B⟩z⟨U+0085⟩⟨U+00A0⟩⟨U+2028⟩⟨U+E0041⟩⟨U+FE0F⟩"
        );
        assert_eq!(visible("ünïcode 日本 🙂"), "ünïcode 日本 🙂");
    }
}
