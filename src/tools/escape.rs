//! Formats of files, and how a value is written into each one without changing its structure.

use std::path::Path;

use serde::Deserialize;

/// An apostrophe, as TOML and YAML write it between double quotes. A free text may have these double
/// quotes within another string, which an apostrophe would end.
const APOSTROPHE: &str = "\\u0027";

/// The format of a text with placeholders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// JSON (RFC 8259).
    Json,
    /// TOML.
    Toml,
    /// YAML.
    Yaml,
    /// The words of a `.netrc`.
    Netrc,
    /// A file of any other kind. A value is written as it is, so it may have plain characters only.
    Plain,
    /// The value of a variable, which has no structure.
    Raw,
}

impl Format {
    /// Returns the format that the name of a file shows.
    pub fn of_path(path: &str) -> Self {
        let path = Path::new(path);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if matches!(name, ".netrc" | "_netrc") {
            return Self::Netrc;
        }
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "json" => Self::Json,
            "toml" => Self::Toml,
            "yml" | "yaml" => Self::Yaml,
            _ => Self::Plain,
        }
    }

    /// Whether any text can be written into it, whatever its characters are.
    pub fn takes_any_text(self) -> bool {
        self.quotes_text() || self == Self::Raw
    }

    /// Checks that a text is a document of this format, where it is one that this program reads.
    ///
    /// # Errors
    /// The problem and its line.
    pub fn check(self, text: &str) -> Result<(), String> {
        match self {
            Self::Json => match serde_json::from_str::<serde::de::IgnoredAny>(text) {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("it is no JSON: {error}")),
            },
            Self::Toml => match text.parse::<toml::Table>() {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("it is no TOML: {}", error.message())),
            },
            Self::Yaml | Self::Netrc | Self::Plain | Self::Raw => Ok(()),
        }
    }

    /// Whether a text must stand between double quotes.
    pub(super) fn quotes_text(self) -> bool {
        matches!(self, Self::Json | Self::Toml | Self::Yaml)
    }

    /// Writes a value so that it stays one value. `is_quoted` shows whether it stands between double
    /// quotes. Returns `None` if the value cannot stand there.
    pub(super) fn escape(self, value: &str, is_quoted: bool) -> Option<String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~+/=:@,%".contains(c);
        match self {
            _ if self.quotes_text() && !is_quoted => None,
            Self::Json => {
                let quoted = serde_json::to_string(value).ok()?;
                Some(quoted[1..quoted.len() - 1].to_owned())
            }
            Self::Toml | Self::Yaml => Some(value.chars().map(escape_char).collect()),
            Self::Netrc => {
                let is_word = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\' | '#');
                (!value.is_empty() && value.chars().all(is_word)).then(|| value.to_owned())
            }
            Self::Plain => {
                value.chars().all(|c| is_plain(c) || c == ' ' && is_quoted).then(|| value.to_owned())
            }
            Self::Raw => (!value.contains('\0')).then(|| value.to_owned()),
        }
    }
}

/// Writes a character as basic strings of TOML and double-quoted scalars of YAML both take it.
fn escape_char(c: char) -> String {
    match c {
        '"' => "\\\"".to_owned(),
        '\'' => APOSTROPHE.to_owned(),
        '\\' => "\\\\".to_owned(),
        '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => format!("\\u{:04x}", u32::from(c)),
        _ if c.is_control() => format!("\\u{:04x}", u32::from(c)),
        _ => c.to_string(),
    }
}

/// Whether a place stands between double quotes: the text before it on its line has an odd number of
/// them.
pub(super) fn is_quoted(before: &str) -> bool {
    let line = before.rsplit('\n').next().unwrap_or_default();
    let mut escaped = false;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
    }
    quoted
}
