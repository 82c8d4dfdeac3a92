//! Measures the token API and the injecting proxy beside nginx, and the memory of the program.
//! `benches/http/run` builds and starts it: `http-bench THREADKEY [api|proxy|stream|memory]…`.
//!
//! Each server has one thread for its work. Ours and nginx take turns in one run, so that a busy
//! machine slows both.
#![expect(
    clippy::disallowed_methods,
    reason = "a measurement reads the clock, starts processes and lays out files"
)]

mod api;
mod injector;
mod load;
mod memory;
mod nginx;
mod place;
mod proxy;

use std::{path::Path, process::Command};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((threadkey, wanted)) = arguments.split_first() else {
        eprintln!("usage: http-bench THREADKEY [api|proxy|stream|memory]…");
        std::process::exit(2);
    };
    if threadkey == injector::ROLE {
        return injector::serve(wanted).await;
    }
    let threadkey = &Path::new(threadkey).canonicalize().expect("the program");
    let wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    let has_nginx = is_there("nginx", "-v");
    println!("| what | threadkey | nginx | ratio | goal |\n| --- | --- | --- | --- | --- |");
    for (name, needs_nginx) in [("api", true), ("proxy", true), ("stream", true), ("memory", false)] {
        if !wanted(name) {
            continue;
        }
        if needs_nginx && !has_nginx {
            println!("skipped {name}: nginx is not installed");
            continue;
        }
        match name {
            "api" => api::measure(threadkey).await,
            "proxy" => proxy::latency().await,
            "stream" => proxy::stream().await,
            _ => memory::measure(threadkey).await,
        }
    }
}

/// Whether a program is installed.
fn is_there(program: &str, option: &str) -> bool {
    Command::new(program).arg(option).output().is_ok()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
