"""The bridge: to a front end an ordinary local kernel, to the gateway one client of a link.

``process.py`` is the console script, ``kernel.py`` decides where each message goes, ``policy.py``
says what ends a kernel and what only lets go of it; the rest are the sockets, files and watches
around them.
"""
