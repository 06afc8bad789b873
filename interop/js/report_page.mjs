// The page of `millrace-loadtest all` in headless Chromium: node report_page.mjs CHROMIUM [FOLDER]. It is made of a report that is kept here, and
// must show its charts and tables on a wide screen and on a phone, light and dark, without a script. Screenshots go to FOLDER, where one is named.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Browser } from './browser.mjs';

const [, , chromium, folder] = process.argv;
const { INTEROP_DIR: directory, MILLRACE_LOADTEST: loadtest } = process.env;
const json = fileURLToPath(new URL('../report.json', import.meta.url));
const html = `${directory}/report.html`;
const SCREENS = [
  { name: 'wide', width: 1280, height: 900, scheme: 'light' },
  { name: 'phone', width: 390, height: 844, scheme: 'dark' },
];

// What a reader would miss: charts without a line or a bar, tables without a heading or a row, words that stick out of the page.
const SEEN = `({
  charts: [...document.querySelectorAll('svg')].map((svg) => svg.querySelector('rect.bar') || [...svg.querySelectorAll('polyline')].some((line) => line.points.length > 0)),
  named: [...document.querySelectorAll('svg')].every((svg) => svg.getAttribute('aria-label')),
  tables: [...document.querySelectorAll('table')].map((table) => ({
    caption: table.caption?.textContent, rows: table.tBodies[0].rows.length, headings: table.querySelectorAll('th[scope=col]').length,
  })),
  counts: [...document.querySelectorAll('.counts li')].map((count) => parseInt(count.textContent)),
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  back: getComputedStyle(document.body).backgroundColor,
})`;

async function look(browser, { name, width, height, scheme }, report) {
  await browser.call('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: width < 600 });
  await browser.call('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] });
  await browser.open(pathToFileURL(html).href);
  const seen = await browser.run(SEEN);
  assert.ok(seen.charts.length >= 8 && seen.charts.every(Boolean), `${seen.charts.length} charts, each with something drawn`);
  assert.ok(seen.named, 'every chart says what it is');
  assert.ok(seen.tables.every(({ caption, rows, headings }) => caption && rows > 0 && headings > 1), JSON.stringify(seen.tables));
  assert.equal(seen.counts.reduce((sum, count) => sum + count), report.promises.length, 'every promise is counted');
  assert.equal(seen.overflow, 0, `nothing sticks out at ${width} pixels`);
  if (folder) {
    const { data } = await browser.call('Page.captureScreenshot', { format: 'png', captureBeyondViewport: true });
    await writeFile(`${folder}/report-${name}.png`, Buffer.from(data, 'base64'));
  }
  return seen.back;
}

let browser;
try {
  if (folder) await mkdir(folder, { recursive: true });
  execFileSync(loadtest, ['report', json, '--html', html]);
  const report = JSON.parse(await readFile(json, 'utf8'));
  browser = await Browser.start(chromium, `${directory}/chromium-report`);
  const backs = [];
  for (const screen of SCREENS) backs.push(await look(browser, screen, report));
  assert.notEqual(backs[0], backs[1], 'dark is not light');
  assert.deepEqual(browser.complaints, []);
  console.log('ok      page    shows the load report on a wide screen and on a phone');
} finally {
  await browser?.end();
}
process.exit(0);
