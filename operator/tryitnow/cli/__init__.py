"""The ``tryitnow`` command: the programs of the cluster, and those for people."""
