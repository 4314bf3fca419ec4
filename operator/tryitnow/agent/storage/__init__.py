"""Files on the node's disk: archives, what is unpacked from them, volumes, trash; and the books.

Nothing in here knows a demo, a cluster or a sandbox.
"""
