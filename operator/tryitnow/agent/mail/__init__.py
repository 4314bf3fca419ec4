"""The mail of demos: accepted in their own network, then forgotten or kept, and never delivered.

Each sandbox has listening sockets of its own, on its own loopback, so it needs no address to tell
whose a mail is. The firewall (``sandbox.outbound``) leads what goes out as mail to them.
"""
