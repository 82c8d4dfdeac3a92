// An ACP agent that uses the MCP servers of session/new, by the official SDK. At each prompt it makes
// some calls at once, and answers how many succeeded.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const CALLS = 20;
const clients = [];

const send = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);

function transport(server) {
  if (server.type === 'http') {
    const headers = Object.fromEntries(server.headers.map(({ name, value }) => [name, value]));
    return new StreamableHTTPClientTransport(new URL(server.url), { requestInit: { headers } });
  }
  const env = Object.fromEntries(server.env.map(({ name, value }) => [name, value]));
  return new StdioClientTransport({ command: server.command, args: server.args, env, stderr: 'inherit' });
}

async function prompt() {
  const texts = [];
  for (const { server, client } of clients) {
    const kind = server.type ?? 'stdio';
    if (!client.transport) await client.connect(transport(server));
    const calls = Array.from({ length: CALLS }, () => client.callTool({ name: 'greet' }));
    const done = (await Promise.all(calls)).filter((result) => result.content[0].text === 'hello');
    texts.push(`${done.length} calls of ${server.name} by ${kind}`);
  }
  return texts.join('\n') || 'no server';
}

const answers = {
  initialize: () => ({ protocolVersion: 1, agentCapabilities: { mcpCapabilities: { http: process.env.TAKES_HTTP === 'yes' } } }),
  'session/new': ({ mcpServers }) => {
    for (const server of mcpServers) clients.push({ server, client: new Client({ name: 'agent', version: '1' }) });
    // As some agents do.
    if (process.env.SHOWS_SERVERS === 'yes') spawn('/bin/sh', ['-c', 'sleep 600; :', JSON.stringify(mcpServers)]);
    return { sessionId: 's' };
  },
  'session/prompt': async () => {
    const text = await prompt().catch((error) => `failed: ${error.message}`);
    send({ method: 'session/update', params: { sessionId: 's', update: { sessionUpdate: 'agent_message_chunk', content: { type: 'text', text } } } });
    return { stopReason: 'end_turn' };
  },
};

createInterface({ input: process.stdin }).on('line', async (line) => {
  const { id, method, params } = JSON.parse(line);
  if (id !== undefined && method) send({ id, result: (await answers[method]?.(params)) ?? {} });
});
