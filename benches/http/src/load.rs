//! A client of ours: kept connections, each with one request after the other.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    task::JoinSet,
};

/// The address of a server.
#[derive(Clone)]
pub(crate) enum Target {
    Tcp(u16),
    Unix(PathBuf),
}

/// The figures of one run.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    /// Requests in a second.
    pub(crate) rate: f64,
    /// The middle latency.
    pub(crate) p50: Duration,
    /// The latency of the 99th of 100 requests.
    pub(crate) p99: Duration,
    /// The processor time of the server for one request.
    pub(crate) cpu: Duration,
}

/// Returns the processor time of a process so far. The kernel counts it in hundredths of a second.
pub(crate) fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

/// Sends requests on `clients` connections for this time. The first tenth does not count. `pid` is the
/// server.
pub(crate) async fn run(
    pid: u32,
    target: &Target,
    request: &[u8],
    clients: usize,
    time: Duration,
) -> Figures {
    let (used, all_of_it) = (cpu(pid), Arc::new(AtomicU32::new(0)));
    let begin = Instant::now() + time / 10;
    let end = begin + time;
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let mut stream = open(target).await;
        let (request, count) = (request.to_owned(), all_of_it.clone());
        tasks.spawn(async move {
            let (mut latencies, mut buffer) = (Vec::new(), Vec::new());
            loop {
                let sent = Instant::now();
                if sent >= end {
                    return latencies;
                }
                exchange(&mut stream, &request, &mut buffer).await;
                count.fetch_add(1, Ordering::Relaxed);
                if sent >= begin {
                    latencies.push(sent.elapsed());
                }
            }
        });
    }
    let mut all = tasks.join_all().await.concat();
    all.sort();
    let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize];
    let cpu = (cpu(pid) - used) / all_of_it.load(Ordering::Relaxed);
    Figures { rate: all.len() as f64 / time.as_secs_f64(), p50: at(0.5), p99: at(0.99), cpu }
}

/// Returns the whole answer to one request on a connection of its own.
pub(crate) async fn once(target: &Target, request: &[u8]) -> Vec<u8> {
    let mut buffer = Vec::new();
    exchange(&mut open(target).await, request, &mut buffer).await;
    buffer
}

/// Reads an answer of this many bytes and drops it. Returns the time.
pub(crate) async fn download(target: &Target, request: &[u8], bytes: u64) -> Duration {
    let mut stream = open(target).await;
    let started = Instant::now();
    stream.write_all(request).await.expect("it reads");
    let (mut buffer, mut read) = (vec![0; 256 * 1024], 0);
    while read < bytes {
        let count = stream.read(&mut buffer).await.expect("it writes");
        assert!(count > 0, "the answer ends after {read} bytes");
        read += count as u64;
    }
    started.elapsed()
}

/// A connection of any kind.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Wire for S {}

pub(crate) async fn open(target: &Target) -> Box<dyn Wire> {
    match target {
        Target::Tcp(port) => {
            let stream = TcpStream::connect(("127.0.0.1", *port)).await.expect("it listens");
            stream.set_nodelay(true).expect("it is open");
            Box::new(stream)
        }
        Target::Unix(path) => Box::new(UnixStream::connect(path).await.expect("it listens")),
    }
}

/// Sends a request, and reads its answer with a length into the buffer.
pub(crate) async fn exchange(stream: &mut Box<dyn Wire>, request: &[u8], buffer: &mut Vec<u8>) {
    stream.write_all(request).await.expect("it reads");
    buffer.clear();
    loop {
        let count = stream.read_buf(buffer).await.expect("it writes");
        assert!(count > 0, "the connection ends in {:?}", String::from_utf8_lossy(buffer));
        if let Some(length) = whole_length(buffer)
            && buffer.len() >= length
        {
            assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(buffer));
            return;
        }
    }
}

/// Returns the length of the message that begins with these bytes, once its head is whole.
fn whole_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|end| end == b"\r\n\r\n")?;
    let mut lines = bytes[..head].split(|byte| *byte == b'\n');
    let length = lines.find_map(|line| {
        let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
        name.eq_ignore_ascii_case(b"content-length")
            .then(|| std::str::from_utf8(&value[1..]).ok()?.trim().parse::<usize>().ok())?
    });
    Some(head + 4 + length.expect("an answer with a length"))
}
