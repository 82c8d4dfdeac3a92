//! Chromium without a window, driven over the DevTools protocol.
//!
//! Each [`Profile`] has its own cookies, as another browser or another machine has. Only loopback
//! can be reached.
#![expect(clippy::disallowed_methods, reason = "the tests' own files and processes are not the program's")]

use std::{
    collections::VecDeque,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex as StdMutex},
    time::Duration,
};

use base64::Engine as _;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::Mutex,
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

/// How long one step may take on a busy machine.
const STEP: Duration = Duration::from_secs(60);
/// The names of the program on Linux distributions.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// A running Chromium. It ends with [`Chromium::close`], and at the latest when it is dropped.
pub struct Chromium {
    process: Child,
    connection: Arc<Mutex<Connection>>,
    _data: tempfile::TempDir,
}

/// A browser of one user, with its own cookies.
pub struct Profile {
    connection: Arc<Mutex<Connection>>,
    id: String,
}

/// A tab of a profile, in the size of a phone.
pub struct Tab {
    connection: Arc<Mutex<Connection>>,
    session: String,
    /// The loader of the document that is shown.
    document: StdMutex<String>,
}

impl Chromium {
    /// Starts Chromium, which accepts certificates with this public key (DER) on any name. Returns
    /// `None`, with a notice, on a machine without it.
    pub async fn start(public_key: &[u8]) -> Option<Self> {
        let Some(program) = program() else {
            println!("skipped: there is no Chromium here; .ci/run installs it");
            return None;
        };
        let data = tempfile::Builder::new().prefix("tk-chromium").tempdir().expect("a folder");
        let key = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(public_key));
        let mut process = Command::new(program)
            .args(["--headless=new", "--remote-debugging-port=0", "--no-first-run", "--disable-gpu"])
            // Containers have a small /dev/shm, and no user namespaces for the sandbox of root.
            .args(["--no-sandbox", "--disable-dev-shm-usage"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1")
            .args(["--no-proxy-server", "--lang=en"])
            .arg(format!("--ignore-certificate-errors-spki-list={key}"))
            .arg(format!("--user-data-dir={}", data.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Chromium starts");
        let mut lines = BufReader::new(process.stderr.take().expect("a pipe")).lines();
        let mut log = String::new();
        let address = timeout(STEP, async {
            while let Some(line) = lines.next_line().await.expect("the log of Chromium") {
                if let Some(address) = line.strip_prefix("DevTools listening on ") {
                    return address.to_owned();
                }
                log.push_str(&line);
                log.push('\n');
            }
            panic!("Chromium ended at its start:\n{log}");
        });
        let address = address.await.expect("Chromium starts in time");
        // A full pipe would stop Chromium.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let url = url::Url::parse(&address).expect("an address");
        let host = (url.host_str().expect("a host"), url.port().expect("a port"));
        let stream = TcpStream::connect(host).await.expect("DevTools listen");
        let (socket, _) = client_async(address, stream).await.expect("DevTools answer");
        let connection = Connection { socket, next: 0, events: VecDeque::new() };
        Some(Self { process, connection: Arc::new(Mutex::new(connection)), _data: data })
    }

    /// Opens a browser without any cookie.
    pub async fn profile(&self) -> Profile {
        let made = call(&self.connection, None, "Target.createBrowserContext", json!({})).await;
        Profile { connection: self.connection.clone(), id: text(&made["browserContextId"]) }
    }

    /// Ends Chromium, and waits for it.
    pub async fn close(mut self) {
        call(&self.connection, None, "Browser.close", json!({})).await;
        timeout(STEP, self.process.wait()).await.expect("Chromium ends").expect("its status");
    }
}

fn program() -> Option<PathBuf> {
    let folders: Vec<_> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let paths = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    paths.into_iter().find(|path| path.is_file())
}

impl Profile {
    /// Opens an address in a new tab, and waits until the page is loaded.
    pub async fn open(&self, url: &str) -> Tab {
        let params = json!({"url": "about:blank", "browserContextId": self.id});
        let target = call(&self.connection, None, "Target.createTarget", params).await;
        let params = json!({"targetId": target["targetId"], "flatten": true});
        let attached = call(&self.connection, None, "Target.attachToTarget", params).await;
        let tab = Tab {
            connection: self.connection.clone(),
            session: text(&attached["sessionId"]),
            document: StdMutex::default(),
        };
        tab.call("Page.enable", json!({})).await;
        tab.call("Page.setLifecycleEventsEnabled", json!({"enabled": true})).await;
        let frames = tab.call("Page.getFrameTree", json!({})).await;
        *tab.document.lock().unwrap() = text(&frames["frameTree"]["frame"]["loaderId"]);
        tab.width(390).await;
        tab.go(url).await;
        tab
    }
}

impl Tab {
    /// Opens an address, and waits until the page is loaded.
    pub async fn go(&self, url: &str) {
        let gone = self.call("Page.navigate", json!({"url": url})).await;
        assert!(gone["errorText"].is_null(), "{url}: {gone}");
        self.loaded().await;
    }

    /// Loads the page again, and waits for it.
    pub async fn reload(&self) {
        self.call("Page.reload", json!({})).await;
        self.loaded().await;
    }

    /// Makes the page this wide: a phone below 800 pixels, else a desktop.
    pub async fn width(&self, width: u32) {
        let size = json!({"width": width, "height": 844, "deviceScaleFactor": 2, "mobile": width < 800});
        self.call("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Asks pages for the colours of this scheme.
    async fn scheme(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", features).await;
    }

    /// Clicks the element with the mouse.
    pub async fn click(&self, selector: &str) {
        let at = self
            .eval(&format!(
                "(() => {{ const e = document.querySelector({selector:?}); if (!e) return null; \
                 e.scrollIntoView({{block: 'center', behavior: 'instant'}}); \
                 const r = e.getBoundingClientRect(); \
                 return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
            ))
            .await;
        assert!(at.is_array(), "{selector} is not on the page:\n{}", self.text().await);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event).await;
        }
    }

    /// Clicks the element, and waits until the next page is loaded.
    pub async fn click_through(&self, selector: &str) {
        self.click(selector).await;
        self.loaded().await;
    }

    /// The visible text of the page.
    pub async fn text(&self) -> String {
        text(&self.eval("document.body.innerText").await)
    }

    /// The address in the address bar.
    pub async fn url(&self) -> String {
        text(&self.eval("location.href").await)
    }

    /// The value of an expression.
    pub async fn eval(&self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true});
        let mut answer = self.call("Runtime.evaluate", params).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Writes pictures of the page into the folder of `THREADKEY_PICTURES`, if it is set: on a phone and
    /// on a desktop, light and dark.
    pub async fn pictures(&self, name: &str) {
        let Some(folder) = std::env::var_os("THREADKEY_PICTURES").map(PathBuf::from) else { return };
        let name: String = name.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        for width in [390, 1280] {
            self.width(width).await;
            for scheme in ["light", "dark"] {
                self.scheme(scheme).await;
                let picture = self.call("Page.captureScreenshot", json!({})).await;
                let picture = base64::engine::general_purpose::STANDARD.decode(text(&picture["data"]));
                let file = folder.join(format!("{name}-{width}-{scheme}.png"));
                std::fs::write(file, picture.expect("base64")).expect("a folder for pictures");
            }
        }
        self.scheme("").await;
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        call(&self.connection, Some(&self.session), method, params).await
    }

    /// Waits until another document than the present one is loaded.
    async fn loaded(&self) {
        let before = self.document.lock().unwrap().clone();
        let is_loaded = |event: &Value| {
            event["sessionId"] == json!(self.session)
                && event["method"] == "Page.lifecycleEvent"
                && event["params"]["name"] == "load"
                && event["params"]["loaderId"] != json!(before)
        };
        let mut connection = self.connection.lock().await;
        let event = timeout(STEP, connection.event(is_loaded)).await.expect("the page is loaded in time");
        *self.document.lock().unwrap() = text(&event["params"]["loaderId"]);
    }
}

/// The DevTools connection: one caller at a time, and the events that no caller has taken yet.
struct Connection {
    socket: WebSocketStream<TcpStream>,
    next: u64,
    events: VecDeque<Value>,
}

impl Connection {
    async fn answer(&mut self, id: u64) -> Value {
        loop {
            let message = self.read().await;
            if message["id"] == json!(id) {
                return message;
            }
            self.events.push_back(message);
        }
    }

    async fn event(&mut self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            while let Some(event) = self.events.pop_front() {
                if is_wanted(&event) {
                    return event;
                }
            }
            let message = self.read().await;
            self.events.push_back(message);
        }
    }

    async fn read(&mut self) -> Value {
        loop {
            match self.socket.next().await.expect("Chromium runs").expect("a message") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Close(_) => panic!("Chromium closed the connection"),
                _ => {}
            }
        }
    }
}

async fn call(connection: &Mutex<Connection>, session: Option<&str>, method: &str, params: Value) -> Value {
    let mut connection = connection.lock().await;
    connection.next += 1;
    let id = connection.next;
    let mut message = json!({"id": id, "method": method, "params": params});
    if let Some(session) = session {
        message["sessionId"] = json!(session);
    }
    connection.socket.send(Message::Text(message.to_string())).await.expect("Chromium runs");
    let mut answer = timeout(STEP, connection.answer(id)).await.expect("Chromium answers in time");
    assert!(answer["error"].is_null(), "{method}: {answer}");
    answer["result"].take()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
