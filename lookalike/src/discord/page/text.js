// Discord's markdown as DOM nodes. Text becomes text nodes only: nothing is parsed as HTML.

/** Creates an element, without the properties that are null. */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const ICONS = {
  lock: "M5 11h14v9H5z M8 11V8a4 4 0 0 1 8 0v3",
  thread: "M5 4v10a3 3 0 0 0 3 3h11 M15 13l4 4-4 4",
  eye: "M2 12s4-6 10-6 10 6 10 6-4 6-10 6S2 12 2 12z M12 9.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5z",
  send: "M4 12 20 4l-5 16-3.5-6.5z M11.5 13.5 20 4",
  out: "M14 4h6v6 M20 4 10 14 M18 14v6H4V6h6",
};

/** A small drawn sign, so that no emoji font is needed. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** Only web links are links. */
export function webLink(url) {
  try {
    const parsed = new URL(url);
    return ["http:", "https:"].includes(parsed.protocol) ? parsed.href : null;
  } catch {
    return null;
  }
}

function link(url, words) {
  const href = webLink(url);
  return href ? el("a", { href, target: "_blank", rel: "noopener noreferrer" }, ...words) : words;
}

function ago(seconds, nowMs) {
  const left = Math.round(seconds - nowMs / 1000);
  const [count, unit] =
    Math.abs(left) < 60 ? [left, "second"]
    : Math.abs(left) < 3600 ? [Math.round(left / 60), "minute"]
    : Math.abs(left) < 86400 ? [Math.round(left / 3600), "hour"]
    : [Math.round(left / 86400), "day"];
  return new Intl.RelativeTimeFormat("en", { numeric: "auto" }).format(count, unit);
}

function moment(seconds, style, nowMs) {
  const date = new Date(seconds * 1000);
  const formats = { t: { timeStyle: "short" }, T: { timeStyle: "medium" }, d: { dateStyle: "short" }, D: { dateStyle: "long" } };
  const words = style === "R" ? ago(seconds, nowMs)
    : new Intl.DateTimeFormat("en", formats[style] ?? { dateStyle: "medium", timeStyle: "short" }).format(date);
  return el("time", { datetime: date.toISOString(), title: date.toLocaleString() }, words);
}

// In this order: code, masked link, bare link, mention, channel, time, bold, underlined, struck, italic.
const INLINE = [
  [/^`([^`\n]+)`/, (m) => el("code", {}, m[1])],
  [/^\[([^\]\n]+)\]\(<?([^)\s>]+)>?(?: "[^"]*")?\)/, (m, about) => link(m[2], inline(m[1], about))],
  [/^<?(https?:\/\/[^\s<>]+[^\s<>.,;:!?)\]'"])>?/, (m) => link(m[1], [m[1]])],
  [/^<@!?(\d+)>/, (m, about) => el("span", { class: "mention" }, "@" + about.userName(m[1]))],
  [/^<#(\d+)>/, (m, about) => el("button", { class: "mention", type: "button", onclick: () => about.openChannel(m[1]) }, about.channelName(m[1]))],
  [/^<t:(-?\d{1,12})(?::([tTdDfFR]))?>/, (m, about) => moment(Number(m[1]), m[2], about.nowMs)],
  [/^\*\*([^\n]+?)\*\*/, (m, about) => el("strong", {}, ...inline(m[1], about))],
  [/^__([^\n]+?)__/, (m, about) => el("u", {}, ...inline(m[1], about))],
  [/^~~([^\n]+?)~~/, (m, about) => el("s", {}, ...inline(m[1], about))],
  [/^\*([^*\s][^*\n]*?)\*/, (m, about) => el("em", {}, ...inline(m[1], about))],
];

function inline(text, about) {
  const nodes = [];
  let plain = "";
  let rest = text;
  while (rest) {
    if (/^\\[*_~`[\]<>\\|#-]/.test(rest)) {
      plain += rest[1];
      rest = rest.slice(2);
      continue;
    }
    let hit = null;
    for (const [pattern, make] of INLINE) {
      const match = pattern.exec(rest);
      if (match) {
        hit = [match[0].length, make(match, about)];
        break;
      }
    }
    if (hit) {
      if (plain) nodes.push(plain);
      plain = "";
      nodes.push(...[hit[1]].flat());
      rest = rest.slice(hit[0]);
    } else {
      const next = rest.slice(1).search(/[`[<*_~\\]|https?:/);
      const take = next < 0 ? rest.length : next + 1;
      plain += rest.slice(0, take);
      rest = rest.slice(take);
    }
  }
  if (plain) nodes.push(plain);
  return nodes;
}

/** A whole message: fenced code, quotes, headings, then inline marks. */
export function markdown(text, about) {
  const nodes = [];
  for (const [index, part] of text.split(/```(?:[a-zA-Z0-9_+-]*\n)?([\s\S]*?)```/).entries()) {
    if (index % 2) {
      nodes.push(el("pre", {}, el("code", {}, part.replace(/\n$/, ""))));
      continue;
    }
    // The line break after a block is the block's own.
    const lines = (index ? part.replace(/^\n/, "") : part).split("\n");
    lines.forEach((line, at) => {
      const quote = /^> (.*)/.exec(line);
      const heading = /^#{1,3} (.+)/.exec(line);
      if (quote) nodes.push(el("blockquote", {}, ...inline(quote[1], about)));
      else if (heading) nodes.push(el("strong", {}, ...inline(heading[1], about)));
      else if (line.startsWith("-# ")) nodes.push(el("small", {}, ...inline(line.slice(3), about)));
      else nodes.push(...inline(line, about));
      if (at < lines.length - 1 && !quote) nodes.push("\n");
    });
  }
  return nodes;
}
