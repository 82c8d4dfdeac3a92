//! A client of one MCP server, for the official conformance suite: `tests/conformance/run` starts the
//! suite, and the suite starts this program with the server's URL as last argument.
//!
//! The program knows the URL alone. threadkey signs in: this program starts its commands, follows the
//! sign-in link as a browser of a user who allows everything, and gives the address at its end to
//! `threadkey auth code`. Then rmcp lists the server's tools and calls each of them, with tokens by
//! `threadkey token`. A demand for scopes leads to another sign-in, twice at most.
//!
//! Environment: `THREADKEY` is the path of threadkey. The suite sets the variables `MCP_CONFORMANCE_…`.

#![allow(clippy::disallowed_methods, reason = "a program of its own, with files and processes of its own")]

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use rmcp::{
    RoleClient,
    model::{CallToolRequestParams, ClientConfig, JsonObject, ProtocolVersion, Tool},
    service::{ClientLifecycleMode, RunningService, ServiceError, serve_client_with_lifecycle},
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig},
};
use serde_json::{Value, json};
use threadkey_client::{
    Client,
    mcp::{Authorized, TransportError},
};
use tokio::{io::AsyncWriteExt as _, process::Command};

type Failure = Box<dyn Error + Send + Sync>;

/// How many further sign-ins a server may demand.
const STEPS: u32 = 2;
/// The id of the metadata document that the suite wants to see.
const CLIENT_DOCUMENT: &str = "https://conformance-test.local/client-metadata.json";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let server = env::args().nth(1).ok_or("the last argument is the server's URL")?;
    let folder = tempfile::tempdir()?;
    let threadkey = Threadkey::configure(folder.path(), &server)?;
    if !needs_sign_in() {
        return use_tools(reqwest::Client::new(), &server).await;
    }
    threadkey.sign_in(&[]).await?;
    for step in 0.. {
        let http = reqwest::Client::new();
        let http = Authorized::new(http, threadkey.client(), "conformance", &server)?;
        let Err(error) = use_tools(http, &server).await else { return Ok(()) };
        if step == STEPS {
            return Err(error);
        }
        match TransportError::of(&*error) {
            Some(TransportError::MissingScopes(missing)) => threadkey.sign_in(&missing.scopes).await?,
            // The server has moved to another authorization server, or ended the grant.
            Some(TransportError::NoToken(reason)) if reason.needs_sign_in() => threadkey.sign_in(&[]).await?,
            _ => return Err(error),
        }
    }
    Ok(())
}

fn scenario() -> String {
    env::var("MCP_CONFORMANCE_SCENARIO").unwrap_or_default()
}

fn needs_sign_in() -> bool {
    scenario().starts_with("auth/")
}

// === threadkey ===

/// The commands of threadkey with a configuration of their own.
struct Threadkey {
    program: PathBuf,
}

impl Threadkey {
    /// Writes the configuration: the server's URL, and the client that the suite has registered beforehand.
    fn configure(folder: &Path, server: &str) -> Result<Self, Failure> {
        let program = env::var_os("THREADKEY").ok_or("THREADKEY is the path of threadkey")?.into();
        let context: Value = match env::var("MCP_CONFORMANCE_CONTEXT") {
            Ok(context) => serde_json::from_str(&context)?,
            Err(_) => Value::Null,
        };
        let mut config = format!(
            "[store]\npath = {:?}\n\n[providers.conformance]\nmcp = {server:?}\n",
            folder.join("auth.json")
        );
        if let Some(id) = context["client_id"].as_str() {
            config += &format!("client_id = {id:?}\n");
        } else if scenario() == "auth/basic-cimd" {
            config += &format!("client_id = {CLIENT_DOCUMENT:?}\n");
        }
        if let Some(secret) = context["client_secret"].as_str() {
            let file = folder.join("secret");
            private_file(&file, secret)?;
            config += &format!("client_secret_file = {file:?}\n");
        }
        let path = folder.join("threadkey.toml");
        private_file(&path, &config)?;
        Ok(Self { program: Self::wrapper(folder, &path, program)? })
    }

    /// Writes a command that is threadkey with this configuration.
    fn wrapper(folder: &Path, config: &Path, program: PathBuf) -> Result<PathBuf, Failure> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.join("threadkey");
        let script = format!(
            "#!/bin/sh\nTHREADKEY_CONFIG='{}' exec '{}' \"$@\"\n",
            config.display(),
            program.display()
        );
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        Ok(path)
    }

    fn client(&self) -> Client {
        Client::program(&self.program)
    }

    /// Signs in as a user who allows everything.
    async fn sign_in(&self, scopes: &[String]) -> Result<(), Failure> {
        let mut start = vec!["auth", "start", "conformance", "--json"];
        start.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
        let started: Value = serde_json::from_slice(&self.run(&start, "").await?)?;
        let link = started["authorize_url"].as_str().ok_or("the sign-in has no link")?;
        let end = follow(link).await?;
        self.run(&["auth", "code", "conformance"], &end).await.map(drop)
    }

    async fn run(&self, arguments: &[&str], input: &str) -> Result<Vec<u8>, Failure> {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn()?;
        let mut stdin = child.stdin.take().ok_or("the command has no input")?;
        stdin.write_all(input.as_bytes()).await?;
        drop(stdin);
        let output = child.wait_with_output().await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(format!("threadkey {}: {}", arguments.join(" "), errors.trim()).into()),
        }
    }
}

fn private_file(path: &Path, text: &str) -> Result<(), Failure> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())?;
    Ok(())
}

/// Opens the link and returns the address that the sign-in ends at. Nothing listens there.
async fn follow(link: &str) -> Result<String, Failure> {
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let answer = http.get(link).send().await?;
    let location = answer
        .headers()
        .get("location")
        .ok_or_else(|| format!("the authorization server answered {} without a redirect", answer.status()))?;
    Ok(location.to_str()?.to_owned())
}

// === the MCP client ===

/// Lists the tools and calls each of them.
async fn use_tools<C>(http: C, server: &str) -> Result<(), Failure>
where
    C: rmcp::transport::streamable_http_client::StreamableHttpClient + Sync,
{
    let config = StreamableHttpClientTransportConfig::with_uri(server);
    let transport = StreamableHttpClientTransport::with_client(http, config);
    let lifecycle = match env::var("MCP_CONFORMANCE_PROTOCOL_VERSION").as_deref() {
        Ok("2026-07-28") => {
            ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
        }
        _ => ClientLifecycleMode::Initialize,
    };
    let information = ClientConfig::default().with_protocol_version(ProtocolVersion::V_2025_11_25);
    let client = serve_client_with_lifecycle(information, transport, lifecycle).await?;
    let used = call_all(&client).await;
    let closed = client.cancel().await;
    used?;
    closed?;
    Ok(())
}

async fn call_all(client: &RunningService<RoleClient, ClientConfig>) -> Result<(), ServiceError> {
    for tool in client.list_all_tools().await? {
        let call = CallToolRequestParams::new(tool.name.clone()).with_arguments(arguments(&tool));
        client.call_tool(call).await?;
    }
    Ok(())
}

/// A value of the right type for each argument that the tool describes.
fn arguments(tool: &Tool) -> JsonObject {
    let properties = tool.input_schema.get("properties").and_then(Value::as_object);
    let value = |schema: &Value| match schema["type"].as_str() {
        Some("number" | "integer") => json!(2),
        Some("boolean") => json!(true),
        Some("array") => json!([]),
        Some("object") => json!({}),
        _ => json!("text"),
    };
    properties.into_iter().flatten().map(|(name, schema)| (name.clone(), value(schema))).collect()
}
