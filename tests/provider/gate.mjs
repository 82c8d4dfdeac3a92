// A test's control of the token endpoint: slows it down, and holds requests before or after they are processed.
// Requests for the server's metadata can be held, too.

import { EventEmitter, once } from 'node:events';
import * as querystring from 'node:querystring';

const BODY_LIMIT = 65536;

export function tokenGate(log) {
  let delay = 0;
  let line = Promise.resolve();
  const changes = new EventEmitter().setMaxListeners(0);
  const before = barrier(changes);
  const after = barrier(changes);
  const metadata = barrier(changes);

  return {
    set({ token_delay_ms: delayMs, hold, hold_before: holdBefore, hold_metadata: holdMetadata }) {
      if (delayMs !== undefined) delay = delayMs;
      if (holdBefore !== undefined) before.set(holdBefore);
      if (hold !== undefined) after.set(hold);
      if (holdMetadata !== undefined) metadata.set(holdMetadata);
    },

    state() {
      return {
        token_delay_ms: delay,
        hold: after.closed(),
        hold_before: before.closed(),
        held: after.held(),
        held_before: before.held(),
        held_metadata: metadata.held(),
      };
    },

    async heldAtLeast(count) {
      while (before.held() + after.held() + metadata.held() < count) await once(changes, 'held');
    },

    metadata: () => metadata.pass(),

    async pass(ctx, next) {
      // The form is read first, so that a held request whose sender dies is still processed.
      const form = await readForm(ctx);
      const entry = log.arrived(form);
      await before.pass();
      // Requests are processed one at a time. So the order of two concurrent requests with one refresh token decides
      // their answers, and never the interleaving of their steps.
      const turn = line.then(async () => {
        await next();
        log.answered(entry, ctx);
      });
      line = turn.catch(() => {});
      await turn;
      await after.pass();
      if (delay > 0) await new Promise((resolve) => setTimeout(resolve, delay));
    },
  };
}

function barrier(changes) {
  let closed = false;
  let waiting = [];
  return {
    closed: () => closed,
    held: () => waiting.length,
    set(value) {
      closed = value;
      if (!closed) {
        for (const resume of waiting) resume();
        waiting = [];
      }
    },
    async pass() {
      if (!closed) return;
      await new Promise((resume) => {
        waiting.push(resume);
        changes.emit('held');
      });
    },
  };
}

async function readForm(ctx) {
  if (!ctx.is('application/x-www-form-urlencoded')) return {};
  const chunks = [];
  let length = 0;
  for await (const chunk of ctx.req) {
    length += chunk.length;
    if (length > BODY_LIMIT) ctx.throw(413, 'the token request is over 64 KiB');
    chunks.push(chunk);
  }
  ctx.req.body = querystring.parse(Buffer.concat(chunks).toString());
  return ctx.req.body;
}
