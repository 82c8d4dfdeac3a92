//! A script that acts as a user: signs in, asks the agent, and lets the token expire.

use serde_json::Value;

use threadkey_lookalike::{browser, discord::PATIENCE};

use crate::{print, stage::Scene};

/// Runs the script. An event that does not come in time is a panic with the state at that time.
pub(crate) async fn run(scene: &Scene) -> Result<(), String> {
    let page = get(&scene.address).await?;
    expect(page.contains("/chat/page.js") && page.contains("/life/life.js"), "the page is incomplete")?;

    let alice = &scene.people[0];
    let reply = alice.command(&scene.general, "ask", &[("prompt", "Whose login do you hold?")]).await;
    let link = reply.link("Sign in").ok_or_else(|| format!("no link to sign in with: {reply:?}"))?;
    let callback = browser::sign_in(&link, &alice.name).await;
    let shown = get(&callback.url).await?;
    expect(shown.contains("Almost there"), "the sign-in does not end on the page with its address")?;
    let form = reply.press("Enter code").await.modal();
    let input = form.inputs.first().ok_or("the form for the code has no input")?.custom_id.clone();
    let answer = form.submit(&[(&input, &callback.url)]).await.message();
    answer.says("Signed in as").await;
    print(&format!("{} signed in", alice.name));

    let thread = alice.waits_for_threads(&scene.general, 1).await.remove(0);
    let answers = |count: usize| {
        alice.waits_for(&thread, move |seen| {
            let answers = seen.iter().filter(|message| message.text.contains("I hold **alice**'s login"));
            (answers.count() >= count).then_some(())
        })
    };
    answers(1).await;
    print("the agent in her thread answered with her login");

    let panel = first_event(&format!("{}life/events", scene.address)).await?;
    expect(
        panel["families"][0]["account"] == "alice",
        &format!("the panel does not show her login: {panel}"),
    )?;

    // The first press signs the other users in. The second one finds all tokens expired.
    let asked = act(scene, "ask").await?;
    let users = scene.people.len();
    expect(asked["asked"] == users && asked["answered"] == users, &format!("not all users asked: {asked}"))?;
    let expired = act(scene, "expire").await?;
    expect(expired["logins"] == users, &format!("not all logins expired: {expired}"))?;
    let asked = act(scene, "ask").await?;
    expect(asked["refreshes"] == users, &format!("one refresh for each user was due: {asked}"))?;
    expect(scene.server.events().total.reuses == 0, "a refresh token was spent twice")?;
    answers(3).await;
    print("one refresh for each user when the tokens had expired, and nothing spent twice");
    let found = scene.discord.violations();
    expect(found.is_empty(), &format!("Discord would have refused what the bot did: {found:?}"))?;
    print("playground ok");
    Ok(())
}

fn expect(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

async fn get(url: &str) -> Result<String, String> {
    let failed = |error: reqwest::Error| format!("{url} cannot be opened: {error}");
    let client = reqwest::Client::builder().no_proxy().build().map_err(failed)?;
    let answer = client.get(url).send().await.and_then(reqwest::Response::error_for_status);
    answer.map_err(failed)?.text().await.map_err(failed)
}

/// The first event of a stream of server-sent events.
async fn first_event(url: &str) -> Result<Value, String> {
    let failed = |error: reqwest::Error| format!("{url} breaks off: {error}");
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().map_err(failed)?;
    let mut stream = client.get(url).send().await.map_err(failed)?;
    let mut text = String::new();
    while !text.ends_with("\n\n") {
        let chunk =
            stream.chunk().await.map_err(failed)?.ok_or_else(|| format!("{url} ends after {text:?}"))?;
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    let data = text.strip_prefix("data: ").unwrap_or_default();
    serde_json::from_str(data).map_err(|_| format!("{url} begins with {text:?}"))
}

/// Presses a button of the panel.
async fn act(scene: &Scene, what: &str) -> Result<Value, String> {
    let url = format!("{}life/{what}", scene.address);
    let failed = |error: reqwest::Error| format!("{url} does not answer: {error}");
    let client = reqwest::Client::builder().no_proxy().build().map_err(failed)?;
    let request = client.post(&url).header("content-type", "application/json").body("{}");
    let text = request.send().await.map_err(failed)?.text().await.map_err(failed)?;
    serde_json::from_str(&text).map_err(|_| format!("{url} answers: {text}"))
}
