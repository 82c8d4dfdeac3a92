use std::time::Duration;

use super::*;

const ONE: &str = "0123456789abcdef0123456789abcdef";
const TWO: &str = "fedcba9876543210fedcba9876543210";

fn settings(name: &str, source: KeySource) -> OperatorKeySettings {
    OperatorKeySettings { name: name.to_owned(), source, scope: KeyScope::default() }
}

fn variable(name: &str, key: &str) -> OperatorKeySettings {
    settings(name, KeySource::Variable(Secret::new(key)))
}

#[test]
fn a_key_is_one_long_word_of_ascii_on_each_line() {
    let keys = keys_in(&format!("\n {ONE} \n\n{TWO}\n")).expect("two keys");
    assert_eq!(keys.iter().map(Secret::expose).collect::<Vec<_>>(), [ONE, TWO]);
    for (bad, problem) in [
        ("", KeyProblem::Empty),
        (" \n", KeyProblem::Empty),
        (&ONE[1..], KeyProblem::Short),
        (&format!("{ONE} {TWO}"), KeyProblem::NotAWord),
        (&format!("{ONE}é"), KeyProblem::NotAWord),
        (&ONE.repeat(129), KeyProblem::Long),
        (&format!("{ONE}\n").repeat(9), KeyProblem::Many),
        (&format!("{ONE}\nshort"), KeyProblem::Short),
    ] {
        assert_eq!(keys_in(bad), Err(problem), "{bad}");
    }
}

#[tokio::test]
async fn only_a_whole_key_opens_and_its_text_is_kept_nowhere() {
    let keys = OperatorKeys::load(vec![variable("one", ONE), variable("two", TWO)]).await.expect("two keys");
    let name = |presented: &str| keys.holder(presented).map(|operator| operator.name.clone());
    assert_eq!(name(ONE).as_deref(), Some("one"));
    assert_eq!(name(TWO).as_deref(), Some("two"));
    for other in ["", &ONE[1..], &format!("{ONE}0"), "fedcba9876543210"] {
        assert_eq!(name(other), None, "{other}");
    }
    let shown = format!("{keys:?}");
    assert!(shown.contains("one") && !shown.contains(ONE), "{shown}");
    assert_eq!(Scrubber::of_process().clean(ONE), "[secret removed]");
}

#[tokio::test]
async fn two_names_with_one_key_are_refused() {
    let error = OperatorKeys::load(vec![variable("one", ONE), variable("two", ONE)]).await;
    let error = error.expect_err("nobody could know which scope counts").to_string();
    assert!(error.contains("api.operator_keys.two: it is the same key as one"), "{error}");
}

#[tokio::test]
async fn a_missing_key_is_an_error_at_the_start() {
    let missing = KeySource::Missing("the variable X is not set".to_owned());
    let error = OperatorKeys::load(vec![settings("one", missing)]).await.expect_err("there is no key");
    assert_eq!(error.to_string(), "api.operator_keys.one: the variable X is not set");
}

/// Waits until `is_so`, which a watch on the file brings about.
async fn until(is_so: impl Fn() -> bool) {
    let so = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), so).await.expect("it comes about");
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test is the operator who replaces the file")]
async fn a_replaced_file_replaces_the_key_and_a_removed_one_ends_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key");
    let write = |text: &str| {
        let new = folder.path().join("new");
        std::fs::write(&new, text).expect("is written");
        std::fs::rename(&new, &file).expect("is renamed");
    };
    write(ONE);
    let keys = OperatorKeys::load(vec![settings("one", KeySource::File(file.clone()))]).await.expect("a key");
    let following = tokio::spawn(keys.clone().follow());
    write(&format!("{TWO}\n{ONE}\n"));
    until(|| keys.holder(TWO).is_some()).await;
    assert!(keys.holder(ONE).is_some(), "both open while programs change over");
    write(TWO);
    until(|| keys.holder(ONE).is_none()).await;
    assert!(keys.holder(TWO).is_some());
    std::fs::remove_file(&file).expect("is removed");
    until(|| keys.holder(TWO).is_none()).await;
    write("too short");
    write(ONE);
    until(|| keys.holder(ONE).is_some()).await;
    following.abort();
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "the test is the operator who replaces the folders")]
async fn a_key_whose_path_leads_to_another_folder_is_replaced_as_well() {
    let root = tempfile::tempdir().expect("a folder");
    let at = |path: &str| root.path().join(path);
    let folder = |name: &str, key: &str| {
        std::fs::create_dir_all(at(name)).expect("is made");
        std::fs::write(at(name).join("key"), key).expect("is written");
    };
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(at(to), at("new")).expect("is linked");
        std::fs::rename(at("new"), at(name)).expect("is renamed");
    };
    for (name, key) in [("1", ONE), ("2", TWO), ("moved", ONE), ("moved.new", TWO)] {
        folder(name, key);
    }
    std::fs::create_dir(at("linked")).expect("is made");
    link("1", "secrets");
    link("1/key", "linked/key");
    // A generation of secrets, a folder that is moved, and a file in another folder.
    for path in ["secrets/key", "moved/key", "linked/key"] {
        let keys = OperatorKeys::load(vec![settings("one", KeySource::File(at(path)))]).await.expect("a key");
        let following = tokio::spawn(keys.clone().follow());
        tokio::time::sleep(Duration::from_secs(1)).await;
        match path {
            "secrets/key" => link("2", "secrets"),
            "moved/key" => {
                std::fs::rename(at("moved"), at("moved.old")).expect("is moved");
                std::fs::rename(at("moved.new"), at("moved")).expect("is moved");
            }
            _ => link("2/key", "linked/key"),
        }
        until(|| keys.holder(ONE).is_none() && keys.holder(TWO).is_some()).await;
        std::fs::remove_file(at(path)).expect("is removed");
        until(|| keys.holder(TWO).is_none()).await;
        folder("2", TWO);
        following.abort();
    }
    let keys =
        OperatorKeys::load(vec![settings("one", KeySource::File(at("secrets/key")))]).await.expect("a key");
    let following = tokio::spawn(keys.clone().follow());
    tokio::time::sleep(Duration::from_secs(1)).await;
    std::fs::remove_file(at("secrets")).expect("is removed");
    until(|| keys.holder(TWO).is_none()).await;
    following.abort();
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test is the operator who changes the secret")]
async fn a_reload_runs_the_command_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key");
    std::fs::write(&file, ONE).expect("is written");
    let command = SecretCommand::new(["cat".into(), file.clone().into_os_string()]).expect("a command");
    let keys = OperatorKeys::load(vec![settings("one", KeySource::Command(command))]).await.expect("a key");
    assert!(keys.holder(ONE).is_some());
    std::fs::write(&file, TWO).expect("is written");
    assert!(keys.holder(TWO).is_none());
    keys.reload().await;
    assert!(keys.holder(TWO).is_some() && keys.holder(ONE).is_none());
}
