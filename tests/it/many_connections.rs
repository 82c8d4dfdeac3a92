//! Ten thousand connections in a row to a real `threadkey serve`: its memory stays bounded, and every
//! honest caller is served.
//!
//! Fault model: each fourth connection is hostile. It stays silent, sends half a head, or sends a body
//! without an end, with a key or without one. Hostile connections stay open until newer ones replace
//! them.
#![expect(clippy::disallowed_methods, reason = "the test reads the program's memory from /proc")]

use std::{collections::VecDeque, net::SocketAddr, path::PathBuf, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use crate::{
    cli::{OPERATOR, OPERATOR_KEY, with_session_and},
    support::program::Running,
};

const CONNECTIONS: usize = 10_000;
/// How many hostile connections stay open in each task.
const HELD: usize = 40;
/// By how much the resident memory may grow, in KiB: less than 1 KiB for each connection.
const GROWTH: u64 = 8 * 1024;
/// The tasks that open connections.
const TASKS: usize = 4;
const WAIT: Duration = Duration::from_secs(30);

/// A connection of any kind.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Wire for S {}

#[derive(Clone)]
struct Doors {
    socket: PathBuf,
    address: SocketAddr,
}

impl Doors {
    /// Connects to the socket and to the TCP listener in turn.
    async fn open(&self, number: usize) -> Box<dyn Wire> {
        match number % 2 {
            0 => Box::new(UnixStream::connect(&self.socket).await.unwrap()),
            _ => Box::new(TcpStream::connect(self.address).await.unwrap()),
        }
    }

    async fn ask(&self, number: usize) {
        let mut wire = self.open(number).await;
        let request = head("GET /v1/token/acme?principal=local", "Connection: close\r\n", true);
        wire.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(WAIT, wire.read_to_string(&mut answer)).await.expect("starved").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{number}: {answer}");
    }

    /// Opens a hostile connection. It fails only if the server has closed it already.
    async fn attack(&self, number: usize) -> Box<dyn Wire> {
        let mut wire = self.open(number).await;
        let endless = |has_key| {
            let part = format!("{:x}\r\n{}\r\n", 4096, "x".repeat(4096));
            head("POST /v1/token/acme/rejected?principal=local", "Transfer-Encoding: chunked\r\n", has_key)
                + &part.repeat(8)
        };
        let sent = match number / 4 % 4 {
            0 => String::new(),
            1 => "GET /v1/token/acme HTTP/1.1\r\nHost: 127".to_owned(),
            2 => endless(false),
            _ => endless(true),
        };
        let _ = timeout(WAIT, wire.write_all(sent.as_bytes())).await.expect("the server reads or closes");
        wire
    }

    /// Opens connections in a row.
    async fn storm(self, count: usize) {
        let mut held = VecDeque::new();
        for number in 0..count {
            if number % 4 == 3 {
                held.push_back(self.attack(number).await);
                if held.len() > HELD {
                    held.pop_front();
                }
            } else {
                self.ask(number).await;
            }
        }
    }
}

fn head(line: &str, more: &str, has_key: bool) -> String {
    let key = if has_key { format!("Authorization: Bearer {}\r\n", OPERATOR_KEY.1) } else { String::new() };
    format!("{line} HTTP/1.1\r\nHost: 127.0.0.1\r\n{key}{more}\r\n")
}

/// Returns the resident memory, in KiB.
fn resident(process: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Returns the address in the line about the TCP listener.
fn address(log: &str) -> SocketAddr {
    let rest = log.split_once("listen=").expect("it listens on TCP").1;
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_leave_the_memory_bounded_and_others_served() {
    let home = with_session_and(&format!("[api]\nlisten = \"127.0.0.1:0\"\n{OPERATOR}"));
    let serve = home.start(&["serve"], &[OPERATOR_KEY]);
    serve.says("the token API is served over").await;
    let doors = Doors { socket: home.path().join("state/threadkey.sock"), address: address(&serve.stderr()) };
    let storm = async |count| {
        let tasks = (0..TASKS).map(|_| tokio::spawn(doors.clone().storm(count / TASKS)));
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    };
    // The first connections need memory that later ones use again.
    storm(CONNECTIONS / 10).await;
    let before = resident(&serve);
    storm(CONNECTIONS).await;
    let after = resident(&serve);
    assert!(after < before + GROWTH, "{before} KiB became {after} KiB");
    let ended = serve.stop().await;
    assert_eq!(ended.code, 0, "{ended:?}");
}
