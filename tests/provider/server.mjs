// The certified authorization server of the tests: oidc-provider with strict rotation.
//
// It prints one JSON line {"issuer", "port"} when it listens, and ends when its stdin closes, so that a test that
// dies ends it too. GET /events returns the events at the token endpoint (with ?settled=N it waits until N
// requests are decided); POST /control holds requests back (GET /control?held=N answers once N are held), and with
// {"rotate_keys": true} replaces the key that signs id tokens, with {"forget_client": ID} loses a registered client. With --every-client there are a client for each way of
// authenticating (GET /client-keys returns their private keys), registration (RFC 7591) and token exchange (RFC 8693).

import * as crypto from 'node:crypto';
import * as http from 'node:http';
import { parseArgs } from 'node:util';
import { everyClient, fewClients, signingKeys } from './clients.mjs';
import { eventLog } from './events.mjs';
import { mountExchange } from './exchange.mjs';
import { ciba, deviceFlow, mountGrants } from './grants.mjs';
import { mountPages } from './pages.mjs';
import { mountResource, RESOURCE_SCOPE, resourceIndicators } from './resource.mjs';
import { tokenGate } from './gate.mjs';

// oidc-provider warns of settings that are wrong in production, such as a store in memory; a test server wants them.
for (const level of ['info', 'warn']) {
  const say = console[level];
  console[level] = (...words) => (/^oidc-provider (NOTICE|WARNING):/.test(words[0]) ? undefined : say(...words));
}
const { Provider, errors } = await import('oidc-provider');

const { values: args } = parseArgs({
  options: {
    'access-token-ttl': { type: 'string', default: '5' }, // seconds
    'refresh-token-ttl': { type: 'string', default: '86400' }, // seconds
    'client-id': { type: 'string', default: 'threadkey' },
    'issuer-path': { type: 'string', default: '' }, // such as /tenant
    'every-client': { type: 'boolean', default: false },
    'redirect-uri': { type: 'string', multiple: true, default: ['http://127.0.0.1:1/callback'] },
  },
});

// oidc-provider calls URL.parse, which Node.js has from 22.1 on.
URL.parse ??= (url, base) => (URL.canParse(url, base) ? new URL(url, base) : null);

const lifetimes = {
  access_token_ttl: seconds(args['access-token-ttl']),
  refresh_token_ttl: seconds(args['refresh-token-ttl']),
};

function seconds(value) {
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1) throw new Error(`a lifetime is a whole number of seconds, not ${value}`);
  return number;
}

const every = args['every-client'];
const { clients, keys: clientKeys } = every
  ? everyClient(args['client-id'], args['redirect-uri'])
  : { clients: fewClients(args['client-id'], args['redirect-uri']), keys: {} };

const cookieKeys = [crypto.randomBytes(32).toString('hex')];
const server = http.createServer();
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  const issuer = `http://127.0.0.1:${port}${args['issuer-path']}`;
  serve(issuer);
  process.stdout.write(`${JSON.stringify({ issuer, port })}\n`);
});
process.stdin.on('close', () => process.exit(0));
process.stdin.resume();

// Serves with a new signing key from now on, and with a new log. The grants stay: instances share the store in memory.
function serve(issuer) {
  const path = args['issuer-path'];
  const answer = build(issuer).callback();
  server.removeAllListeners('request');
  server.on('request', (request, response) => {
    // As Express mounts an application below a path.
    if (path && request.url.startsWith(`${path}/`)) {
      request.originalUrl = request.url;
      request.url = request.url.slice(path.length);
    }
    answer(request, response);
  });
}

function build(issuer) {
  const resources = resourceIndicators(issuer, lifetimes, errors);
  const provider = new Provider(issuer, {
    clients,
    jwks: { keys: signingKeys(every ? ['ES256', 'RS256', 'EdDSA'] : ['ES256']) },
    scopes: ['openid', 'offline_access', RESOURCE_SCOPE],
    cookies: { keys: cookieKeys },
    features: {
      devInteractions: { enabled: false },
      revocation: { enabled: true },
      registration: { enabled: every },
      clientIdMetadataDocument: { enabled: every, ack: 'draft-02' },
      resourceIndicators: resources,
      deviceFlow,
      ciba,
    },
    fetch: fetchThroughProxy,
    pkce: { required: () => true },
    claims: { openid: ['sub', 'name', 'email', 'email_verified'] },
    findAccount: (_ctx, sub) => ({
      accountId: sub,
      claims: () => ({ sub, name: sub, email: `${sub}@example.com`, email_verified: true }),
    }),
    ttl: {
      AccessToken: () => lifetimes.access_token_ttl,
      RefreshToken: () => lifetimes.refresh_token_ttl,
      AuthorizationCode: 600,
      Grant: 14 * 86400,
      IdToken: 3600,
      Interaction: 3600,
      Session: 14 * 86400,
    },
    rotateRefreshToken: true,
    revokeGrantPolicy: () => true,
  });

  provider.on('server_error', (_ctx, error) => console.error(error));

  const log = eventLog(provider);
  const gate = tokenGate(log);
  provider.use(async (ctx, next) => {
    if (ctx.path === '/events' && ctx.method === 'GET') {
      await log.settled(Number(ctx.query.settled ?? 0));
      ctx.body = log.report();
    } else if (ctx.path === '/control' && ctx.method === 'GET') {
      await gate.heldAtLeast(Number(ctx.query.held ?? 0));
      ctx.body = { ...gate.state(), ...lifetimes };
    } else if (ctx.path === '/control' && ctx.method === 'POST') {
      const change = JSON.parse(await body(ctx.req));
      for (const name of Object.keys(lifetimes)) {
        if (change[name] !== undefined) lifetimes[name] = seconds(change[name]);
      }
      gate.set(change);
      if (change.rotate_keys) serve(issuer);
      if (change.forget_client) await provider.Client.adapter.destroy(change.forget_client);
      ctx.body = { ...gate.state(), ...lifetimes };
    } else if (ctx.path === '/client-keys' && ctx.method === 'GET') {
      ctx.body = clientKeys;
    } else if (ctx.path === '/.well-known/openid-configuration') {
      await gate.metadata();
      await next();
    } else {
      await next();
    }
  });
  provider.use(askForConsentOffline);
  mountGrants(provider);
  mountResource(provider, issuer);
  if (every) mountExchange(provider, errors, resources.getResourceServerInfo);
  mountPages(provider);
  provider.use((ctx, next) => (ctx.path === '/token' && ctx.method === 'POST' ? gate.pass(ctx, next) : next()));
  return provider;
}

// Stands for the proxy that serves a host such as p8443.bot.example over TLS: the program is at that port of this
// machine.
function fetchThroughProxy(url, options) {
  const { hostname, pathname } = new URL(url);
  const [, port] = /^p(\d+)\.bot\.example$/.exec(hostname) ?? [];
  if (!port) throw new Error(`there is no ${hostname} in the tests`);
  return fetch(`http://127.0.0.1:${port}${pathname}`, { ...options, dispatcher: undefined });
}

// OpenID Connect Core §11: `offline_access` is ignored without `prompt=consent`. Most providers ask for consent
// without it; so does this one.
function askForConsentOffline(ctx, next) {
  const { scope = '', prompt } = ctx.query;
  if (ctx.path === '/auth' && prompt === undefined && String(scope).split(' ').includes('offline_access')) {
    ctx.query = { ...ctx.query, prompt: 'consent' };
  }
  return next();
}

async function body(req) {
  const chunks = [];
  let length = 0;
  for await (const chunk of req) {
    length += chunk.length;
    if (length > 65536) throw new Error('the body is over 64 KiB');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}
