//! Puts `tests/provider` and its npm packages into the target folder.

use std::path::PathBuf;

use crate::support::npm::{self, Files};

pub use crate::support::npm::program;

const PACKAGE: Files = &[
    ("package.json", include_str!("../../provider/package.json")),
    ("package-lock.json", include_str!("../../provider/package-lock.json")),
];
const SCRIPTS: Files = &[
    ("server.mjs", include_str!("../../provider/server.mjs")),
    ("clients.mjs", include_str!("../../provider/clients.mjs")),
    ("events.mjs", include_str!("../../provider/events.mjs")),
    ("exchange.mjs", include_str!("../../provider/exchange.mjs")),
    ("grants.mjs", include_str!("../../provider/grants.mjs")),
    ("gate.mjs", include_str!("../../provider/gate.mjs")),
    ("pages.mjs", include_str!("../../provider/pages.mjs")),
    ("resource.mjs", include_str!("../../provider/resource.mjs")),
];

/// The path of `server.mjs`, where Node.js finds its packages. Blocks: the first call runs npm.
pub fn server_script() -> PathBuf {
    npm::install(PACKAGE, SCRIPTS).1.join("server.mjs")
}
