"""What Clouditia's own tests and benchmarks, and yours, need to run against a real gateway.

The pytest plugin (``plugin``) offers the fixtures. The other modules work without pytest: ``home``
isolates a user, ``gateway_process`` runs a gateway in a process of its own, ``targets`` logs in to
it, ``chaos`` breaks the network between two ends, ``processes`` finds and kills what is left.
"""
