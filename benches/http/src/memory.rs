//! The memory of an idle `threadkey run`, of a kept connection, and of a client that waits.

use std::{fs, path::Path, time::Duration};

use threadkey_lookalike::discord::{Discord, Options};
use tokio::{io::AsyncWriteExt as _, net::TcpListener, sync::mpsc};

use crate::{
    load::{self, Target},
    median,
    place::{EXPIRED_PATH, Place, TOKEN_PATH, request},
};

const ROUNDS: usize = 3;
/// The kept connections: most of the places that there are for them.
const KEPT: u64 = 120;
/// The clients that wait: most of the places that there are for requests.
const WAITING: u64 = 360;

/// The resident memory of a process, in KiB.
#[derive(Clone, Copy)]
pub(crate) struct Resident {
    /// All of it.
    total: u64,
    /// Without the pages of files.
    own: u64,
}

impl Resident {
    pub(crate) fn total_mb(self) -> f64 {
        self.total as f64 * 1024.0 / 1e6
    }
}

/// Reads the memory of a process.
pub(crate) fn resident(pid: u32) -> Resident {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).expect("a number")
    };
    Resident { total: field("VmRSS:"), own: field("RssAnon:") }
}

/// The memory of one process. All but the first in KiB.
struct Figures {
    idle: Resident,
    kept: f64,
    waiting: f64,
}

/// Measures several processes in turn: the pages that an allocator has free differ between them.
pub(crate) async fn measure(threadkey: &Path) {
    let mut all = Vec::new();
    for _ in 0..ROUNDS {
        all.push(once(threadkey).await);
    }
    let middle = |of: fn(&Figures) -> f64| median(all.iter().map(of).collect());
    println!(
        "| memory of an idle `run` | {:.1} MB, {:.1} MB of it its own | | | ≤ 20 MB |",
        middle(|one| one.idle.total_mb()),
        middle(|one| one.idle.own as f64 * 1024.0 / 1e6)
    );
    let kept = middle(|one| one.kept);
    println!("| memory of a kept connection without a request | {kept:.1} KiB | | | |");
    let waiting = middle(|one| one.waiting);
    println!("| memory of a client that waits for a refresh | {waiting:.1} KiB | | | ≤ 16 KiB |");
}

async fn once(threadkey: &Path) -> Figures {
    let options = Options::default();
    let token = options.token.clone();
    let discord = Discord::start(options).await;
    let (endpoint, mut refreshes) = silent_provider().await;
    let place = Place::new(&endpoint, "");
    place.write("discord-token", &token);
    let root = place.path("workers");
    let config = fs::read_to_string(place.path("threadkey.toml")).expect("it is there");
    let bot = format!(
        "[discord]\ntoken_file = {:?}\napi_base = {:?}\nallow_everyone = true\n\n\
         [agent]\ncommand = [{threadkey:?}, \"agent\"]\nproviders = [\"acme\"]\nroot = {root:?}\nisolation = \"none\"\n\n\
         [inject.up]\nupstream = \"http://127.0.0.1:9/\"\nprovider = \"acme\"\n",
        place.path("discord-token"),
        discord.api_base(),
    );
    place.write("threadkey.toml", &format!("{config}{bot}"));
    let run = place.start(threadkey, "run", None).await;
    let pid = run.id().expect("it runs");
    discord.bot_ready().await;
    settle().await;
    let idle = resident(pid);
    // The memory that the first requests need is not that of a connection.
    let target = Target::Unix(place.socket());
    for _ in 0..20 {
        load::run(pid, &target, &request(TOKEN_PATH), 8, Duration::from_millis(50)).await;
    }
    settle().await;
    let before = resident(pid);
    let mut connections = Vec::new();
    for _ in 0..KEPT {
        let mut stream = load::open(&target).await;
        load::exchange(&mut stream, &request(TOKEN_PATH), &mut Vec::new()).await;
        connections.push(stream);
    }
    let each = |more: Resident, less: Resident, clients: u64| {
        more.own.saturating_sub(less.own) as f64 / clients as f64
    };
    let kept = each(resident(pid), before, KEPT);
    // One client starts the refresh, whose memory all of them share. The kept connections stay: the clients
    // that wait would have their memory otherwise, and be measured without it.
    let mut first = load::open(&target).await;
    first.write_all(&request(EXPIRED_PATH)).await.expect("it reads");
    refreshes.recv().await.expect("a refresh");
    settle().await;
    let before = resident(pid);
    let mut waiting = Vec::new();
    for _ in 0..WAITING {
        let mut stream = load::open(&target).await;
        stream.write_all(&request(EXPIRED_PATH)).await.expect("it reads");
        waiting.push(stream);
    }
    settle().await;
    Figures { idle, kept, waiting: each(resident(pid), before, WAITING) }
}

async fn settle() {
    tokio::time::sleep(Duration::from_secs(3)).await;
}

/// A token endpoint that takes requests and answers none. The channel reports each one.
async fn silent_provider() -> (String, mpsc::UnboundedReceiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}/token", listener.local_addr().expect("an address"));
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
            let _ = sender.send(());
        }
    });
    (endpoint, receiver)
}
