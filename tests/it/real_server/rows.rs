//! The rows of the table: one provider section for each feature of the server.

use std::sync::OnceLock;

use crate::support::{
    oidc::{Oidc, OidcOptions},
    program::Home,
};

/// The secrets of the server's clients `-basic` and `-post`, as `tests/provider/clients.mjs` has them.
const BASIC_SECRET: &str = "basic: 100% +1&=/?\"";
const POST_SECRET: &str = "post: 100% +1&=/?\"";

/// A provider of the table.
pub(super) struct Row {
    /// The beginning of its accounts' names, so that the server's log distinguishes the cells.
    pub(super) name: &'static str,
    /// The lines of its section. `{issuer}` stands for the server's issuer.
    section: &'static str,
    /// The content of its file `client.secret`.
    secret: Secret,
    /// Whether its access tokens are for the protected resource alone (RFC 8707).
    pub(super) is_for_resource: bool,
}

enum Secret {
    None,
    Text(&'static str),
    /// The private key of the server's client of this name.
    Key(&'static str),
}

/// A public client. Its id tokens are signed with ES256.
pub(super) const PUBLIC: Row = Row {
    name: "public",
    section: "issuer = \"{issuer}\"\nclient_id = \"threadkey\"\n",
    secret: Secret::None,
    is_for_resource: false,
};

/// `client_secret_basic`, with id tokens by RS256.
pub(super) const BASIC: Row = Row {
    name: "basic",
    section: "issuer = \"{issuer}\"\nclient_id = \"threadkey-basic\"\nclient_secret_file = \"client.secret\"\n",
    secret: Secret::Text(BASIC_SECRET),
    is_for_resource: false,
};

/// `client_secret_post`, with id tokens by EdDSA.
pub(super) const POST: Row = Row {
    name: "post",
    section: "issuer = \"{issuer}\"\nclient_id = \"threadkey-post\"\nclient_auth = \"post\"\nclient_secret_file = \"client.secret\"\n",
    secret: Secret::Text(POST_SECRET),
    is_for_resource: false,
};

/// `private_key_jwt` by ES256.
pub(super) const ES256: Row = Row {
    name: "es256",
    section: "issuer = \"{issuer}\"\nclient_id = \"threadkey-es256\"\nclient_key_file = \"client.secret\"\n",
    secret: Secret::Key("es256"),
    is_for_resource: false,
};

/// `private_key_jwt` by RS256.
pub(super) const RS256: Row = Row {
    name: "rs256",
    section: "issuer = \"{issuer}\"\nclient_id = \"threadkey-rs256\"\nclient_key_file = \"client.secret\"\n",
    secret: Secret::Key("rs256"),
    is_for_resource: false,
};

/// `private_key_jwt` by EdDSA.
pub(super) const EDDSA: Row = Row {
    name: "eddsa",
    section: "issuer = \"{issuer}\"\nclient_id = \"threadkey-eddsa\"\nclient_key_file = \"client.secret\"\n",
    secret: Secret::Key("eddsa"),
    is_for_resource: false,
};

/// Resource indicators (RFC 8707).
pub(super) const RESOURCE: Row = Row {
    name: "resource",
    section: "issuer = \"{issuer}\"\nclient_id = \"threadkey\"\nresource = \"{issuer}/mcp\"\n\
              scopes = [\"openid\", \"offline_access\", \"mcp:tools\"]\n",
    secret: Secret::None,
    is_for_resource: true,
};

/// The same without a refresh token.
pub(super) const RESOURCE_WITHOUT_REFRESH: Row = Row {
    name: "resource-alone",
    section: "issuer = \"{issuer}\"\nclient_id = \"threadkey\"\nresource = \"{issuer}/mcp\"\n\
              scopes = [\"openid\", \"mcp:tools\"]\n",
    secret: Secret::None,
    is_for_resource: true,
};

/// Dynamic registration (RFC 7591), from nothing but the address of an MCP server.
pub(super) const REGISTERED: Row = Row {
    name: "registered",
    section: "mcp = \"{issuer}/mcp\"\n",
    secret: Secret::None,
    is_for_resource: true,
};

/// The client id metadata document, from nothing but the address of an MCP server and our own.
pub(super) const DOCUMENT: Row = Row { name: "document", ..REGISTERED };

/// The device grant (RFC 8628) of a public client.
pub(super) const DEVICE: Row = Row {
    name: "device",
    section: "issuer = \"{issuer}\"\nclient_id = \"threadkey\"\ngrants = [\"device\"]\n",
    secret: Secret::None,
    is_for_resource: false,
};

/// The device grant of a client that signs its requests and polls, for the protected resource.
pub(super) const DEVICE_FOR_RESOURCE: Row = Row {
    name: "device-resource",
    section: "issuer = \"{issuer}\"\nclient_id = \"threadkey-es256\"\nclient_key_file = \"client.secret\"\n\
              grants = [\"device\"]\nresource = \"{issuer}/mcp\"\nscopes = [\"openid\", \"offline_access\", \"mcp:tools\"]\n",
    secret: Secret::Key("es256"),
    is_for_resource: true,
};

/// CIBA of a client with a secret.
pub(super) const CIBA: Row = Row {
    name: "ciba",
    section: "issuer = \"{issuer}\"\nclient_id = \"threadkey-ciba\"\nclient_secret_file = \"client.secret\"\ngrants = [\"ciba\"]\n",
    secret: Secret::Text("ciba-secret"),
    is_for_resource: false,
};

/// CIBA of a client that signs its requests and polls.
pub(super) const CIBA_WITH_KEY: Row = Row {
    name: "ciba-key",
    section: "issuer = \"{issuer}\"\nclient_id = \"threadkey-ciba-eddsa\"\nclient_key_file = \"client.secret\"\ngrants = [\"ciba\"]\n",
    secret: Secret::Key("eddsa"),
    is_for_resource: false,
};

// === impl Row ===

impl Row {
    /// The section `[providers.acme]`.
    pub(super) fn section(&self, oidc: &Oidc) -> String {
        let needs_redirect = !self.section.contains("grants") && !self.section.contains("mcp = ");
        let redirect = if needs_redirect {
            format!("redirect_uri = {:?}\nredirect_any_port = true\n", oidc.redirect_uri())
        } else {
            String::new()
        };
        format!("[providers.acme]\n{}{redirect}", self.section.replace("{issuer}", oidc.issuer()))
    }

    /// Puts the client's secret or key beside the configuration.
    pub(super) async fn write_secret(&self, oidc: &Oidc, home: &Home) {
        let text = match self.secret {
            Secret::None => return,
            Secret::Text(text) => text.to_owned(),
            Secret::Key(name) => oidc.client_key(name).await,
        };
        let path = home.path().join("client.secret");
        threadkey::sys::files::create_private(&path, text.as_bytes()).unwrap();
    }
}

/// The server of all cells, at an issuer with a path. It starts at the first call and ends with the
/// test process.
pub(super) fn server() -> &'static Oidc {
    static SERVER: OnceLock<Oidc> = OnceLock::new();
    SERVER.get_or_init(|| {
        // The runtime of a test ends with it, so the server has one of its own.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let runtime: &'static tokio::runtime::Runtime = Box::leak(Box::new(runtime));
        let options = OidcOptions {
            access_token_ttl: std::time::Duration::from_secs(3600),
            issuer_path: "/realms/one".into(),
            every_client: true,
            // The server takes any port of a native client.
            redirect_uris: vec![
                "http://127.0.0.1:1/callback".into(),
                "http://127.0.0.1:1/oauth/callback".into(),
            ],
            ..OidcOptions::default()
        };
        std::thread::spawn(|| runtime.block_on(Oidc::start(options))).join().unwrap()
    })
}
