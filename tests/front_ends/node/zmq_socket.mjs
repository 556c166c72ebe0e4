// A kernel's ZMQ sockets in the clothes of a websocket, which is all that KernelConnection knows.
// As in VS Code: one routing id on shell, control and stdin, no high-water mark anywhere, no
// heartbeat, signatures checked.

import wire from '@nteract/messaging/lib/wire-protocol.js';
import zmq from 'zeromq';
import { randomUUID } from 'node:crypto';

const UNLIMITED = { receiveHighWaterMark: 0, maxMessageSize: -1 };

export class ZmqSocket {
  protocol = '';
  readyState = 1;
  onopen = () => {};
  onclose = () => {};
  onerror = () => {};
  onmessage = () => {};
  #info;
  #say;
  #isClosed = false;
  #channels;
  #sending = Promise.resolve();

  constructor(info, say) {
    this.#info = info;
    this.#say = say;
    const options = { routingId: randomUUID(), sendHighWaterMark: 0, ...UNLIMITED };
    this.#channels = {
      iopub: new zmq.Subscriber(UNLIMITED),
      shell: new zmq.Dealer(options),
      control: new zmq.Dealer(options),
      stdin: new zmq.Dealer(options)
    };
    for (const [channel, socket] of Object.entries(this.#channels)) {
      socket.connect(`${info.transport}://${info.ip}:${info[`${channel}_port`]}`);
      void this.#read(channel, socket);
    }
    this.#channels.iopub.subscribe();
    // Nobody tells when ZMQ is connected, so the extension says "open" at once.
    queueMicrotask(() => this.onopen({ target: this }));
  }

  send(message) {
    const parts = wire.encode(toWire(message), this.#info.key, this.#info.signature_scheme);
    this.#sending = this.#sending
      .then(() => this.#channels[message.channel].send(parts))
      .catch(error => this.#report(error));
  }

  close() {
    this.#isClosed = true;
    this.readyState = 3;
    for (const socket of Object.values(this.#channels)) {
      socket.close();
    }
  }

  async #read(channel, socket) {
    try {
      for await (const parts of socket) {
        if (this.#isClosed) {
          return;
        }
        this.#deliver(channel, parts);
      }
    } catch (error) {
      this.#report(error);
    }
  }

  /** A message that the libraries refuse is logged, and the next one is read. */
  #deliver(channel, parts) {
    try {
      const message = wire.decode(parts, this.#info.key, this.#info.signature_scheme);
      message.channel = channel;
      this.onmessage({ data: message, type: 'message', target: this });
    } catch (error) {
      this.#report(error);
    }
  }

  #report(error) {
    if (!this.#isClosed) {
      this.#say({ event: 'log', text: String(error.stack) });
    }
  }
}

function toWire(message) {
  const buffers = (message.buffers ?? []).map(buffer => Buffer.from(buffer));
  return { ...message, parent_header: message.parent_header ?? {}, buffers };
}
