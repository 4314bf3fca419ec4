"""The node's side: everything that touches Podman, CRIU, the disk and the data path.

The rooms, top down; imports point down this list:

``main``, ``handlers``, ``node``  what the process is made of
``upkeep``       what nobody owns, and what the node tells about itself
``demos``        a demo's life: started, probed, started again, reset, removed
``checkpoints``  a NodeCheckpoint's life: built or fetched, prepared, tested, kept in stock
``restore``      the three ways to bring containers up: restore, cold start, restart
``transfer``     archives from and to other nodes
``sandbox``      what containers live in: network, firewall, names, volumes, probes, hooks
``storage``      files on the node's disk, and the books of memory, disk and ports
``errors``, ``counters``, ``health``, ``turns``  small things that all rooms use

Nothing in here decides for another node.
"""
