// An MCP server of the official SDK that demands an access token.
//
// Usage: node server.mjs USERINFO_URL. Its first line of output is its port.
//
// /mcp takes every token that the authorization server's userinfo endpoint takes, /scoped wants a
// scope that no token has, and /bare refuses without a challenge. The tests drive it by /control.

import { createHash, randomUUID } from "node:crypto";
import express from "express";
import { requireBearerAuth } from "@modelcontextprotocol/sdk/server/auth/middleware/bearerAuth.js";
import { InvalidTokenError } from "@modelcontextprotocol/sdk/server/auth/errors.js";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";

const [userinfo] = process.argv.slice(2);
const sessions = new Map();
const streams = new Set();
const log = [];
let refused = new Set();
let refusesAll = false;

const verifier = {
  async verifyAccessToken(token) {
    const answer = await fetch(userinfo, { headers: { authorization: `Bearer ${token}` } });
    if (refusesAll || refused.has(token) || !answer.ok) throw new InvalidTokenError("not valid");
    return { token, clientId: "tests", scopes: ["files:read"], expiresAt: Date.now() / 1000 + 3600 };
  },
};

const fingerprint = (text = "") => createHash("sha256").update(text).digest("hex").slice(0, 12);

function logged(request, response, next) {
  const entry = { path: request.path, method: request.method, token: fingerprint(request.headers.authorization) };
  const writeHead = response.writeHead;
  response.writeHead = function (status, ...rest) {
    entry.status = status;
    return writeHead.call(this, status, ...rest);
  };
  log.push(entry);
  next();
}

function withoutChallenge(request, response, next) {
  const set = response.set;
  response.set = function (name, ...rest) {
    return name === "WWW-Authenticate" ? this : set.call(this, name, ...rest);
  };
  next();
}

async function serve(request, response) {
  const id = request.headers["mcp-session-id"];
  let session = sessions.get(id);
  if (id && !session) return response.status(404).end();
  if (!session) {
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      onsessioninitialized: (id) => sessions.set(id, session),
      onsessionclosed: (id) => sessions.delete(id),
    });
    const server = new McpServer({ name: "tests", version: "1.0.0" });
    server.registerTool("greet", { description: "Greets." }, async () => ({
      content: [{ type: "text", text: "hello" }],
    }));
    session = { transport, server };
    await server.connect(transport);
  }
  if (request.method === "GET") {
    streams.add(response);
    response.on("close", () => streams.delete(response));
  }
  await session.transport.handleRequest(request, response, request.body);
}

const app = express();
app.use(express.json());
app.get("/control/log", (_, response) => response.json({ log, streams: streams.size }));
app.post("/control/refuse", (request, response) => {
  refused.add(request.body.token);
  response.end();
});
app.post("/control/refuse-all", (_, response) => {
  refusesAll = true;
  response.end();
});
app.post("/control/end-streams", (_, response) => {
  for (const stream of streams) stream.end();
  response.end();
});
app.post("/control/announce", (_, response) => {
  for (const { server } of sessions.values()) server.sendToolListChanged();
  response.end();
});
app.use(logged);
app.all("/mcp", requireBearerAuth({ verifier }), serve);
app.all("/scoped", requireBearerAuth({ verifier, requiredScopes: ["files:read", "files:write"] }), serve);
app.all("/bare", withoutChallenge, requireBearerAuth({ verifier }), serve);

const listener = app.listen(0, "127.0.0.1", () => console.log(listener.address().port));
// The server ends with the process that started it.
process.stdin.on("end", () => process.exit()).resume();
