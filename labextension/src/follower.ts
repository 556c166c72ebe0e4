// A cell whose request was sent by an earlier page: its messages once more, then the live ones.

import type { CodeCell } from '@jupyterlab/cells';
import type { Kernel, KernelMessage } from '@jupyterlab/services';
import type { TranslationBundle } from '@jupyterlab/translation';
import { removeMark } from './marks';
import { askAgain, type IAnswer, REPLY_MS } from './replay';
import { isFirst, isStatus, type Message, Sieve } from './sieve';
import { StandIn } from './standin';
import type { IListener, Tap } from './tap';

/** Shows the messages of one request in its cell until the request is done. */
export class Follower implements IListener {
  /**
   * @param cell Carries the mark of the request.
   * @param msgId Of the request.
   * @param kernel Of the notebook.
   * @param tap Listens on that kernel.
   * @param trans For the notice.
   * @param ended Called once, when the cell is not followed any more.
   */
  constructor(
    private cell: CodeCell,
    readonly msgId: string,
    private kernel: Kernel.IKernelConnection,
    private tap: Tap,
    private trans: TranslationBundle,
    private ended: (follower: Follower) => void
  ) {
    this.future = new StandIn(kernel, msgId);
    // Also when the cell is run anew or deleted, which disposes what the output area shows.
    this.future.done.catch(() => this.leave());
  }

  /** Ask for the messages; once more after the connection was lost. */
  ask(): void {
    this.cell.model.executionState = 'running';
    this.tap.listen(this.msgId, this);
    this.sieve.asked();
    askAgain(this.kernel, this.msgId, answer => this.answered(answer));
  }

  iopub(msg: KernelMessage.IIOPubMessage): void {
    this.sieve.take(msg).forEach(each => this.show(each));
  }

  stdin(msg: KernelMessage.IStdinMessage): void {
    this.sieve.take(msg).forEach(each => this.show(each));
  }

  reply(msg: KernelMessage.IExecuteReplyMsg): void {
    this.replied = msg;
    this.finishIfDone();
  }

  /** The request will not be answered: its kernel was restarted. */
  abandon(): void {
    if (!this.hasLeft) {
      removeMark(this.cell.model, this.msgId);
      this.leave();
    }
  }

  /** Follow no more; the mark stays for the next page. */
  leave(): void {
    if (this.hasLeft) {
      return;
    }
    this.hasLeft = true;
    this.tap.forget(this.msgId);
    if (!this.cell.isDisposed && this.isShown) {
      this.cell.model.executionState = 'idle';
    }
    this.future.dispose();
    this.ended(this);
  }

  private answered(answer: IAnswer): void {
    if (this.hasLeft || this.cell.isDisposed) {
      return;
    }
    if (!answer.found) {
      this.notFound(answer.reason);
      return;
    }
    const area = this.cell.outputArea;
    if (area.future !== this.future) {
      // What is shown is from the last save, and comes again. It is as good as the kernel's word.
      area.future = this.future;
      this.cell.model.trusted = true;
    }
    this.sieve.answered(true).forEach(msg => this.show(msg));
  }

  private notFound(reason?: string): void {
    const why = reason || this.trans.__('the kernel that ran this cell is gone');
    const text = this.trans.__('%1; its output up to the last save is above', why);
    this.cell.outputArea.model.add({
      output_type: 'stream',
      name: 'stderr',
      text: `[clouditia] ${text}\n`
    });
    this.abandon();
  }

  private show(msg: Message): void {
    if (msg.channel === 'stdin') {
      this.kernel.hasPendingInput = true;
      void this.future.onStdin(msg as KernelMessage.IStdinMessage);
      return;
    }
    this.begin(msg);
    void this.future.onIOPub(msg as KernelMessage.IIOPubMessage);
    if (msg.header.msg_type === 'execute_input') {
      this.executionCount = (msg.content as { execution_count?: number }).execution_count;
    } else if (isStatus(msg, 'idle')) {
      this.isIdle = true;
      this.finishIfDone();
      window.setTimeout(() => this.askForReply(), REPLY_MS);
    }
  }

  /** What was shown before the first message did not belong to the replay. */
  private begin(msg: Message): void {
    if (!this.hasBegun && isFirst(msg)) {
      this.hasBegun = true;
      if (this.cell.outputArea.model.length > 0) {
        this.cell.outputArea.model.clear();
      }
    }
  }

  private askForReply(): void {
    if (!this.hasLeft && !this.kernel.isDisposed) {
      this.ask();
    }
  }

  private finishIfDone(): void {
    if (!this.replied || !this.isIdle || this.hasLeft) {
      return;
    }
    this.hasLeft = true;
    void this.future.onReply(this.replied);
    this.future.finish(this.replied);
    const { model } = this.cell;
    model.executionCount = this.replied.content.execution_count ?? this.executionCount ?? null;
    model.executionState = 'idle';
    removeMark(model, this.msgId);
    this.tap.forget(this.msgId);
    this.ended(this);
  }

  /** Whether the cell still shows this request, or none: it was not run anew. */
  private get isShown(): boolean {
    const shown = this.cell.outputArea.future as unknown;
    return shown === this.future || !shown;
  }

  private readonly future: StandIn;
  private readonly sieve = new Sieve();
  private replied: KernelMessage.IExecuteReplyMsg | null = null;
  /** A cell that has a number counts as done, so it gets it last. */
  private executionCount: number | undefined;
  private hasBegun = false;
  private isIdle = false;
  private hasLeft = false;
}
