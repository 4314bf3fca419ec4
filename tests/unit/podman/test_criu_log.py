"""What of CRIU's log explains a failure, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.podman.criu_logs import FAILED, Failed
from tryitnow.podman.criu_log import CRIULog, read_log
from tryitnow.podman.errors import NodeLimitError
from tryitnow.podman.remedies import REMEDIES, remedy_for_exit
from tryitnow.podman.translate import explained

USERDATA = f"overlay-containers/{'c0ffee11' * 8}/userdata"
PAGE = Path(__file__).parents[3] / "docs/checkpoint.md"


def log_of(tmp_path: Path, text: str) -> CRIULog:
    file = tmp_path / USERDATA / "restore.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return read_log(f"CRIU restoring failed -52.  Please check CRIU logfile {file}")


@pytest.mark.parametrize("failed", FAILED, ids=lambda failed: failed.name)
def test_the_cause_comes_first_and_has_its_remedy(tmp_path: Path, failed: Failed) -> None:
    """Whatever follows from it, and whatever Podman made of that."""
    error = explained(failed.podman, log_of(tmp_path, failed.log))
    first, *others = str(error).splitlines()
    assert first.partition("): ")[2].startswith(failed.cause)
    assert first.startswith("Error ("), "without its time and the PID of a restored task"
    assert others[-1].startswith(("(Podman: ", "What to do: ")), "Podman's words come last"
    assert ("What to do: " in str(error)) == bool(failed.remedy)
    assert failed.remedy in str(error)
    limit = error.limit if isinstance(error, NodeLimitError) else ""
    assert limit == failed.limit
    assert "FAILED" not in str(error), "it explains nothing"


def test_what_only_follows_is_shown_where_nothing_else_is(tmp_path: Path) -> None:
    log = log_of(tmp_path, "(02.602000) Error (criu/cr-restore.c:2331): Restoring FAILED.\n")
    assert log.errors == ("Error (criu/cr-restore.c:2331): Restoring FAILED.",)


def test_what_criu_says_from_inside_of_a_task_is_read_too(tmp_path: Path) -> None:
    log = log_of(
        tmp_path,
        "(00.489244) pie: 6: Error (criu/pie/restorer.c:666): wrong aio: tail=0x0 head=0x0 "
        "req=0x3e old_nr=0x7f new_nr=0x47f expect=0x7f\n"
        "(00.314426)pie: 1: Error (criu/pie/restorer.c:1689): Restorer fail 1\n",
    )
    (cause,) = log.errors
    assert cause.startswith("Error (criu/pie/restorer.c:666): wrong aio")


def test_of_many_errors_the_first_and_the_last_are_shown(tmp_path: Path) -> None:
    lines = [f"(00.{n:06}) Error (criu/x.c:{n}): the {n}.\n" for n in range(20)]
    shown = log_of(tmp_path, "".join(lines)).lines.splitlines()
    assert shown[0].endswith("the 0.")
    assert "…" in shown
    assert shown[-1].endswith("the 19.")
    assert len(shown) == 9


def test_the_first_error_is_found_however_much_follows(tmp_path: Path) -> None:
    noise = "(00.200000) mnt: unmounting the file system of a task that is not needed\n" * 20_000
    log = log_of(
        tmp_path, f"(00.100000)      4: Error (criu/files-reg.c:1): the cause\n{noise}"
        "(00.300000) Error (criu/cr-restore.c:2331): Restoring FAILED.\n"
    )  # fmt: skip
    (error,) = log.errors
    assert error.endswith("the cause")


def test_without_an_error_the_last_lines_must_do(tmp_path: Path) -> None:
    log = log_of(tmp_path, "".join(f"(00.{n:06}) line {n}\n" for n in range(20)))
    assert log.errors[-1] == "line 19"
    assert len(log.errors) == 8


def test_the_remedy_is_that_of_the_first_error_that_has_one(tmp_path: Path) -> None:
    log = log_of(
        tmp_path,
        "(00.1) Error (criu/sk-inet.c:185): inet: In-flight connection (l) for 1f2e\n"
        "(00.2) Error (criu/cr-dump.c:1): Can't infect (pid: 4) with parasite\n",
    )
    assert "skip-in-flight" in log.with_remedy()
    assert "opcache" not in log.with_remedy()


GUARDS = (
    "(00.000100) Warn  (criu/kerndat.c:1851): ioctl(PAGEMAP_SCAN) doesn't support PAGE_IS_GUARD "
    "flag. CRIU dump will fail if dumped processes use madvise(MADV_GUARD_INSTALL). Please, "
    "consider updating your kernel.\n"
)


def test_light_guard_pages_explain_what_no_error_explains(tmp_path: Path) -> None:
    failed = "(00.2) Error (criu/page-pipe.c:1): page-pipe: Can't vmsplice: Bad address\n"
    assert "Linux 6.16" in log_of(tmp_path, GUARDS + failed).with_remedy()


def test_they_do_not_hide_what_an_error_explains(tmp_path: Path) -> None:
    """The warning stands in each log of such a node."""
    failed = "(00.2) Error (criu/sk-inet.c:204): inet: Connected TCP socket\n"
    remedy = log_of(tmp_path, GUARDS + failed).with_remedy()
    assert "spec.criu.tcp" in remedy
    assert "6.16" not in remedy


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("Error (criu/sk-inet.c:137): inet: Unsupported proto 262 for socket 1f2e", "multipathtcp"),
        (
            "Error (criu/files-ext.c:98): Can't dump file 9 of that type [600] "
            "(anon anon_inode:[io_uring])",
            "io_uring off",
        ),
        (
            "Error (criu/files-ext.c:98): Can't dump file 9 of that type [20666] "
            "(chr 10:229 /dev/fuse)",
            "such as a device",
        ),
    ],
    ids=["Go", "io_uring", "device"],
)
def test_a_message_has_its_remedy(tmp_path: Path, line: str, remedy: str) -> None:
    assert remedy in log_of(tmp_path, f"(00.1) {line}\n").with_remedy()


def test_an_instruction_that_the_processor_lacks_is_reported_by_the_exit_code() -> None:
    assert "nodeSelector" in remedy_for_exit(132)
    assert remedy_for_exit(137) == ""


@pytest.mark.parametrize("sign", [remedy.sign for remedy in REMEDIES])
def test_the_page_has_each_remedy(sign: str) -> None:
    assert sign in PAGE.read_text()
