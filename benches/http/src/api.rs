//! Token reads over 64 kept connections, beside nginx that returns the same bytes.

use std::{path::Path, process::Command, time::Duration};

use crate::{
    is_there,
    load::{self, Figures, Target},
    median,
    nginx::Nginx,
    place::{KEY, Place, TOKEN_PATH, request},
};

const CLIENTS: usize = 64;
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(4);

pub(crate) async fn measure(threadkey: &Path) {
    let place = Place::new("http://127.0.0.1:9/token", "");
    let serve = place.start(threadkey, "serve", Some(1)).await;
    let (ours, pid) = (Target::Tcp(place.port), serve.id().expect("it runs"));
    let answer = load::once(&ours, &request(TOKEN_PATH)).await;
    let answer = String::from_utf8(answer).expect("text");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let returned = format!(
        "location / {{ default_type application/json; add_header cache-control no-store; return 200 '{body}'; }}"
    );
    let nginx = Nginx::start(&returned, "").await;
    if is_there("wrk", "-v") {
        let (mut us, mut them) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            us.push(wrk(pid, place.port).await);
            them.push(wrk(nginx.pid(), nginx.port).await);
        }
        rows("token reads, TCP, 64 clients of wrk", &us, &them);
    } else {
        println!("skipped token reads on TCP: wrk is not installed");
    }
    let (mut us, mut them) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        us.push(load::run(pid, &Target::Unix(place.socket()), &request(TOKEN_PATH), CLIENTS, ROUND).await);
        them.push(load::run(nginx.pid(), &nginx.unix(), &request(TOKEN_PATH), CLIENTS, ROUND).await);
    }
    rows("token reads, Unix socket, 64 clients", &us, &them);
}

fn rows(what: &str, us: &[Figures], them: &[Figures]) {
    let rate = |all: &[Figures]| median(all.iter().map(|one| one.rate).collect());
    let p99 = |all: &[Figures]| median(all.iter().map(|one| one.p99.as_secs_f64() * 1000.0).collect());
    let (a, b) = (rate(us), rate(them));
    println!("| {what}: requests in a second | {a:.0} | {b:.0} | {:.2} | ≥ 0.7 |", a / b);
    let cpu = |all: &[Figures]| median(all.iter().map(|one| one.cpu.as_secs_f64() * 1e6).collect());
    println!("| … processor time of the server for each | {:.1} µs | {:.1} µs | | |", cpu(us), cpu(them));
    println!("| … p99 | {:.2} ms | {:.2} ms | | ≤ 5 ms |", p99(us), p99(them));
}

/// Runs wrk with one thread.
async fn wrk(pid: u32, port: u16) -> Figures {
    let used = load::cpu(pid);
    let mut command = Command::new("wrk");
    let time = format!("{}s", ROUND.as_secs());
    command.args(["-t1", &format!("-c{CLIENTS}"), &format!("-d{time}"), "--latency", "-H"]);
    command.arg(format!("Authorization: Bearer {KEY}")).arg(format!("http://127.0.0.1:{port}{TOKEN_PATH}"));
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it ends").expect("wrk");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
    let field = |name: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1))
            .unwrap_or_else(|| panic!("no {name}: {text}"))
            .to_owned()
    };
    let requests = text.lines().find(|line| line.contains(" requests in "));
    let requests =
        requests.and_then(|line| line.split_whitespace().next()?.parse::<u32>().ok()).expect("a number");
    Figures {
        rate: field("Requests/sec:").parse().expect("a number"),
        p50: duration(&field("50%")),
        p99: duration(&field("99%")),
        cpu: (load::cpu(pid) - used) / requests,
    }
}

/// Parses a time of wrk, such as `1.25ms`.
fn duration(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).expect("a unit"));
    let number: f64 = number.parse().expect("a number");
    Duration::from_secs_f64(match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        _ => number,
    })
}
