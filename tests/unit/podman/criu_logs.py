"""What CRIU writes when it fails, as test data: the cause, what follows from it, Podman's words.

Composed from the messages in CRIU's sources (criu/, compel/) in the order in which failures on real
nodes and in public reports have them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Failed:
    """A failure of CRIU.

    Attributes:
        name: Of the case.
        log: CRIU's log.
        podman: What Podman said of it.
        cause: Begins the message that people get, without time, PID and place.
        remedy: A part of the remedy; empty where none is known.
        limit: The node's limit that it is; empty where it is none.

    """

    name: str
    log: str
    podman: str
    cause: str
    remedy: str = ""
    limit: str = ""


FAILED = (
    Failed(
        "a processor without AVX",
        "(02.504680)      4: Restoring FPU\n"
        "(02.504686)      4: Error (criu/arch/x86/crtools.c:395): x86: FPU xsave area present, "
        "but host cpu doesn't support it\n"
        "(02.504786)      7: Error (criu/arch/x86/crtools.c:395): x86: FPU xsave area present, "
        "but host cpu doesn't support it\n"
        "(02.590000) Error (criu/cr-restore.c:1258): 4 exited, status=1\n"
        "(02.601000) Error (criu/cgroup.c:2055): cg: cgroupd: recv req error: "
        "No such file or directory\n"
        "(02.602000) Error (criu/cr-restore.c:2331): Restoring FAILED.\n",
        # Of all lines that crun repeats, Podman takes the first with an errno that it knows.
        "crun: Error (criu/cgroup.c:2055): cg: cgroupd: recv req error: No such file or "
        "directory: OCI runtime attempted to invoke a command that was not found",
        "x86: FPU xsave area present, but host cpu doesn't support it",
        "nodeSelector",
        "WrongProcessor",
    ),
    Failed(
        "a processor with other features, where CRIU compares them first",
        "(00.100000) Error (criu/arch/x86/cpu.c:274): cpu: CPU xsave size mismatch (2696/832)\n"
        "(00.101000) Error (criu/cr-restore.c:2324): Restoring FAILED.\n",
        "crun: CRIU restoring failed: -1: OCI runtime error",
        "cpu: CPU xsave size mismatch (2696/832)",
        "nodeSelector",
        "WrongProcessor",
    ),
    Failed(
        "a kernel that lacks what the checkpoint needs",
        "(00.200000)      1: Error (criu/cr-restore.c:2636): rseq: can't restore as kernel "
        "doesn't support it\n"
        "(00.210000) Error (criu/cr-restore.c:1258): 1 exited, status=1\n"
        "(00.211000) Error (criu/cr-restore.c:2324): Restoring FAILED.\n",
        "crun: CRIU restoring failed: -1: OCI runtime error",
        "rseq: can't restore as kernel doesn't support it",
        "as new as that of the node that built",
        "WrongKernel",
    ),
    Failed(
        "an address above those of the node's kernel",
        "(00.200000)      1: Error (criu/mem.c:1048): Can't restore high memory region "
        "ff2b000000000000-ff2b000000001000 because kernel does only support vmas up to "
        "7ffffffff000\n"
        "(00.211000) Error (criu/cr-restore.c:2324): Restoring FAILED.\n",
        "crun: CRIU restoring failed: -1: OCI runtime error",
        "Can't restore high memory region ff2b000000000000-ff2b000000001000 because kernel",
        "as new as that of the node that built",
        "WrongKernel",
    ),
    Failed(
        "images of a newer CRIU",
        "(00.000300) Error (criu/image.c:89): Not supported images version 3\n"
        "(00.000400) Error (criu/cr-restore.c:2324): Restoring FAILED.\n",
        "crun: CRIU restoring failed: -1: OCI runtime error",
        "Not supported images version 3",
        "the same image of the operator on all nodes",
    ),
    Failed(
        "a processor newer than CRIU",
        "(00.011824) Warn  (compel/arch/x86/src/lib/cpu.c:136): cpu: fpu: max xsave frame exceed "
        "xsave_struct (11008 4096)\n"
        "(00.011875) Error (compel/arch/x86/src/lib/infect.c:469): Can't set FPU registers for "
        "306: Bad address\n"
        "(00.011880) Error (compel/src/lib/infect.c:1559): Parasite exited with -1\n"
        "(00.011882) Error (criu/parasite-syscall.c:202): Can't init thread in parasite 306\n"
        "(00.011884) Error (criu/cr-dump.c:988): Can't dump thread for pid 306\n"
        "(00.011886) Error (criu/cr-dump.c:1755): Can't dump threads\n"
        "(00.020000) Error (criu/cr-dump.c:2128): Dumping FAILED.\n",
        "CRIU checkpointing failed: -52",
        "Can't set FPU registers for 306: Bad address",
        "a newer CRIU",
    ),
    Failed(
        "a process that somebody traces",
        "(00.048903) Error (compel/src/lib/infect.c:261): Unseizable non-zombie 209 found, "
        "state S, err -1/10\n"
        "(00.049000) Error (criu/cr-dump.c:2128): Dumping FAILED.\n",
        "CRIU checkpointing failed: -1",
        "Unseizable non-zombie 209 found, state S, err -1/10",
        "another program traces",
    ),
    Failed(
        "a file that is not what it was",
        "(00.310000)      9: Error (criu/files-reg.c:2294): File srv/shop has bad mode 040755 "
        "(expect 040750)\n"
        "(00.310100)      9: Error (criu/files.c:1210): Unable to open fd=9 id=0x4d\n"
        "(00.314426)pie: 1: Error (criu/pie/restorer.c:2335): Restorer fail 1\n"
        "(00.320000) Error (criu/cr-restore.c:1262): 9 killed by signal 9: Killed\n"
        "(00.330000) Error (criu/namespaces.c:1310): uns: recv req error: Success\n"
        "(00.340000) Error (criu/cr-restore.c:2324): Restoring FAILED.\n",
        "crun: Error (criu/cgroup.c:2055): cg: cgroupd: recv req error: No such file or directory",
        "File srv/shop has bad mode 040755 (expect 040750)",
    ),
    Failed(
        "an open file that cannot be checkpointed",
        "(00.022917) Error (criu/files-ext.c:98): Can't dump file 9 of that type [20666] "
        "(chr 10:229 /dev/fuse)\n"
        "(00.022938) Error (criu/cr-dump.c:1698): Dump files (pid: 6475) failed with -1\n"
        "(00.023000) Error (criu/cr-dump.c:2128): Dumping FAILED.\n",
        "CRIU checkpointing failed: -52",
        "Can't dump file 9 of that type [20666] (chr 10:229 /dev/fuse)",
        "such as a device",
    ),
    Failed(
        "a rule of the node that forbids",
        "(00.008870) pie: 9203: Error (criu/pie/parasite.c:429): can't dump unpriviliged task "
        "whose /proc doesn't belong to it\n"
        "(00.008872) pie: 9203: Error (criu/pie/parasite.c:618): can't get /proc fd\n"
        "(00.008875) Error (compel/src/lib/infect-rpc.c:72): Command 76 for daemon failed with -1\n"
        "(00.009000) Error (criu/cr-dump.c:1647): Can't get proc fd (pid: 9203)\n"
        "(00.010000) Error (criu/cr-dump.c:2128): Dumping FAILED.\n",
        "CRIU checkpointing failed: -1",
        "can't dump unpriviliged task whose /proc doesn't belong to it",
    ),
)
