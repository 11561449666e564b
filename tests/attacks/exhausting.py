"""Attacks that use things up: time, memory, processes, disk, descriptors, output; and children that stay."""
# ruff: noqa: E501

from tests.attacks.attack import Attack

ATTACKS = (
    Attack("endless-loop", "never ends", "while True: pass"),
    Attack("sleep", "waits for ever without using the processor", "import time\ntime.sleep(1e6)"),
    Attack(
        "deaf",
        "ignores all signals it can, and never ends",
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True: pass",
    ),
    Attack("c-loop", "never ends inside one call", "9 ** 9 ** 9"),
    Attack("regex", "hangs in a regular expression", "import re\nre.match(r'(a+)+$', 'a' * 60 + 'b')"),
    Attack("fork-bomb", "forks without end", "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"),
    Attack(
        "vfork-bomb",
        "starts programs without end",
        "import subprocess\nwhile True:\n    try: subprocess.Popen(['/bin/sleep', '1000'])\n    except OSError: pass",
    ),
    Attack(
        "thread-bomb",
        "starts threads without end",
        "import threading, time\nn = 0\ntry:\n    while True:\n        threading.Thread(target=time.sleep, args=(1e6,), "
        "daemon=True).start()\n        n += 1\nexcept RuntimeError: pass\nif n > 100: print('ESCAPED:', n)",
    ),
    Attack("memory-bomb", "takes memory in one piece", "x = b'x' * (1 << 40)"),
    Attack("memory-creep", "takes memory bit by bit", "x = []\nwhile True: x.append(bytearray(1 << 20))"),
    Attack(
        "memory-of-many",
        "takes memory by many processes, each below its limit",
        "import os, time\nr, w = os.pipe()\nfor _ in range(20):\n    if os.fork() == 0:\n        x = bytearray(300 << 20)\n"
        "        for i in range(0, len(x), 4096): x[i] = 1\n        os.write(w, b'x')\n        time.sleep(1e6)\n"
        "for _ in range(20): os.read(r, 1)\nprint('ESCAPED: 6 GB')",
    ),
    Attack(
        "shared-memory",
        "takes memory that belongs to no process",
        "import mmap, os\nheld = []\nwhile len(held) < 400:\n    m = mmap.mmap(-1, 16 << 20)\n"
        "    for i in range(0, 16 << 20, 4096): m[i] = 1\n    held.append(m)\nprint('ESCAPED: 6 GB')",
    ),
    Attack(
        "memfd",
        "takes memory by nameless files",
        "import os\nfd = []\nwhile len(fd) < 100:\n    d = os.memfd_create('x')\n    os.write(d, b'x' * (60 << 20))\n"
        "    fd.append(d)\nprint('ESCAPED: 6 GB')",
    ),
    Attack(
        "sysv",
        "takes memory by System V segments, which outlive processes",
        "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nlibc.shmat.restype = ctypes.c_void_p\n"
        "n = libc.shmget(0, 1 << 30, 0o1600)\nprint('ESCAPED:', n) if n >= 0 else print('no')",
    ),
    Attack(
        "mqueue",
        "takes kernel memory by message queues",
        "import ctypes\nl = ctypes.CDLL(None)\nn = l.mq_open(b'/q', 0o102, 0o600, None)\nprint('ESCAPED:', n) if n >= 0 else print('no')",
    ),
    Attack("recursion", "overflows the stack", "import sys\nsys.setrecursionlimit(10**9)\ndef g(): return g()\ng()"),
    Attack(
        "deep-compile",
        "crashes the parser with deep brackets",
        "try: compile('(' * 100000 + ')' * 100000, 'x', 'eval')\nexcept (MemoryError, SyntaxError, RecursionError) as e: print(e)",
    ),
    Attack("disk-bomb", "fills /tmp with one file", "f = open('/tmp/x', 'wb')\nwhile True: f.write(b'x' * (1 << 20))"),
    Attack(
        "disk-of-many",
        "fills /tmp and /dev/shm with many files",
        "import os\nn = 0\nwhile n < 200:\n    for place in ('/tmp', '/dev/shm'):\n        try: open(f'{place}/{n}', 'wb')"
        ".write(b'x' * (1 << 20)); n += 1\n        except OSError: n += 1\n"
        "s = sum(os.stat(f'{p}/{f}').st_size for p in ('/tmp', '/dev/shm') for f in os.listdir(p))\n"
        "if s > 90 << 20: print('ESCAPED:', s)",
    ),
    Attack(
        "sparse", "makes a file of a terabyte", "f = open('/tmp/x', 'wb')\nf.truncate(1 << 40)\nprint('ESCAPED: 1 TB')"
    ),
    Attack(
        "inode-bomb",
        "makes files without end",
        "import os\nn = 0\nwhile n < 200000:\n    open(f'/tmp/{n}', 'w').close()\n    n += 1\nprint('ESCAPED:', n)",
    ),
    Attack(
        "link-bomb",
        "makes links and folders without end",
        "import os\nn = 0\nwhile n < 200000:\n    os.symlink('x', f'/dev/shm/{n}')\n    n += 1\nprint('ESCAPED:', n)",
    ),
    Attack(
        "deep-folders",
        "makes folders too deep for whoever cleans up",
        "import os\nfor _ in range(1500):\n    os.mkdir('d' * 200)\n    os.chdir('d' * 200)\nopen('x', 'w').close()",
    ),
    Attack(
        "locked-folders",
        "makes folders that can't be read, with files in them",
        "import os\nos.makedirs('/tmp/a/b')\nopen('/tmp/a/b/c', 'w').close()\nos.chmod('/tmp/a/b', 0)\nos.chmod('/tmp/a', 0)\n"
        "os.chmod('/tmp', 0)",
    ),
    Attack(
        "odd-names",
        "makes files with names that are no text",
        "import os\nfor name in (b'\\xff\\xfe', b'a\\nb', b'-rf', b'x' * 255, b' '):\n    open(b'/tmp/' + name, 'w').close()\n"
        "os.mkfifo('/tmp/fifo')\nimport socket\ns = socket.socket(socket.AF_UNIX)\ns.bind('/tmp/sock')",
    ),
    Attack("output-flood", "prints without end", "while True: print('x' * 10000)"),
    Attack("stderr-flood", "writes errors without end", "import sys\nwhile True: sys.stderr.write('x' * 10000)"),
    Attack(
        "flood-of-children",
        "prints without end by many processes",
        "import os\nfor _ in range(5): os.fork()\nwhile True: os.write(1, b'x' * 65536)",
    ),
    Attack("binary-output", "prints bytes that are no text", "import os\nos.write(1, bytes(range(256)) * 1000)"),
    Attack(
        "open-files",
        "opens files without end",
        "x = []\ntry:\n    while True: x.append(open('/dev/null'))\nexcept OSError: pass\nif len(x) > 1000: print('ESCAPED:', len(x))",
    ),
    Attack(
        "pipes",
        "fills pipes and sockets, whose buffers lie in the kernel",
        "import os, socket, time\nx = []\ntry:\n    while True:\n        a, b = socket.socketpair()\n        a.setblocking(False)\n"
        "        x += [a, b]\n        try:\n            while True: a.send(b'x' * 65536)\n        except BlockingIOError: pass\n"
        "except OSError: pass\nif len(x) > 1000: print('ESCAPED:', len(x))",
    ),
    Attack(
        "raise-limits",
        "raises its own limits",
        "import resource as r\nfor name in ('AS', 'CPU', 'NPROC', 'NOFILE', 'FSIZE', 'CORE'):\n"
        "    try:\n        r.setrlimit(getattr(r, 'RLIMIT_' + name), (r.RLIM_INFINITY, r.RLIM_INFINITY))\n"
        "        print('ESCAPED:', name)\n    except (ValueError, OSError) as e: print('no', e)",
    ),
    Attack(
        "priority",
        "takes a better priority",
        "import os\ntry:\n    os.nice(-10); print('ESCAPED: nice')\nexcept OSError as e: print('no', e)",
    ),
    Attack("core-dump", "leaves a core dump", "import os\nos.abort()"),
    Attack("segfault", "crashes", "import ctypes\nctypes.string_at(0)"),
    Attack(
        "daemon",
        "leaves a child that has cut all ties and goes on",
        "import os, time, signal\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        for fd in range(256):\n            try: os.close(fd)\n            except OSError: pass\n"
        "        while True: open('/tmp/alive', 'w').write('x'); time.sleep(0.001)\n    os._exit(0)\nos.wait()",
    ),
    Attack(
        "relay",
        "hops from child to child, faster than it can be killed",
        "import os\nwhile True:\n    if os.fork(): os._exit(0)\n    os.setsid()",
    ),
    Attack(
        "unkillable",
        "waits in a call that signals don't end at once, and stops itself",
        "import os, signal\nif os.fork() == 0:\n    os.vfork() if hasattr(os, 'vfork') else None\n"
        "    os.kill(os.getpid(), signal.SIGSTOP)\nos.kill(os.getpid(), signal.SIGSTOP)",
    ),
    Attack(
        "zombies",
        "leaves children that nobody waits for",
        "import os\nfor _ in range(40):\n    if os.fork() == 0: os._exit(0)",
    ),
    Attack(
        "subreaper",
        "takes orphans over from pid 1",
        "import ctypes, os, time\nctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\nif os.fork() == 0:\n    if os.fork() == 0: time.sleep(1e6)\n"
        "    os._exit(0)\nos.wait()",
    ),
    Attack(
        "held-pipe",
        "keeps its output open in a child after its own end",
        "import os, time\nif os.fork() == 0: time.sleep(1e6)\nprint('done')",
    ),
    Attack("stop-at-exit", "never ends ending", "import atexit, time\natexit.register(time.sleep, 1e6)"),
    Attack(
        "waiting-thread",
        "leaves a thread that has to be waited for",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1e6,)).start()",
    ),
    Attack(
        "unpickling",
        "makes whoever unpickles its output run code",
        "import pickle, os, sys\nclass X:\n    def __reduce__(self): return (os.system, ('touch @FOLDER@/x',))\n"
        "sys.stdout.buffer.write(pickle.dumps(X()))",
    ),
)
