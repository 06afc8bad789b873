// Runs the scenarios one after another, or those whose name contains the argument: node run.mjs [TEXT]
// One line each; the exit code says whether all passed. infra/local/interop sets what is read from the environment.
import { Api } from './api.mjs';
import { recovery } from './scenarios/recovery.mjs';
import { refusals } from './scenarios/refusals.mjs';
import { serverSide } from './scenarios/server_side.mjs';
import { talking } from './scenarios/talking.mjs';
import { tokens } from './scenarios/tokens.mjs';

const DEADLINE_S = 20;
const scenarios = { ...talking, ...tokens, ...refusals, ...serverSide, ...recovery };

// What a scenario is given: an API process it may kill, names nobody else uses, and a place for what must be put away.
class Scope {
  static made = 0;

  constructor(api, neighbour) {
    this.api = api;
    this.neighbour = neighbour;
    this.cleanups = [];
    Scope.made += 1;
    this.tag = `js${process.pid}x${Scope.made}`;
  }

  // The same scope at the other API process, which nobody kills.
  besides() {
    return { api: this.neighbour, onEnd: (cleanup) => this.onEnd(cleanup) };
  }

  onEnd(cleanup) {
    this.cleanups.push(cleanup);
  }

  async close() {
    for (const cleanup of this.cleanups.reverse()) await cleanup();
  }
}

async function within(seconds, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${seconds} s`)), seconds * 1000);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function passes(name, scenario, processes) {
  const began = Date.now();
  const scope = new Scope(...processes);
  let failure;
  try {
    await within(DEADLINE_S, scenario(scope));
  } catch (error) {
    failure = error;
  }
  await scope.close();
  const line = `${failure ? 'FAILED' : 'ok    '}  js      ${name}   (${Date.now() - began} ms)`;
  console.log(failure ? `${line}\n        ${failure.stack ?? JSON.stringify(failure)}` : line);
  return !failure;
}

const processes = [];
let failed = 0;
try {
  for (const name of ['api-js', 'neighbour-js']) {
    processes.push(await Api.start(process.env.MILLRACE_API, `${process.env.INTEROP_DIR}/${name}.log`));
  }
  for (const [name, scenario] of Object.entries(scenarios)) {
    if (name.includes(process.argv[2] ?? '') && !(await passes(name, scenario, processes))) failed += 1;
  }
} finally {
  await Promise.all(processes.map((api) => api.end('SIGTERM')));
}
// A client that kept a timer must not keep the run.
process.exit(failed ? 1 : 0);
