use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::oauth::ServerMetadata;

fn id() -> ProviderId {
    "acme".parse().expect("a name")
}

fn found(token_endpoint: &str) -> Discovered {
    let endpoints = [("token_endpoint".to_owned(), token_endpoint.to_owned())].into();
    Discovered {
        publisher: "https://id.example".into(),
        fetched_at: 1_795_358_672,
        metadata: ServerMetadata {
            issuer: "https://id.example".into(),
            endpoints,
            ..ServerMetadata::default()
        },
        earlier_token_endpoints: vec!["https://id.example/old".into()],
        ..Discovered::default()
    }
}

#[test]
fn metadata_comes_back_as_it_was_written_and_only_for_its_publisher() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = DiscoveryCache::beside(&folder.path().join("auth.json"));
    assert_eq!(cache.read(&id(), "https://id.example"), None);
    for endpoint in ["https://id.example/a", "https://id.example/b"] {
        cache.write(&id(), &found(endpoint)).expect("it is written");
        assert_eq!(cache.read(&id(), "https://id.example"), Some(found(endpoint)));
    }
    assert_eq!(cache.read(&id(), "https://id.example/"), None);
}

#[test]
fn the_files_of_the_cache_are_open_to_their_owner_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = DiscoveryCache::beside(&folder.path().join("auth.json"));
    cache.write(&id(), &found("https://id.example/a")).expect("it is written");
    assert_eq!(cache.folder(), folder.path().join("auth.json.discovery"));
    let mode = |path: &Path| path.metadata().expect("it exists").permissions().mode() & 0o777;
    assert_eq!(mode(cache.folder()), 0o700);
    assert_eq!(mode(&cache.folder().join("acme.json")), 0o600);
}

#[test]
fn a_damaged_file_counts_as_absent_and_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = DiscoveryCache::beside(&folder.path().join("auth.json"));
    cache.write(&id(), &found("https://id.example/a")).expect("it is written");
    let path = cache.folder().join("acme.json");
    let whole = files::read_text(&path).expect("it is there");
    for damaged in [
        "",
        "{",
        "[]",
        "\u{0}",
        &whole[..whole.len() / 2],
        &whole.replace("\"version\": 1", "\"version\": 2"),
    ] {
        files::replace_private(&path, damaged.as_bytes()).expect("it is written");
        assert_eq!(cache.read(&id(), "https://id.example"), None, "{damaged}");
    }
    cache.write(&id(), &found("https://id.example/a")).expect("it is written");
    assert!(cache.read(&id(), "https://id.example").is_some());
}

#[test]
fn the_temp_file_of_a_dead_writer_is_removed_by_the_next_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = DiscoveryCache::beside(&folder.path().join("auth.json"));
    cache.write(&id(), &found("https://id.example/a")).expect("it is written");
    files::create_private(&cache.folder().join(".acme.json.0011223344556677.tmp"), b"{").expect("written");
    cache.write(&id(), &found("https://id.example/b")).expect("it is written");
    assert_eq!(files::names_in(cache.folder()).expect("a list"), ["acme.json"]);
}

#[test]
fn a_reader_beside_two_writers_finds_a_whole_file_at_any_moment() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = DiscoveryCache::beside(&folder.path().join("auth.json"));
    cache.write(&id(), &found("https://id.example/a")).expect("it is written");
    std::thread::scope(|scope| {
        for writer in ["b", "c"] {
            let (cache, found) = (&cache, found(&format!("https://id.example/{}", writer.repeat(2000))));
            // A writer whose temp file the other one removed notices it, and the file stands.
            scope.spawn(move || (0..100).for_each(|_| drop(cache.write(&id(), &found))));
        }
        for _ in 0..300 {
            assert!(cache.read(&id(), "https://id.example").is_some(), "a torn file");
        }
    });
}
