"""What containers live in: a Podman pod with its network, firewall, volumes and host name.

Every build, test restore, warm sandbox and demo lives in one. Nothing in here knows why.
"""
