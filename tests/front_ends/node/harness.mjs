// Stands in for the Jupyter extension of VS Code: kernels through @jupyterlab/services, either over
// ZMQ (raw.mjs, "Jupyter Kernel…") or over a server (server.mjs, "Existing Jupyter Server").
//
// One JSON object a line. In: {id, op, …}. Out: {id, result} or {id, error}, and events {event, …}
// at any time. It judges nothing: the assertions are in the Python tests beside this folder.

import { Console } from 'node:console';
import { createInterface } from 'node:readline';

// The libraries log to the console, and stdout belongs to the protocol.
globalThis.console = new Console(process.stderr, process.stderr);

const say = message => process.stdout.write(`${JSON.stringify(message)}\n`);

// VS Code shows neither as a failure of a cell: they are its log.
process.on('uncaughtException', error => say({ event: 'log', text: String(error.stack) }));
process.on('unhandledRejection', error => say({ event: 'log', text: String(error?.stack ?? error) }));

const { Kernels } = await import('./kernels.mjs');
const kernels = new Kernels(say);
const { RawWindow } = await import('./raw.mjs');
const { ServerWindow } = await import('./server.mjs');
const operations = {
  ...kernels.operations(),
  ...new RawWindow(kernels, say).operations(),
  ...new ServerWindow(kernels, say).operations()
};

async function answer(line) {
  const { id, op, ...args } = JSON.parse(line);
  try {
    const run = operations[op];
    if (!run) {
      throw new Error(`no such operation: ${op}`);
    }
    say({ id, result: (await run(args)) ?? null });
  } catch (error) {
    say({
      id,
      error: {
        message: String(error.message ?? error),
        status: error.response?.status ?? null,
        details: error.details ?? null
      }
    });
  }
}

say({ event: 'ready', node: process.version });
const input = createInterface({ input: process.stdin });
input.on('line', line => void answer(line));
input.on('close', () => process.exit(0));
