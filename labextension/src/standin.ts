// Stands in for the future of a request that an earlier page has sent.

import { Kernel, KernelMessage } from '@jupyterlab/services';
import { PromiseDelegate } from '@lumino/coreutils';

type Request = KernelMessage.IExecuteRequestMsg;
type Reply = KernelMessage.IExecuteReplyMsg;
type Awaitable = void | PromiseLike<void>;

/** What an output area needs of a future; whoever made it hands it the messages. */
export class StandIn implements Kernel.IShellFuture<Request, Reply> {
  constructor(kernel: Kernel.IKernelConnection, msgId: string) {
    this._kernel = kernel;
    this.msg = KernelMessage.createMessage<Request>({
      msgType: 'execute_request',
      channel: 'shell',
      msgId,
      session: kernel.clientId,
      username: kernel.username,
      content: { code: '' }
    });
    this._done.promise.catch(() => undefined); // nobody has to wait for it
  }

  readonly msg: Request;
  onReply: (msg: Reply) => Awaitable = () => undefined;
  onStdin: (msg: KernelMessage.IStdinMessage) => Awaitable = () => undefined;
  onIOPub: (msg: KernelMessage.IIOPubMessage) => Awaitable = () => undefined;

  get done(): Promise<Reply> {
    return this._done.promise;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** The reply and the idle state were seen. */
  finish(reply: Reply): void {
    this._done.resolve(reply);
  }

  // Hooks are for those who sent the request, and they are gone.
  registerMessageHook(): void {}

  removeMessageHook(): void {}

  sendInputReply(
    content: KernelMessage.IInputReplyMsg['content'],
    parent_header: KernelMessage.IInputReplyMsg['parent_header']
  ): void {
    this._kernel.sendInputReply(content, parent_header);
  }

  dispose(): void {
    if (!this._isDisposed) {
      this._isDisposed = true;
      this.onReply = this.onStdin = this.onIOPub = () => undefined;
      this._done.reject(new Error('Canceled: the cell does not wait for this request any more'));
    }
  }

  private _kernel: Kernel.IKernelConnection;
  private _done = new PromiseDelegate<Reply>();
  private _isDisposed = false;
}
