"""The cluster's side: decides what is built where, who holds copies, who runs what, what has ended.

A Checkpoint: ``checkpoint`` → ``observed`` → ``plan`` (``serve`` → ``build`` → ``distribute`` →
``pool``) → ``status``. A DemoInstance: ``demoinstance`` → ``bind`` → ``instance_status`` →
``expire``. Nodes: ``agents`` and ``nodes`` → ``node_lifecycle``. ``cluster`` keeps all objects,
and ``usage`` counts them. Decisions are pure functions over models; nothing in here
touches Podman or a disk.
"""
