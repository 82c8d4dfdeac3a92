//! A small reader of Rust source: the paths that a file names, and its use of `unsafe`.
//!
//! It knows comments, strings, `use` trees and inline modules, and nothing more. That is enough for
//! the floor plan: an import is a path, however it is written.

/// A word or a sign of the source, with its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The identifier, `::`, or a single sign.
    pub(crate) text: String,
    /// Counted from 1.
    pub(crate) line: usize,
}

/// A path that the source names, such as `crate::store::Store` or `serenity::all`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// The segments. `crate`, `self` and `super` are kept as written.
    pub(crate) segments: Vec<String>,
    /// Counted from 1.
    pub(crate) line: usize,
    /// How many inline modules (`mod tests { … }`) surround it.
    pub(crate) inline_depth: usize,
    /// How it is named.
    pub(crate) how: How,
}

/// How a path is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// At its point of use, as in `crate::ids::Tenant`.
    InPlace,
    /// By `use`, which makes the last segment a name of the file.
    Imported,
    /// By `pub use` of any visibility, for other files.
    Reexported,
}

/// Splits the source into tokens, without comments, strings, characters and lifetimes.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while at < chars.len() {
        let here = chars[at];
        let next = chars.get(at + 1).copied();
        let end = if here == '/' && next == Some('/') {
            position(&chars, at, |c| c == '\n')
        } else if here == '/' && next == Some('*') {
            block_comment_end(&chars, at)
        } else if let Some(end) = string_end(&chars, at) {
            end
        } else if here == '\'' {
            quote_end(&chars, at)
        } else if is_word(here) {
            let end = position(&chars, at, |c| !is_word(c));
            tokens.push(Token { text: chars[at..end].iter().collect(), line });
            end
        } else if here == ':' && next == Some(':') {
            tokens.push(Token { text: "::".to_owned(), line });
            at + 2
        } else {
            if !here.is_whitespace() {
                tokens.push(Token { text: here.to_string(), line });
            }
            at + 1
        };
        line += chars[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn position(chars: &[char], from: usize, stop: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|at| stop(chars[*at])).unwrap_or(chars.len())
}

/// Block comments nest.
fn block_comment_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(chars.len())
}

/// The end of the string literal that begins here, if there is one: `"…"`, `r#"…"#`, and both with
/// `b` or `c`.
fn string_end(chars: &[char], start: usize) -> Option<usize> {
    let mut at = start;
    if matches!(chars[at], 'b' | 'c') && matches!(chars.get(at + 1), Some('"' | 'r')) {
        at += 1;
    }
    if chars[at] == 'r' {
        let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
        if chars.get(at + 1 + hashes) != Some(&'"') {
            return None;
        }
        let body = at + 2 + hashes;
        let closes = |quote: usize| {
            chars[quote] == '"'
                && chars[quote + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
        };
        let quote = (body..chars.len()).find(|quote| closes(*quote));
        return Some(quote.map_or(chars.len(), |quote| quote + 1 + hashes));
    }
    if chars[at] != '"' {
        return None;
    }
    at += 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    Some((at + 1).min(chars.len()))
}

/// The end of a character literal, or of a lifetime's name.
fn quote_end(chars: &[char], start: usize) -> usize {
    match (chars.get(start + 1), chars.get(start + 2)) {
        (Some('\\'), _) => (position(chars, start + 3, |c| c == '\'') + 1).min(chars.len()),
        (Some(_), Some('\'')) => start + 3,
        _ => position(chars, start + 1, |c| !is_word(c)),
    }
}

/// Returns every path of two or more segments, every `use` and every `extern crate` of the source.
pub(crate) fn paths(source: &str) -> Vec<Named> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    let mut depth = 0_usize;
    let mut inline_modules = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let text = tokens[at].text.as_str();
        let follows = |offset: usize| tokens.get(at + offset).map(|token| token.text.as_str());
        match text {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                inline_modules.retain(|opened_at| *opened_at < depth);
            }
            "mod" if follows(2) == Some("{") => inline_modules.push(depth),
            "use" => {
                let mut trees = Trees { tokens: &tokens, at: at + 1, found: Vec::new() };
                trees.tree(&[]);
                let how = if is_public(&tokens[..at]) { How::Reexported } else { How::Imported };
                at = trees.at;
                found.extend(named(trees.found, inline_modules.len(), how));
                continue;
            }
            "crate" if at > 0 && tokens[at - 1].text == "extern" => {
                if let Some(token) = tokens.get(at + 1) {
                    let path = (vec![token.text.clone()], token.line);
                    found.extend(named(vec![path], inline_modules.len(), How::Imported));
                }
            }
            _ if text.starts_with(is_word) && follows(1) == Some("::") => {
                let line = tokens[at].line;
                let (segments, end) = plain_path(&tokens, at);
                found.extend(named(vec![(segments, line)], inline_modules.len(), How::InPlace));
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

fn named(paths: Vec<(Vec<String>, usize)>, inline_depth: usize, how: How) -> impl Iterator<Item = Named> {
    paths.into_iter().map(move |(segments, line)| Named { segments, line, inline_depth, how })
}

/// Whether the tokens before an item end in a visibility: `pub` or `pub(…)`.
fn is_public(before: &[Token]) -> bool {
    let last =
        before.iter().rev().find(|token| !matches!(token.text.as_str(), "(" | ")" | "crate" | "super"));
    last.is_some_and(|token| token.text == "pub")
}

/// Returns the path `a::b::c` that begins at `start`, and the index of the token after it.
fn plain_path(tokens: &[Token], start: usize) -> (Vec<String>, usize) {
    let mut segments = vec![tokens[start].text.clone()];
    let mut at = start + 1;
    while tokens.get(at).is_some_and(|token| token.text == "::")
        && tokens.get(at + 1).is_some_and(|token| token.text.starts_with(is_word))
    {
        segments.push(tokens[at + 1].text.clone());
        at += 2;
    }
    (segments, at)
}

/// Reads `use` trees: `a::{b, c::{d, e as f}, g::*}`.
struct Trees<'a> {
    tokens: &'a [Token],
    at: usize,
    found: Vec<(Vec<String>, usize)>,
}

impl Trees<'_> {
    fn text(&self) -> &str {
        self.tokens.get(self.at).map_or("", |token| &token.text)
    }

    fn tree(&mut self, prefix: &[String]) {
        let mut segments = prefix.to_vec();
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        loop {
            match self.text() {
                "::" => self.at += 1,
                "{" => return self.group(&segments),
                text if text.starts_with(is_word) && text != "as" => {
                    segments.push(text.to_owned());
                    self.at += 1;
                }
                _ => break,
            }
        }
        self.found.push((segments, line));
        while !matches!(self.text(), "," | "}" | ";" | "") {
            self.at += 1;
        }
    }

    fn group(&mut self, prefix: &[String]) {
        self.at += 1;
        while !matches!(self.text(), "}" | "") {
            if self.text() == "," {
                self.at += 1;
            } else {
                self.tree(prefix);
            }
        }
        self.at += 1;
    }
}
