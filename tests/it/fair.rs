//! A hostile worker holds as many connections to the token API as it can, and another worker still
//! gets its token.
//!
//! Fault model: the attacker is a program of the bot's system user with a live capability of its
//! own. It forks, and opens more connections than there are places. Some of them stay silent, some
//! send half a head, and the rest wait for a token whose refresh hangs. The attacker reopens every
//! connection that is closed. The provider never answers for the attacker's account.
#![expect(
    unsafe_code,
    clippy::disallowed_methods,
    reason = "the attacker is a process that polls its sockets"
)]

use std::{
    io::{Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use threadkey::{agent::token_client::TokenClient, ids::Principal};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
};

use super::api::{ALICE, BOB, Rig};

/// The number of the attacker's processes.
const FORKS: usize = 4;
/// The connections of each kind in each process. All processes together exceed the places of each
/// kind.
const HELD: usize = 110;

#[tokio::test]
async fn a_hostile_client_that_holds_all_it_can_blocks_no_other_client() {
    let rig = Rig::start().await;
    rig.sign_in(Principal::User(ALICE), "alice").await;
    rig.clock.advance(86_400);
    // Bob's session is fresh, Alice's is not, and the provider does not answer her.
    rig.sign_in(Principal::User(BOB), "bob").await;
    let (hostile, honest) = (rig.worker(1, ALICE, None), rig.worker(2, BOB, None));
    rig.server.hold();
    let attack: Vec<_> = (0..FORKS).map(|_| Attacker::start(&rig.socket, hostile.expose())).collect();
    for attacker in &attack {
        attacker.prints("holding").await;
    }
    rig.server.wait_for_held(1).await;

    let acme = "acme".parse().unwrap();
    let client = TokenClient::new(rig.socket.clone(), honest.clone());
    for n in 0..50 {
        let asked = tokio::time::timeout(Duration::from_secs(30), client.token(&acme, Default::default()));
        let answer = asked.await.unwrap_or_else(|_| panic!("starved at {n}"));
        assert_eq!(answer.unwrap_or_else(|error| panic!("{n}: {error}")).principal, "user:804");
        assert_eq!(rig.get("/healthz", None).await.status, 200, "{n}");
    }
    // The attacker's excess requests get the API's problem. Any of its processes may be the one
    // that receives it.
    let problem = "503 too_many_requests retry-after";
    let printed = attack.iter().map(|attacker| Box::pin(attacker.prints(problem)));
    futures_util::future::select_all(printed).await;
    drop(attack);
    rig.server.release();
    assert_eq!(
        rig.get("/v1/token/acme", Some(&hostile)).await.status,
        200,
        "the attacker itself is served after the attack"
    );
}

/// A process of the attacker, until it is dropped.
struct Attacker {
    _child: Child,
    output: watch::Receiver<String>,
}

impl Attacker {
    fn start(socket: &Path, capability: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "fair::attacker", "--nocapture"])
            .env("ATTACKED_SOCKET", socket)
            .env("ATTACKERS_CAPABILITY", capability)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, output) = watch::channel(String::new());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                // Each line is kept once, because the attacker repeats itself.
                sender.send_if_modified(|all| {
                    let new = !all.contains(&line);
                    if new {
                        all.push_str(&line);
                        all.push('\n');
                    }
                    new
                });
            }
        });
        Self { _child: child, output }
    }

    async fn prints(&self, text: &str) {
        let mut output = self.output.clone();
        let wait = output.wait_for(|all| all.contains(text));
        let printed = matches!(tokio::time::timeout(Duration::from_secs(30), wait).await, Ok(Ok(_)));
        assert!(printed, "the attacker did not print {text:?}; it printed:\n{}", *self.output.borrow());
    }
}

/// The program of the attacker's process. As a test of its own it does nothing.
#[test]
fn attacker() {
    let Some(socket) = std::env::var_os("ATTACKED_SOCKET").map(PathBuf::from) else { return };
    let capability = std::env::var("ATTACKERS_CAPABILITY").unwrap();
    let request = format!(
        "GET /v1/token/acme HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {capability}\r\n\r\n"
    );
    let kinds = ["", "GET /v1/token/acme HT", request.as_str()];
    let open = |kind: usize| {
        let mut stream = UnixStream::connect(&socket).ok()?;
        // The server may have closed it already.
        let _ = stream.write_all(kinds[kind].as_bytes());
        Some(stream)
    };
    let mut held: Vec<_> = (0..HELD * kinds.len()).filter_map(|n| open(n % kinds.len())).collect();
    println!("\nholding {}", held.len());
    loop {
        let mut polled: Vec<_> = held
            .iter()
            .map(|stream| libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLIN, revents: 0 })
            .collect();
        // SAFETY: the descriptors are open, and the array outlives the call and has the given
        // length.
        unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) };
        for (n, _) in polled.iter().enumerate().filter(|(_, one)| one.revents != 0) {
            let mut text = String::new();
            let _ = held[n].read_to_string(&mut text);
            let text = text.to_lowercase();
            if text.contains("503") && text.contains("too_many_requests") && text.contains("retry-after: 1") {
                println!("503 too_many_requests retry-after");
            }
            // The server has ended.
            let Some(again) = open(n % kinds.len()) else { return };
            held[n] = again;
        }
    }
}
