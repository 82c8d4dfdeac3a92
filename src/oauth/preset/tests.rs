use super::*;

#[test]
fn every_preset_is_read_by_itself_as_in_the_whole_file() {
    let whole: toml::Table = toml::from_str(PRESETS).expect("presets.toml is TOML");
    let names: Vec<&str> = preset_names().collect();
    assert!(names.is_sorted(), "the presets are in alphabetical order: {names:?}");
    assert_eq!(names, whole.keys().map(String::as_str).collect::<Vec<_>>());
    for preset in presets() {
        let section = whole[&preset.name].as_table().expect("a section");
        assert!(preset.settings.iter().all(|(key, value)| section[key] == *value), "{}", preset.name);
        assert_eq!(preset.about.risk, preset.about.terms.is_some(), "{} and its terms", preset.name);
        assert!(!preset.about.title.is_empty(), "{}", preset.name);
    }
}

#[test]
fn each_key_of_each_preset_can_be_overridden_and_no_info_becomes_a_setting() {
    for preset in presets() {
        for key in preset.settings.keys().filter(|key| !PLACEHOLDERS.contains(&key.as_str())) {
            let needed = "host = 'id.example'\ntenant = 'example'\n";
            let uses = |key: &str| {
                preset.settings.values().any(|value| value.to_string().contains(&format!("{{{key}}}")))
            };
            let given = needed.lines().filter(|line| uses(line.split(' ').next().expect("a key")));
            let mut own: toml::Table = toml::from_str(&given.collect::<Vec<_>>().join("\n")).expect("TOML");
            own.insert(key.clone(), "own".into());
            let section = preset.overlaid(&own).expect("filled in");
            assert_eq!(section[key].as_str(), Some("own"), "{} {key}", preset.name);
            assert!(INFO.iter().all(|info| !section.contains_key(*info)), "{}", preset.name);
        }
    }
}

#[test]
fn no_preset_contains_a_client_secret() {
    for preset in presets() {
        assert!(preset.settings.keys().all(|key| !key.contains("secret")), "{}", preset.name);
    }
}

#[test]
fn a_placeholder_takes_the_operators_host_and_refuses_what_is_no_host() {
    let preset = parse("p", "title = 'P'\nhost = 'p.example'\ntoken_endpoint = 'https://{host}/token'\n");
    let overlaid = |own: &str| preset.overlaid(&toml::from_str(own).expect("TOML"));
    let endpoint = |own: &str| overlaid(own).expect("filled in")["token_endpoint"].clone();
    assert_eq!(endpoint("").as_str(), Some("https://p.example/token"));
    assert_eq!(
        endpoint("host = 'git.example:8443/base'").as_str(),
        Some("https://git.example:8443/base/token")
    );
    assert_eq!(endpoint("token_endpoint = 'https://own.example'").as_str(), Some("https://own.example"));
    for host in ["https://p.example", "p.example/", "a@b", "a?b", "a b", "a#b", "a\\b", "{tenant}"] {
        let error = overlaid(&format!("host = '{host}'")).expect_err(host);
        assert_eq!(error, PlaceholderError::Value { key: "host" });
    }
    for host in ["..", ".", "-", "../x", "a/../b", "a/./b", "::1", "a:99999", "a:", "a:1:2"] {
        let error = overlaid(&format!("host = '{host}'")).expect_err(host);
        assert_eq!(error, PlaceholderError::Value { key: "host" });
    }
    assert_eq!(endpoint("host = '[2001:db8::1]'").as_str(), Some("https://[2001:db8::1]/token"));
    assert_eq!(endpoint("host = '[::1]:8443/base'").as_str(), Some("https://[::1]:8443/base/token"));
    for host in [
        "[::1",
        "[]",
        "[::1]x",
        "[::1]:",
        "[::1]:99999",
        "[127.0.0.1]",
        "[::1]/..",
        "[fe80::1%eth0]",
        "a[::1]",
    ] {
        let error = overlaid(&format!("host = '{host}'")).expect_err(host);
        assert_eq!(error, PlaceholderError::Value { key: "host" });
    }
    let unused = overlaid("tenant = 'x'").expect_err("no such placeholder");
    assert_eq!(unused.to_string(), "the preset p has no tenant: remove it");
}

#[test]
fn a_tenant_cannot_leave_its_place_in_the_path() {
    let preset = parse("p", "title = 'P'\ntoken_endpoint = 'https://p.example/in/{tenant}/token'\n");
    let overlaid = |own: &str| preset.overlaid(&toml::from_str(own).expect("TOML"));
    for tenant in ["..", "../../x", "a/../../b", ".", "a//b"] {
        let error = overlaid(&format!("tenant = '{tenant}'")).expect_err(tenant);
        assert_eq!(error, PlaceholderError::Value { key: "tenant" });
    }
    assert!(overlaid("tenant = 'a..b/c'").is_ok());
}
