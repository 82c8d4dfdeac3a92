//! Discord behind a proxy and a company's CA: REST, the gateway, and its resumption.

use super::address;
use crate::support::{
    discord::{Discord, Forget, Options},
    network::{Authority, Proxy, ProxyOptions, with_tls},
    program::{Home, Running},
};

const REST: &str = "discord.example.test:443";
const GATEWAY: &str = "gateway.example.test:443";

/// A Discord look-alike behind TLS, with names that only a proxy knows.
struct Remote {
    discord: Discord,
    proxy: Proxy,
    home: Home,
}

impl Remote {
    async fn new(options: ProxyOptions) -> Self {
        let authority = Authority::new();
        let gateway_url = "wss://gateway.example.test".to_owned();
        let discord = Discord::start(Options { gateway_url, ..Options::default() }).await;
        let rest = with_tls(authority.issue(&["discord.example.test"]), address(&discord.api_base())).await;
        let gateway = with_tls(authority.issue(&["gateway.example.test"]), discord.gateway_address()).await;
        let proxy = Proxy::start(options, &[(REST, rest), (GATEWAY, gateway)]).await;
        let home = Home::new(
            "[discord]\ntoken_env = \"DISCORD_TOKEN\"\napi_base = \"https://discord.example.test\"\nallow_everyone = true\nca_file = \"ca.pem\"\n",
        );
        std::fs::write(home.path().join("ca.pem"), authority.pem()).expect("a file");
        Self { discord, proxy, home }
    }

    fn run(&self, proxy: (&str, &str)) -> Running {
        self.home.start(&["run"], &[("DISCORD_TOKEN", &Options::default().token), proxy])
    }
}

/// Asserts that the bot connects, resumes and ends, and reached everything through the proxy.
async fn assert_connects_and_resumes(remote: &Remote, variable: (&str, &str)) {
    let bot = remote.run(variable);
    bot.says("connected to Discord").await;
    let guild = remote.discord.guild("team");
    let general = guild.channel("general");
    let alice = remote.discord.person("alice");
    guild.join(&alice);
    let reply = alice.command(&general, "auth status", &[]).await;
    assert!(reply.text().contains("not signed in anywhere"), "{}", reply.text());
    assert_eq!(remote.proxy.count(GATEWAY), 1);
    remote.discord.drop_connection(Forget::Nothing);
    remote.discord.bot_resumed(1).await;
    assert_eq!(remote.proxy.count(GATEWAY), 2, "the resumption takes the same way");
    assert!(remote.proxy.count(REST) > 0);
    let elsewhere = remote.proxy.seen().into_iter().find(|seen| seen != REST && seen != GATEWAY);
    assert_eq!(elsewhere, None);
    let doctor = remote.home.run_in(&["doctor"], "", &[("DISCORD_TOKEN", "bot-token"), variable]).await;
    assert!(doctor.stdout.contains("gateway.example.test:443 can be reached"), "{doctor:?}");
    let ended = bot.stop().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!ended.stderr.contains("s3cret"), "{ended:?}");
    remote.discord.assert_no_violations();
}

#[tokio::test]
async fn the_bot_reaches_discord_and_its_gateway_through_an_http_proxy_and_an_own_ca() {
    let credentials = Some(("alice", "s3cret"));
    let remote = Remote::new(ProxyOptions { credentials, ..ProxyOptions::default() }).await;
    let variable = format!("http://alice:s3cret@{}", remote.proxy.address());
    assert_connects_and_resumes(&remote, ("HTTPS_PROXY", &variable)).await;
}

#[tokio::test]
async fn the_bot_reaches_discord_and_its_gateway_through_a_socks_proxy_and_an_own_ca() {
    let credentials = Some(("alice", "s3cret"));
    let remote = Remote::new(ProxyOptions { socks: true, credentials, ..ProxyOptions::default() }).await;
    let variable = format!("socks5h://alice:s3cret@{}", remote.proxy.address());
    assert_connects_and_resumes(&remote, ("ALL_PROXY", &variable)).await;
}

#[tokio::test]
async fn a_bot_that_cannot_reach_discord_names_the_cause_and_keeps_trying() {
    let remote = Remote::new(ProxyOptions { refusal: Some(407), ..ProxyOptions::default() }).await;
    let variable = format!("http://alice:s3cret@{}", remote.proxy.address());
    let bot = remote.run(("HTTPS_PROXY", &variable));
    bot.says("Discord cannot be reached: trying again").await;
    bot.says(&format!(
        "cannot reach Discord at https://discord.example.test/: the proxy {} (from HTTPS_PROXY) answered 407",
        remote.proxy.address()
    ))
    .await;
    let ended = bot.stop().await;
    assert!(!ended.stderr.contains("s3cret"), "{ended:?}");
}

#[tokio::test]
async fn a_bot_that_cannot_reach_the_gateway_alone_names_the_cause_and_keeps_trying() {
    let authority = Authority::new();
    let remote = Remote::new(ProxyOptions::default()).await;
    let server = remote.discord.gateway_address();
    let unknown = with_tls(authority.issue(&["gateway.example.test"]), server).await;
    let rest = remote.discord.api_base();
    // Another proxy leads the gateway's name to a server with an unknown certificate.
    let proxy = Proxy::start(ProxyOptions::default(), &[(GATEWAY, unknown)]).await;
    remote.home.configure(&format!(
        "[discord]\ntoken_env = \"DISCORD_TOKEN\"\napi_base = {rest:?}\nca_file = \"ca.pem\"\n"
    ));
    let bot = remote.run(("HTTPS_PROXY", &format!("http://{}", proxy.address())));
    bot.says("Discord's gateway cannot be reached").await;
    bot.says("the certificate of gateway.example.test has an unknown issuer").await;
    assert_eq!(remote.discord.gateway_sessions(), (0, 0));
    bot.stop().await;
}
