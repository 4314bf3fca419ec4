"""The node's side: everything that touches Podman, CRIU, the disk and the data path.

The files in the order of the data's way: ``build`` → ``verify`` → ``serve`` / ``fetch``
→ ``nodecheckpoint`` (a copy's life) → ``restore`` / ``coldstart`` → ``start`` (the ladder)
→ ``probe`` → ``demoinstance`` (an instance's life) → ``collect`` (what nobody owns).
``report`` tells the cluster about the node. Nothing in here decides for another node.
"""
