// The process of a local kernel: ports, connection file, start, output, end.

import { spawn } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';

const HOST = '127.0.0.1';
const FIRST_PORT = 9000;
const PORTS = ['hb_port', 'control_port', 'shell_port', 'stdin_port', 'iopub_port'];
const POLL_MS = 200;
const CHILDREN_MS = 1000;

/** Never given out twice by one window, as long as the kernel that has it lives. */
const usedPorts = new Set();

export class KernelProcess {
  connectionInfo;
  isDisposed = false;
  failed;
  exited;
  #spec;
  #cwd;
  #file;
  #child;
  #stdout = '';
  #stderr = '';
  #disposing;
  #setExited;

  constructor(spec, cwd) {
    this.#spec = spec;
    this.#cwd = cwd;
    this.exited = new Promise(resolve => (this.#setExited = resolve));
    this.failed = this.exited.then(() => {
      throw new Error(`the kernel process exited with ${this.#child.exitCode}: ${this.#stderr}`);
    });
    this.failed.catch(() => {});
  }

  /** Start it, and wait until somebody listens on shell and iopub. */
  async launch(timeoutMs) {
    await this.#writeConnectionFile();
    const argv = this.#spec.argv.map(word => word.replace('{connection_file}', this.#file));
    const env = { ...process.env, ...this.#spec.env };
    this.#child = spawn(argv[0], argv.slice(1), { cwd: this.#cwd, env });
    this.#child.stdout.on('data', data => (this.#stdout += data));
    this.#child.stderr.on('data', data => (this.#stderr += data));
    this.#child.on('error', error => (this.#stderr += `${error.message}\n`));
    // Not `exit`: its last words may still be in the pipe.
    this.#child.on('close', () => this.#ended());
    const { shell_port: shell, iopub_port: iopub } = this.connectionInfo;
    const stop = new AbortController();
    try {
      await Promise.race([
        Promise.all([isInUse(shell, timeoutMs, stop.signal), isInUse(iopub, timeoutMs, stop.signal)]),
        this.failed
      ]);
    } finally {
      stop.abort();
    }
  }

  signal(name) {
    process.kill(this.#child.pid, name);
  }

  /** Children first, for at most a second; then SIGTERM, and nobody waits for what comes of it. */
  dispose() {
    this.isDisposed = true;
    this.#disposing ??= this.#end();
    return this.#disposing;
  }

  facts() {
    return {
      pid: this.#child?.pid ?? null,
      connection_file: this.#file,
      connection_info: this.connectionInfo,
      exit_code: this.#child?.exitCode ?? null,
      signal: this.#child?.signalCode ?? null,
      stdout: this.#stdout,
      stderr: this.#stderr
    };
  }

  async #end() {
    const pid = this.#child?.pid;
    if (pid) {
      await Promise.race([killChildren(pid), new Promise(done => setTimeout(done, CHILDREN_MS))]);
      this.#child.kill();
    }
    await rm(this.#file, { force: true });
    return this.facts();
  }

  #ended() {
    PORTS.forEach(name => usedPorts.delete(this.connectionInfo[name]));
    this.#setExited();
  }

  async #writeConnectionFile() {
    const ports = await takePorts(PORTS.length);
    this.connectionInfo = {
      key: randomUUID(),
      signature_scheme: 'hmac-sha256',
      transport: 'tcp',
      ip: HOST,
      ...Object.fromEntries(PORTS.map((name, index) => [name, ports[index]])),
      kernel_name: this.#spec.name
    };
    const name = `kernel-v3${randomBytes(20).toString('hex')}.json`;
    this.#file = path.join(process.env.JUPYTER_RUNTIME_DIR, name);
    await writeFile(this.#file, JSON.stringify(this.connectionInfo));
  }
}

/** From 9000 up; each window begins elsewhere, so that two of them at once do not collide. */
async function takePorts(count) {
  const ports = [];
  for (let port = FIRST_PORT + 20 * (process.pid % 500); ports.length < count; port += 1) {
    if (!usedPorts.has(port) && (await isFree(port))) {
      usedPorts.add(port);
      ports.push(port);
    }
  }
  return ports;
}

function isFree(port) {
  return new Promise(resolve => {
    const server = net.createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: HOST, exclusive: true }, () => server.close(() => resolve(true)));
  });
}

async function isInUse(port, timeoutMs, signal) {
  const deadline = Date.now() + timeoutMs;
  while (!(await accepts(port))) {
    if (signal.aborted) {
      return;
    }
    if (Date.now() > deadline) {
      throw new Error(`nobody listened on port ${port} within ${timeoutMs / 1000} s`);
    }
    await new Promise(resolve => setTimeout(resolve, POLL_MS));
  }
}

function accepts(port) {
  return new Promise(resolve => {
    const socket = net.connect({ port, host: HOST });
    socket.once('connect', () => socket.end(() => resolve(true)));
    socket.once('error', () => resolve(false));
  });
}

async function killChildren(root) {
  const parents = new Map();
  for (const name of (await readdir('/proc')).filter(entry => /^\d+$/.test(entry))) {
    const stat = await readFile(`/proc/${name}/stat`, 'utf8').catch(() => '');
    parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]));
  }
  const family = new Set([root]);
  for (let size = 0; size !== family.size; ) {
    size = family.size;
    parents.forEach((parent, pid) => family.has(parent) && family.add(pid));
  }
  family.delete(root);
  for (const pid of family) {
    try {
      process.kill(pid);
    } catch {
      // gone by itself
    }
  }
}
