"""Clouditia: a GPU behind the notebook you already use.

Importing this package is cheap on purpose: it loads nothing but the version. The public names live
in :mod:`clouditia.errors` and, as later releases add them, behind lazy attributes here.
"""

__version__ = "3.0.0.dev0"
__all__ = ["__version__"]
