// One API process of our own, which scenarios may kill and start again on the same port, and its REST side.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

export class Api {
  constructor(program, logFile, port) {
    this.program = program;
    this.port = port;
    this.http = `http://127.0.0.1:${port}`;
    this.socket = `ws://127.0.0.1:${port}/connection/websocket`;
    this.log = createWriteStream(logFile, { flags: 'a' });
    this.accounts = 0;
  }

  static async start(program, logFile) {
    const api = new Api(program, logFile, await freePort());
    await api.start();
    return api;
  }

  async start() {
    const env = { ...process.env, API_HOST: '127.0.0.1', API_PORT: String(this.port), NO_COLOR: '1' };
    this.child = spawn(this.program, ['serve'], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.child.stdout.pipe(this.log, { end: false });
    this.child.stderr.pipe(this.log, { end: false });
    const deadline = Date.now() + 20_000;
    while (!(await this.#isReady())) {
      if (this.child.exitCode !== null) throw new Error(`the API ended at once (${this.child.exitCode}): see its log`);
      if (Date.now() > deadline) throw new Error('the API was not ready within 20 s');
      await pause(50);
    }
  }

  async end(signal) {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = once(this.child, 'exit');
    this.child.kill(signal);
    await ended;
  }

  async call(method, path, body, token) {
    const headers = { 'content-type': 'application/json' };
    if (token) headers.authorization = `Bearer ${token}`;
    const answer = await fetch(`${this.http}/api/v1${path}`, { method, headers, body: body && JSON.stringify(body) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path} answered ${answer.status}: ${text}`);
    return text && JSON.parse(text);
  }

  // What a backend that knows Centrifugo asks.
  async backend(method, params) {
    const headers = { 'content-type': 'application/json', 'x-api-key': process.env.CHANNEL_API_KEY };
    const { result, error } = await (await fetch(`${this.http}/api/${method}`, { method: 'POST', headers, body: JSON.stringify(params) })).json();
    if (error) throw new Error(`${method} was refused: ${JSON.stringify(error)}`);
    return result;
  }

  // A new user with a session: {id, email, password, token}.
  async account() {
    this.accounts += 1;
    const email = `js-${process.pid}-${this.accounts}@millrace.localhost`;
    const password = 'a long passphrase for tests';
    const session = await this.call('POST', '/auth/register', { email, password });
    return { id: session.user.id, email, password, token: session.access_token };
  }

  async login({ email, password }) {
    return (await this.call('POST', '/auth/login', { email, password })).access_token;
  }

  async #isReady() {
    try {
      return (await fetch(`${this.http}/readyz`, { signal: AbortSignal.timeout(2000) })).ok;
    } catch {
      return false;
    }
  }
}

async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}
