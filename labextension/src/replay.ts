// The request to the bridge: send the messages of an earlier request once more.

import { Kernel, KernelMessage } from '@jupyterlab/services';

const REQUEST = 'clouditia_replay_request';

/**
 * The reply to a request comes before its idle, but to one page only: the last one that asked. A
 * page that has seen the idle and has no reply after this time asks for itself.
 */
export const REPLY_MS = 2000;

/** What the bridge answers on control. */
export interface IAnswer {
  /** Whether the messages will come, from the first on, followed by the live ones. */
  found: boolean;
  /** Why they will not. */
  reason?: string;
}

/** Ask for the messages of a request; `answered` is not called if the kernel is lost meanwhile. */
export function askAgain(
  kernel: Kernel.IKernelConnection,
  msgId: string,
  answered: (answer: IAnswer) => void
): void {
  const request = KernelMessage.createMessage({
    // A type of our own, which the list of Jupyter's types cannot know.
    msgType: REQUEST as KernelMessage.ControlMessageType,
    channel: 'control',
    session: kernel.clientId,
    username: kernel.username,
    content: { msg_id: msgId }
  } as unknown as KernelMessage.IOptions<KernelMessage.IInfoRequestMsg>);
  const future = kernel.sendControlMessage(
    request as unknown as KernelMessage.IControlMessage<KernelMessage.ControlMessageType>,
    true
  );
  future.onReply = reply => answered(reply.content as unknown as IAnswer);
  future.done.catch(() => undefined); // the connection was closed
}
