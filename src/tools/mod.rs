//! Tools that people already use, and how each one gets a fresh access token without a change to it.
//!
//! The tools are data: `tools.toml`. A [`Tool`] has [`Way`]s, best first: its own hook, the injecting
//! proxy, a credential file. [`Means::render`] turns one of them into files and variables.
//!
//! Invariants:
//!
//! - No template has a value for a refresh token, so no file can have one.
//! - An access token is in files alone, never in a variable or an argument.
//! - A value cannot change the structure of the file that it stands in, whatever its characters are.
//!
//! This module is pure. It reads no file, no clock and no environment.

mod content;
mod data;
mod escape;
mod placeholder;
mod values;

pub use content::Content;
pub use data::{
    FileTemplate, Folder, Means, Template, Tool, Way, named, of_program, template, templates, tools,
};
pub use escape::Format;
pub use placeholder::next_placeholder;
pub use values::{InjectValues, NO_END, RenderError, Rendered, RenderedFile, TokenValues, Values, host_of};
pub(crate) use values::{Value, fill};

#[cfg(test)]
mod tests;
