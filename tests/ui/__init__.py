"""The JupyterLab extension in a real browser; a package, so that the tests share one of each."""
