"""The controller decides where revisions are built and kept, and where demos run and when they end.

A Checkpoint: ``checkpoint`` → ``observed`` → ``plan`` (``serve`` → ``build`` → ``distribute`` →
``pool``) → ``status``. Its CheckpointRevisions: ``revisions`` → ``revision_lifecycle``. A
DemoInstance: ``demoinstance`` → ``bind`` → ``instance_status`` → ``expire``. Nodes: ``agents`` and
``nodes`` → ``node_lifecycle``. ``cluster`` keeps all objects, ``usage`` counts them, and
``references`` knows which of them needs which revision. Decisions are pure functions over models;
nothing in here touches Podman or a disk.
"""
