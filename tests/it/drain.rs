//! The end of the real program: streams and refreshes in progress finish within their limits, and
//! neither a process nor a socket is left.
#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_methods, reason = "the tests look at processes and files of the system")]

use std::{
    collections::BTreeSet,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    sync::mpsc::UnboundedSender,
    time::{sleep, timeout},
};

use crate::{
    support::{
        authserver::AuthServer,
        discord::{Channel, Options},
        program::{Ended, Home, Running},
        upstream::{Part, Upstream},
    },
    team::{AN_HOUR, Team, authserver, scripted_agent},
};

/// The limit of every wait. A test that reaches it fails.
const WAIT: Duration = Duration::from_secs(30);

/// An agent that opens a stream by the proxy, or waits for a token. It takes no notice of TERM, and
/// leaves a process outside its group.
const AGENT: &str = r#"
case "$line" in
*open-it*) trap '' TERM; setsid sleep 3000 </dev/null >/dev/null 2>&1 &
  printf %s "$BASE" > base
  curl -sN -o body -H "Authorization: Bearer $KEY" "$BASE/stream"
  printf %s $? > result ;;
*ask-it*) curl -sS -o token --unix-socket "$THREADKEY_SOCKET" -H "Authorization: Bearer $THREADKEY_CAPABILITY" http://localhost/v1/token/acme ;;
*) printf %s "$BASE" > base ;;
esac
say ready; done_with end_turn"#;

struct Rig {
    server: Arc<AuthServer>,
    upstream: Upstream,
    team: Team,
    bot: Running,
}

impl Rig {
    async fn start() -> Self {
        let server = Arc::new(authserver().await);
        let of = server.clone();
        let upstream = Upstream::start(move |token| of.is_live(token)).await;
        let provider = server.config_toml("acme");
        let agent = format!(
            "{}\n[agent.env]\nBASE = \"{{inject:acme}}\"\nKEY = \"{{inject_secret}}\"\n[inject.acme]\nupstream = {:?}\nprovider = \"acme\"\n",
            scripted_agent(AGENT),
            upstream.base()
        );
        let everyone = |_: &_, _: &_| "allow_everyone = true\n".to_owned();
        let team = Team::with_rights(&provider, &agent, Options::default(), everyone).await;
        let bot = team.run().await;
        team.sign_in(&team.alice, "alice").await;
        Self { server, upstream, team, bot }
    }

    /// Starts an agent with an open stream.
    async fn open_stream(&self) -> (Channel, UnboundedSender<Part>) {
        let parts = self.upstream.stream();
        let thread = self.team.ask(&self.team.alice, "open-it").await;
        timeout(WAIT, self.upstream.wait_until(|seen| !seen.is_empty())).await.expect("it is opened");
        parts.send(Part::Bytes("data: one\n\n")).expect("it streams");
        (thread, parts)
    }

    /// Starts an agent that asks for an expired token. The provider holds the answer back.
    async fn hold_a_refresh(&self) {
        self.team.home.set_offset(AN_HOUR + 60);
        self.server.hold();
        self.team.ask(&self.team.alice, "ask-it").await;
        timeout(WAIT, self.server.wait_for_held(1)).await.expect("the worker waits for a refresh");
    }

    /// Waits until the port of a thread's agent accepts nothing more.
    async fn port_is_closed(&self, thread: &Channel) {
        let base = self.team.worker_file(thread, "base");
        let port = base.trim_start_matches("http://127.0.0.1:").split('/').next().expect("a port");
        let port: u16 = port.parse().expect("a number");
        let closed = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(WAIT, closed).await.expect("the port is closed");
    }
}

/// Moves the clock on, by a minute at a time, until the program has ended. Returns its end and the
/// minutes.
async fn ended_by_time(home: &Home, from: i64, bot: Running) -> (Ended, i64) {
    let mut minutes = 0;
    let ended = bot.ended();
    tokio::pin!(ended);
    loop {
        tokio::select! {
            ended = &mut ended => return (ended, minutes),
            () = sleep(Duration::from_millis(100)) => {
                minutes += 1;
                home.set_offset(from + minutes * 60);
            }
        }
    }
}

/// Returns the live descendants of a process.
fn descendants(of: i32) -> BTreeSet<i32> {
    let mut all = BTreeSet::new();
    let mut parents = vec![of];
    while let Some(parent) = parents.pop() {
        let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let list = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children = list.split_whitespace().filter_map(|number| number.parse().ok());
            parents.extend(children.filter(|child| all.insert(*child)));
        }
    }
    all
}

/// Whether a process runs. A process that has ended may wait for its parent to notice.
fn runs(process: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn sockets(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => sockets(&entry.path(), found),
            Ok(kind) if kind.is_socket() => found.push(entry.path()),
            _ => {}
        }
    }
}

#[track_caller]
fn assert_nothing_is_left(team: &Team, processes: &BTreeSet<i32>) {
    let left: Vec<_> = processes.iter().filter(|process| runs(**process)).collect();
    assert!(left.is_empty(), "processes are left: {left:?}");
    let mut found = Vec::new();
    sockets(team.home.path(), &mut found);
    assert!(found.is_empty(), "sockets are left: {found:?}");
}

#[tokio::test]
async fn term_lets_a_stream_by_the_proxy_finish_and_leaves_nothing() {
    let rig = Rig::start().await;
    let (thread, parts) = rig.open_stream().await;
    let processes = descendants(rig.bot.pid());
    assert!(processes.len() >= 3, "a shell, curl and the process outside the group: {processes:?}");
    rig.bot.signal(15);
    rig.port_is_closed(&thread).await;
    parts.send(Part::Bytes("data: last\n\n")).expect("it still streams");
    drop(parts);
    let ended = rig.bot.ended().await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(rig.team.worker_file(&thread, "body"), "data: one\n\ndata: last\n\n");
    assert_eq!(rig.team.worker_file(&thread, "result"), "0", "for curl the answer is whole");
    assert_nothing_is_left(&rig.team, &processes);
}

#[tokio::test]
async fn a_stream_that_does_not_finish_is_cut_half_a_minute_after_term() {
    let rig = Rig::start().await;
    let (thread, parts) = rig.open_stream().await;
    let processes = descendants(rig.bot.pid());
    rig.bot.signal(15);
    rig.port_is_closed(&thread).await;
    assert!(parts.send(Part::Bytes("data: two\n\n")).is_ok(), "it still streams");
    let (ended, _) = ended_by_time(&rig.team.home, 0, rig.bot).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("were cut off by the shutdown"), "{}", ended.stderr);
    timeout(WAIT, rig.upstream.wait_for_ended(1)).await.expect("the upstream is stopped");
    assert_nothing_is_left(&rig.team, &processes);
}

#[tokio::test]
async fn term_waits_for_a_refresh_whose_worker_is_ended_before() {
    let rig = Rig::start().await;
    let socket = rig.team.socket();
    rig.hold_a_refresh().await;
    let processes = descendants(rig.bot.pid());
    rig.bot.signal(15);
    let gone = async {
        while socket.exists() || processes.iter().any(|process| runs(*process)) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WAIT, gone).await.expect("the workers and the socket go first");
    rig.server.release();
    let ended = rig.bot.ended().await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_nothing_is_left(&rig.team, &processes);
    let before = rig.server.count();
    let alice = format!("user:{}", rig.team.alice.id);
    let token = rig.team.home.run(&["token", "acme", "--as", &alice]).await;
    assert!(token.code == 0 && rig.server.is_live(token.stdout.trim()), "{token:?}");
    assert_eq!(rig.server.count(), before, "its result was saved");
}

#[tokio::test]
async fn a_refresh_without_an_end_delays_the_end_for_three_minutes_and_its_journal_stays() {
    let rig = Rig::start().await;
    let socket = rig.team.socket();
    rig.hold_a_refresh().await;
    let processes = descendants(rig.bot.pid());
    rig.bot.signal(15);
    while socket.exists() {
        sleep(Duration::from_millis(5)).await;
    }
    let (ended, minutes) = ended_by_time(&rig.team.home, AN_HOUR + 60, rig.bot).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("a refresh is still under way after 180 s"), "{}", ended.stderr);
    assert!(minutes >= 3, "{minutes}");
    assert_nothing_is_left(&rig.team, &processes);
}

#[tokio::test]
async fn a_second_term_ends_at_once_and_leaves_nothing() {
    let rig = Rig::start().await;
    let (thread, _parts) = rig.open_stream().await;
    let processes = descendants(rig.bot.pid());
    rig.bot.signal(15);
    rig.port_is_closed(&thread).await;
    rig.bot.signal(15);
    let ended = rig.bot.ended().await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("ended at once"), "{}", ended.stderr);
    assert_nothing_is_left(&rig.team, &processes);
}

#[tokio::test]
async fn serve_finishes_its_requests_and_accepts_nothing_more() {
    let server = authserver().await;
    let key = "key-of-serve-0123456789abcdef0123456789";
    let home = Home::new(&format!(
        "[api]\nlisten = \"127.0.0.1:0\"\n[api.operator_keys.all]\nkey_env = \"KEY\"\nprincipals = [\"*\"]\nproviders = [\"*\"]\n{}",
        server.config_toml("acme")
    ));
    crate::processes::sign_in(&home, "alice").await;
    let serve = home.start(&["serve"], &[("KEY", key)]);
    serve.says("the token API is served over plain HTTP").await;
    let line = serve.stderr();
    let address = line.split("listen=").nth(1).and_then(|rest| rest.split_whitespace().next());
    let address = address.expect("the log names the address").to_owned();
    home.set_offset(AN_HOUR + 60);
    server.hold();
    let mut idle = TcpStream::connect(&address).await.expect("it listens");
    let mut waiting =
        UnixStream::connect(home.store().with_file_name("threadkey.sock")).await.expect("it listens");
    let request = format!(
        "GET /v1/token/acme?principal=local HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n"
    );
    waiting.write_all(request.as_bytes()).await.expect("it reads");
    timeout(WAIT, server.wait_for_held(1)).await.expect("the request waits for a refresh");
    serve.signal(15);
    let refused = async {
        while TcpStream::connect(&address).await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(WAIT, refused).await.expect("TCP is closed");
    let mut rest = Vec::new();
    timeout(WAIT, idle.read_to_end(&mut rest)).await.expect("an idle connection is closed").ok();
    server.release();
    let mut answer = String::new();
    timeout(WAIT, waiting.read_to_string(&mut answer)).await.expect("in time").expect("text");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let ended = serve.ended().await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(!home.store().with_file_name("threadkey.sock").exists());
}
