use tokio::io::AsyncReadExt as _;

use super::*;
use crate::net::Proxies;

const HANDSHAKE: &str = "Host: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCHING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Starts a relay to a gateway that this test plays.
async fn relay() -> (Relay, TcpListener) {
    let gateway = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("ws://{}/path", gateway.local_addr().expect("it is bound"));
    let outward = Outward::new(Proxies::new(|_| None)).expect("TLS is there");
    let relay = Relay::start(url.parse().expect("a URL"), outward, Trust::default()).await.expect("a port");
    (relay, gateway)
}

/// Connects to the relay and sends the handshake of a WebSocket for this path.
async fn dial(relay: &Relay, path: &str) -> TcpStream {
    let url: Url = relay.address().parse().expect("a URL");
    let mut stream =
        TcpStream::connect(("127.0.0.1", url.port().expect("a port"))).await.expect("it listens");
    let head = format!("GET {path} HTTP/1.1\r\n{HANDSHAKE}");
    stream.write_all(head.as_bytes()).await.expect("it reads");
    stream
}

/// Connects with the right path, and returns both ends of the open connection.
async fn connected(relay: &Relay, gateway: &TcpListener) -> (TcpStream, TcpStream) {
    let url: Url = relay.address().parse().expect("a URL");
    let mut bot = dial(relay, &format!("{}?v=10", url.path())).await;
    let (mut discord, _) = gateway.accept().await.expect("the relay connects");
    let request = head(&mut discord).await.to_lowercase();
    assert!(request.starts_with("get /path?v=10 http/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("host: {}\r\n", gateway.local_addr().expect("bound"))), "{request}");
    assert!(request.contains("sec-websocket-key: dghlihnhbxbszsbub25jzq==\r\n"), "{request}");
    assert!(!request.contains(&url.path().to_lowercase()), "the secret stays here: {request}");
    discord.write_all(SWITCHING).await.expect("the relay reads");
    let answer = head(&mut bot).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    assert!(answer.contains("connection: upgrade\r\n"), "{answer}");
    assert!(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{answer}");
    (bot, discord)
}

/// Reads up to the empty line.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a whole head"));
    }
    String::from_utf8(head).expect("ASCII")
}

#[tokio::test]
async fn after_the_handshake_bytes_pass_unchanged_both_ways() {
    let (relay, gateway) = relay().await;
    let (mut bot, mut discord) = connected(&relay, &gateway).await;
    // A close frame with code 4014, a compressed binary frame, and bytes that are no frame at all.
    let frames: [&[u8]; 3] = [&[0x88, 2, 0x0f, 0xae], &[0x82, 4, 0x78, 0x9c, 0, 1], &[0, 0xff, b'\r', b'\n']];
    for frame in frames {
        pass(&mut bot, &mut discord, frame).await;
        pass(&mut discord, &mut bot, frame).await;
    }
}

/// Sends bytes at one end, and asserts that they arrive at the other.
async fn pass(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).await.expect("it is passed on");
    let mut got = vec![0; bytes.len()];
    to.read_exact(&mut got).await.expect("it arrives");
    assert_eq!(got, bytes);
}

#[tokio::test]
async fn the_end_of_either_side_ends_the_other() {
    let (relay, gateway) = relay().await;
    let (mut bot, discord) = connected(&relay, &gateway).await;
    drop(discord);
    assert_eq!(bot.read(&mut [0; 1]).await.expect("an orderly end"), 0);
    let (bot, mut discord) = connected(&relay, &gateway).await;
    drop(bot);
    assert_eq!(discord.read(&mut [0; 1]).await.expect("an orderly end"), 0);
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_the_gateway_instead_of_filling_memory() {
    let (relay, gateway) = relay().await;
    let (mut bot, mut discord) = connected(&relay, &gateway).await;
    let chunk = vec![7; 1 << 20];
    let mut sent: u64 = 0;
    // Nothing wakes this write once all buffers between the two ends are full.
    tokio::time::pause();
    while let Ok(written) = tokio::time::timeout(Duration::from_secs(1), discord.write(&chunk)).await {
        sent += written.expect("it is passed on") as u64;
        assert!(sent < 1 << 30, "more than a GiB is buffered");
    }
    tokio::time::resume();
    discord.shutdown().await.expect("it is passed on");
    let mut received = Vec::new();
    bot.read_to_end(&mut received).await.expect("everything arrives");
    assert_eq!(received.len() as u64, sent);
}

#[tokio::test]
async fn a_process_without_the_secret_path_reaches_no_gateway() {
    let (relay, gateway) = relay().await;
    for path in ["/", "/path?v=10", "/?v=10", "ws://gateway.discord.gg/"] {
        let mut stranger = dial(&relay, path).await;
        let answer = head(&mut stranger).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{path}: {answer}");
    }
    let none = tokio::time::timeout(Duration::ZERO, gateway.accept()).await;
    assert!(none.is_err(), "the relay connected");
    connected(&relay, &gateway).await;
}

#[tokio::test]
async fn idle_connections_of_other_processes_do_not_shut_the_bot_out() {
    let (relay, gateway) = relay().await;
    let (mut bot, mut discord) = connected(&relay, &gateway).await;
    let url: Url = relay.address().parse().expect("a URL");
    let mut strangers = Vec::new();
    for _ in 0..2 * MAX_STRANGERS {
        strangers
            .push(TcpStream::connect(("127.0.0.1", url.port().expect("a port"))).await.expect("accepted"));
    }
    pass(&mut bot, &mut discord, b"still here").await;
    connected(&relay, &gateway).await;
}

#[tokio::test(start_paused = true)]
async fn the_oldest_connection_without_a_handshake_loses_its_place() {
    let (strangers, mut connections) = (Strangers::default(), JoinSet::new());
    for number in 0..MAX_STRANGERS as u64 {
        strangers.add(number, || connections.spawn(async { std::future::pending().await }));
    }
    // The bot's own connection shows the path and is not a stranger any more.
    strangers.remove(0);
    let oldest = strangers.lock()[&1].clone();
    for number in 100..102 {
        strangers.add(number, || connections.spawn(async { std::future::pending().await }));
    }
    let ended: Option<Result<(), _>> =
        timeout(Duration::from_secs(1), connections.join_next()).await.expect("one ends");
    assert!(ended.is_some_and(|ended| ended.is_err_and(|error| error.is_cancelled())));
    assert!(oldest.is_finished());
    assert_eq!(connections.len(), MAX_STRANGERS + 1, "the bot's and the newest are left");
}

#[tokio::test]
async fn a_gateway_that_cannot_be_reached_is_reported_until_it_can() {
    let (relay, gateway) = relay().await;
    let trouble = relay.trouble();
    let address = gateway.local_addr().expect("it is bound");
    drop(gateway);
    let url: Url = relay.address().parse().expect("a URL");
    let mut bot = dial(&relay, url.path()).await;
    assert!(head(&mut bot).await.starts_with("HTTP/1.1 502 "));
    let cause = trouble.borrow().clone().expect("it is known");
    assert!(cause.starts_with(&format!("{address} cannot be reached: Connection refused")), "{cause}");
    let gateway = TcpListener::bind(address).await.expect("the port is free again");
    connected(&relay, &gateway).await;
    assert_eq!(*trouble.borrow(), None);
}

#[tokio::test]
async fn a_refusal_of_the_gateway_is_passed_on_and_reported() {
    let (relay, gateway) = relay().await;
    let trouble = relay.trouble();
    let url: Url = relay.address().parse().expect("a URL");
    let mut bot = dial(&relay, url.path()).await;
    let (mut discord, _) = gateway.accept().await.expect("the relay connects");
    head(&mut discord).await;
    let refusal = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: 4\r\n\r\nlate";
    discord.write_all(refusal).await.expect("the relay reads");
    let answer = head(&mut bot).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 429 ") && answer.contains("retry-after: 3\r\n"), "{answer}");
    assert_eq!(trouble.borrow().as_deref(), Some("127.0.0.1 answered HTTP 429"));
    let mut bot = dial(&relay, url.path()).await;
    drop(gateway.accept().await.expect("the relay connects"));
    assert!(head(&mut bot).await.starts_with("HTTP/1.1 502 "));
    assert_eq!(trouble.borrow().as_deref(), Some("127.0.0.1 hung up"));
}

#[tokio::test]
async fn the_relay_and_its_connections_end_with_the_bot() {
    let (relay, gateway) = relay().await;
    let (mut bot, mut discord) = connected(&relay, &gateway).await;
    let url: Url = relay.address().parse().expect("a URL");
    drop(relay);
    assert_eq!(bot.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert_eq!(discord.read(&mut [0; 1]).await.unwrap_or(0), 0);
    let again = TcpStream::connect(("127.0.0.1", url.port().expect("a port"))).await;
    assert!(again.is_err(), "the port is closed");
}
