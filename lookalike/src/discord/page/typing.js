// The text in the composer: commands with their options, mentions, and suggestions.

/** The command form whose path the text begins with, the longest first. */
function formOf(text, commands) {
  const fits = commands.filter(({ path }) => text === "/" + path || text.startsWith(`/${path} `));
  return fits.sort((a, b) => b.path.length - a.path.length)[0] ?? null;
}

/** Takes `provider:acme shared:true` apart; a value reaches up to the next option's name. */
function optionsOf(text, form) {
  const names = form.options.map((option) => option.name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  if (!names.length) return { given: [], stray: text.trim() };
  const pattern = new RegExp(`(?:^|\\s)(${names.join("|")}):`, "g");
  const starts = [...text.matchAll(pattern)];
  const given = starts.map((match, at) => {
    const from = match.index + match[0].length;
    const to = starts[at + 1]?.index ?? text.length;
    return [match[1], text.slice(from, to).trim()];
  });
  return { given, stray: text.slice(0, starts[0]?.index ?? text.length).trim() };
}

/** The action that the text would send: `{say}`, `{command}` or `{wrong}`. */
export function parse(text, commands, users) {
  if (!text.startsWith("/")) {
    const byLength = [...users].sort((a, b) => b.name.length - a.name.length);
    let say = text;
    for (const user of byLength) say = say.replaceAll("@" + user.name, `<@${user.id}>`);
    return { say };
  }
  const form = formOf(text.trim(), commands);
  if (!form) return { wrong: "There is no such command here. Type / to see them." };
  const { given, stray } = optionsOf(text.trim().slice(form.path.length + 1), form);
  const free = form.options.find((option) => !given.some(([name]) => name === option.name));
  if (stray && !free) return { wrong: `“${stray}” belongs to no option of /${form.path}.` };
  // Words without an option's name are the first option that is still free.
  if (stray) given.unshift([free.name, stray]);
  const missing = form.options.find((option) => option.required && !given.some(([name, value]) => name === option.name && value));
  if (missing) return { wrong: `/${form.path} needs ${missing.name}.` };
  return { command: { path: form.path, options: given.filter(([, value]) => value) } };
}

/** Suggestions for the text up to the caret: `{label, hint, insert, send?}`; `fetch` asks the bot. */
export async function suggest(text, commands, users, fetchChoices) {
  const mention = /(?:^|\s)@([^\s@]*)$/.exec(text);
  if (mention && !text.startsWith("/")) {
    const start = text.length - mention[1].length;
    return users
      .filter(({ name }) => name.startsWith(mention[1].toLowerCase()))
      .map((user) => ({ label: "@" + user.name, hint: user.bot ? "the bot" : "", insert: text.slice(0, start) + user.name + " " }));
  }
  if (!text.startsWith("/")) return [];
  const form = formOf(text, commands);
  if (!form || text === "/" + form.path) {
    return commands
      .filter(({ path }) => ("/" + path).startsWith(text))
      .map(({ path, description, options }) => ({
        label: "/" + path,
        marks: options.filter((option) => option.required).map((option) => option.name),
        hint: description,
        insert: `/${path} ` + (options.find((option) => option.required) ? options.find((option) => option.required).name + ":" : ""),
      }));
  }
  return optionSuggestions(text, form, fetchChoices);
}

async function optionSuggestions(text, form, fetchChoices) {
  const body = text.slice(form.path.length + 2);
  const { given } = optionsOf(body, form);
  const [name, value] = given.at(-1) ?? [];
  const current = form.options.find((option) => option.name === name);
  const stem = current ? text.slice(0, text.lastIndexOf(name + ":") + name.length + 1) : text;
  if (current && !(value && text.endsWith(" "))) {
    let choices = current.choices.map((choice) => [choice.name, String(choice.value)]);
    if (current.boolean) choices = [["true", "true"], ["false", "false"]];
    if (current.autocomplete) choices = await fetchChoices(form.path, name, value);
    return choices
      .filter(([label, choice]) => current.autocomplete || (label + choice).toLowerCase().includes(value.toLowerCase()))
      .filter(([, choice]) => choice !== value)
      .map(([label, choice]) => ({ label, hint: name, insert: `${stem}${choice} ` }));
  }
  return form.options
    .filter((option) => !given.some(([known]) => known === option.name))
    .map((option) => ({
      label: option.name,
      marks: option.required ? ["required"] : [],
      hint: option.description,
      insert: text.replace(/\S*$/, "").trimEnd() + ` ${option.name}:`,
    }));
}
