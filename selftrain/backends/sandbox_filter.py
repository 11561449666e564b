"""The sandbox's filter of system calls, by libseccomp."""

import errno
import socket
import tempfile
from typing import IO

_NAMESPACES = (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
"""clone's flags for new namespaces: time, mount, cgroup, uts, ipc, user, pid, network."""
DENIED = (
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "kcmp",
    "pidfd_getfd",
    "mount",
    "umount",
    "umount2",
    "pivot_root",
    "chroot",
    "move_mount",
    "open_tree",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "add_key",
    "request_key",
    "keyctl",
    "bpf",
    "userfaultfd",
    "perf_event_open",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "unshare",
    "setns",
    "memfd_create",
    "memfd_secret",
    "shmget",
    "shmat",
    "shmctl",
    "semget",
    "semop",
    "semctl",
    "msgget",
    "msgsnd",
    "msgrcv",
    "mq_open",
    "name_to_handle_at",
    "open_by_handle_at",
    "fanotify_init",
    "inotify_init",
    "inotify_init1",
    "quotactl",
    "swapon",
    "swapoff",
    "reboot",
    "syslog",
    "acct",
    "settimeofday",
    "clock_settime",
    "adjtimex",
    "clock_adjtime",
    "sethostname",
    "setdomainname",
    "iopl",
    "ioperm",
    "modify_ldt",
    "personality",
    "vhangup",
    "lookup_dcookie",
    "nfsservctl",
    "uselib",
    "mbind",
    "migrate_pages",
    "move_pages",
    "set_mempolicy",
)
"""System calls that no program of a model's has a use for, each a way out or round a limit at some time."""


def system_call_filter() -> IO[bytes] | None:
    """Return a file with the system-call filter, or None where libseccomp is missing."""
    try:
        import pyseccomp as seccomp
    except (ImportError, OSError, RuntimeError):
        return None
    rules = seccomp.SyscallFilter(seccomp.ALLOW)
    refused = seccomp.ERRNO(errno.EPERM)
    for name in DENIED:
        _deny(rules, refused, name)
    for flag in _NAMESPACES:
        _deny(rules, refused, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag))
    # Its flags lie in memory, where a filter can't look; glibc falls back to clone.
    _deny(rules, seccomp.ERRNO(errno.ENOSYS), "clone3")
    for name in ("socket", "socketpair"):
        _deny(rules, refused, name, seccomp.Arg(0, seccomp.NE, int(socket.AF_UNIX)))
    # TIOCSTI and TIOCLINUX put characters into a terminal's input.
    for request in (0x5412, 0x541C):
        _deny(rules, refused, "ioctl", seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, request))
    file = tempfile.TemporaryFile()  # noqa: SIM115
    rules.export_bpf(file)
    file.seek(0)
    return file


def _deny(rules: object, action: int, name: str, *arguments: object) -> None:
    """Add a rule; a call that this machine's libseccomp has never heard of is left out."""
    import pyseccomp as seccomp

    if seccomp.resolve_syscall(seccomp.system_arch(), name) >= 0:
        rules.add_rule(action, name, *arguments)  # type: ignore[attr-defined]
