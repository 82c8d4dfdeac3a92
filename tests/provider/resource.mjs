// A protected resource beside the server (RFC 9728, RFC 8707): it takes only access tokens that name it as their
// audience. Its challenge makes it an MCP server for threadkey, whose authorization server this one is.

export const RESOURCE_SCOPE = 'mcp:tools';

export const resourceIndicators = (issuer, lifetimes, errors) => ({
  enabled: true,
  getResourceServerInfo: (_ctx, resource) => {
    if (resource !== `${issuer}/mcp`) throw new errors.InvalidTarget();
    return {
      // With `openid`, the userinfo endpoint refuses a token of this audience by 401.
      scope: `openid ${RESOURCE_SCOPE}`,
      audience: resource,
      accessTokenTTL: lifetimes.access_token_ttl,
      accessTokenFormat: 'opaque',
    };
  },
});

export function mountResource(provider, issuer) {
  provider.use(async (ctx, next) => {
    if (ctx.path === '/resource-metadata') {
      ctx.body = {
        resource: `${issuer}/mcp`,
        authorization_servers: [issuer],
        scopes_supported: ['openid', RESOURCE_SCOPE],
      };
    } else if (ctx.path === '/mcp') {
      const [scheme, value] = (ctx.get('authorization') || ' ').split(' ');
      const token = scheme === 'Bearer' ? await provider.AccessToken.find(value) : undefined;
      if (token?.aud === `${issuer}/mcp` && !token.isExpired) {
        ctx.body = { sub: token.accountId, scope: token.scope };
      } else {
        ctx.status = 401;
        ctx.set('www-authenticate', `Bearer resource_metadata="${issuer}/resource-metadata"`);
        ctx.body = {};
      }
    } else {
      await next();
    }
  });
}
