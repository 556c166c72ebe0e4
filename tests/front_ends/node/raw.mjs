// "Jupyter Kernel…": the kernelspec is read from the user's Jupyter folder, its argv started as it is.
//
// Closing is SIGTERM, to children first. A restart is a new process, on new ports and under a new
// key, that starts while the old one is still dying.

import kernelDefault from '@jupyterlab/services/lib/kernel/default.js';
import services from '@jupyterlab/services';
import { randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { KernelProcess } from './kernel_process.mjs';
import { ZmqSocket } from './zmq_socket.mjs';

const READY_MS = 60_000;
const INFO_MS = 500;
const asIs = { serialize: message => message, deserialize: message => message };

export class RawWindow {
  #kernels;
  #say;
  #notebooks = new Map();

  constructor(kernels, say) {
    this.#kernels = kernels;
    this.#say = say;
  }

  operations() {
    return {
      raw_specs: () => readSpecs(),
      raw_start: ({ spec, cwd }) => this.#start(spec, cwd),
      raw_restart: ({ kernel }) => this.#restart(kernel),
      raw_interrupt: ({ kernel }) => this.#interrupt(kernel),
      raw_close: ({ kernel }) => this.#close(kernel),
      raw_process: ({ kernel }) => this.#notebooks.get(kernel).process.facts()
    };
  }

  async #start(name, cwd) {
    const spec = (await readSpecs())[name];
    if (!spec) {
      throw new Error(`there is no kernelspec ${name}`);
    }
    const { process, connection } = await this.#launch(spec, cwd);
    const kernel = this.#kernels.add(connection);
    this.#remember(kernel, { spec, cwd, process, connection });
    return { kernel, ...process.facts() };
  }

  async #restart(kernel) {
    const { spec, cwd, process: old, connection } = this.#notebooks.get(kernel);
    void old.dispose(); // and nobody waits for it
    connection.dispose();
    const started = await this.#launch(spec, cwd);
    this.#kernels.add(started.connection, kernel);
    this.#remember(kernel, { spec, cwd, ...started });
    return { kernel, ...started.process.facts(), old: old.facts() };
  }

  async #close(kernel) {
    const { process, connection } = this.#notebooks.get(kernel);
    await process.dispose();
    connection.dispose();
  }

  async #launch(spec, cwd) {
    const process = new KernelProcess(spec, cwd);
    let connection;
    try {
      await process.launch(READY_MS);
      connection = connect(process.connectionInfo, this.#say);
      await connected(connection);
      await Promise.race([becomeReady(connection), process.failed]);
      return { process, connection };
    } catch (error) {
      connection?.dispose(); // its sockets would find the next kernel on these ports
      await process.dispose();
      error.details = process.facts();
      throw error;
    }
  }

  #remember(kernel, notebook) {
    this.#notebooks.set(kernel, notebook);
    // The end of the process is the death of the kernel, and its stderr is what the user is shown.
    void notebook.process.exited.then(() => {
      if (!notebook.process.isDisposed) {
        this.#say({ event: 'exit', kernel, ...notebook.process.facts() });
        notebook.connection.dispose();
      }
    });
  }

  async #interrupt(kernel) {
    const { spec, process: owned, connection } = this.#notebooks.get(kernel);
    if (spec.interrupt_mode !== 'message') {
      owned.signal('SIGINT');
      return null;
    }
    const request = createMessage(connection, 'interrupt_request', 'control');
    const reply = await connection.sendControlMessage(request, true, true).done;
    return reply.content;
  }
}

async function readSpecs() {
  const folder = path.join(process.env.JUPYTER_DATA_DIR, 'kernels');
  const specs = {};
  for (const name of await readdir(folder)) {
    try {
      specs[name] = JSON.parse(await readFile(path.join(folder, name, 'kernel.json'), 'utf8'));
      specs[name].name = name;
    } catch (error) {
      if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') {
        throw error;
      }
    }
  }
  return specs;
}

function connect(info, say) {
  class Socket extends ZmqSocket {
    constructor() {
      super(info, say);
    }
  }
  return new kernelDefault.KernelConnection({
    serverSettings: services.ServerConnection.makeSettings({
      WebSocket: Socket,
      wsUrl: 'RAW',
      serializer: asIs
    }),
    clientId: randomUUID(),
    username: randomUUID(),
    handleComms: true,
    model: { name: info.kernel_name, id: randomUUID() }
  });
}

function connected(connection) {
  return new Promise(resolve => {
    connection.connectionStatusChanged.connect((_, status) => status === 'connected' && resolve());
  });
}

/** kernel_info on control and shell, twice a second, until one reply and one iopub message came. */
async function becomeReady(connection) {
  const deadline = Date.now() + READY_MS;
  let hasReply = false;
  let hasOutput = false;
  const onOutput = () => (hasOutput = true);
  connection.iopubMessage.connect(onOutput);
  const ask = async channel => {
    const request = createMessage(connection, 'kernel_info_request', channel);
    const send = channel === 'control' ? 'sendControlMessage' : 'sendShellMessage';
    await connection[send](request, true, true).done.catch(() => {});
    hasReply = true;
  };
  while (!(hasReply && hasOutput) && Date.now() < deadline) {
    const asked = Promise.race([ask('control'), ask('shell')]);
    await Promise.race([asked, pause(INFO_MS)]);
    if (hasReply && !hasOutput) {
      await pause(INFO_MS / 10);
    }
  }
  connection.iopubMessage.disconnect(onOutput);
  if (!(hasReply && hasOutput)) {
    throw new Error(`the kernel was not ready within ${READY_MS / 1000} s`);
  }
}

function createMessage(connection, msgType, channel) {
  return services.KernelMessage.createMessage({
    msgType,
    channel,
    username: connection.username,
    session: connection.clientId,
    content: {}
  });
}

const pause = ms => new Promise(resolve => setTimeout(resolve, ms));
