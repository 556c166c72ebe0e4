// Lets each message of a request through once, in order, although it may come twice.

import type { KernelMessage } from '@jupyterlab/services';

/** Who the bridge says it is, in the messages that it writes itself. */
const BRIDGE = 'clouditia';

export type Message = KernelMessage.IIOPubMessage | KernelMessage.IStdinMessage;

/** Whether a message says that the kernel is now in this state. */
export function isStatus(msg: Message, state: 'busy' | 'idle'): boolean {
  const content = msg.content as { execution_state?: string };
  return msg.header.msg_type === 'status' && content.execution_state === state;
}

/** Whether the kernel begins with the request; to a new page, the bridge says busy, too. */
export function isFirst(msg: Message): boolean {
  return isStatus(msg, 'busy') && msg.header.username !== BRIDGE;
}

/** Whether a replay begins with this, if only with the word that the beginning is lost. */
function isBeginning(msg: Message): boolean {
  return isFirst(msg) || (msg.header.msg_type === 'stream' && msg.header.username === BRIDGE);
}

/**
 * A replay brings all messages of a request again, to every page that listens. What comes before
 * it by the usual way comes again. Where the replay begins shows only in the messages themselves:
 * the answer that announces it is on another channel, and may be earlier or later.
 */
export class Sieve {
  /** A message has come; returns what is to be shown now, in most cases the message. */
  take(msg: Message): Message[] {
    if (this._state === 'announced' && msg.channel === 'iopub') {
      if (isBeginning(msg)) {
        return this._pass([msg]);
      }
      this._held.push(msg);
      // No beginning, but the end: then this was all that there is.
      return isStatus(msg, 'idle') ? this._pass(this._held) : [];
    }
    if (this._state === 'asked') {
      this._held = isBeginning(msg) ? [msg] : [...this._held, msg];
      return [];
    }
    return this._new([msg]);
  }

  /** A replay was asked for. */
  asked(): void {
    this._state = 'asked';
    this._held = [];
  }

  /** The answer is there; returns what is to be shown now. */
  answered(isReplayed: boolean): Message[] {
    if (!isReplayed || this._held.some(isBeginning)) {
      return this._pass(this._held);
    }
    this._state = 'announced';
    const questions = this._held.filter(msg => msg.channel === 'stdin');
    this._held = [];
    return this._new(questions);
  }

  private _pass(messages: Message[]): Message[] {
    this._state = 'passing';
    this._held = [];
    return this._new(messages);
  }

  private _new(messages: Message[]): Message[] {
    return messages.filter(msg => {
      // A display that replaces an earlier one comes once more as an update, with the same id.
      const key = `${msg.header.msg_id} ${msg.header.msg_type}`;
      const isNew = !this._seen.has(key);
      this._seen.add(key);
      return isNew;
    });
  }

  private _state: 'passing' | 'asked' | 'announced' = 'passing';
  private _held: Message[] = [];
  private _seen = new Set<string>();
}
