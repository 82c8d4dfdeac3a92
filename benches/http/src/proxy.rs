//! The injecting proxy beside nginx as a reverse proxy to the same upstream.

use std::{fs, time::Duration};

use crate::{
    injector::Injector,
    load::{self, Figures},
    median,
    nginx::Nginx,
};

const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(3);
/// The bytes of the long answer.
const LONG: u64 = 1 << 30;

struct Scene {
    upstream: Nginx,
    nginx: Nginx,
    ours: Injector,
}

impl Scene {
    async fn start() -> Self {
        let body = "x".repeat(1024);
        let upstream = Nginx::start(&format!("root /; location /small {{ return 200 '{body}'; }}"), "").await;
        let port = upstream.port;
        // It buffers as much as it wants in memory, and nothing in files.
        let proxy = "location / { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ''; \
                     proxy_set_header Authorization 'Bearer x'; proxy_max_temp_file_size 0; }";
        let upstreams = format!(
            "upstream up {{ server 127.0.0.1:{port}; keepalive 64; keepalive_requests 1000000000; }}"
        );
        let nginx = Nginx::start(proxy, &upstreams).await;
        let ours = Injector::start(port).await;
        Self { upstream, nginx, ours }
    }
}

fn plain(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer x\r\n\r\n").into_bytes()
}

/// Measures the latency that each proxy adds to that of the upstream itself.
pub(crate) async fn latency() {
    let scene = Scene::start().await;
    let (direct, request) = (plain("/small"), scene.ours.request("/small"));
    let ours = load::Target::Tcp(scene.ours.port);
    for clients in [1, 64] {
        let (mut none, mut us, mut them) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            none.push(load::run(scene.upstream.pid(), &scene.upstream.tcp(), &direct, clients, ROUND).await);
            us.push(load::run(scene.ours.pid(), &ours, &request, clients, ROUND).await);
            them.push(load::run(scene.nginx.pid(), &scene.nginx.tcp(), &direct, clients, ROUND).await);
        }
        let p50 = |all: &[Figures]| median(all.iter().map(|one| one.p50.as_secs_f64() * 1e6).collect());
        let rate = |all: &[Figures]| median(all.iter().map(|one| one.rate).collect());
        let p99 = |all: &[Figures]| median(all.iter().map(|one| one.p99.as_secs_f64() * 1e6).collect());
        let (a, b) = (p50(&us) - p50(&none), p50(&them) - p50(&none));
        println!(
            "| proxy, 1 KiB, {clients} clients: latency added to {:.0} µs | {a:.0} µs | {b:.0} µs | {:.2} | ≤ 1.2 |",
            p50(&none),
            a / b
        );
        println!(
            "| … p99 (the upstream itself: {:.0} µs) | {:.0} µs | {:.0} µs | | |",
            p99(&none),
            p99(&us),
            p99(&them)
        );
        println!(
            "| … requests in a second | {:.0} | {:.0} | {:.2} | |",
            rate(&us),
            rate(&them),
            rate(&us) / rate(&them)
        );
    }
}

/// Measures the time of one long answer.
pub(crate) async fn stream() {
    let scene = Scene::start().await;
    let file = scene.upstream.path("long");
    // It has no blocks on the disk, so reading it costs the same each time.
    fs::File::create(&file).and_then(|file| file.set_len(LONG)).expect("writable");
    let path = file.to_string_lossy().into_owned();
    let ours = load::Target::Tcp(scene.ours.port);
    let (mut us, mut them) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        us.push(load::download(&ours, &scene.ours.request(&path), LONG).await.as_secs_f64());
        them.push(load::download(&scene.nginx.tcp(), &plain(&path), LONG).await.as_secs_f64());
    }
    let rate = |times: Vec<f64>| LONG as f64 / f64::from(1 << 20) / median(times);
    let (a, b) = (rate(us), rate(them));
    println!("| proxy, an answer of 1 GiB: MiB in a second | {a:.0} | {b:.0} | {:.2} | ≥ 0.8 |", a / b);
    let rss = crate::memory::resident(scene.ours.pid());
    println!("| … memory of the proxy's process after it | {:.1} MB | | | |", rss.total_mb());
}
