// One open notebook: marks its cells when they run, and goes on with those of an earlier page.

import { CodeCell } from '@jupyterlab/cells';
import type { NotebookPanel } from '@jupyterlab/notebook';
import type { Kernel, KernelMessage } from '@jupyterlab/services';
import type { TranslationBundle } from '@jupyterlab/translation';
import { Follower } from './follower';
import { readMark, removeMark, writeMark } from './marks';
import { askAgain, REPLY_MS } from './replay';
import type { Saver } from './saver';
import { isStatus, type Message, Sieve } from './sieve';
import { Tap } from './tap';

/** Requests that a cell of this page waits for; a second view of a notebook must not do so, too. */
const awaited = new Set<string>();

/** A cell that this page has run. */
interface IRun {
  future: Kernel.IFuture<KernelMessage.IExecuteRequestMsg, KernelMessage.IExecuteReplyMsg>;
  sieve: Sieve;
}

/** Watches a notebook until it is closed. */
export class NotebookWatch {
  /**
   * @param panel The notebook.
   * @param isRemote Whether a kernel is one of ours.
   * @param saver Saves the notebook.
   * @param trans For what is shown.
   */
  constructor(
    private panel: NotebookPanel,
    private isRemote: (kernel: Kernel.IKernelConnection) => Promise<boolean>,
    private saver: Saver,
    private trans: TranslationBundle
  ) {
    panel.sessionContext.kernelChanged.connect(this.kernelChanged, this);
    panel.disposed.connect(this.dispose, this);
    void Promise.all([panel.context.ready, panel.sessionContext.ready]).then(this.kernelChanged);
  }

  private dispose(): void {
    this.detach();
    this.saver.dispose();
  }

  private readonly kernelChanged = async (): Promise<void> => {
    const kernel = this.panel.sessionContext.session?.kernel ?? null;
    if (kernel === this.kernel) {
      return;
    }
    this.detach();
    this.kernel = kernel;
    if (kernel && (await this.isRemote(kernel)) && kernel === this.kernel && !kernel.isDisposed) {
      this.attach(kernel);
    }
  };

  private attach(kernel: Kernel.IKernelConnection): void {
    this.tap = new Tap(kernel);
    this.wasOnline = kernel.connectionStatus === 'connected';
    this.isLost = false;
    kernel.anyMessage.connect(this.messageSeen, this);
    kernel.statusChanged.connect(this.statusChanged, this);
    kernel.connectionStatusChanged.connect(this.connectionChanged, this);
    this.goOn(kernel, this.tap);
  }

  private detach(): void {
    this.kernel?.anyMessage.disconnect(this.messageSeen, this);
    this.kernel?.statusChanged.disconnect(this.statusChanged, this);
    this.kernel?.connectionStatusChanged.disconnect(this.connectionChanged, this);
    this.kernel = null;
    [...this.followers].forEach(follower => follower.leave());
    this.tap?.dispose();
    this.tap = null;
  }

  // --- cells of an earlier page ------------------------------------------------------------------

  private goOn(kernel: Kernel.IKernelConnection, tap: Tap): void {
    for (const cell of this.codeCells()) {
      const mark = readMark(cell.model);
      if (!mark || awaited.has(mark.msg_id)) {
        continue;
      }
      awaited.add(mark.msg_id);
      const follower = new Follower(cell, mark.msg_id, kernel, tap, this.trans, each => {
        awaited.delete(each.msgId);
        this.followers.delete(each);
      });
      this.followers.add(follower);
      follower.ask();
    }
  }

  private statusChanged(_: unknown, status: Kernel.Status): void {
    if (status === 'restarting' || status === 'autorestarting') {
      [...this.followers].forEach(follower => follower.abandon());
    }
  }

  private connectionChanged(
    kernel: Kernel.IKernelConnection,
    status: Kernel.ConnectionStatus
  ): void {
    if (status !== 'connected') {
      this.isLost = this.wasOnline;
      return;
    }
    this.wasOnline = true;
    if (this.isLost) {
      this.isLost = false;
      this.followers.forEach(follower => follower.ask());
      this.runs.forEach((run, msgId) => this.askForRun(kernel, msgId, run));
    }
  }

  /** The connection of a running cell was lost, and maybe messages with it. */
  private askForRun(kernel: Kernel.IKernelConnection, msgId: string, run: IRun): void {
    run.sieve.asked();
    askAgain(kernel, msgId, answer => {
      run.sieve.answered(answer.found).forEach(msg => pass(run.future, msg));
    });
  }

  // --- cells of this page ------------------------------------------------------------------------

  private messageSeen(
    kernel: Kernel.IKernelConnection,
    { msg, direction }: Kernel.IAnyMessageArgs
  ): void {
    const cellId = (msg.metadata as { cellId?: string } | undefined)?.cellId;
    if (direction === 'send' && msg.header.msg_type === 'execute_request' && cellId) {
      // The cell gets its future when sending returns.
      void Promise.resolve().then(() => this.sent(kernel, cellId, msg.header.msg_id));
    }
  }

  private sent(kernel: Kernel.IKernelConnection, cellId: string, msgId: string): void {
    const cell = this.codeCells().find(each => each.model.id === cellId);
    const future = cell?.outputArea.future;
    if (!cell || future?.msg.header.msg_id !== msgId) {
      return; // another view's
    }
    writeMark(cell.model, { kernel: kernel.id, msg_id: msgId });
    this.saver.soon();
    awaited.add(msgId);
    const sieve = filtered(future, () => {
      window.setTimeout(() => this.askForReply(kernel, msgId), REPLY_MS);
    });
    this.runs.set(msgId, { future, sieve });
    future.done
      .then(() => this.unmark(msgId))
      .catch(() => this.canceled(kernel, msgId))
      .finally(() => {
        awaited.delete(msgId);
        this.runs.delete(msgId);
      });
  }

  private askForReply(kernel: Kernel.IKernelConnection, msgId: string): void {
    const run = this.runs.get(msgId);
    if (run && !kernel.isDisposed) {
      this.askForRun(kernel, msgId, run);
    }
  }

  /** The page does not wait any more: for good, if that is not for want of a connection. */
  private canceled(kernel: Kernel.IKernelConnection, msgId: string): void {
    if (!kernel.isDisposed && kernel.connectionStatus === 'connected') {
      this.unmark(msgId);
    }
  }

  private unmark(msgId: string): void {
    // The cell may have been moved meanwhile, and then it is another object.
    this.codeCells().forEach(cell => removeMark(cell.model, msgId));
  }

  private codeCells(): CodeCell[] {
    const cells = this.panel.isDisposed ? [] : this.panel.content.widgets;
    return cells.filter((cell): cell is CodeCell => cell instanceof CodeCell && !cell.isDisposed);
  }

  private kernel: Kernel.IKernelConnection | null = null;
  private tap: Tap | null = null;
  private wasOnline = false;
  private isLost = false;
  private readonly followers = new Set<Follower>();
  private readonly runs = new Map<string, IRun>();
}

/** Another page may ask for the messages of this request again: let each through once. */
function filtered(future: IRun['future'], idle: () => void): Sieve {
  const sieve = new Sieve();
  const show = future.onStdin;
  future.registerMessageHook(msg => {
    const [last, ...earlier] = sieve.take(msg).reverse();
    earlier.reverse().forEach(each => pass(future, each));
    if (last && isStatus(last, 'idle')) {
      idle();
    }
    return last !== undefined;
  });
  future.onStdin = async msg => {
    if (sieve.take(msg).length) {
      await show(msg);
    }
  };
  return sieve;
}

function pass(future: IRun['future'], msg: Message): void {
  if (msg.channel === 'iopub') {
    void future.onIOPub(msg as KernelMessage.IIOPubMessage);
  } else {
    void future.onStdin(msg as KernelMessage.IStdinMessage);
  }
}
