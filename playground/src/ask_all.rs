//! "All users ask at once": each user asks in each of their threads. A user without a thread signs in
//! and opens one first, so that one press is enough.

use std::time::Duration;

use serde_json::{Value, json};
use threadkey_lookalike::{
    authserver::LifeState,
    browser,
    discord::{Channel, MessageView, Person},
};

use crate::stage::Scene;

/// The question that is posted in each thread.
const QUESTION: &str = "Whose login do you hold?";
/// How long the answers are waited for. The result counts those that came.
const PATIENCE: Duration = Duration::from_secs(20);
/// The texts of the bot that end a turn, or a prompt that starts none.
const ANSWERS: [&str; 4] = ["I hold **", "gives me no token", "Sign in to", "could not be started"];

/// Lets all users ask, and returns the number of questions, answers, refreshes and reuses.
pub(crate) async fn ask_all(scene: &Scene) -> Result<Value, String> {
    let mut prepared = Vec::new();
    for person in scene.people.clone() {
        if person.joined_threads().is_empty() {
            let scene = scene.clone();
            // A wait of the look-alike that times out is a panic, so it has a task of its own.
            prepared.push(tokio::spawn(async move { open_thread(&scene, &person).await }));
        }
    }
    for task in prepared {
        task.await.map_err(|_| "a user could not sign in; the bot's log has the reason".to_owned())??;
    }
    let before = scene.server.events().total;
    let mut asked = Vec::new();
    for person in &scene.people {
        for thread in person.joined_threads() {
            let earlier = answers(&thread);
            if person.post(&thread, QUESTION, None).is_ok() {
                asked.push((thread, earlier));
            }
        }
    }
    let answered = || asked.iter().filter(|(thread, earlier)| answers(thread) > *earlier).count();
    let mut changes = scene.discord.changes();
    let all = async { while answered() < asked.len() && changes.changed().await.is_ok() {} };
    let _ = tokio::time::timeout(PATIENCE, all).await;
    let after = scene.server.events().total;
    Ok(json!({
        "asked": asked.len(),
        "answered": answered(),
        "refreshes": after.refreshes - before.refreshes,
        "reuses": after.reuses - before.reuses,
    }))
}

/// Counts the bot's answers in a thread.
fn answers(thread: &Channel) -> usize {
    count(&thread.messages())
}

fn count(messages: &[MessageView]) -> usize {
    let is_answer = |text: &str| ANSWERS.iter().any(|answer| text.contains(answer));
    messages.iter().filter(|message| is_answer(&message.text)).count()
}

/// Signs a user in, unless the provider has a live login of that name, and opens a thread.
async fn open_thread(scene: &Scene, person: &Person) -> Result<(), String> {
    let mut lives = scene.server.lives().into_iter();
    if !lives.any(|life| life.account == person.name && life.state == LifeState::Live) {
        let started = person.command(&scene.general, "auth start", &[("provider", "acme")]).await;
        let link = started.link("Sign in").ok_or_else(|| format!("no link: {}", started.text()))?;
        let callback = browser::sign_in(&link, &person.name).await;
        let answer = person.command(&scene.general, "auth code", &[("code", &callback.url)]).await;
        if !answer.text().contains("Signed in as") {
            return Err(answer.text());
        }
    }
    person.command(&scene.general, "ask", &[("prompt", QUESTION)]).await;
    let thread = person.waits_for_threads(&scene.general, 1).await.remove(0);
    thread.wait_for(|messages| (count(messages) > 0).then_some(())).await;
    Ok(())
}
