// What a cell remembers while it runs: the request whose output it shows.

import type { ICellModel } from '@jupyterlab/cells';

const KEY = 'clouditia';

/** Kept in the metadata of a cell until its request is done. */
export interface IMark {
  /** Id of the kernel at the local server, for people who read the file. */
  kernel: string;
  /** Of the `execute_request`. */
  msg_id: string;
}

/** The mark of a cell, if it has one. */
export function readMark(cell: ICellModel): IMark | null {
  const mark = cell.getMetadata(KEY) as Partial<IMark> | undefined;
  return typeof mark?.msg_id === 'string' ? (mark as IMark) : null;
}

/** Mark a cell whose request was sent. */
export function writeMark(cell: ICellModel, mark: IMark): void {
  cell.setMetadata(KEY, { ...mark });
}

/** Take the mark of this request away; a later request of the same cell keeps its own. */
export function removeMark(cell: ICellModel, msgId: string): void {
  if (readMark(cell)?.msg_id === msgId) {
    cell.deleteMetadata(KEY);
  }
}
