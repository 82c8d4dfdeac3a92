// The chat page: draws the server's picture, and sends the user's actions.

import { el, icon, markdown, webLink } from "./text.js";
import { parse, suggest } from "./typing.js";

const $ = (id) => document.getElementById(id);
const STYLES = { 1: "primary", 2: "secondary", 3: "success", 4: "danger" };

let people = [];
let picture = null;
let source = null;
let channelId = null;
let typingTimer = null;
/** The lead of the server's clock over this browser's. */
let aheadMs = 0;
// For each user, while the page is open: the current place, and the messages read, dismissed and failed.
const memory = new Map();

function mine() {
  const me = picture?.me ?? "";
  if (!memory.has(me)) memory.set(me, { channel: null, read: new Map(), dismissed: new Set(), failures: [], drafts: new Map() });
  return memory.get(me);
}

const channel = () => picture?.channels.find(({ id }) => id === channelId) ?? null;
const userName = (id) => picture.users.find((user) => user.id === id)?.name ?? "unknown";
const newest = (place) => place.messages.at(-1)?.id ?? "0";

async function act(deed) {
  try {
    const response = await fetch("/chat/act", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ person: picture.me, ...deed }),
    });
    if (!response.ok) return { error: `The playground answered ${response.status}.` };
    return await response.json();
  } catch {
    return { error: "The playground does not answer. Is it still running?" };
  }
}

/** Sends an action and shows its result: a dialog, or an error in red. */
async function perform(deed, at = channelId) {
  const answer = await act(deed);
  if (answer.dialog) openDialog(answer.dialog, at);
  if (answer.error) {
    mine().failures.push({ channel: at, text: answer.error, at_ms: Date.now() + aheadMs });
    draw();
  }
  return answer;
}

// --- places ---

function placeButton(place, sign, thread = false) {
  const unread = place.id !== channelId && BigInt(newest(place)) > BigInt(mine().read.get(place.id) ?? "0");
  return el("button", {
    type: "button",
    class: `place${thread ? " thread" : ""}${unread ? " unread" : ""}${place.archived ? " archived" : ""}`,
    "aria-current": place.id === channelId ? "page" : null,
    "data-channel": place.id,
    onclick: () => openChannel(place.id),
  }, el("span", { class: "sign", "aria-hidden": "true" }, sign), el("span", { class: "name" }, place.name));
}

function drawPlaces() {
  const parts = [];
  for (const guild of picture.guilds) {
    parts.push(el("h2", {}, guild.name));
    for (const place of picture.channels.filter(({ guild: id, kind }) => id === guild.id && kind === "text")) {
      parts.push(placeButton(place, "#"));
      const threads = picture.channels.filter(({ parent }) => parent === place.id);
      for (const thread of threads) parts.push(placeButton(thread, icon(thread.kind === "private_thread" ? "lock" : "thread"), true));
    }
  }
  parts.push(el("h2", {}, "Direct messages"));
  for (const place of picture.channels.filter(({ kind }) => kind === "dm")) parts.push(placeButton(place, "@"));
  const focused = document.activeElement?.dataset?.channel;
  $("places").replaceChildren(...parts);
  if (focused) $("places").querySelector(`[data-channel="${focused}"]`)?.focus();
}

function openChannel(id) {
  if (!picture.channels.some((place) => place.id === id)) return;
  const own = mine();
  if (channelId) own.drafts.set(channelId, $("draft").value);
  channelId = id;
  own.channel = id;
  $("draft").value = own.drafts.get(id) ?? "";
  showSide(false);
  draw(true);
  if (matchMedia("(pointer: fine)").matches) $("draft").focus();
}

function showSide(open) {
  $("side").classList.toggle("open", open);
  $("shade").hidden = !open;
  $("menu").setAttribute("aria-expanded", String(open));
}

// --- users ---

function face(id, name, small = false) {
  const bot = picture ? id === picture.bot : false;
  const color = people.findIndex((person) => person.id === id) % 5;
  return el("span", { class: `face${small ? " small" : ""}${bot ? " bot" : ` c${color}`}`, "aria-hidden": "true" }, name.slice(0, 1).toUpperCase());
}

function drawPeople() {
  $("who").replaceChildren(...people.map(({ id, name }) => el("button", {
    type: "button", role: "radio", "aria-checked": String(id === picture?.me), "data-person": id, onclick: () => become(id),
  }, face(id, name, true), name)));
}

function become(id) {
  if (picture && channelId) mine().drafts.set(channelId, $("draft").value);
  source?.close();
  channelId = null;
  picture = null;
  history.replaceState(null, "", "#" + (people.find((person) => person.id === id)?.name ?? ""));
  source = new EventSource(`/chat/events?person=${encodeURIComponent(id)}`);
  source.onmessage = ({ data }) => {
    picture = JSON.parse(data);
    aheadMs = picture.now_ms - Date.now();
    const first = channelId === null;
    if (first || !channel()) {
      const wanted = mine().channel;
      const place = picture.channels.find((one) => one.id === wanted) ?? picture.channels.find(({ kind }) => kind === "text") ?? picture.channels[0];
      channelId = place?.id ?? null;
      if (first) $("draft").value = mine().drafts.get(channelId) ?? "";
    }
    draw(first);
  };
  source.onerror = () => {
    $("state").className = "";
    $("state").textContent = "Reconnecting…";
  };
}

// --- messages ---

const about = () => ({
  userName,
  openChannel,
  nowMs: picture.now_ms,
  channelName: (id) => "#" + (picture.channels.find((place) => place.id === id)?.name ?? "unknown"),
});

function drawButton(message, button) {
  if (button.url) {
    const href = webLink(button.url);
    return el("a", { class: "button", href, target: "_blank", rel: "noopener noreferrer" }, button.label, " ", icon("out"));
  }
  const node = el("button", { type: "button", class: `button ${STYLES[button.style] ?? ""}`, disabled: button.disabled, onclick: async () => {
    node.disabled = true;
    node.classList.add("busy");
    await perform({ act: "press", message: message.id, custom_id: button.custom_id });
    node.disabled = button.disabled;
    node.classList.remove("busy");
  } }, button.label);
  return node;
}

function drawEmbed(embed) {
  const href = embed.url ? webLink(embed.url) : null;
  const title = embed.title && el("h3", {}, href ? el("a", { href, target: "_blank", rel: "noopener noreferrer" }, embed.title) : embed.title);
  const node = el("section", { class: "embed" }, title,
    embed.description && el("div", { class: "text" }, ...markdown(embed.description, about())),
    embed.fields.length > 0 && el("dl", {}, embed.fields.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, ...markdown(value, about()))))),
    embed.footer && el("footer", {}, embed.footer));
  if (typeof embed.color === "number") node.style.borderLeftColor = "#" + embed.color.toString(16).padStart(6, "0");
  return node;
}

function noticeText(message) {
  const whom = message.mentions.map(userName).join(", ");
  if (message.kind === 1) return `${message.name} added ${whom} to the thread.`;
  if (message.kind === 2) return `${message.name} removed ${whom} from the thread.`;
  if (message.kind === 18) return `${message.name} started a thread: ${message.text}`;
  return null;
}

function drawMessage(message, before) {
  const notice = noticeText(message);
  if (notice) return el("li", { class: "notice" }, "→ ", notice);
  const close = before && before.author === message.author && message.at_ms - before.at_ms < 300000;
  const follows = close && before.ephemeral === message.ephemeral && !noticeText(before) && message.kind === 0;
  const pings = message.mentions.includes(picture.me) && message.author !== picture.me;
  const time = new Date(message.at_ms);
  const thread = picture.channels.find(({ id, parent }) => id === message.id && parent);
  const body = el("div", {},
    el("div", { class: "meta" }, el("strong", {}, message.name),
      message.author === picture.bot && el("span", { class: "tag" }, "APP"),
      el("time", { datetime: time.toISOString(), title: time.toLocaleString() }, time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }))),
    message.thinking
      ? el("div", { class: "text dots" }, el("i"), el("i"), el("i"), ` ${message.name} is thinking…`)
      : message.text && el("div", { class: "text" }, ...markdown(message.text, about()), message.edited && el("span", { class: "edited" }, " (edited)")),
    message.embeds.map(drawEmbed),
    message.buttons.length > 0 && el("div", { class: "buttons" }, message.buttons.map((button) => drawButton(message, button))),
    thread && el("div", { class: "buttons" }, el("button", { type: "button", class: "button", onclick: () => openChannel(thread.id) }, icon("thread"), " ", thread.name)),
    message.ephemeral && el("p", { class: "only" }, icon("eye"), " Only you can see this · ", el("button", { type: "button", onclick: () => { mine().dismissed.add(message.id); draw(); } }, "Dismiss")));
  const classes = `message${follows ? " follows" : ""}${message.ephemeral ? " ephemeral" : ""}${pings ? " pings" : ""}`;
  return el("li", { class: classes, "data-message": message.id }, face(message.author, message.name), body);
}

function drawFailure({ text, at_ms }) {
  return el("li", { class: "message ephemeral failed" }, face(picture.bot, "!"),
    el("div", {}, el("div", { class: "text" }, text), el("p", { class: "only" }, icon("eye"), " Only you can see this · ",
      el("button", { type: "button", onclick: () => { mine().failures = mine().failures.filter((one) => one.at_ms !== at_ms); draw(); } }, "Dismiss"))));
}

function drawEmpty(place) {
  const words = place.kind === "dm" ? "Write to the bot, or type / for its commands." : place.parent ? "Write here: in a thread every message of its owner goes to the agent."
    : "Type /auth start to sign in. Then type /ask hello: an agent answers in a thread of its own, with your login.";
  return el("li", { class: "empty" }, el("strong", {}, (place.kind === "text" ? "#" : "") + place.name), words);
}

// A message is drawn again only if it differs, so that a press or a selection is not lost.
let drawn = "";

function drawMessages(jump) {
  const place = channel();
  const own = mine();
  const list = $("messages");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
  const shown = place.messages.filter(({ id }) => !own.dismissed.has(id));
  const failures = own.failures.filter((one) => one.channel === place.id);
  const threads = picture.channels.filter(({ parent }) => parent === place.id).map(({ id, name }) => [id, name]);
  const key = JSON.stringify([picture.me, place.id, shown, failures, threads]);
  if (key !== drawn) {
    drawn = key;
    const items = [...shown.map((message, at) => [message.at_ms, drawMessage(message, shown[at - 1])]), ...failures.map((one) => [one.at_ms, drawFailure(one)])];
    items.sort((a, b) => a[0] - b[0]);
    list.replaceChildren(...(items.length ? items.map(([, node]) => node) : [drawEmpty(place)]));
    if (atEnd || jump) list.scrollTop = list.scrollHeight;
  }
  own.read.set(place.id, newest(place));
}

function drawTyping() {
  clearTimeout(typingTimer);
  const now = channel().typing;
  $("typing").textContent = now.length ? `${now.map(({ name }) => name).join(" and ")} is typing…` : "";
  if (now.length) {
    typingTimer = setTimeout(() => { $("typing").textContent = ""; }, Math.max(...now.map(({ for_ms }) => for_ms)));
  }
}

function draw(jump = false) {
  const place = channel();
  drawPeople();
  if (!place) return;
  drawMessages(jump);
  drawPlaces();
  drawTyping();
  const sign = { text: "#", dm: "@" }[place.kind] ?? "";
  const drawnSign = place.parent ? [icon(place.kind === "private_thread" ? "lock" : "thread"), " "] : [sign];
  $("title").replaceChildren(...drawnSign, place.name);
  $("about").textContent = place.parent ? `${place.archived ? "Archived · " : ""}${place.kind === "private_thread" ? "Private thread" : "Thread"} with ${place.members.join(", ")}` : "";
  $("state").className = picture.connected ? "on" : "";
  $("state").textContent = picture.connected ? "Bot online" : "Bot offline";
  $("draft").placeholder = `Message ${sign}${place.name}, or type /`;
  document.title = `${sign}${place.name} · threadkey playground`;
}

// --- dialog ---

function openDialog(dialog, at) {
  const wrong = el("p", { class: "wrong", role: "alert", hidden: true });
  const inputs = dialog.inputs.map((input) => {
    const field = el(input.paragraph ? "textarea" : "input", {
      name: input.id, placeholder: input.placeholder, required: input.required, maxlength: input.max, minlength: input.min || null,
      rows: input.paragraph ? 4 : null, autocomplete: "off", spellcheck: "false",
    });
    field.value = input.value;
    return el("label", {}, input.label, input.required && el("i", {}, " *"), field);
  });
  const form = el("form", { method: "dialog" }, el("h2", {}, dialog.title), wrong, inputs,
    el("div", { class: "row" }, el("button", { type: "button", class: "button", onclick: () => $("dialog").close() }, "Cancel"),
      el("button", { type: "submit", class: "button primary" }, "Submit")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const submit = form.querySelector("[type=submit]");
    submit.disabled = true;
    const values = dialog.inputs.map(({ id }) => [id, form.elements.namedItem(id).value]);
    const answer = await act({ act: "submit", dialog: dialog.key, values });
    submit.disabled = false;
    if (answer.error) {
      wrong.textContent = answer.error === "The application did not respond" ? "Something went wrong. Try again." : answer.error;
      wrong.hidden = false;
      return;
    }
    $("dialog").close();
    if (answer.dialog) openDialog(answer.dialog, at);
  });
  $("dialog").replaceChildren(form);
  if (!$("dialog").open) $("dialog").showModal();
  form.querySelector("input, textarea")?.focus();
}

// --- composer ---

let suggestions = [];
let selected = 0;
let asked = 0;

async function refreshSuggestions() {
  const place = channel();
  const turn = ++asked;
  const text = $("draft").value.slice(0, $("draft").selectionStart);
  if (!place) return;
  const choices = async (path, option, so_far) => (await act({ act: "complete", channel: place.id, path, option, so_far })).choices ?? [];
  const found = await suggest(text, place.commands, picture.users, choices);
  if (turn !== asked) return;
  suggestions = found;
  selected = 0;
  drawSuggestions();
}

function drawSuggestions() {
  $("popup").hidden = !suggestions.length;
  $("popup").replaceChildren(...suggestions.map((one, at) => el("div", {
    id: `suggestion-${at}`, role: "option", "aria-selected": String(at === selected), onmousedown: (event) => { event.preventDefault(); choose(at); },
  }, el("b", {}, one.label, ...(one.marks ?? []).flatMap((mark) => [" ", el("em", {}, mark)])), el("span", {}, one.hint))));
  if (suggestions.length) $("draft").setAttribute("aria-activedescendant", `suggestion-${selected}`);
  else $("draft").removeAttribute("aria-activedescendant");
  $("popup").children[selected]?.scrollIntoView({ block: "nearest" });
}

function choose(at) {
  const draft = $("draft");
  const after = draft.value.slice(draft.selectionStart);
  draft.value = suggestions[at].insert + after;
  draft.selectionStart = draft.selectionEnd = suggestions[at].insert.length;
  draft.focus();
  refreshSuggestions();
}

function closeSuggestions() {
  asked++;
  suggestions = [];
  drawSuggestions();
}

async function send() {
  const place = channel();
  const text = $("draft").value.trim();
  if (!place || !text) return;
  const said = parse(text, place.commands, picture.users);
  closeSuggestions();
  if (said.wrong) {
    mine().failures.push({ channel: place.id, text: said.wrong, at_ms: Date.now() + aheadMs });
    draw(true);
    return;
  }
  $("draft").value = "";
  const answer = await perform(said.command ? { act: "command", channel: place.id, ...said.command } : { act: "say", channel: place.id, text: said.say }, place.id);
  if (answer.error && !$("draft").value) $("draft").value = text;
}

$("composer").addEventListener("submit", (event) => { event.preventDefault(); send(); });
$("draft").addEventListener("input", refreshSuggestions);
$("draft").addEventListener("blur", closeSuggestions);
$("draft").addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  const open = suggestions.length > 0;
  if (open && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
    event.preventDefault();
    selected = (selected + (event.key === "ArrowDown" ? 1 : suggestions.length - 1)) % suggestions.length;
    drawSuggestions();
  } else if (open && event.key === "Escape") {
    event.preventDefault();
    closeSuggestions();
  } else if (open && event.key === "Tab") {
    event.preventDefault();
    choose(selected);
  } else if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    // Enter sends a complete command, and takes the suggestion for an incomplete one.
    const whole = channel() && !parse($("draft").value.trim(), channel().commands, picture.users).wrong;
    if (open && !(whole && $("draft").value.startsWith("/"))) choose(selected);
    else send();
  }
});
$("menu").addEventListener("click", () => showSide(!$("side").classList.contains("open")));
$("shade").addEventListener("click", () => showSide(false));
document.addEventListener("keydown", (event) => { if (event.key === "Escape") showSide(false); });

$("send").replaceChildren(icon("send"));
people = await (await fetch("/chat/people")).json();
drawPeople();
const wanted = decodeURIComponent(location.hash.slice(1));
const start = people.find(({ name }) => name === wanted) ?? people[0];
if (start) become(start.id);
