// The events at the token endpoint, for assertions: counts per account, and every token request in order.

import * as crypto from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { EXCHANGE } from './clients.mjs';

const REQUEST_LIMIT = 100000;

// The first 12 hex digits of SHA-256: enough to distinguish tokens, and useless as a secret.
export const fingerprint = (secret) => crypto.createHash('sha256').update(secret).digest('hex').slice(0, 12);

const noCounts = () => ({ sign_ins: 0, refreshes: 0, reuses: 0, revoked: 0, failed: 0 });

export function eventLog(provider) {
  const accounts = {};
  const total = noCounts();
  const requests = [];
  const changes = new EventEmitter().setMaxListeners(0);
  const tokens = new Map(); // fingerprint of a code or a refresh token -> { account, spent }
  const grants = new Map(); // grant id -> account

  function count(account, what) {
    total[what] += 1;
    if (account) (accounts[account] ??= noCounts())[what] += 1;
  }

  for (const kind of ['authorization_code', 'refresh_token']) {
    provider.on(`${kind}.saved`, (token) => {
      tokens.set(fingerprint(token.jti), { account: token.accountId, spent: false });
      grants.set(token.grantId, token.accountId);
    });
    provider.on(`${kind}.consumed`, (token) => {
      const known = tokens.get(fingerprint(token.jti));
      if (known) known.spent = true;
    });
  }
  provider.on('grant.revoked', (_ctx, grantId) => count(grants.get(grantId), 'revoked'));

  return {
    // Records a token request that has arrived and is not decided yet.
    arrived(form) {
      if (requests.length >= REQUEST_LIMIT) throw new Error(`more than ${REQUEST_LIMIT} token requests`);
      const presented = form.refresh_token ?? form.code;
      const key = typeof presented === 'string' ? fingerprint(presented) : null;
      const entry = {
        seq: requests.length + 1,
        grant_type: String(form.grant_type ?? ''),
        account: tokens.get(key)?.account ?? null,
        presented: key,
        issued: null,
        outcome: 'pending',
        status: null,
        error: null,
      };
      requests.push(entry);
      return entry;
    },

    // Must be called right after the provider's decision, before any other token request is processed.
    answered(entry, ctx) {
      const known = tokens.get(entry.presented);
      const refresh = entry.grant_type === 'refresh_token';
      entry.status = ctx.status;
      entry.error = ctx.body?.error ?? null;
      // A device code, CIBA and an exchange present no token that is known here.
      entry.account ??= ctx.oidc?.entities?.AccessToken?.accountId ?? null;
      if (ctx.status === 200 && entry.grant_type === EXCHANGE) {
        // It spends nothing and begins nothing.
        entry.outcome = 'exchanged';
      } else if (ctx.status === 200) {
        entry.outcome = refresh ? 'refreshed' : 'signed_in';
        entry.issued = ctx.body.refresh_token ? fingerprint(ctx.body.refresh_token) : null;
        count(entry.account, refresh ? 'refreshes' : 'sign_ins');
      } else if (known?.spent) {
        entry.outcome = 'reused';
        count(entry.account, 'reuses');
      } else {
        entry.outcome = 'failed';
        count(entry.account, 'failed');
      }
      changes.emit('settled');
    },

    async settled(wanted) {
      while (requests.filter((entry) => entry.outcome !== 'pending').length < wanted) await once(changes, 'settled');
    },

    report: () => ({ accounts, total, requests }),
  };
}
