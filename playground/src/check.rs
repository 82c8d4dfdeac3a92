//! A script that acts as a user: signs in, asks the agent, and lets the token expire.

use serde_json::Value;

use threadkey_lookalike::{browser, discord::PATIENCE};

use crate::stage::Scene;

/// Runs the script. An event that does not come in time is a panic with the state at that time.
pub(crate) async fn run(scene: &Scene) -> Result<(), String> {
    let page = get(&scene.address).await?;
    expect(page.contains("/chat/page.js") && page.contains("/life/life.js"), "the page is incomplete")?;

    let alice = &scene.people[0];
    let reply = alice.command(&scene.general, "auth start", &[("provider", "acme")]).await;
    let link = reply.link("Sign in").ok_or_else(|| format!("no link to sign in with: {reply:?}"))?;
    let callback = browser::sign_in(&link, &alice.name).await;
    let shown = get(&callback.url).await?;
    expect(shown.contains(&callback.code), "the sign-in does not end on a page with the code")?;
    let form = reply.press("Enter code").await.modal();
    let input = form.inputs.first().ok_or("the form for the code has no input")?.custom_id.clone();
    let pasted = format!("{}#{}", callback.code, callback.state);
    let answer = form.submit(&[(&input, &pasted)]).await.message();
    answer.says("Signed in as").await;
    println!("{} signed in", alice.name);

    alice.command(&scene.general, "ask", &[("prompt", "Whose login do you hold?")]).await;
    let thread = alice.waits_for_threads(&scene.general, 1).await.remove(0);
    let answers = |count: usize| {
        alice.waits_for(&thread, move |seen| {
            let answers = seen.iter().filter(|message| message.text.contains("I hold **alice**'s login"));
            (answers.count() >= count).then_some(())
        })
    };
    answers(1).await;
    println!("the agent in her thread answered with her login");

    let panel = first_event(&format!("{}life/events", scene.address)).await?;
    expect(
        panel["families"][0]["account"] == "alice",
        &format!("the panel does not show her login: {panel}"),
    )?;

    let before = scene.server.events().total.refreshes;
    act(scene, "expire").await?;
    let asked = act(scene, "ask").await?;
    expect(asked["asked"] == 1, "no user asked")?;
    answers(2).await;
    let total = scene.server.events().total;
    expect(total.refreshes == before + 1, &format!("one refresh was due, and there were {total:?}"))?;
    expect(total.reuses == 0, "a refresh token was spent twice")?;
    println!("one refresh when her token had expired, and nothing spent twice");
    let found = scene.discord.violations();
    expect(found.is_empty(), &format!("Discord would have refused what the bot did: {found:?}"))?;
    println!("playground ok");
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
