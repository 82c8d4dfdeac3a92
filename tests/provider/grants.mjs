// The grants without a link: the pages of device codes, and the other screen of CIBA.

const page = (title, rest = '') => `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>${title}</title></head><body><h1>${title}</h1>${rest}</body></html>`;

const show = (ctx, title, rest) => {
  ctx.type = 'html';
  ctx.body = page(title, rest);
};

export const deviceFlow = {
  enabled: true,
  userCodeInputSource: (ctx, form, _out, error) => show(ctx, error ? 'Not allowed' : 'Enter the code', error ? '' : form),
  userCodeConfirmSource: (ctx, form) => show(ctx, 'Is this your code?', form),
  successSource: (ctx) => show(ctx, 'The device is connected'),
};

// The requests that wait for a user, by account. POST /elsewhere answers one of them as the user would.
const waiting = new Map();

export const ciba = {
  enabled: true,
  deliveryModes: ['poll'],
  processLoginHint: (_ctx, hint) => hint.split('@')[0],
  verifyUserCode: () => undefined,
  validateRequestContext: () => undefined,
  validateBindingMessage: () => undefined,
  triggerAuthenticationDevice: (ctx, request, account) => {
    waiting.set(account.accountId, {
      request: request.jti,
      clientId: ctx.oidc.client.clientId,
      scope: ctx.oidc.params.scope,
      message: ctx.oidc.params.binding_message,
    });
  },
};

// Answers for the user, and shortens the interval of every poll to a second, so that tests wait for no longer.
export function mountGrants(provider) {
  provider.use(async (ctx, next) => {
    if (ctx.path === '/elsewhere' && ctx.method === 'POST') {
      const account = ctx.query.account;
      const asked = waiting.get(account);
      waiting.delete(account);
      const { errors } = await import('oidc-provider');
      const denial = new errors.AccessDenied('the user denied the request');
      const grant = new provider.Grant({ accountId: account, clientId: asked.clientId });
      grant.addOIDCScope(asked.scope);
      await grant.save();
      await provider.backchannelResult(asked.request, ctx.query.decision === 'allow' ? grant : denial);
      ctx.body = { binding_message: asked.message };
      return;
    }
    await next();
    const isOpening = ctx.path === '/device/auth' || ctx.path === '/backchannel';
    if (isOpening && ctx.status === 200) ctx.body = { ...ctx.body, interval: 1 };
  });
}
