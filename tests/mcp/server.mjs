// An MCP server of the official SDK that demands OAuth, with an authorization server of the same SDK
// on a port of its own. Prints one line of JSON with its URL, and ends when its input ends.
// With --documents the authorization server takes client id metadata documents.
import { randomUUID } from 'node:crypto';
import express from 'express';
import { z } from 'zod';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { mcpAuthRouter, mcpAuthMetadataRouter, createOAuthMetadata } from '@modelcontextprotocol/sdk/server/auth/router.js';
import { requireBearerAuth } from '@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js';
import { InvalidGrantError } from '@modelcontextprotocol/sdk/server/auth/errors.js';

const clients = new Map();
const codes = new Map();
const access = new Map();
const refresh = new Map();
const log = [];
// All tokens that there ever were.
const issued = [];
let demanded = ['mcp:tools'];
const takesDocuments = process.argv.includes('--documents');

async function documentOf(id) {
  const document = await (await fetch(id)).json();
  log.push({ what: 'document', document });
  return document.client_id === id ? document : undefined;
}

function issue(clientId, scopes, resource) {
  const tokens = { access_token: randomUUID(), token_type: 'bearer', expires_in: 3600, scope: scopes.join(' '), refresh_token: randomUUID() };
  access.set(tokens.access_token, { token: tokens.access_token, clientId, scopes, expiresAt: Math.floor(Date.now() / 1000) + 3600, resource });
  issued.push(tokens.access_token, tokens.refresh_token);
  refresh.set(tokens.refresh_token, { clientId, scopes, resource });
  return tokens;
}

const provider = {
  clientsStore: {
    getClient: (id) => (takesDocuments && id.startsWith('https://') ? documentOf(id) : clients.get(id)),
    registerClient: (client) => {
      log.push({ what: 'register', client });
      clients.set(client.client_id, client);
      return client;
    },
  },
  async authorize(client, params, res) {
    log.push({ what: 'authorize', scopes: params.scopes, resource: params.resource?.href });
    const code = randomUUID();
    codes.set(code, { client, params });
    const url = new URL(params.redirectUri);
    url.searchParams.set('code', code);
    if (params.state !== undefined) url.searchParams.set('state', params.state);
    res.redirect(url.href);
  },
  async challengeForAuthorizationCode(_client, code) {
    const found = codes.get(code);
    if (!found) throw new InvalidGrantError('unknown code');
    return found.params.codeChallenge;
  },
  async exchangeAuthorizationCode(client, code, _verifier, redirectUri, resource) {
    const found = codes.get(code);
    codes.delete(code);
    if (!found || found.client.client_id !== client.client_id) throw new InvalidGrantError('unknown code');
    log.push({ what: 'exchange', resource: resource?.href, redirectUri });
    return issue(client.client_id, found.params.scopes ?? [], resource?.href);
  },
  async exchangeRefreshToken(client, token, _scopes, resource) {
    const found = refresh.get(token);
    refresh.delete(token);
    if (!found || found.clientId !== client.client_id) throw new InvalidGrantError('unknown refresh token');
    log.push({ what: 'refresh', resource: resource?.href });
    return issue(client.client_id, found.scopes, resource?.href);
  },
  async verifyAccessToken(token) {
    const found = access.get(token);
    if (!found) throw new (await import('@modelcontextprotocol/sdk/server/auth/errors.js')).InvalidTokenError('unknown token');
    return { ...found, resource: found.resource ? new URL(found.resource) : undefined };
  },
};

function listen(app) {
  return new Promise((done) => {
    const server = app.listen(0, '127.0.0.1', () => done(`http://127.0.0.1:${server.address().port}`));
  });
}

const authApp = express();
const issuer = new URL(await listen(authApp));
if (takesDocuments) {
  const metadata = createOAuthMetadata({ provider, issuerUrl: issuer, scopesSupported: ['mcp:tools', 'offline_access'] });
  authApp.get('/.well-known/oauth-authorization-server', (_req, res) =>
    res.json({ ...metadata, client_id_metadata_document_supported: true }));
}
authApp.use(mcpAuthRouter({ provider, issuerUrl: issuer, scopesSupported: ['mcp:tools', 'mcp:write', 'offline_access'] }));

const app = express();
const base = await listen(app);
const resource = new URL('/mcp', base);
const metadata = createOAuthMetadata({ provider, issuerUrl: issuer, scopesSupported: ['mcp:tools'] });
app.use(mcpAuthMetadataRouter({ oauthMetadata: metadata, resourceServerUrl: resource, scopesSupported: ['mcp:tools'], resourceName: 'test' }));
app.get('/log', (_req, res) => res.json(log));
// Ends all access tokens before their time.
app.post('/expire', (_req, res) => {
  access.clear();
  res.json({});
});
app.get('/tokens', (_req, res) => res.json(issued));
app.post('/demand/:scope', (req, res) => {
  demanded = [req.params.scope];
  res.json(demanded);
});
const guard = (req, res, next) => requireBearerAuth({
  verifier: provider,
  requiredScopes: demanded,
  resourceMetadataUrl: new URL('/.well-known/oauth-protected-resource/mcp', base).href,
})(req, res, next);

function tools() {
  const server = new McpServer({ name: 'test', version: '1.0.0' }, { capabilities: { logging: {} } });
  server.registerTool('greet', { description: 'greets' }, async () => ({ content: [{ type: 'text', text: 'hello' }] }));
  // Sends news first, and ends only when the test lets it, or when it is cancelled.
  server.registerTool('wait', { description: 'waits' }, (extra) => new Promise((done) => {
    log.push({ what: 'wait' });
    extra.sendNotification({ method: 'notifications/message', params: { level: 'info', data: 'waiting' } });
    const end = (text) => () => {
      log.push({ what: text });
      done({ content: [{ type: 'text', text }] });
    };
    extra.signal.addEventListener('abort', end('cancelled'));
    waiting.push(end('released'));
  }));
  server.registerTool('ask', { description: 'asks the client' }, async (extra) => {
    const roots = await extra.sendRequest({ method: 'roots/list' }, z.object({ roots: z.array(z.any()) }));
    return { content: [{ type: 'text', text: `${roots.roots.length} roots` }] };
  });
  return server;
}

const waiting = [];
app.post('/release', (_req, res) => {
  waiting.splice(0).forEach((end) => end());
  res.json({});
});

// By default each request is for itself and answered by JSON. With --sessions there are streams.
const sessions = new Map();
if (process.argv.includes('--sessions')) {
  app.post('/forget', (_req, res) => {
    sessions.clear();
    res.json({});
  });
  app.post('/announce', (_req, res) => {
    for (const { server } of sessions.values()) server.sendToolListChanged();
    res.json(sessions.size);
  });
  app.all('/mcp', express.json(), guard, async (req, res) => {
    log.push({ what: 'http', method: req.method, message: req.body?.method, headers: req.headers });
    let session = sessions.get(req.headers['mcp-session-id']);
    if (!session && req.headers['mcp-session-id']) return res.status(404).json({ jsonrpc: '2.0', error: { code: -32001, message: 'Session not found' }, id: null });
    if (!session) {
      const server = tools();
      const transport = new StreamableHTTPServerTransport({
        sessionIdGenerator: () => randomUUID(),
        onsessioninitialized: (id) => sessions.set(id, session),
      });
      session = { server, transport };
      await server.connect(transport);
    }
    await session.transport.handleRequest(req, res, req.body);
  });
} else {
  app.post('/mcp', express.json(), guard, async (req, res) => {
    const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined, enableJsonResponse: true });
    await tools().connect(transport);
    await transport.handleRequest(req, res, req.body);
  });
}

console.log(JSON.stringify({ url: resource.href, base, issuer: issuer.href }));
process.stdin.on('close', () => process.exit(0)).resume();
