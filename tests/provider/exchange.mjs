// Token exchange (RFC 8693): an access token of the same client becomes one with fewer scopes, or for the resource.

import { EXCHANGE } from './clients.mjs';
import { RESOURCE_SCOPE } from './resource.mjs';

const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const PARAMETERS = ['subject_token', 'subject_token_type', 'requested_token_type', 'audience', 'resource', 'scope'];

export function mountExchange(provider, errors, getResourceServerInfo) {
  provider.registerGrantType(EXCHANGE, async (ctx) => {
    const { client, params } = ctx.oidc;
    const wrong = PARAMETERS.slice(1, 3).find((name) => (params[name] ?? ACCESS_TOKEN) !== ACCESS_TOKEN);
    if (wrong) throw new errors.InvalidRequest(`${wrong} must be an access token`);
    const subject = await provider.AccessToken.find(params.subject_token ?? '');
    if (!subject || subject.isExpired || subject.clientId !== client.clientId) {
      throw new errors.InvalidRequest('the subject token is not valid');
    }
    const { accountId, grantId, sessionUid } = subject;
    const issued = new provider.AccessToken({ accountId, client, grantId, gty: 'token_exchange', sessionUid });
    if (params.resource) {
      const server = getResourceServerInfo(ctx, params.resource);
      issued.resourceServer = new provider.ResourceServer(params.resource, server);
      issued.scope = RESOURCE_SCOPE;
    } else {
      const scopes = (params.scope ?? subject.scope).split(' ');
      if (scopes.some((scope) => !subject.scopes.has(scope))) throw new errors.InvalidScope('more than was granted');
      issued.scope = scopes.join(' ');
    }
    ctx.oidc.entity('AccessToken', issued);
    ctx.body = {
      access_token: await issued.save(),
      issued_token_type: ACCESS_TOKEN,
      token_type: 'Bearer',
      expires_in: issued.expiration,
      scope: issued.scope,
    };
  }, PARAMETERS, ['audience']);
}
