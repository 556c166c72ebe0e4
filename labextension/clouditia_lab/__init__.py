"""JupyterLab part of Clouditia; its user interface arrives with a later release."""
