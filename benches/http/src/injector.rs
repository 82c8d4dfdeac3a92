//! The injecting proxy of one worker, in a process of its own. A bot opens it in the same way for each
//! of its workers.

use std::{collections::BTreeMap, io::Read as _, path::Path, process::Stdio, sync::Arc};

use threadkey::{
    agent::{Capabilities, Conversation, Holder, InjectPorts as _, InjectWorker, Served},
    api::{Credential, InjectRoute, InjectServer, RouteHeaders},
    broker::{Broker, WithoutBot, WorkerTokens},
    ids::{ConversationId, Snowflake},
    net::Trust,
    oauth::{Client, Provider, ProviderSettings, Providers},
    store::{FileStore, FileStoreOptions},
    sys::clock::Clock,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::place::Place;

/// The first argument of its process.
pub(crate) const ROLE: &str = "--inject";

/// A running proxy.
pub(crate) struct Injector {
    pub(crate) port: u16,
    secret: String,
    process: Child,
    _place: Place,
}

impl Injector {
    /// Starts it with one thread, before this upstream.
    pub(crate) async fn start(upstream: u16) -> Self {
        let place = Place::new("http://127.0.0.1:9/token", "");
        let mut process = Command::new(std::env::current_exe().expect("a path"))
            .args([ROLE, &place.path("store/auth.json").to_string_lossy(), &upstream.to_string()])
            .env("TOKIO_WORKER_THREADS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let line = lines.next_line().await.expect("a pipe").expect("it prints its port and secret");
        let (port, secret) = line.split_once(' ').expect("both");
        Self { port: port.parse().expect("a port"), secret: secret.to_owned(), process, _place: place }
    }

    /// A request by the route.
    pub(crate) fn request(&self, path: &str) -> Vec<u8> {
        let Self { port, secret, .. } = self;
        format!("GET /inject/up{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {secret}\r\n\r\n").into_bytes()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id().expect("it runs")
    }
}

/// The process: it serves until its standard input ends.
pub(crate) async fn serve(arguments: &[String]) {
    let [store, upstream] = arguments else { panic!("usage: http-bench {ROLE} STORE PORT") };
    let (store, upstream) = (store.clone(), upstream.clone());
    // A runtime as that of `threadkey run`. This one only waits.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let served = runtime.spawn(async move {
        let server = injector(Path::new(&store), &upstream);
        let owner = Snowflake(803);
        let conversation =
            Conversation { id: ConversationId(Snowflake(1)), owner, shared_guild: None, agent: None };
        let holder = Holder { conversation, providers: vec!["acme".parse().expect("a name")] };
        let capabilities = Capabilities::new();
        let capability = capabilities.issue(holder.clone());
        let worker = InjectWorker {
            serves: Served::Worker(holder),
            voided: capabilities.voided(&capability),
            capability: Some(capability),
            sockets: BTreeMap::new(),
            open: [].into(),
            process: Arc::default(),
        };
        let access = server.open(worker).await.expect("it opens");
        println!("{} {}", access.port, access.secret.expose());
        std::future::pending::<()>().await;
    });
    let waiting = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let _ = waiting.await;
    served.abort();
    runtime.shutdown_background();
}

fn injector(store: &Path, upstream: &str) -> InjectServer {
    let clock = Clock::system();
    let store = FileStore::open(store, clock.clone(), FileStoreOptions::default()).expect("a store");
    let settings = ProviderSettings {
        authorization_endpoint: "http://127.0.0.1:9/authorize".into(),
        token_endpoint: "http://127.0.0.1:9/token".into(),
        client_id: "threadkey".into(),
        redirect_uri: "http://127.0.0.1:1/callback".into(),
        ..ProviderSettings::default()
    };
    let provider = Provider::new("acme".parse().expect("a name"), settings).expect("a provider");
    let client = Client::new(clock.clone()).expect("TLS");
    let broker = Broker::new(Arc::new(store), Providers::new([provider]), client, clock);
    let route = InjectRoute {
        name: "up".parse().expect("a name"),
        provider: "acme".parse().expect("a name"),
        upstream: format!("http://127.0.0.1:{upstream}").parse().expect("a URL"),
        trust: Trust::default(),
        credential: Credential::Bearer,
        headers: RouteHeaders::default(),
        methods: Vec::new(),
        path_prefixes: Vec::new(),
    };
    InjectServer::new(vec![route], WorkerTokens::new(broker, Arc::new(WithoutBot))).expect("TLS")
}
