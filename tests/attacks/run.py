"""Try every attack on one sandbox, in a process of its own, and print what came of each as a line of JSON.

python -m tests.attacks.run THEME...
"""

import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from selftrain.backends.sandbox import BoxedSandbox, open_sandbox
from tests.attacks.attack import Attack

THEMES = ("reaching", "exhausting", "spoofing")
WRONG = "\n\ndef f(x):\n    return x + 1\n"
TESTS = "assert f(2) == 4\nassert f(3) == 9\nassert [f(4)] == [16]\n"
SECONDS = 2.0
HEALTH = """
import os
print(6 * 7, sorted(p for p in os.listdir('/proc') if p.isdigit() and int(p) not in (1, os.getpid())),
      os.listdir('/tmp'), os.listdir('/dev/shm'), os.environ.get('X'))
"""


class Outside(NamedTuple):
    """What attacks reach for, and what would show that one got there."""

    folder: Path
    port: int
    name: str
    server: socket.socket
    abstract: socket.socket
    bystander: "subprocess.Popen[bytes]"
    visits: list[str]

    def harm(self) -> str:
        """Say what has been done to it, or ''."""
        if self.visits:
            return f"connected: {self.visits}"
        if sorted(path.name for path in self.folder.iterdir()) != ["secret"]:
            return f"wrote {list(self.folder.iterdir())}"
        if self.bystander.poll() is not None:
            return "killed a process of the machine"
        return ""


def attacks(*which: str) -> Iterator[Attack]:
    """The attacks of these themes or names, or all."""
    for theme in THEMES:
        for attack in importlib.import_module(f"tests.attacks.{theme}").ATTACKS:
            if not which or theme in which or attack.name in which:
                yield attack


def outcome(attack: Attack, sandbox: BoxedSandbox, outside: Outside) -> dict[str, object]:
    """Let an attack loose as a script and as functions; say what it got."""
    program = _filled(attack.program, outside)
    ran = sandbox.run(program, seconds=SECONDS)
    wrong = program if "@ENTRY@" in attack.program else program + WRONG
    tested = sandbox.test(wrong, tests=TESTS, seconds=SECONDS)
    escaped = [line for line in (ran.stdout + ran.stderr).splitlines() if line.startswith("ESCAPED")]
    return {
        "name": attack.name,
        "escaped": "; ".join(escaped) or outside.harm(),
        "passed": tested.outcome == "passed",
        "health": _health(sandbox),
        "ran": [ran.ended, ran.code, ran.why, round(ran.seconds, 2)],
        "tested": [tested.outcome, tested.why[:200]],
        "said": ran.stdout[:300] if not ran.stdout.startswith("x") else "",
    }


def _filled(program: str, outside: Outside) -> str:
    values = {
        "@PORT@": str(outside.port),
        "@SOCKET@": outside.name,
        "@SECRET@": str(outside.folder / "secret"),
        "@FOLDER@": str(outside.folder),
        "@ENTRY@": "f",
    }
    for name, value in values.items():
        program = program.replace(name, value)
    return program


def _health(sandbox: BoxedSandbox) -> str:
    """Say what is wrong with the sandbox now, or ''."""
    ran = sandbox.run(HEALTH, seconds=10)
    if ran.stdout != "42 [] [] [] None\n":
        return f"run: {ran}"
    right = sandbox.test("def f(x):\n    return x * x", tests=TESTS, seconds=10)
    wrong = sandbox.test("def f(x):\n    return x + x", tests=TESTS, seconds=10)
    return "" if (right.outcome, wrong.outcome) == ("passed", "wrong") else f"test: {right} {wrong}"


def open_outside(folder: Path) -> Outside:
    """Set up what can be reached for: a file, two servers, a process."""
    (folder / "secret").write_text("ESCAPED: the secret")
    server = socket.create_server(("127.0.0.1", 0))
    name = f"selftrain-attacks-{os.getpid()}"
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0{name}")
    abstract.listen()
    visits: list[str] = []
    for each, kind in ((server, "tcp"), (abstract, "abstract")):
        threading.Thread(target=_receive, args=(each, kind, visits), daemon=True).start()
    bystander = subprocess.Popen(["sleep", "100000"])
    return Outside(folder, server.getsockname()[1], name, server, abstract, bystander, visits)


def _receive(server: socket.socket, kind: str, visits: list[str]) -> None:
    while True:
        server.accept()
        visits.append(kind)


def main() -> None:
    """Try the attacks given, or all."""
    os.environ["SECRET_TOKEN"] = "ESCAPED: the token"
    with tempfile.TemporaryDirectory() as folder, open_sandbox() as sandbox:
        outside = open_outside(Path(folder))
        try:
            for attack in attacks(*sys.argv[1:]):
                sys.stdout.write(json.dumps(outcome(attack, sandbox, outside)) + "\n")
                sys.stdout.flush()
        finally:
            outside.bystander.kill()


if __name__ == "__main__":
    main()
