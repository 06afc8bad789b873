// A program of ours beside an API process, with its output in a file: the worker, or the load tester.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';

export class Program {
  constructor(program, options, logFile, settings = {}) {
    const log = createWriteStream(logFile, { flags: 'a' });
    this.child = spawn(program, options, { env: { ...process.env, NO_COLOR: '1', ...settings }, stdio: ['ignore', 'pipe', 'pipe'] });
    this.child.stdout.pipe(log, { end: false });
    this.child.stderr.pipe(log, { end: false });
  }

  async end(signal) {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = once(this.child, 'exit');
    this.child.kill(signal);
    await ended;
  }
}
