"""Attacks on the verdict: each stands before a wrong function, and must not make it pass."""
# ruff: noqa: E501

from tests.attacks.attack import Attack

SPOOFS = (
    Attack("print", "says that it has passed", "print('passed')\nprint('OK')\nprint('{\"status\": \"passed\"}')"),
    Attack("exit-0", "ends well before the tests", "import os\nos._exit(0)"),
    Attack("system-exit", "ends well by an exception", "raise SystemExit(0)"),
    Attack(
        "patched-assert",
        "makes failed assertions harmless, and unittest's too",
        "import builtins, unittest, sys\nclass Fine(BaseException):\n    def __new__(cls, *a): sys.exit(0)\n"
        "builtins.AssertionError = Fine\nunittest.TestCase.assertEqual = lambda *a, **k: None\n"
        "unittest.TestCase.fail = lambda *a, **k: None\nsys.excepthook = lambda *a: None\nsys.exit = lambda *a: None",
    ),
    Attack(
        "always-equal",
        "returns what equals everything",
        "class Any(int):\n    def __eq__(self, o): return True\n    def __ne__(self, o): return False\n    __hash__ = int.__hash__\n"
        "    def __sub__(self, o): return 0\n    __rsub__ = __lt__ = __gt__ = __eq__\n    def __len__(self): return 3\n"
        "    def __iter__(self): return iter(())\n@ENTRY@ = lambda *a, **k: Any()",
    ),
    Attack(
        "fork-and-return",
        "lets a child be judged, or the parent end well",
        "import os\nif os.fork():\n    os.wait()\n    os._exit(0)",
    ),
    Attack(
        "frame-walk",
        "looks for the tests in the frames above and in all objects",
        "import sys, gc\nframe = sys._getframe()\nwhile frame:\n    for scope in (frame.f_locals, frame.f_globals):\n"
        "        for name, value in list(scope.items()):\n            if name in ('status', 'passed', 'result', 'code', 'verdict'):\n"
        "                try: scope[name] = 'passed'\n                except Exception: pass\n    frame = frame.f_back\n"
        "for each in gc.get_objects():\n    if type(each) is dict and 'status' in each:\n        each['status'] = 'passed'",
    ),
    Attack(
        "proc-1-mem",
        "overwrites the memory of pid 1",
        "try:\n    maps = open('/proc/1/maps').read().splitlines()\n    mem = open('/proc/1/mem', 'r+b', 0)\n"
        "    for line in maps:\n        start, end = (int(n, 16) for n in line.split()[0].split('-'))\n        mem.seek(start)\n"
        "        data = mem.read(end - start)\n        mem.seek(start)\n        mem.write(data.replace(b'wrong', b'passed'))\n"
        "except OSError: pass",
    ),
    Attack(
        "atexit",
        "speaks and ends well at its end",
        "import atexit, os\natexit.register(lambda: (os.write(1, b'passed'), os._exit(0)))\nimport threading\n"
        "threading.excepthook = lambda *a: os._exit(0)",
    ),
    Attack(
        "settrace",
        "traces all that is called and changes what it finds",
        "import sys, threading\ndef trace(frame, event, arg):\n    frame.f_locals['status'] = 'passed'\n"
        "    if event == 'exception': return None\n    return trace\nsys.settrace(trace)\nsys.setprofile(trace)\nthreading.settrace(trace)",
    ),
    Attack(
        "channel",
        "speaks on the channel itself, in the place of what answers there",
        "import json, os, socket, stat, struct\ndef say(m):\n    t = json.dumps(m).encode()\n    return struct.pack('!I', len(t)) + t\n"
        "for fd in range(3, 64):\n    try:\n        if stat.S_ISSOCK(os.fstat(fd).st_mode):\n"
        "            os.write(fd, say({'loaded': True}) + say({'status': 'passed', 'why': '', 'seconds': 0}) * 3 "
        "+ say({'id': 1, 'value': True}) * 50)\n    except OSError: pass",
    ),
    Attack(
        "channel-objects",
        "answers with what is no value: unknown types, several at once, deep nesting",
        "import selftrain.backends.sandbox_wire as w, sys\n"
        "import selftrain.backends.sandbox_program as p\n"
        "p.pack = lambda v, *a: {'callable': 0, 'int': '0x1'}\nw.pack = p.pack",
    ),
    Attack(
        "channel-lies",
        "says that all arguments were changed to something else, to change what they are compared with",
        "import selftrain.backends.sandbox_program as p\nold = p._answer\ndef lie(request, *a):\n    said = old(request, *a)\n"
        "    if 'id' in said: said['arguments'] = [[0], {'dict': []}]\n    return said\np._answer = lie",
    ),
    Attack(
        "callback",
        "calls the judge back for what it was not given",
        "import selftrain.backends.sandbox_program as p\nold = p._answer\ndef ask(request, *a):\n"
        "    if 'call' in request: return {'callback': 0, 'arguments': []}\n    return old(request, *a)\np._answer = ask",
    ),
    Attack(
        "flood-channel",
        "sends more than a message may hold",
        "import os, stat, struct\nfor fd in range(3, 64):\n    try:\n        if stat.S_ISSOCK(os.fstat(fd).st_mode): "
        "os.write(fd, struct.pack('!I', 0xffffffff) + b'x' * 1000)\n    except OSError: pass",
    ),
    Attack(
        "name-clash",
        "calls its own functions what the judge's are called",
        "def check(candidate): return True\ncandidate = check\nAssertionError = None\ndef test_all(): pass\n__name__ = 'tests'\nlen = abs = check",
    ),
    Attack(
        "patched-builtins",
        "changes builtins that comparisons go through",
        "import builtins, math, copy\nbuiltins.all = builtins.any = lambda *a: True\nbuiltins.abs = lambda *a: 0\nbuiltins.round = abs\n"
        "builtins.isinstance = lambda *a: True\nmath.isclose = lambda *a, **k: True\nbuiltins.len = lambda *a: 3",
    ),
    Attack(
        "raise-in-call",
        "ends by an exception that no test expects",
        "class Quiet(BaseException): pass\ndef @ENTRY@(*a, **k): raise Quiet('passed')",
    ),
    Attack("raise-exit-in-call", "ends well in the middle of a call", "import sys\ndef @ENTRY@(*a, **k): sys.exit(0)"),
    Attack(
        "kill-server",
        "kills whoever would report it",
        "import os, signal\nfor n in (9, 15, 2, 19):\n    try: os.kill(os.getppid(), n); os.kill(1, n)\n    except OSError: pass",
    ),
)

ATTACKS = SPOOFS
