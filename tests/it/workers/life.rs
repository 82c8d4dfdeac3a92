//! From the first prompt to the last signal.

use super::*;

#[tokio::test]
async fn a_worker_answers_and_the_next_prompt_goes_to_the_same_process() {
    let lab = Lab::scripted(r#"say "I am $$ at "; say "$PWD"; done_with end_turn"#, |_| {});
    let first = lab.turn(1, "who are you?").await;
    assert_eq!(first.done.as_deref(), Some("end_turn"), "{first:?}");
    assert!(first.text.ends_with("/agents/1/work"), "{first:?}");
    assert_eq!(lab.turn(1, "and now?").await.text, first.text);
    assert_ne!(lab.turn(2, "and you?").await.text, first.text);
    assert_eq!(lab.workers.live().len(), 2);
    lab.workers.shutdown().await;
    assert!(lab.workers.live().is_empty());
    assert!(matches!(lab.prompt(1, "again").await, Err(PromptError::ShuttingDown)));
}
