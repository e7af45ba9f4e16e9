"""The jail of one program: a script of its own, without any import of genus, that limits what the program can do.

Three processes: this one, which waits; the first of the namespaces, whose end ends all others in them; and the program,
which has an interpreter of its own (`program.py`). Standard input is a file of JSON, standard output gets a verdict.

What holds where (each is a feature of the operating system, see docs/code.md):

* everywhere: a session of its own, and limits of resources (`setrlimit`);
* on Linux: no program is left behind, as orphans become children of this process, which ends when its parent does; a
  filter of system calls (seccomp) for sockets and signals to others; whoever is root runs programs as a user of no one;
* where the kernel allows namespaces: a tree of processes and a network of its own, and all files but those of one
  folder, which lies in memory, are read-only.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import resource
import select
import signal
import struct
import sys
import time
from typing import Any, NoReturn

LIBC = ctypes.CDLL(None, use_errno=True)
LINUX = sys.platform == "linux"

# Numbers of Linux's headers <linux/sched.h>, <linux/mount.h>, <linux/fcntl.h>, <linux/prctl.h>, <linux/capability.h>.
NEW_MOUNTS, NEW_IPC, NEW_USER, NEW_PIDS, NEW_NET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
READ_ONLY, NO_SUID, NO_DEVICES, RECURSIVE, PRIVATE = 1, 2, 4, 0x4000, 0x40000
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE = 442, -100, 0x8000
DIE_WITH_PARENT, KEEP_CAPABILITIES, SECCOMP, SUBREAPER, NO_NEW_PRIVILEGES, AMBIENT = 1, 8, 22, 36, 38, 47
CAPABILITIES_V3, READ_SEARCH = 0x20080522, 2

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""<linux/audit.h>, of the system calls below."""
DENIED = {
    "x86_64": (41, 62, 200, 234, 129, 297, 424, 101, 311, 304, 425),
    "aarch64": (198, 129, 130, 131, 138, 240, 424, 117, 271, 265, 425),
}
"""socket, kill, tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_send_signal, ptrace, process_vm_writev,
open_by_handle_at, io_uring_setup, by the numbers of <asm/unistd.h>."""
X32 = 0x40000000
"""Bit of the numbers of x86's other set of system calls, which are all denied."""
LOOK = 0.02
"""Seconds between two looks at whether the program has ended."""
FIRST_USER = 1 << 30
"""User ids that no one has, of which root takes one by the process id: no other program's processes count as its."""
NOBODY = 65534
"""Where such ids do not exist, as in containers without a root of their own."""


def main() -> None:
    """Run the program of the order on standard input; write the verdict, a line of JSON, to standard output."""
    os.lseek(0, 0, os.SEEK_SET)
    order = json.loads(sys.stdin.buffer.read())
    order["users"] = (FIRST_USER + os.getpid(), NOBODY)
    answer, null = os.dup(1), os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    control(DIE_WITH_PARENT, signal.SIGKILL)
    control(SUBREAPER, 1)
    report, ours = os.pipe()
    try:
        if order["namespaces"]:
            separate()
        first = os.fork()
    except OSError as error:
        os.write(answer, json.dumps({"result": "impossible", "detail": str(error)}).encode())
        return
    if not first:
        lead(order, ours)
    os.close(ours)
    begun = time.monotonic()
    try:
        line = wait(report, first, begun + order["seconds"])
    finally:
        end_all(first, alone=order["namespaces"])
    verdict = judged(line, order["word"]) | {"seconds": round(time.monotonic() - begun, 3)}
    os.write(answer, json.dumps(verdict).encode())


def control(option: int, *values: int) -> None:
    """Call `prctl`, where there is one."""
    if LINUX:
        padded = [*values, 0, 0, 0, 0][:4]
        called(LIBC.prctl(option, *map(ctypes.c_ulong, padded)))


def called(status: int) -> None:
    """Raise an OSError if a call of the C library has failed."""
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def separate() -> None:
    """Enter new namespaces; the next child is the first process of one of them."""
    if not LINUX:
        raise OSError("namespaces are Linux's")
    user, group = os.getuid(), os.getgid()
    called(LIBC.unshare(NEW_MOUNTS | NEW_IPC | NEW_PIDS | NEW_NET | (NEW_USER if user else 0)))
    if user:
        for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(line)


def lead(order: dict[str, Any], report: int) -> NoReturn:
    """Be the first process: prepare, start the program, reap what is left to it, and end when the program does."""
    try:
        control(DIE_WITH_PARENT, signal.SIGKILL)
        os.setsid()
        if order["namespaces"]:
            shut_files(order["folder"], order["disk"])
        program = os.fork()
        if not program:
            start(order, report)
        os.close(report)
        while os.wait()[0] != program:
            pass
    except OSError as error:
        os.write(report, f"!{error}\n".encode())
    finally:
        os._exit(0)


def shut_files(folder: str, size: int) -> None:
    """Make all files read-only, but those of a folder, which lies in memory; show no processes of others."""
    mount(None, "/", None, RECURSIVE | PRIVATE)
    attributes = struct.pack("QQQQ", READ_ONLY, 0, 0, 0)
    path, flags = ctypes.c_char_p(b"/"), ctypes.c_uint(AT_RECURSIVE)
    sized = ctypes.c_size_t(len(attributes))
    called(LIBC.syscall(ctypes.c_long(MOUNT_SETATTR), ctypes.c_int(AT_FDCWD), path, flags, attributes, sized))
    mount("tmpfs", folder, "tmpfs", NO_SUID | NO_DEVICES, f"size={size},mode=0777")
    try:
        mount("proc", "/proc", "proc", NO_SUID | NO_DEVICES | READ_ONLY)
    except OSError:  # in a container, that of the host is covered in parts, and a new one would not be
        mount("tmpfs", "/proc", "tmpfs", NO_SUID | NO_DEVICES | READ_ONLY)


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """Call `mount`."""
    texts = [None if text is None else text.encode() for text in (source, target, kind, data)]
    called(LIBC.mount(*texts[:3], ctypes.c_ulong(flags), texts[3]))


def start(order: dict[str, Any], report: int) -> NoReturn:
    """Take rights away from this process, and become the program."""
    try:
        os.chdir(order["folder"])
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("1000")
        if os.getuid() == 0:
            leave_root(order)
        control(DIE_WITH_PARENT, signal.SIGKILL)
        limit(order)
        os.dup2(report, 1)
        filter_calls()
        os.execve(order["python"], [order["python"], "-s", "-P", "-B", order["script"]], order["environment"])
    except OSError as error:
        os.write(report, f"!{error}\n".encode())
    finally:
        os._exit(1)


def limit(order: dict[str, Any]) -> None:
    """Limit the resources of the program and of what it starts."""
    seconds = int(order["seconds"]) + 1
    for name, most in (
        ("CPU", seconds), ("AS", order["memory"]), ("FSIZE", order["file"]), ("NPROC", order["processes"]),
        ("NOFILE", 64), ("CORE", 0),
    ):  # fmt: skip
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(ValueError, OSError) if not LINUX else contextlib.nullcontext():
            resource.setrlimit(kind, (most, most))


def leave_root(order: dict[str, Any]) -> None:
    """Become a user that owns nothing but the folder, who may read everything if Python could not be read else."""
    if LINUX:
        control(KEEP_CAPABILITIES, 1)
    os.setgroups([])
    for user in order["users"]:
        with contextlib.suppress(OSError):
            os.chown(order["folder"], user, user)
            os.setgid(user)
            os.setuid(user)
            break
    if os.getuid() == 0:
        raise OSError("root cannot become another user")
    if LINUX and not all(os.access(path, os.R_OK) for path in (order["python"], os.__file__, order["script"])):
        bits = 1 << READ_SEARCH
        header, values = struct.pack("Ii", CAPABILITIES_V3, 0), struct.pack("IIIIII", bits, bits, bits, 0, 0, 0)
        called(LIBC.capset(header, values))
        control(AMBIENT, 2, READ_SEARCH)


def filter_calls() -> None:
    """Deny system calls that make sockets, send signals to others, or reach into other processes.

    A filter of seccomp is a program of (code, jump if true, jump if false, value): it loads the architecture (offset 4
    of its data) and the number of the call (offset 0), and returns whether the call is allowed (<linux/seccomp.h>).
    """
    control(NO_NEW_PRIVILEGES, 1)
    if not LINUX or platform.machine() not in DENIED:
        return
    denied = DENIED[platform.machine()]
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    allow, refuse, kill = 0x7FFF0000, 0x00050001, 0x80000000  # refused with EPERM
    rows = [
        (load, 0, 0, 4), (equal, 1, 0, ARCHITECTURES[platform.machine()]), (answer, 0, 0, kill),
        (load, 0, 0, 0), (at_least, len(denied) + 1, 0, X32),
        *((equal, len(denied) - place, 0, number) for place, number in enumerate(denied)),
        (answer, 0, 0, allow), (answer, 0, 0, refuse),
    ]  # fmt: skip
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *row) for row in rows))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(rows), ctypes.addressof(code)))
    called(LIBC.prctl(SECCOMP, ctypes.c_ulong(2), program, ctypes.c_ulong(0), ctypes.c_ulong(0)))


def wait(report: int, first: int, deadline: float) -> bytes | None:
    """Return what the program has reported when it ends; None if it did not end in time."""
    found = b""
    while b"\n" not in found and len(found) < 4096:
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        if select.select([report], [], [], min(left, LOOK))[0]:
            part = os.read(report, 4096)
            if not part:
                break
            found += part
        elif os.waitid(os.P_PID, first, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            break
    return found


def end_all(first: int, *, alone: bool) -> None:
    """Kill the first process and its session, and all others: those of its namespace (`alone`) end with it.

    Elsewhere they are children of this process, once those that started them are gone.
    """
    with contextlib.suppress(OSError):
        os.killpg(first, signal.SIGKILL)
    os.kill(first, signal.SIGKILL)
    while True:
        for child in [] if alone else children():
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def children() -> list[int]:
    """Return the children of this process; empty where they are not known."""
    found = []
    for name in os.listdir("/proc") if LINUX else []:
        with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{int(name)}/stat", "rb") as file:
            if int(file.read().rpartition(b")")[2].split()[1]) == os.getpid():
                found.append(int(name))
    return found


def judged(line: bytes | None, word: str) -> dict[str, str]:
    """Return the verdict on a program by what it reported."""
    if line is None:
        return {"result": "timed out", "detail": ""}
    if line == word.encode() + b"\n":
        return {"result": "passed", "detail": ""}
    text = line.decode(errors="replace").partition("\n")[0].strip()
    if text.startswith("!"):
        return {"result": "impossible", "detail": text[1:]}
    return {"result": "failed", "detail": text[1:] if text.startswith("-") else "it ended before its tests did"}


if __name__ == "__main__":
    main()
