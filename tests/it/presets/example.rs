//! The documentation's example of a new provider: one block of data and one fixture, and no code.

use super::{Fixture, check_verdicts, play};

/// Returns the text of the first code block in this language after a sentence of CONTRIBUTING.md.
fn block(language: &str) -> String {
    let text = include_str!("../../../CONTRIBUTING.md");
    let (_, rest) = text.split_once("**A provider.** Data, and no code.").expect("the section is there");
    let (_, rest) = rest.split_once(&format!("```{language}\n")).expect("the block is there");
    rest.split_once("```").expect("the block ends").0.to_owned()
}

#[tokio::test]
async fn a_new_provider_is_one_block_of_data_and_one_fixture() {
    let section = block("toml");
    let (name, section) = section.split_once("]\n").expect("a section begins with its name");
    let (_, name) = name.rsplit_once('[').expect("a section begins with its name");
    let mut fixture: Fixture = serde_json::from_str(&block("json")).expect("the fixture is one");
    assert_eq!(fixture.preset, name);
    assert!(threadkey::oauth::preset(name).is_none(), "the example is no preset yet");
    fixture.example = Some(section.to_owned());
    play(&fixture).await;
    check_verdicts(&fixture).await;
}
