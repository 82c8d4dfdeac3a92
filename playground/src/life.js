// The panel of refresh tokens: draws the server's pictures, and counts the seconds between them.

import { el } from "/chat/text.js";

const $ = (id) => document.getElementById(id);
const WORDS = { live: "can be spent", spent: "spent once", reused: "spent twice", revoked: "revoked", expired: "expired" };

let picture = null;
/** The lead of the provider's clock over this browser's, in milliseconds. */
let aheadMs = 0;

const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });

function token({ state, position, fingerprint, born_ms, spent_ms }) {
  const spent = spent_ms === null ? "" : `, spent ${clock(spent_ms)}`;
  const words = `Token ${position + 1}: ${WORDS[state] ?? state}\nborn ${clock(born_ms)}${spent}\nfingerprint ${fingerprint}`;
  return el("li", {}, el("span", { class: `token ${state}`, role: "img", title: words, "aria-label": words }));
}

function login(family) {
  const { account, tokens, earlier, refreshes, usable } = family;
  const times = refreshes === 1 ? "once" : `${refreshes} times`;
  const bar = el("i");
  const words = el("span", { class: "words" });
  const row = el("section", { class: `login${usable ? "" : " over"}` },
    el("h3", {}, `${account}`, el("small", {}, refreshes ? `refreshed ${times}` : "new")),
    el("ol", { class: "chain" },
      earlier > 0 && el("li", { class: "earlier" }, `${earlier} earlier `),
      tokens.map(token)),
    usable ? el("div", { class: "access" }, el("div", { class: "bar" }, bar), words)
      : el("div", { class: "access" }, "ended: sign in again"));
  return { row, tick: () => usable && tick(family, bar, words) };
}

function tick({ access_from_ms, access_until_ms }, bar, words) {
  const left = Math.max(0, access_until_ms - (Date.now() + aheadMs));
  const whole = access_until_ms - access_from_ms;
  bar.style.width = `${Math.min(100, (left / whole) * 100)}%`;
  words.textContent = left ? `access token: ${Math.ceil(left / 1000)} s` : "access token expired";
}

let logins = [];

function draw() {
  $("life-sign-ins").textContent = picture.sign_ins;
  $("life-refreshes").textContent = picture.refreshes;
  $("life-reuses").textContent = picture.reuses;
  $("life-bad").classList.toggle("some", picture.reuses > 0);
  open.replaceChildren("Tokens", el("span", { class: "more" }, ` · ${picture.refreshes} refreshes, ${picture.reuses} reuses`));
  logins = picture.families.map(login);
  const none = el("p", { class: "none" }, "No user has signed in yet. Each sign-in gets a row here: one dot for each refresh token, and a line to the token that replaced it.");
  $("life-rows").replaceChildren(...(logins.length ? logins.map(({ row }) => row) : [none]));
  logins.forEach(({ tick }) => tick());
}

const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;

async function press(button, path, words) {
  button.disabled = true;
  $("life-said").textContent = "One moment …";
  try {
    const response = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
    const answer = await response.json();
    $("life-said").textContent = answer.error ?? words(answer);
  } catch {
    $("life-said").textContent = "The playground does not answer. Is it still running?";
  }
  button.disabled = false;
}

const open = el("button", { id: "life-open", type: "button", onclick: () => show(true) }, "Tokens");

function show(shown) {
  $("life").classList.toggle("open", shown);
  if (shown) $("life-close").focus();
}

$("top").append(open);
$("life-close").addEventListener("click", () => show(false));
document.querySelector("main").addEventListener("pointerdown", ({ target }) => { if (target !== open) show(false); });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") show(false); });
$("life-expire").addEventListener("click", ({ target }) => press(target, "/life/expire", ({ seconds, logins }) =>
  logins === 0 ? "No user is signed in, so there is no token to expire. Press the other button, or sign in."
    : `${seconds} s have passed: ${count(logins, "access token has", "access tokens have")} expired. The next request refreshes each one once.`));
$("life-ask").addEventListener("click", ({ target }) => press(target, "/life/ask", ({ asked, answered, refreshes, reuses }) => {
  const missing = asked - answered;
  const late = missing ? ` ${count(missing, "answer has", "answers have")} not come yet.` : "";
  return `${asked} asked, ${count(refreshes, "refresh", "refreshes")}, ${count(reuses, "reuse", "reuses")}.${late}`;
}));

const source = new EventSource("/life/events");
source.onmessage = ({ data }) => {
  picture = JSON.parse(data);
  aheadMs = picture.now_ms - Date.now();
  draw();
};
setInterval(() => logins.forEach(({ tick }) => tick()), 1000);
