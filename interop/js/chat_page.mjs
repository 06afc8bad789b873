// /examples/chat in headless Chromium: node chat_page.mjs CHROMIUM. A second client talks to it from the official SDK.
import assert from 'node:assert/strict';
import { Api } from './api.mjs';
import { Browser } from './browser.mjs';
import { connect, subscribe } from './client.mjs';

const CHANNEL = 'chat:page';
const stateIs = (state) => `(document.getElementById('state').textContent === '${state}')`;
const shows = (text, kind = 'li') => `[...document.querySelectorAll('#messages ${kind}')].some((line) => line.textContent.includes('${text}'))`;

async function talks(browser, api, account, friend) {
  await browser.open(`${api.http}/examples/chat`);
  await browser.submit('sign-in', { email: account.email, password: account.password });
  await browser.until(stateIs('connected'));
  await browser.submit('room', { channel: CHANNEL });
  await browser.until(`document.getElementById('present').childElementCount === 2`);
  await browser.submit('say', { text: 'hello from the page' });
  await browser.until(shows('hello from the page'));
  assert.equal((await friend.events.next('publication')).data.text, 'hello from the page');
  await friend.publish({ text: '<img src=x onerror=alert(1)>', name: 'friend' });
  await browser.until(shows('<img src=x'));
}

async function recovers(browser, api, friend) {
  await api.end('SIGKILL');
  await browser.until(`!${stateIs('connected')}`);
  for (const number of [1, 2, 3]) await friend.publish({ text: `missed ${number}`, name: 'friend' });
  await api.start();
  await browser.until(shows('missed 3', '.recovered'), 20);
  await browser.run(`document.getElementById('cut').click()`);
  await browser.until(stateIs('connected'));
  await friend.publish({ text: 'after the cut', name: 'friend' });
  await browser.until(shows('after the cut'));
  const offsets = await browser.run(`[...document.querySelectorAll('#messages small')].map((note) => parseInt(note.textContent.slice(2)))`);
  assert.deepEqual(offsets, [1, 2, 3, 4, 5, 6], 'every message once, in order');
}

async function showsHistory(browser, api, account) {
  await browser.open('about:blank');
  await browser.open(`${api.http}/examples/chat`);
  await browser.submit('paste', { token: account.token });
  await browser.until(stateIs('connected'));
  await browser.submit('room', { channel: CHANNEL });
  await browser.until(shows('hello from the page', '.earlier'));
}

async function looksInWithoutAName(browser, api) {
  await browser.open('about:blank');
  await browser.open(`${api.http}/examples/chat`);
  await browser.submit('anonymous', {});
  await browser.until(stateIs('connected'));
  await browser.until(`document.getElementById('log').textContent.includes('entered public:lobby')`);
}

const processes = [];
const cleanups = [];
let browser;
try {
  for (const name of ['api-page', 'neighbour-page']) {
    processes.push(await Api.start(process.env.MILLRACE_API, `${process.env.INTEROP_DIR}/${name}.log`));
  }
  const [api, neighbour] = processes;
  const [account, other] = [await api.account(), await api.account()];
  const scope = { api: neighbour, onEnd: (cleanup) => cleanups.push(cleanup) };
  const friend = await subscribe(await connect(scope, { token: other.token }), CHANNEL);
  browser = await Browser.start(process.argv[2], `${process.env.INTEROP_DIR}/chromium`);
  await talks(browser, api, account, friend);
  await recovers(browser, api, friend);
  await showsHistory(browser, api, account);
  await looksInWithoutAName(browser, api);
  // While the process is dead, the browser says that it cannot connect.
  assert.deepEqual(browser.complaints.filter((text) => !text.includes('ERR_CONNECTION_')), []);
  console.log('ok      page    talks, recovers from kill -9 and from a cut, shows history, lets anonymous readers in');
} finally {
  await browser?.end();
  for (const cleanup of cleanups) cleanup();
  await Promise.all(processes.map((api) => api.end('SIGTERM')));
}
process.exit(0);
