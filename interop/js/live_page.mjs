// /examples/live in headless Chromium: node live_page.mjs CHROMIUM [FOLDER]. The load tester moves tracks, a worker stores their points, and
// the page must draw them where they are, at two moments. The screenshots of both go to FOLDER, where one is named, to be looked at.
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { Api } from './api.mjs';
import { Browser } from './browser.mjs';
import { Program } from './program.mjs';

const N_TRACKS = 12;
const [, , chromium, folder] = process.argv;
const { INTEROP_DIR: directory, MILLRACE_API: apiProgram, MILLRACE_JOBS: jobsProgram, MILLRACE_LOADTEST: loadtest } = process.env;
const stateIs = (state) => `(document.getElementById('state').textContent === '${state}')`;
const MOVING = `(document.getElementById('moving').textContent.startsWith('${N_TRACKS} of ${N_TRACKS}'))`;

// What is told beside the map: where each track is, by name.
const PLACES = `Object.fromEntries([...document.querySelectorAll('#tracks li')].map((row) =>
  [row.querySelector('b').textContent, row.querySelector('small').textContent]))`;
// What is drawn: where each track is, on the plane and on the canvas, and the colour of that spot.
const DRAWN = `Object.fromEntries(map.tracks().map(({ name, head, at: [x, y] }) => {
  const [red, green, blue] = map.pen.getImageData(x * map.ratio, y * map.ratio, 1, 1).data;
  return [name, { head, x, y, isColoured: Math.max(red, green, blue) > 120 }];
}))`;

async function look(browser, name) {
  if (folder) {
    const { data } = await browser.call('Page.captureScreenshot', { format: 'png' });
    await writeFile(`${folder}/${name}.png`, Buffer.from(data, 'base64'));
  }
  return { places: await browser.run(PLACES), drawn: await browser.run(DRAWN) };
}

// How many pixels of the map differ from what they were at the call before.
const CHANGED = `(() => {
  const { data } = map.pen.getImageData(0, 0, map.canvas.width, map.canvas.height);
  const before = window.before ?? data;
  window.before = data;
  let changed = 0;
  for (let at = 0; at < data.length; at += 4) changed += data[at] !== before[at] || data[at + 1] !== before[at + 1];
  return changed;
})()`;

async function moves(browser, api, account) {
  await browser.open(`${api.http}/examples/live`);
  await browser.submit('sign-in', { email: account.email, password: account.password });
  await browser.until(`${stateIs('connected')} && ${MOVING}`, 20);
  await browser.run(CHANGED);
  const first = await look(browser, 'first');
  const everyoneMoved = `(() => { const before = ${JSON.stringify(first.places)}; return Object.entries(${PLACES}).every(([name, place]) => before[name] !== place); })()`;
  await browser.until(everyoneMoved);
  await browser.until(`Number.parseFloat(document.getElementById('rate').textContent) > ${N_TRACKS}`);
  // Trails go back to before the page was opened, and the map has drawn what the list tells.
  await browser.until(`map.tracks().every(({ trail, cursor }) => trail.at(-1).at - trail[0].at > 120000 && cursor > trail.length - 5)`, 20);
  const moved = `({ name, head: { x, y } }) => {
    const { head } = ${JSON.stringify(first.drawn)}[name];
    return Math.hypot(x - head.x, y - head.y) * map.view.scale > 3;
  }`;
  await browser.until(`map.tracks().every(${moved})`, 20);
  const second = await look(browser, 'second');
  const changed = await browser.run(CHANGED);
  assert.equal(Object.keys(second.drawn).length, N_TRACKS);
  for (const [name, { x, y, isColoured }] of Object.entries(second.drawn)) assert.ok(isColoured, `${name} is drawn at ${x}, ${y}`);
  assert.ok(changed > 1000, `${changed} pixels of the map changed`);
}

async function goesOn(browser, api) {
  await api.end('SIGKILL');
  await browser.until(`!${stateIs('connected')}`);
  await api.start();
  const { places } = await look(browser, 'away');
  await browser.until(`${stateIs('connected')} && ${PLACES}['Bus 1'] !== ${JSON.stringify(places['Bus 1'])}`, 20);
}

const programs = [];
let browser;
let api;
let neighbour;
try {
  if (folder) await mkdir(folder, { recursive: true });
  api = await Api.start(apiProgram, `${directory}/api-live.log`);
  neighbour = await Api.start(apiProgram, `${directory}/neighbour-live.log`);
  programs.push(new Program(jobsProgram, ['work'], `${directory}/jobs-live.log`, { WORKER_METRICS_ADDR: 'none' }));
  const account = await api.account();
  const sender = ['ingest', 'move', '--url', neighbour.http, '--email', account.email, '--password', account.password, '--for', '120s', '--every', '200ms'];
  programs.push(new Program(loadtest, sender, `${directory}/sender-live.log`));
  browser = await Browser.start(chromium, `${directory}/chromium-live`);
  await browser.call('Emulation.setDeviceMetricsOverride', { width: 1280, height: 800, deviceScaleFactor: 1, mobile: false });
  await moves(browser, api, account);
  await goesOn(browser, api);
  // While the process is dead the browser says so, and a busy machine may have requests refused for a while: the page goes on.
  assert.deepEqual(browser.complaints.filter((text) => !/ERR_CONNECTION_|Failed to load resource/.test(text)), []);
  console.log('ok      page    draws tracks that move, and goes on after kill -9 of its API');
} finally {
  await browser?.end();
  await Promise.all([...programs.reverse(), api, neighbour].map((program) => program?.end('SIGTERM')));
}
process.exit(0);
