// A headless Chromium with one page, spoken to by its DevTools protocol.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import WebSocket from 'ws';

export class Browser {
  // What the page complained of: exceptions, errors on the console, refusals of its security policy.
  complaints = [];
  #lastId = 0;
  #calls = new Map();

  static async start(program, directory) {
    const browser = new Browser();
    const options = ['--headless', '--no-first-run', '--disable-gpu', '--remote-debugging-port=0', `--user-data-dir=${directory}`];
    // Chromium's sandbox refuses root.
    if (process.getuid() === 0) options.push('--no-sandbox');
    browser.child = spawn(program, [...options, 'about:blank'], { stdio: ['ignore', 'ignore', 'pipe'] });
    const port = await portOf(browser.child);
    const pages = await (await fetch(`http://127.0.0.1:${port}/json/list`)).json();
    browser.socket = new WebSocket(pages.find(({ type }) => type === 'page').webSocketDebuggerUrl);
    await once(browser.socket, 'open');
    browser.socket.on('message', (text) => browser.#take(JSON.parse(text)));
    for (const domain of ['Page', 'Runtime', 'Log']) await browser.call(`${domain}.enable`);
    return browser;
  }

  call(method, params = {}) {
    return new Promise((resolve, reject) => {
      this.#calls.set((this.#lastId += 1), { resolve, reject });
      this.socket.send(JSON.stringify({ id: this.#lastId, method, params }));
    });
  }

  async open(url) {
    await this.call('Page.navigate', { url });
    await this.until(`location.href === ${JSON.stringify(url)} && document.readyState === 'complete'`);
  }

  async run(expression) {
    const { result, exceptionDetails } = await this.call('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true });
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    return result.value;
  }

  async until(expression, seconds = 10) {
    const deadline = Date.now() + seconds * 1000;
    while (!(await this.run(expression).catch(() => false))) {
      if (Date.now() > deadline) throw new Error(`not so within ${seconds} s: ${expression}\n${await this.run('document.body.innerText')}`);
      await pause(50);
    }
  }

  // Fills the form of that id and sends it as its button would.
  async submit(form, values, button = 'button') {
    await this.run(`{
      const form = document.getElementById(${JSON.stringify(form)});
      for (const [name, value] of Object.entries(${JSON.stringify(values)})) form.elements[name].value = value;
      form.querySelector(${JSON.stringify(button)}).click();
    }`);
  }

  async end() {
    const ended = once(this.child, 'exit');
    // Asked to, it ends the processes that it started before it ends itself.
    this.call('Browser.close').catch(() => {});
    await ended;
  }

  #take({ id, result, error, method, params }) {
    if (id) {
      const { resolve, reject } = this.#calls.get(id);
      this.#calls.delete(id);
      if (error) reject(new Error(error.message));
      else resolve(result);
    } else if (method === 'Runtime.exceptionThrown') {
      this.complaints.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    } else if (method === 'Log.entryAdded' && params.entry.level === 'error') {
      this.complaints.push(params.entry.text);
    }
  }
}

async function portOf(child) {
  for await (const line of createInterface({ input: child.stderr })) {
    const port = /DevTools listening on ws:\/\/127\.0\.0\.1:(\d+)/.exec(line)?.[1];
    if (port) {
      child.stderr.resume();
      return port;
    }
  }
  throw new Error('Chromium did not start');
}
