"""JupyterLab and Notebook 7 in a real browser; a package, so that the tests share one of each."""
