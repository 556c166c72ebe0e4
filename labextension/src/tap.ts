// The messages of requests that this page did not send itself.

import type { Kernel, KernelMessage } from '@jupyterlab/services';

/** Gets the messages of one request. */
export interface IListener {
  iopub(msg: KernelMessage.IIOPubMessage): void;
  stdin(msg: KernelMessage.IStdinMessage): void;
  reply(msg: KernelMessage.IExecuteReplyMsg): void;
}

/**
 * Listens on a kernel connection.
 *
 * A connection handles messages one after the other; one that opens a widget may take a while. It
 * emits `iopubMessage` behind that, so what shows the widget comes after what makes it. But it
 * drops messages that wait while one of another session comes in (the bridge writes some). So all
 * are kept as they arrive, and delivered when they, or later ones, were handled.
 */
export class Tap {
  constructor(kernel: Kernel.IKernelConnection) {
    this._kernel = kernel;
    kernel.anyMessage.connect(this._arrived, this);
    kernel.iopubMessage.connect(this._handled, this);
  }

  listen(msgId: string, listener: IListener): void {
    this._listeners.set(msgId, listener);
  }

  forget(msgId: string): void {
    this._listeners.delete(msgId);
    if (this._listeners.size === 0) {
      this._waiting = [];
    }
  }

  dispose(): void {
    this._kernel.anyMessage.disconnect(this._arrived, this);
    this._kernel.iopubMessage.disconnect(this._handled, this);
    this._listeners.clear();
  }

  private _arrived(_: unknown, { msg, direction }: Kernel.IAnyMessageArgs): void {
    if (direction !== 'recv' || this._listeners.size === 0) {
      return;
    }
    if (msg.channel === 'iopub') {
      this._waiting.push(msg as KernelMessage.IIOPubMessage);
      return;
    }
    const listener = this._listeners.get(parentOf(msg));
    if (msg.channel === 'stdin') {
      listener?.stdin(msg as KernelMessage.IStdinMessage);
    } else if (msg.channel === 'shell') {
      listener?.reply(msg as KernelMessage.IExecuteReplyMsg);
    }
  }

  private _handled(_: unknown, handled: KernelMessage.IIOPubMessage): void {
    const count = this._waiting.indexOf(handled) + 1;
    for (const msg of this._waiting.splice(0, count)) {
      if (msg.header.msg_type === 'update_display_data') {
        // Any cell may change what another one shows; whoever does not show it ignores this.
        this._listeners.forEach(listener => listener.iopub(msg));
      } else {
        this._listeners.get(parentOf(msg))?.iopub(msg);
      }
    }
  }

  private _kernel: Kernel.IKernelConnection;
  private _listeners = new Map<string, IListener>();
  private _waiting: KernelMessage.IIOPubMessage[] = [];
}

function parentOf(msg: KernelMessage.IMessage): string {
  return (msg.parent_header as { msg_id?: string }).msg_id ?? '';
}
