"""The cluster's side: decides what is built where, who holds copies, who runs what, what has ended.

``checkpoint`` (plan of a Checkpoint) → ``distribute`` (who holds copies) → ``bind`` (who runs an
instance) → ``demoinstance`` → ``lost`` (nodes that are gone). Decisions are pure functions over
models; nothing in here touches Podman or a disk.
"""
