// Saves a notebook soon after a cell began to run, so that the next page finds its mark.

import type { NotebookPanel } from '@jupyterlab/notebook';
import type { Contents } from '@jupyterlab/services';
import { readMark } from './marks';

/** Cells that are done by then need no mark in the file. */
const SOON_MS = 1000;
/** As JupyterLab itself does when it looks for changes on the disk. */
const SAME_TIME_MS = 500;

/** Saves one notebook, and never asks the user anything. */
export class Saver {
  constructor(
    private panel: NotebookPanel,
    private contents: Contents.IManager
  ) {}

  /** Save in a second, if a cell is running then. */
  soon(): void {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => {
      this.save().catch(() => undefined); // the next save, by hand or by itself, says why
    }, SOON_MS);
  }

  dispose(): void {
    clearTimeout(this.timer);
  }

  private async save(): Promise<void> {
    const { context } = this.panel;
    const known = context.contentsModel;
    if (context.isDisposed || !known?.writable || context.model.readOnly) {
      return;
    }
    const cells = [...(context.model.cells ?? [])];
    if (context.model.collaborative || !cells.some(readMark)) {
      return;
    }
    const onDisk = await this.contents.get(context.path, { content: false });
    if (Date.parse(onDisk.last_modified) - Date.parse(known.last_modified) <= SAME_TIME_MS) {
      await context.save();
    }
  }

  private timer: number | undefined;
}
