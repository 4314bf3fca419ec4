"""A NodeCheckpoint's life on this node, owned by one actor each.

``reconcile`` holds the actor, ``plan`` decides, the other files are its jobs.
"""
