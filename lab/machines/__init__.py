"""Real nodes for a lab: QEMU virtual machines with a kubelet, containerd and a kernel of their own.

`python3 -m lab up --machines 1` makes a cluster whose node is such a machine, with the operator
installed from the built image by its chart, as docs/install.md says. It shows what the lab's light
nodes cannot: the kubelet's probes and limits, cgroups with all controllers, applications of several
users, other kernels and processors, reboots and power losses.

    guest/         programs of our own inside a machine: its first process, and `pause`
    node/          files of its root file system, and what makes a disk of them
    kernels.py     Debian's kernels, of three releases
    initrd.py      the initrd of each
    disk.py        the base disk, made once and cached by content, and what each machine has over it
    configuration.py  certificates, kubelet, kube-proxy, CNI: what makes a machine a node of its lab
    qemu.py        QEMU's command line, and whether KVM runs a kernel here; else it emulates
    qmp.py         speaks with QEMU, and with the agent in a machine
    machine.py     one machine: its power, its hardware, commands in it
    fleet.py       all machines of a lab, and the operator on them

A machine is a unit of the lab's supervisor, an interface of the lab's network namespace, and a
directory in that of the lab. So `down` takes it away like everything else.

The played kubelet (lab/kubelet.py) is for the light nodes. They start in a second instead of a
minute, run the code of the checkout without an image, and let a test kill one program or look into
one directory. They show how the operator behaves. Machines show that a node bears it.
"""
