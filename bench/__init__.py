"""The benchmarks (``make bench``): each file measures one promise, ``run`` measures them all."""
