use super::*;
use crate::{cli::lease::tests::lease, session::UNKNOWN_EXPIRY};

fn github() -> Vec<GitHost> {
    vec![GitHost { host: "github.com".into(), username: "x-access-token".into() }]
}

fn args(hosts: &[&str]) -> TokenArgs {
    let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    TokenArgs { format: Format::GitCredential, hosts, ..TokenArgs::default() }
}

fn asked(args: &TokenArgs, protocol: &str, host: &str) -> Option<String> {
    let request = Request::parse(&format!("protocol={protocol}\nhost={host}\n"));
    username(args, &github(), &request).expect("the arguments are right")
}

#[test]
fn only_the_providers_hosts_and_the_given_ones_get_a_token() {
    let given = args(&["git.acme.example:8443", "127.0.0.1:8080"]);
    assert_eq!(asked(&given, "https", "GitHub.com").as_deref(), Some("x-access-token"));
    assert_eq!(asked(&given, "https", "github.com:443").as_deref(), Some("x-access-token"));
    assert_eq!(asked(&given, "https", "git.acme.example:8443").as_deref(), Some("oauth2"));
    assert_eq!(asked(&given, "http", "127.0.0.1:8080").as_deref(), Some("oauth2"));
    for (protocol, host) in [
        ("http", "github.com"),
        ("https", "gist.github.com"),
        ("https", "github.com.evil.example"),
        ("https", "github.com@evil.example"),
        ("https", "evil.example/github.com"),
        ("https", "git.acme.example"),
        ("http", "git.acme.example:8443"),
        ("ssh", "github.com"),
        ("https", "git\thub.com"),
        ("https", "github.com\r"),
        ("https", "github.com "),
        ("https", "ｇithub.com"),
        ("https", "git\u{ad}hub.com"),
        ("http", "127.0.0.1\t:8080"),
        ("https", ""),
        ("", ""),
    ] {
        assert_eq!(asked(&given, protocol, host), None, "{protocol} {host}");
    }
    assert_eq!(asked(&args(&[]), "https", "git.acme.example:8443"), None);
}

#[test]
fn a_host_that_is_an_address_or_a_path_is_refused() {
    for bad in ["https://github.com", "github.com/me", "a@b", "", "a b"] {
        let request = Request::parse("protocol=https\nhost=github.com\n");
        assert!(username(&args(&[bad]), &github(), &request).is_err(), "{bad:?}");
    }
}

#[test]
fn a_request_ends_at_an_empty_line_and_keeps_equals_signs_in_values() {
    let request = Request::parse("protocol=https\nhost=a\npassword=b=c\nwwwauth[]=Basic\n\nhost=d\n");
    assert_eq!((request.protocol.as_str(), request.host.as_str()), ("https", "a"));
    assert_eq!(request.password.expect("given").expose(), "b=c");
}

#[test]
fn a_carriage_return_ends_no_line_of_a_request() {
    let request = Request::parse("protocol=https\r\nhost=evil.example\rhost=github.com\n");
    assert_eq!(
        (request.protocol.as_str(), request.host.as_str()),
        ("https\r", "evil.example\rhost=github.com")
    );
}

#[test]
fn the_answer_names_the_expiry_if_there_is_one_and_no_line_can_be_added_to_it() {
    assert_eq!(
        answer(&lease("a.b"), "oauth2").expect("formats"),
        "username=oauth2\npassword=a.b\npassword_expiry_utc=1795362272\n"
    );
    let unknown = Lease { expires_at: UNKNOWN_EXPIRY, ..lease("a.b") };
    assert_eq!(answer(&unknown, "u").expect("formats"), "username=u\npassword=a.b\n");
    assert!(answer(&lease("a\nhost=evil"), "u").is_err());
    assert!(answer(&lease("a"), "u\nhost=evil").is_err());
}

#[test]
fn arguments_of_the_protocol_need_its_format() {
    let with = |change: fn(&mut TokenArgs)| {
        let mut args = TokenArgs::default();
        change(&mut args);
        check_args(&args).is_err()
    };
    assert!(with(|args| args.operation = Some("get".into())));
    assert!(with(|args| args.hosts = vec!["a".into()]));
    assert!(with(|args| args.username = Some("a".into())));
    assert!(!with(|_| {}));
    assert!(check_args(&args(&["a"])).is_ok());
}
