// "Existing Jupyter Server": a URL with ?token=, or a password, through the managers of
// @jupyterlab/services. Requests and sockets are recorded for the tests.

import services from '@jupyterlab/services';
import { randomUUID } from 'node:crypto';
import { WebSocket } from 'ws';
import { login } from './login.mjs';

const PING_MS = 30_000;

export class ServerWindow {
  #kernels;
  #say;
  #requests = [];
  #sockets = [];
  #sessions = new Map();
  #settings;
  #managers;

  constructor(kernels, say) {
    this.#kernels = kernels;
    this.#say = say;
  }

  operations() {
    return {
      server_connect: args => this.#connect(args),
      server_specs: () => this.#specs(),
      server_start: ({ spec }) => this.#start(spec),
      server_attach: ({ kernel_id }) => this.#attach(kernel_id),
      server_interrupt: ({ kernel }) => this.#kernels.get(kernel).interrupt(),
      server_restart: ({ kernel }) => this.#kernels.get(kernel).restart(),
      server_shutdown: ({ kernel }) => this.#sessions.get(kernel).shutdown(),
      server_close: ({ kernel }) => this.#kernels.get(kernel).dispose(),
      server_running: () => services.KernelAPI.listRunning(this.#settings),
      server_requests: () => this.#requests,
      server_sockets: () => this.#sockets.map(describe),
      server_disconnect: () => this.#disconnect()
    };
  }

  /** What happens when a URL is entered: log in if need be, then list kernels and kernelspecs. */
  async #connect({ url, password = '' }) {
    const entered = new URL(url);
    const token = entered.searchParams.get('token') ?? '';
    const baseUrl = `${entered.origin}${entered.pathname}`.replace(/\/*$/, '/');
    const answers = await login(baseUrl, { token, password, fetch: this.#recordingFetch() });
    const headers = token ? { Authorization: `token ${token}` } : answers.headers;
    this.#settings = this.#makeSettings(baseUrl, token, headers);
    const kernelspecs = new services.KernelSpecManager({ serverSettings: this.#settings });
    const kernels = new services.KernelManager({ serverSettings: this.#settings });
    const sessions = new services.SessionManager({
      serverSettings: this.#settings,
      kernelManager: kernels
    });
    this.#managers = { kernelspecs, kernels, sessions };
    const running = await services.KernelAPI.listRunning(this.#settings);
    await Promise.all([sessions.ready, kernelspecs.refreshSpecs()]);
    return { ...answers, running: running.length };
  }

  #makeSettings(baseUrl, token, headers) {
    return services.ServerConnection.makeSettings({
      baseUrl,
      appUrl: '',
      wsUrl: baseUrl.replace('http', 'ws'),
      token,
      appendToken: true,
      init: { cache: 'no-store', credentials: 'same-origin' },
      fetch: this.#recordingFetch(),
      Request: authorizing(headers),
      WebSocket: this.#socketClass(headers)
    });
  }

  async #specs() {
    await this.#managers.kernelspecs.refreshSpecs();
    return this.#managers.kernelspecs.specs;
  }

  async #start(spec) {
    const id = randomUUID();
    // The notebook is on the laptop, so its path means nothing to the server.
    const path = `Untitled-1-jvsc-${id}.ipynb`;
    const session = await this.#managers.sessions.startNew(
      { path, name: path, type: 'notebook', kernel: { name: spec } },
      { kernelConnectionOptions: { handleComms: true } }
    );
    await session.kernel.info;
    const kernel = this.#kernels.add(session.kernel);
    this.#sessions.set(kernel, session);
    return { kernel, session: session.model };
  }

  async #attach(kernelId) {
    const model = await services.KernelAPI.getKernelModel(kernelId, this.#settings);
    const connection = this.#managers.kernels.connectTo({ model, handleComms: false });
    await connection.info;
    return { kernel: this.#kernels.add(connection), model };
  }

  /** Remote kernels are let go of, never ended, when VS Code closes. */
  async #disconnect() {
    const { kernelspecs, kernels, sessions } = this.#managers;
    this.#sessions.forEach(session => session.dispose());
    await sessions.ready;
    [sessions, kernels, kernelspecs].forEach(manager => manager.dispose());
  }

  #recordingFetch() {
    return async (resource, init) => {
      const request = new Request(resource, init);
      const { pathname } = new URL(request.url);
      const response = await fetch(request);
      this.#requests.push({ method: request.method, path: pathname, status: response.status });
      return response;
    };
  }

  #socketClass(headers) {
    const sockets = this.#sockets;
    return class extends WebSocket {
      constructor(url, protocols) {
        super(url, protocols, { headers });
        sockets.push(this);
        const timer = setInterval(() => this.ping(() => {}), PING_MS);
        this.on('close', () => clearInterval(timer));
      }
    };
  }
}

/** The extension's headers go first, and nothing may add a second Authorization. */
function authorizing(headers) {
  return class extends Request {
    constructor(input, init) {
      super(input, init);
      Object.entries(headers).forEach(([name, value]) => this.headers.set(name, value));
      this.headers.set('Content-Type', 'application/json');
      const append = this.headers.append.bind(this.headers);
      this.headers.append = (name, value) =>
        name.toLowerCase() === 'authorization' ? undefined : append(name, value);
    }
  };
}

function describe(socket) {
  const { pathname, searchParams } = new URL(socket.url);
  return {
    path: pathname,
    session_id: searchParams.get('session_id'),
    protocol: socket.protocol,
    is_open: socket.readyState === WebSocket.OPEN
  };
}
