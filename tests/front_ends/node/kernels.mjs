// Kernel connections under short names, and what a notebook does with one.

import services from '@jupyterlab/services';

const { KernelMessage } = services;

export class Kernels {
  #connections = new Map();
  #comms = new Map();
  #say;
  #count = 0;

  constructor(say) {
    this.#say = say;
  }

  /** Give a connection a name; under a name that is given, the new one takes the place of the old. */
  add(connection, name = `k${++this.#count}`) {
    this.#connections.set(name, connection);
    connection.anyMessage.connect((_, { msg, direction }) => {
      if (direction === 'recv' && this.#connections.get(name) === connection) {
        this.#say({ event: 'message', kernel: name, message: toJson(msg) });
      }
    });
    connection.statusChanged.connect((_, status) =>
      this.#say({ event: 'status', kernel: name, status })
    );
    connection.connectionStatusChanged.connect((_, status) =>
      this.#say({ event: 'connection', kernel: name, status })
    );
    return name;
  }

  get(name) {
    const connection = this.#connections.get(name);
    if (!connection) {
      throw new Error(`no such kernel: ${name}`);
    }
    return connection;
  }

  operations() {
    return {
      send: args => this.#send(args),
      answer: args => this.#answer(args),
      comm_open: args => this.#openComm(args),
      comm_send: args => this.#sendToComm(args),
      comm_target: args => this.#registerTarget(args),
      state: ({ kernel }) => this.#state(this.get(kernel))
    };
  }

  /** Any message; a request is followed to its end, as the extension follows a cell. */
  #send({ kernel, channel, type, content, buffers = [], subshell = null }) {
    const connection = this.get(kernel);
    if (type === 'execute_request' && subshell === null) {
      return this.#follow(kernel, connection.requestExecute(content, true));
    }
    const message = KernelMessage.createMessage({
      msgType: type,
      channel,
      username: connection.username,
      session: connection.clientId,
      subshellId: subshell,
      content,
      buffers: fromBase64(buffers)
    });
    const isRequest = type.endsWith('_request');
    const send = channel === 'control' ? 'sendControlMessage' : 'sendShellMessage';
    const future = connection[send](message, isRequest, true);
    return isRequest ? this.#follow(kernel, future) : message.header.msg_id;
  }

  #follow(kernel, future) {
    const msg_id = future.msg.header.msg_id;
    future.done.then(
      reply => this.#say({ event: 'done', kernel, msg_id, status: reply?.content?.status ?? '' }),
      error => this.#say({ event: 'done', kernel, msg_id, error: String(error.message ?? error) })
    );
    return msg_id;
  }

  #answer({ kernel, value, parent }) {
    this.get(kernel).sendInputReply({ status: 'ok', value }, parent);
  }

  async #openComm({ kernel, target, data, buffers = [] }) {
    const comm = this.get(kernel).createComm(target);
    this.#comms.set(comm.commId, comm);
    const future = await comm.open(data, {}, fromBase64(buffers));
    return { comm_id: comm.commId, msg_id: this.#follow(kernel, future) };
  }

  async #sendToComm({ kernel, comm_id, data, buffers = [] }) {
    const future = await this.#comms.get(comm_id).send(data, {}, fromBase64(buffers));
    return this.#follow(kernel, future);
  }

  #registerTarget({ kernel, target }) {
    this.get(kernel).registerCommTarget(target, comm => {
      this.#comms.set(comm.commId, comm);
    });
  }

  #state(connection) {
    return {
      id: connection.id,
      status: connection.status,
      connection: connection.connectionStatus,
      has_subshells: connection.supportsSubshells
    };
  }
}

function toJson(message) {
  const { channel, header, parent_header, metadata, content } = message;
  const buffers = (message.buffers ?? []).map(toBase64);
  return { channel, header, parent_header, metadata, content, buffers };
}

function toBase64(buffer) {
  const bytes = ArrayBuffer.isView(buffer)
    ? Buffer.from(buffer.buffer, buffer.byteOffset, buffer.byteLength)
    : Buffer.from(buffer);
  return bytes.toString('base64');
}

/** The libraries want what a browser has: one ArrayBuffer of its own for each. */
function fromBase64(texts) {
  return texts.map(text => new Uint8Array(Buffer.from(text, 'base64')).buffer);
}
