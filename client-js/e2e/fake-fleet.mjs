/** Runs the end-to-end tests against the small fleet of the unit tests: `npm run e2e [-- SCRIPT... --shots DIR]`. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Fleet } from '../test/fleet.js';

const named = process.argv.slice(2).filter((arg) => arg.endsWith('.e2e.mjs'));
const options = process.argv.slice(2).filter((arg) => !named.includes(arg));

for (const script of named.length ? named : ['app.e2e.mjs', 'rooms.e2e.mjs', 'people.e2e.mjs', 'board.e2e.mjs']) {
  const fleet = new Fleet();
  const nodes = [await fleet.start('alpha'), await fleet.start('beta')];

  const test = spawn(process.execPath, [
    fileURLToPath(new URL(script, import.meta.url)), '--url', nodes[0].url, '--url2', nodes[1].url, ...options,
  ], { stdio: ['pipe', 'pipe', 'inherit'] });

  createInterface({ input: test.stdout }).on('line', async (line) => {
    console.log(line);
    if (line !== 'READY-FOR-KILL' && line !== 'READY-FOR-DRAIN') return;
    if (line === 'READY-FOR-DRAIN') nodes[0].drain();
    await nodes[0].kill();
    test.stdin.write('KILLED\n');
    nodes[0] = await fleet.start('gamma', nodes[0].port);
  });

  const [code] = await once(test, 'exit');
  await Promise.all(nodes.map((node) => node.kill()));
  process.exitCode ||= code ?? 1;
}
