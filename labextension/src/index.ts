// Cells on remote kernels go on after the page, or the local server, was gone.

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { INotebookTracker, type NotebookPanel } from '@jupyterlab/notebook';
import type { Kernel } from '@jupyterlab/services';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { Saver } from './saver';
import { NotebookWatch } from './watch';

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'clouditia-lab:reattach',
  description: 'Lets cells on remote kernels go on after the page was gone.',
  autoStart: true,
  // The pages of Notebook 7 that show no notebook have no tracker.
  optional: [INotebookTracker, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    tracker: INotebookTracker | null,
    translator: ITranslator | null
  ) => {
    const { contents, kernelspecs } = app.serviceManager;
    const trans = (translator ?? nullTranslator).load('clouditia');
    const isRemote = async (kernel: Kernel.IKernelConnection): Promise<boolean> => {
      await kernelspecs.ready;
      return !!kernelspecs.specs?.kernelspecs[kernel.name]?.metadata?.['clouditia'];
    };
    const watch = (panel: NotebookPanel): void => {
      new NotebookWatch(panel, isRemote, new Saver(panel, contents), trans);
    };
    tracker?.forEach(watch);
    tracker?.widgetAdded.connect((_, panel) => watch(panel));
  }
};

export default plugin;
