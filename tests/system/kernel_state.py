"""A program that holds what a kernel keeps for processes, and says whether it still has it.

It runs in a demo, not in the tests: ``GET /check`` asks each of its holdings. Each function takes
hold of something when the program starts, and returns what finds out whether it is still there.
"""

from __future__ import annotations

import ctypes
import fcntl
import http.server
import json
import mmap
import multiprocessing
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable

Check = Callable[[], bool]

HOLD: dict[str, Callable[[], Check]] = {}
libc = ctypes.CDLL(None, use_errno=True)


def hold(take: Callable[[], Check]) -> Callable[[], Check]:
    HOLD[take.__name__] = take
    return take


def ok(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def beats(read: Callable[[], object]) -> bool:
    """Whether something goes on changing."""
    before = read()
    time.sleep(0.4)
    return read() != before


# -- files ----------------------------------------------------------------------------------------


@hold
def a_file_without_a_name() -> Check:
    file = open("/tmp/nameless", "w+")
    file.write("kept")
    file.flush()
    os.unlink(file.name)
    return lambda: file.seek(0) == 0 and file.read() == "kept"


@hold
def a_hole_without_a_name() -> Check:
    file = open("/tmp/hole", "w+b")
    file.truncate(1 << 30)
    os.unlink(file.name)
    return lambda: os.fstat(file.fileno()).st_size == 1 << 30


@hold
def a_mapped_file() -> Check:
    with open("/tmp/mapped", "w+b") as file:
        file.truncate(8192)
        view = mmap.mmap(file.fileno(), 8192)

    def check() -> bool:
        view[:4] = b"mine"
        view.flush()
        with open("/tmp/mapped", "rb") as file:
            return file.read(4) == b"mine"

    return check


@hold
def a_program_whose_file_was_replaced() -> Check:
    subprocess.run(["cp", "/usr/bin/sleep", "/tmp/sleep"], check=True)
    running = subprocess.Popen(["/tmp/sleep", "10000"])
    time.sleep(0.1)
    os.unlink("/tmp/sleep")
    return lambda: running.poll() is None


@hold
def a_directory_that_was_removed() -> Check:
    script = "mkdir /tmp/gone; cd /tmp/gone; rmdir /tmp/gone; sleep 10000; exit"
    running = subprocess.Popen(["sh", "-c", script])
    return lambda: running.poll() is None


@hold
def a_watched_directory() -> Check:
    os.mkdir("/tmp/watched")
    heard = ok(libc.inotify_init1(os.O_NONBLOCK))
    ok(libc.inotify_add_watch(heard, b"/tmp/watched", 0x100))  # IN_CREATE

    def check() -> bool:
        with open(f"/tmp/watched/{time.monotonic_ns()}", "w"):
            return bool(os.read(heard, 4096))

    return check


@hold
def a_lock_of_the_open_file() -> Check:
    file = open("/tmp/flock", "w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return lambda: not file.closed and is_locked("flock", "/tmp/flock")


@hold
def a_lock_of_the_process() -> Check:
    file = open("/tmp/lockf", "w")
    fcntl.lockf(file, fcntl.LOCK_EX)
    return lambda: not file.closed and is_locked("lockf", "/tmp/lockf")


def is_locked(how: str, path: str) -> bool:
    script = f"import fcntl; fcntl.{how}(open({path!r}, 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    return subprocess.run([sys.executable, "-c", script], capture_output=True).returncode != 0


@hold
def devices_and_proc() -> Check:
    files = [open(path, "rb") for path in ("/dev/zero", "/dev/urandom", "/proc/self/status")]
    return lambda: all(file.read(4) for file in files) and files[2].seek(0) == 0


# -- memory ---------------------------------------------------------------------------------------


@hold
def memory_shared_with_a_child() -> Check:
    shared = mmap.mmap(-1, 4096)
    if os.fork() == 0:
        while True:
            shared[:8] = struct.pack("d", time.time())
            time.sleep(0.05)
    return lambda: beats(lambda: shared[:8])


@hold
def shared_memory_by_name() -> Check:
    with open("/dev/shm/named", "w+b") as file:
        file.write(b"kept")
    return lambda: open("/dev/shm/named", "rb").read() == b"kept"


@hold
def a_file_in_memory() -> Check:
    descriptor = os.memfd_create("kept")
    os.write(descriptor, b"kept")
    return lambda: os.pread(descriptor, 4, 0) == b"kept"


@hold
def system_v_memory_and_messages() -> Check:
    libc.shmat.restype = ctypes.c_void_p
    where = libc.shmat(ok(libc.shmget(0x7479, 4096, 0o1600)), None, 0)
    ctypes.memmove(where, b"kept", 4)
    queue = ok(libc.msgget(0x747A, 0o1600))
    message = struct.pack("l", 1) + b"msg\0"
    ok(libc.msgsnd(queue, message, 4, 0))

    def check() -> bool:
        got = ctypes.create_string_buffer(16)
        ok(libc.msgrcv(queue, got, 4, 0, 0o4000))
        ok(libc.msgsnd(queue, message, 4, 0))
        return ctypes.string_at(where, 4) == b"kept" and got.raw.startswith(message)

    return check


@hold
def a_semaphore() -> Check:
    semaphore = multiprocessing.Semaphore(1)
    semaphore.acquire()

    def check() -> bool:
        taken = not semaphore.acquire(timeout=0.1)
        semaphore.release()
        return taken and semaphore.acquire(timeout=1)

    return check


# -- time and waiting -----------------------------------------------------------------------------


@hold
def timers() -> Check:
    timer = ok(libc.timerfd_create(1, 0))
    # It must not expire before the checkpoint: CRIU 4.2 stops one whose expiry was not read.
    ok(libc.timerfd_settime(timer, 0, struct.pack("qqqq", 3600, 0, 3600, 0), None))
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)

    def check() -> bool:
        left = ctypes.create_string_buffer(32)
        ok(libc.timerfd_gettime(timer, left))
        every, _, seconds, _ = struct.unpack("qqqq", left.raw)
        return every == 3600 > seconds > 0 and signal.getitimer(signal.ITIMER_REAL)[1] > 0

    return check


@hold
def events_and_their_poll() -> Check:
    event = os.eventfd(0)
    poll = select.epoll()
    poll.register(event, select.EPOLLIN)

    def check() -> bool:
        os.eventfd_write(event, 3)
        return bool(poll.poll(1)) and os.eventfd_read(event) == 3

    return check


@hold
def fifty_threads() -> Check:
    count = [0]

    def work() -> None:
        while True:
            count[0] += 1
            time.sleep(0.05)

    for _ in range(50):
        threading.Thread(target=work, daemon=True).start()
    return lambda: beats(lambda: count[0]) and threading.active_count() >= 50


# -- processes ------------------------------------------------------------------------------------


@hold
def a_child_that_ended_and_was_not_asked() -> Check:
    child = os.fork()
    if child == 0:
        os._exit(7)
    state = f"/proc/{child}/stat"
    return lambda: open(state).read().split()[2] == "Z"


@hold
def a_child_that_is_stopped() -> Check:
    child = subprocess.Popen(["sleep", "10000"])
    os.kill(child.pid, signal.SIGSTOP)
    return lambda: open(f"/proc/{child.pid}/stat").read().split()[2] == "T"


@hold
def a_daemon_of_its_own_session() -> Check:
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        while True:
            with open("/tmp/daemon", "w") as file:
                file.write(str(time.time()))
            time.sleep(0.05)
    return lambda: beats(lambda: open("/tmp/daemon").read() or None)


@hold
def a_handle_of_a_process() -> Check:
    handle = os.pidfd_open(subprocess.Popen(["sleep", "10000"]).pid)

    def check() -> bool:
        signal.pidfd_send_signal(handle, 0)
        return True

    return check


# -- pipes and sockets ----------------------------------------------------------------------------


@hold
def what_was_written_into_a_pipe() -> Check:
    reading, writing = os.pipe()
    os.write(writing, b"x" * 1000)
    return lambda: os.read(reading, 2000) == b"x" * 1000 and os.write(writing, b"x" * 1000) > 0


@hold
def a_named_pipe() -> Check:
    os.mkfifo("/tmp/fifo")
    both = os.open("/tmp/fifo", os.O_RDWR)
    os.write(both, b"kept")
    return lambda: os.read(both, 4) == b"kept" and os.write(both, b"kept") == 4


@hold
def a_terminal() -> Check:
    ours, theirs = os.openpty()
    return lambda: os.write(ours, b"kept\n") > 0 and os.read(theirs, 10) == b"kept\n"


@hold
def sockets_of_the_machine() -> Check:
    ours, theirs = socket.socketpair()
    ours.send(b"kept")
    named = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    named.bind("/tmp/socket")
    hidden = socket.socket(socket.AF_UNIX)
    hidden.bind("\0hidden")
    hidden.listen()

    def check() -> bool:
        kept = theirs.recv(10) == b"kept" and ours.send(b"kept") == 4
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"new", "/tmp/socket")
        caller = socket.socket(socket.AF_UNIX)
        caller.connect("\0hidden")
        return kept and named.recv(10) == b"new" and hidden.accept() is not None

    return check


@hold
def sockets_of_the_network() -> Check:
    datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    datagrams.bind(("::", 5354))
    listening = socket.create_server(("::", 8086), family=socket.AF_INET6)

    def check() -> bool:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b"new", ("::1", 5354))
        caller = socket.create_connection(("::1", 8086), 2)
        return (
            datagrams.recv(10) == b"new" and listening.accept() is not None and caller is not None
        )

    return check


@hold
def a_connection_inside() -> Check:
    with socket.create_server(("127.0.0.1", 8087)) as listening:
        ours = socket.create_connection(("127.0.0.1", 8087))
        theirs, _ = listening.accept()
    return lambda: ours.send(b"new") == 3 and theirs.recv(10) == b"new"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(answers() if self.path == "/check" else {}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)


def answers() -> dict[str, str]:
    found = {}
    for name, check in CHECKS.items():
        try:
            found[name] = "kept" if check() else "lost"
        except (OSError, ValueError) as error:
            found[name] = f"lost: {error}"
    return found


if __name__ == "__main__":
    CHECKS = {name: take() for name, take in HOLD.items()}
    print("holding", *CHECKS, flush=True)
    http.server.ThreadingHTTPServer(("", 80), Handler).serve_forever()
