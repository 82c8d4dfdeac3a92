// The pages that a user sees: the sign-in, and the consent.

const escape = (text) => String(text).replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);

const page = (title, form) => `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>${title}</title></head>
<body><h1>${title}</h1>${form}</body></html>`;

const loginPage = (uid) => page(
  'Sign in',
  `<form method="post" action="/interaction/${uid}">
<label>Who are you? <input type="text" name="login" required autofocus></label>
<button type="submit" name="decision" value="continue">Continue</button></form>`,
);

const consentPage = (uid, { account, client, scope }) => page(
  'Allow access?',
  `<p>${escape(client)} asks for ${escape(scope)} in the name of ${escape(account)}.</p>
<form method="post" action="/interaction/${uid}">
<button type="submit" name="decision" value="allow">Allow</button>
<button type="submit" name="decision" value="deny">Deny</button></form>`,
);

export function mountPages(provider) {
  provider.use(async (ctx, next) => {
    if (!ctx.path.startsWith('/interaction/')) return next();
    const interaction = await provider.interactionDetails(ctx.req, ctx.res);
    if (ctx.method === 'GET') {
      ctx.type = 'html';
      ctx.body = interaction.prompt.name === 'login'
        ? loginPage(interaction.uid)
        : consentPage(interaction.uid, {
          account: interaction.session.accountId,
          client: interaction.params.client_id,
          scope: interaction.params.scope,
        });
      return undefined;
    }
    const form = await readForm(ctx.req);
    const result = await decide(provider, interaction, form);
    ctx.status = 303;
    ctx.redirect(await provider.interactionResult(ctx.req, ctx.res, result, { mergeWithLastSubmission: true }));
    return undefined;
  });
}

async function decide(provider, { prompt, params, session }, form) {
  if (prompt.name === 'consent' && form.get('decision') !== 'allow') {
    return { error: 'access_denied', error_description: 'the user denied the request' };
  }
  if (prompt.name === 'login') return { login: { accountId: form.get('login') } };

  const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  for (const [resource, scopes] of Object.entries(prompt.details.missingResourceScopes ?? {})) {
    grant.addResourceScope(resource, scopes.join(' '));
  }
  return { consent: { grantId: await grant.save() } };
}

async function readForm(req) {
  let text = '';
  for await (const chunk of req) {
    text += chunk;
    if (text.length > 65536) throw new Error('the form is over 64 KiB');
  }
  return new URLSearchParams(text);
}
