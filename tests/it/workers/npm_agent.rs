//! A real ACP agent in its sandbox: the example in the protocol's own TypeScript SDK, on Node.js.

use super::*;
use crate::support::npm::{self, Files};

const PACKAGE: Files = &[
    ("package.json", include_str!("../../agent/package.json")),
    ("package-lock.json", include_str!("../../agent/package-lock.json")),
];

#[tokio::test]
async fn a_real_agent_on_node_works_in_the_sandbox() {
    let installing = tokio::task::spawn_blocking(|| npm::install(PACKAGE, &[]).0);
    let package = installing.await.expect("the package is installed");
    let script = package.join("node_modules/@agentclientprotocol/sdk/dist/examples/agent.js");
    let node = npm::program("node");
    let rig = WorkerRig::new(&[&node.to_string_lossy(), &script.to_string_lossy()], |settings| {
        let node = std::fs::canonicalize(&node).expect("it is there");
        // If Node.js has a folder of its own, its libraries are beside `bin`.
        let installation = node.ancestors().nth(2).expect("it is in bin/").to_owned();
        settings.read = vec![package, installation];
    });
    let mut updates = rig.prompt(1, "Tidy up the configuration").await.expect("it is taken");
    let mut turn = Turn::default();
    while let Some(update) = next(&mut updates).await {
        match update {
            Update::Text(text) => turn.text.push_str(&text),
            Update::Tool { title, status, .. } => turn.tools.push((title, status)),
            Update::Permission(question) => {
                assert_eq!(question.title, "Modifying critical configuration file");
                let ids: Vec<_> = question.options.iter().map(|option| option.id.as_str()).collect();
                assert_eq!(ids, ["allow", "reject"]);
                question.answer.send("allow".to_owned()).expect("it is waited for");
            }
            Update::Failed(message) | Update::LimitReached(message) => panic!("it failed: {message}"),
            Update::Done(reason) => turn.done = Some(reason),
            Update::Crashed(ending) => panic!("it crashed: {ending}"),
        }
    }
    assert_eq!(turn.done.as_deref(), Some("end_turn"), "{turn:?}");
    assert!(
        turn.text.starts_with("I'll help you with that.") && turn.text.contains("successfully updated"),
        "{turn:?}"
    );
    let (title, status) = turn.tools.last().expect("it used tools");
    assert_eq!((title.as_str(), status.as_str()), ("Modifying critical configuration file", "completed"));
}
