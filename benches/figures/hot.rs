//! `Broker::token` on a fresh session in one process: its time, its allocations, and how it scales
//! over threads. The comparisons are one stat(2) and the allocations of a clone of the answer.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use threadkey::{
    broker::{Broker, DEFAULT_MIN_TTL},
    oauth::{Client, Provider, ProviderSettings, Providers},
    sys::clock::Clock,
};
use tokio::runtime::{Builder, Runtime};

use crate::lab::{Lab, Token, in_turn, row, tenant, timed};

const CALLS: u32 = 50_000;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The system's allocator with a counter of allocations.
pub(crate) struct Counting;

// SAFETY: every call goes to the system allocator.
#[expect(unsafe_code, reason = "an allocator is unsafe by its signature")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(at, layout) }
    }
}

pub(crate) fn measure() {
    let lab = Lab::new();
    for sessions in [1, 10_000] {
        lab.fill(sessions, Token::Fresh);
        let broker = broker(&lab);
        let one = Builder::new_current_thread().enable_all().build().expect("a runtime");
        // The first call reads the file.
        let lease = one.block_on(broker.token(&tenant(), DEFAULT_MIN_TTL)).expect("a token");
        let path = lab.path();
        let stat = || {
            timed(|| {
                for _ in 0..CALLS {
                    fs::metadata(&path).expect("there");
                }
            })
        };
        let (call, stat) = in_turn(11, || timed(|| one.block_on(calls(&broker, CALLS))), stat);
        row(&format!("`token()`, {sessions} sessions"), call / CALLS, "one stat(2)", stat / CALLS);
        let ours = count(|| one.block_on(calls(&broker, 1000))) / 1000;
        let answer = count(|| drop(lease.clone()));
        println!(
            "| allocations of `token()`, {sessions} sessions | {ours} | of the answer itself: {answer} | {:.2} |",
            ours as f64 / answer as f64
        );
    }
    lab.fill(1, Token::Fresh);
    let broker = Arc::new(broker(&lab));
    for threads in [2, 4] {
        let many =
            Builder::new_multi_thread().worker_threads(threads).enable_all().build().expect("a runtime");
        let one = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let (many, one) = in_turn(11, || spread(&many, &broker, threads as u32), || spread(&one, &broker, 1));
        row(&format!("{CALLS} `token()` on each of {threads} threads"), many, "on one thread", one);
    }
}

fn count(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    work();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

async fn calls(broker: &Broker, count: u32) {
    let tenant = tenant();
    for _ in 0..count {
        broker.token(&tenant, DEFAULT_MIN_TTL).await.expect("a token");
    }
}

fn spread(runtime: &Runtime, broker: &Arc<Broker>, threads: u32) -> Duration {
    let tasks: Vec<_> = (0..threads)
        .map(|_| {
            let broker = broker.clone();
            async move { calls(&broker, CALLS).await }
        })
        .collect();
    timed(|| {
        let running: Vec<_> = tasks.into_iter().map(|task| runtime.spawn(task)).collect();
        runtime.block_on(async {
            for task in running {
                task.await.expect("no panic");
            }
        });
    })
}

fn broker(lab: &Lab) -> Broker {
    let settings = ProviderSettings {
        authorization_endpoint: lab.provider.url.clone(),
        token_endpoint: lab.provider.url.clone(),
        client_id: "threadkey".into(),
        redirect_uri: "http://127.0.0.1:1/callback".into(),
        ..ProviderSettings::default()
    };
    let provider = Provider::new("acme".parse().expect("a name"), settings).expect("a provider");
    let clock = Clock::system();
    let client = Client::new(clock.clone()).expect("TLS");
    Broker::new(Arc::new(lab.store()), Providers::new([provider]), client, clock)
}
