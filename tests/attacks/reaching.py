"""Attacks that reach for what is outside: the network, files, other processes, the kernel."""
# ruff: noqa: E501

from tests.attacks.attack import Attack

_TRY = """
def attempt(what, action):
    try:
        got = action()
    except BaseException as error:
        print("no:", what, type(error).__name__)
    else:
        print("ESCAPED:", what, repr(got)[:200])
"""

_SYSCALL = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *numbers):
    result = libc.syscall(*map(ctypes.c_long, numbers))
    print("ESCAPED: " + name if result >= 0 else f"no: {name} {ctypes.get_errno()}")
"""


def _tried(name: str, tries: str, program: str) -> Attack:
    return Attack(name, tries, _TRY + program)


def _called(name: str, tries: str, program: str) -> Attack:
    return Attack(name, tries, _SYSCALL + program)


ATTACKS = (
    _tried(
        "loopback",
        "connects to a server on this machine",
        "import socket\nattempt('tcp', lambda: socket.create_connection(('127.0.0.1', @PORT@), 1))",
    ),
    _tried(
        "internet",
        "connects to an address outside, by TCP and UDP",
        "import socket\nattempt('tcp', lambda: socket.create_connection(('1.1.1.1', 53), 0.3))\n"
        "attempt('udp', lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('1.1.1.1', 53)))",
    ),
    _tried(
        "listening",
        "opens a server of its own on loopback",
        "import socket\ns = None\ndef serve():\n    s = socket.socket()\n    s.bind(('127.0.0.1', 0))\n    s.listen()\n"
        "    c = socket.create_connection(s.getsockname(), 1)\n    return c\nattempt('listen', serve)",
    ),
    _tried("ipv6", "uses IPv6", "import socket\nattempt('6', lambda: socket.create_connection(('::1', @PORT@), 1))"),
    _tried(
        "raw-socket",
        "opens raw, packet and netlink sockets",
        "import socket\nattempt('raw', lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))\n"
        "attempt('packet', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))\n"
        "attempt('vsock', lambda: socket.socket(40, socket.SOCK_STREAM))",
    ),
    _tried(
        "abstract-socket",
        "connects to an abstract Unix socket of this machine",
        "import socket\ns = socket.socket(socket.AF_UNIX)\nattempt('abstract', lambda: s.connect('\\0@SOCKET@'))",
    ),
    _tried(
        "dns",
        "resolves a name, which could carry data out",
        "import socket\nattempt('dns', lambda: socket.getaddrinfo('secret.example.com', 80))",
    ),
    _tried(
        "http",
        "fetches a page",
        "import urllib.request as u\nattempt('http', lambda: u.urlopen('http://127.0.0.1:@PORT@', timeout=1))",
    ),
    _tried("read-secret", "reads a file of the user's", "attempt('read', lambda: open('@SECRET@').read())"),
    _tried(
        "read-home",
        "looks into home folders and keys",
        "import os, pathlib\nfor place in ('/root/.ssh', '/root/.bashrc', '/root/.profile', '/etc/shadow', '/etc/passwd', "
        "'/home', '/var', '/opt', '/srv', '/mnt', '/run'):\n"
        "    attempt(place, lambda: os.listdir(place) if os.path.isdir(place) else open(place).read())",
    ),
    _tried(
        "environment",
        "reads the environment of whoever started it",
        "import os\nfound = [k for k in os.environ if 'SECRET' in k or 'TOKEN' in k]\n"
        "if found: print('ESCAPED:', found)\n"
        "for pid in [p for p in os.listdir('/proc') if p.isdigit()] + ['self/task/1', '1/task/1']:\n"
        "    def look():\n        text = open(f'/proc/{pid}/environ').read()\n        assert 'SECRET' in text\n        return text\n"
        "    attempt('environ', look)",
    ),
    _tried(
        "write-outside",
        "writes into the system, the project, and Python",
        "import os, sys\nfor place in ('/usr/x', '/etc/x', '/x', '/dev/x', '/root/x', '/selftrain/x', '/proc/x', "
        "os.path.dirname(os.__file__) + '/x', '@FOLDER@/x', '/usr/bin/python3', '/selftrain/selftrain/backends/sandbox_judge.py'):\n"
        "    attempt(place, lambda: open(place, 'a').write('x'))",
    ),
    _tried(
        "poison-python",
        "changes what the next program imports",
        "import os, sys, json\nfor folder in sys.path:\n    if folder and os.path.isdir(folder):\n"
        "        attempt(folder, lambda: open(folder + '/sitecustomize.py', 'w').write('x'))\n"
        "attempt('json', lambda: open(json.__file__, 'a').write('x'))",
    ),
    _tried(
        "remount",
        "makes the read-only root writable, or mounts over it",
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\ndef mount(*a):\n    assert libc.mount(*a) == 0\n"
        "attempt('remount', lambda: mount(None, b'/', None, 32, None))\n"
        "attempt('tmpfs', lambda: mount(b'none', b'/usr', b'tmpfs', 0, None))\n"
        "attempt('proc', lambda: mount(b'none', b'/tmp', b'proc', 0, None))\n"
        "attempt('umount', lambda: exec('assert libc.umount2(b\"/tmp\", 2) == 0'))",
    ),
    _tried(
        "chroot",
        "breaks out of a changed root",
        "import os\nattempt('chroot', lambda: os.chroot('/tmp'))\nos.chdir('/')\n"
        "for _ in range(50): os.chdir('..')\nif os.path.exists('@SECRET@'): print('ESCAPED: dotdot')",
    ),
    _tried(
        "setuid",
        "becomes root, directly or through a setuid program",
        "import os, subprocess\nfor call in (os.setuid, os.setgid, os.seteuid, os.setegid):\n"
        "    attempt(call.__name__, lambda: call(0))\nattempt('groups', lambda: os.setgroups([0]))\n"
        "for program in ('su', 'sudo', 'mount', 'newgrp', 'passwd'):\n"
        "    def use():\n        out = subprocess.run([program, '-c', 'id -u'], capture_output=True, timeout=1, text=True)\n"
        "        assert out.stdout.strip() == '0'\n    attempt(program, use)",
    ),
    _called(
        "new-namespaces",
        "makes a user namespace in which it is root",
        "for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x8000000, 0x4000000, 0x2000000, 0x80):\n"
        "    call('unshare', 272, flag)\nfor flag in (0x10000000, 0x10020000):\n    call('clone', 56, flag | 17, 0, 0, 0, 0)\n",
    ),
    _tried(
        "setns",
        "enters the namespaces of pid 1",
        "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "for name in ('mnt', 'net', 'pid', 'user', 'ipc'):\n    def enter():\n"
        "        fd = os.open(f'/proc/1/ns/{name}', os.O_RDONLY)\n        assert libc.setns(fd, 0) == 0\n    attempt(name, enter)",
    ),
    _tried(
        "proc-mem",
        "reads and writes the memory of pid 1",
        "for name in ('mem', 'maps', 'environ', 'auxv', 'stack', 'syscall', 'pagemap', 'cmdline_'):\n"
        "    attempt(name, lambda: open(f'/proc/1/{name}', 'rb').read(1))\nattempt('w', lambda: open('/proc/1/mem', 'r+b'))",
    ),
    _tried(
        "proc-root",
        "goes through /proc/1/root, cwd, exe and fd",
        "import os\nfor name in ('root', 'cwd', 'exe'):\n    attempt(name, lambda: os.readlink(f'/proc/1/{name}'))\n"
        "attempt('fd', lambda: os.listdir('/proc/1/fd'))\nattempt('root', lambda: os.listdir('/proc/1/root/tmp'))",
    ),
    _tried(
        "proc-settings",
        "writes settings of the kernel",
        "for place in ('sys/kernel/core_pattern', 'sysrq-trigger', 'sys/vm/drop_caches', 'sys/kernel/hostname', "
        "'1/oom_score_adj', '1/uid_map', 'self/uid_map', '1/comm', 'sys/user/max_user_namespaces'):\n"
        "    attempt(place, lambda: open('/proc/' + place, 'w').write('1') and 1)",
    ),
    _tried(
        "sys-folder",
        "looks at cgroups, the kernel's logs and devices",
        "import os\nfor place in ('/sys/fs/cgroup', '/sys/kernel', '/dev/kmsg', '/dev/mem', '/dev/vda', '/dev/sda', '/dev/tty', "
        "'/dev/ptmx', '/dev/fuse', '/dev/kvm', '/dev/net/tun'):\n"
        "    attempt(place, lambda: os.listdir(place) if os.path.isdir(place) else open(place, 'rb').read(1))",
    ),
    _called(
        "mknod",
        "makes a device of its own",
        "import os\nfor place in ('/tmp/d', '/dev/shm/d'):\n    try:\n        os.mknod(place, 0o60666, os.makedev(254, 0))\n"
        "        print('ESCAPED:', open(place, 'rb').read(1))\n    except OSError as error:\n        print('no', error)",
    ),
    _called(
        "ptrace",
        "traces pid 1 and its parent",
        "import os\ncall('attach', 101, 16, 1, 0, 0)\ncall('seize', 101, 0x4206, 1, 0, 0)\n"
        "call('attach parent', 101, 16, os.getppid(), 0, 0)\ncall('traceme', 101, 0, 0, 0, 0)",
    ),
    _called(
        "vm-readv",
        "reads and writes the memory of pid 1 by process_vm_readv and writev",
        "buffer = ctypes.create_string_buffer(64)\nclass V(ctypes.Structure):\n"
        "    _fields_ = [('b', ctypes.c_void_p), ('n', ctypes.c_size_t)]\n"
        "v = V(ctypes.addressof(buffer), 8)\nw = V(0x400000, 8)\n"
        "for number in (310, 311):\n    call('vm', number, 1, ctypes.addressof(v), 1, ctypes.addressof(w), 1, 0)",
    ),
    _called("bpf", "loads a program into the kernel", "call('bpf', 321, 0, 0, 0)\ncall('perf', 298, 0, 0, -1, -1, 0)"),
    _called(
        "io-uring",
        "uses io_uring, which passes system-call filters by",
        "p = ctypes.create_string_buffer(240)\ncall('io_uring', 425, 8, ctypes.addressof(p))",
    ),
    _called(
        "keyring",
        "reads and adds keys of the session",
        "call('keyctl', 250, 0, -3, 0)\nname = ctypes.create_string_buffer(b'user')\n"
        "call('add_key', 248, ctypes.addressof(name), ctypes.addressof(name), ctypes.addressof(name), 4, -2)",
    ),
    _called("userfaultfd", "stops the kernel in the middle of a copy", "call('userfaultfd', 323, 0)"),
    _called(
        "kexec",
        "loads a kernel or a module, reboots, sets the clock and the host's name",
        "call('kexec', 246, 0, 0, 0, 0)\ncall('module', 175, 0, 0, 0)\ncall('reboot', 169, 0xfee1dead, 672274793, 0x1234567, 0)\n"
        "n = ctypes.create_string_buffer(b'x')\ncall('hostname', 170, ctypes.addressof(n), 1)\ncall('swapoff', 168, 0)",
    ),
    _called(
        "handle",
        "opens files by handle, past all folders",
        "b = ctypes.create_string_buffer(64)\ncall('open_by_handle', 304, -100, ctypes.addressof(b), 0)",
    ),
    _called(
        "32-bit-calls",
        "uses another architecture's system calls, which a filter may not know",
        "import mmap\nm = mmap.mmap(-1, 4096, prot=7)\n# mov eax, 20 (getpid); int 0x80; ret\n"
        "m.write(bytes.fromhex('b814000000cd80c3'))\n"
        "a = ctypes.addressof(ctypes.c_char.from_buffer(m))\nr = ctypes.CFUNCTYPE(ctypes.c_int)(a)()\n"
        "print('ESCAPED: int 80', r) if r > 0 else print('no', r)",
    ),
    _tried(
        "signals",
        "kills pid 1, its parent, and everything it can name",
        "import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "for number in (9, 15, 2, 1, 19, 6, 11, 13, 17, 10, 12):\n    for pid in (1, os.getppid()):\n"
        "        try: os.kill(pid, number)\n        except OSError as error: print('no', error)\n"
        "for pid in range(2, 40000, 7):\n    if pid != os.getpid():\n        try: os.kill(pid, 9); print('ESCAPED: killed', pid)\n"
        "        except OSError: pass",
    ),
    _tried(
        "kill-all",
        "kills all processes at once, its own group with them",
        "import os, signal\ntry: os.kill(-1, signal.SIGKILL)\nexcept OSError as error: print('no', error)\nos.killpg(0, signal.SIGTERM)",
    ),
    _tried(
        "see-others",
        "sees processes of the machine",
        "import os\npids = [int(p) for p in os.listdir('/proc') if p.isdigit()]\n"
        "if len(pids) > 2: print('ESCAPED:', pids, [open(f'/proc/{p}/cmdline').read() for p in pids])",
    ),
    _tried(
        "descriptors",
        "finds descriptors that were left open to it",
        "import os, stat\nfor fd in range(3, 256):\n    try: s = os.fstat(fd)\n    except OSError: continue\n"
        "    print('ESCAPED:', fd, oct(s.st_mode))",
    ),
    _tried(
        "terminal",
        "types into the terminal it was started from",
        "import fcntl, termios, os\nfor fd in (0, 1, 2):\n"
        "    attempt('tiocsti', lambda: fcntl.ioctl(fd, termios.TIOCSTI, b'x'))\nattempt('tty', lambda: os.open('/dev/tty', 2))",
    ),
    _tried(
        "symlinks",
        "leads whoever cleans up after it outside",
        "import os\nos.symlink('@FOLDER@', '/tmp/link')\nos.symlink('/usr', '/tmp/usr')\nos.mkdir('/tmp/d')\n"
        "os.symlink('/', '/tmp/d/root')\nos.symlink('/tmp/d', '/tmp/d/self')\nos.symlink('loop', '/tmp/loop')\n"
        "attempt('follow', lambda: os.listdir('/tmp/link'))",
    ),
    _tried(
        "hard-links",
        "keeps a file of the system by a hard link, and makes one of its own setuid",
        "import os\nattempt('link', lambda: os.link('/usr/bin/env', '/tmp/env'))\n"
        "open('/tmp/s', 'w').write('#!/bin/sh')\nos.chmod('/tmp/s', 0o6777)",
    ),
    _tried(
        "tmp-of-others",
        "finds what an earlier program has left",
        "import os\nfor place in ('/tmp', '/dev/shm'):\n    if os.listdir(place): print('ESCAPED:', os.listdir(place))\n"
        "    open(place + '/left', 'w').write('x')\n    os.makedirs(place + '/.a/b/c')",
    ),
    _tried(
        "programs-of-others",
        "looks for other programs' text and the tests in memory",
        "import gc, sys\nfor each in gc.get_objects():\n    if type(each) is dict and ('tests' in each and 'entry' in each):\n"
        "        print('ESCAPED: found', list(each)[:5])\n"
        "attempt('mem', lambda: open('/proc/self/mem', 'rb'))",
    ),
    _tried(
        "leave-secrets",
        "changes modules and builtins for the programs that come after it",
        "import builtins, json, sys, os\nbuiltins.print = lambda *a, **k: os.write(1, b'ESCAPED: print\\n')\n"
        "json.loads = None\nsys.path.insert(0, '/tmp')\nsys.setrecursionlimit(50)\nos.environ['X'] = '1'",
    ),
)
