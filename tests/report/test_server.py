"""The report as a server: it follows a run, shows all of it to this machine alone, and leaves it as it was."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selftrain.errors import StoreError, UserError
from selftrain.report.server import ADDRESS, Server, serving
from selftrain.store import Store
from tests.report.chromium import chromium
from tests.report.made import make_run
from tests.report.test_page import listing


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one round; its stages are stored one after the other by `grown`."""
    return make_run(tmp_path_factory.mktemp("runs") / "served", rounds=1)


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    """The run, served."""
    before = listing(root)
    with serving(root) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()
    assert listing(root) == before


def ask(server: Server, path: str, *, host: str | None = None, method: str = "GET") -> tuple[int, str]:
    """Ask for a path as it stands, without a client that tidies it; the status and the text."""
    line = http.client.HTTPConnection(ADDRESS, server.server_port, timeout=60)
    line.putrequest(method, path, skip_host=True)
    line.putheader("Host", host or f"{ADDRESS}:{server.server_port}")
    line.endheaders()
    answer = line.getresponse()
    text = answer.read().decode()
    line.close()
    return answer.status, text


def told(server: Server, path: str) -> Any:
    status, text = ask(server, path)
    assert status == 200, text
    return json.loads(text)


def test_it_listens_on_this_machine_alone(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    others = {each[4][0] for each in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for address in others:
        with socket.socket() as line:
            line.settimeout(2)
            assert line.connect_ex((address, server.server_port)) != 0 or str(address).startswith("127.")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "", "127.0.0.1.evil.example:{port}"])
def test_another_name_for_this_machine_is_refused(server: Server, host: str) -> None:
    for path in ("/", "/state.json", "/files/run.yaml"):
        assert ask(server, path, host=host.format(port=server.server_port) or " ")[0] == 403
    assert ask(server, "/state.json", host=f"localhost:{server.server_port}")[0] == 200


def test_it_is_the_list_of_hosts_that_refuses(server: Server) -> None:
    server.hosts.add("evil.example")
    try:
        assert ask(server, "/state.json", host="evil.example")[0] == 200
    finally:
        server.hosts.remove("evil.example")


@pytest.mark.parametrize(
    "path",
    [
        "/files/../secret.txt",
        "/files/%2e%2e/secret.txt",
        "/files/%2e%2e%2fsecret.txt",
        "/files/round-01/../../secret.txt",
        "/files//etc/passwd",
        "/files/link.txt",
        "/files/linked/secret.txt",
    ],
)
def test_a_path_outside_the_run_is_refused(server: Server, root: Path, path: str) -> None:
    (root.parent / "secret.txt").write_text("secret")
    links = {root / "link.txt": root.parent / "secret.txt", root / "linked": root.parent}
    try:
        for link, to in links.items():
            link.symlink_to(to)
        status, text = ask(server, path)
    finally:
        for link in links:
            link.unlink(missing_ok=True)
    assert status in (403, 404)
    assert "secret" not in text
    assert "root:" not in text


def test_files_of_the_run_are_shown_as_text_and_weights_are_not(server: Server) -> None:
    status, text = ask(server, "/files/run.yaml")
    assert (status, text.splitlines()[0]) == (200, "format: 1")
    assert ask(server, "/files/round-01/00-generate/part-00000/samples.parquet")[0] == 404
    assert ask(server, "/files/nothing.json")[0] == 404
    assert ask(server, "/elsewhere")[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_sent(server: Server, method: str) -> None:
    assert ask(server, "/state.json", method=method)[0] == 501


def test_it_finds_every_sample(server: Server) -> None:
    total = 0
    for offset in range(0, 100, 50):
        for problem in told(server, f"/search.json?offset={offset}")["page"]:
            found = told(server, f"/problem.json?id={problem['id']}")
            assert len(found["samples"]) == problem["matching"]
            total += len(found["samples"])
    assert (
        total
        == told(server, "/search.json")["samples"]
        == server.snapshot.view.database.one("SELECT count(*) FROM samples")
    )
    for wrong in ("/search.json?colour=red", "/search.json?offset=-1", "/problem.json?id=nothing", "/problem.json"):
        assert ask(server, wrong)[0] == 400


def test_a_port_in_use_and_a_folder_without_a_run_are_refused(server: Server, root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose another --port"), serving(root, port=server.server_port):
        pass
    with pytest.raises(StoreError, match="is no run"), serving(tmp_path):
        pass


def test_in_a_browser_the_numbers_move_without_a_reload(tmp_path: Path) -> None:
    root = make_run(tmp_path / "run", rounds=1)
    last = Store(root).stages(1)["evaluate"].path
    aside = tmp_path / "aside"
    for folder in sorted(root.glob("round-01/*/")):
        if folder.name >= last.name:
            (aside / folder.name).parent.mkdir(exist_ok=True)
            shutil.move(folder, aside / folder.name)
    with chromium() as browser, serving(root) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.open(server.url)
        browser.until(lambda: browser.js("return document.body.dataset.pulse") == "beating", "it listens")
        browser.js("window.same = true")
        before = browser.text("#accuracy table")
        browser.choose("#filter-status", "pass")
        browser.until(lambda: browser.js("return document.querySelectorAll('#problems li').length"), "problems")
        for folder in sorted(aside.iterdir()):
            shutil.move(folder, root / "round-01" / folder.name)
        browser.until(lambda: browser.text("#accuracy table") != before, "the new round's figures", seconds=60)
        browser.until(lambda: "1" in browser.text("#accuracy table").split("\n")[-1][:3], "round 1")
        browser.drawn()
        assert browser.js("return window.same") is True
        assert browser.js("return document.querySelector('#filter-status').value") == "pass"
        assert browser.console() == []
        assert {url.partition(":")[0] for url in browser.requests()} <= {"http", "data"}
        server.shutdown()


@pytest.mark.slow
def test_beside_a_real_run_it_follows_and_its_death_does_no_harm(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "selftrain.cli"]
    settings = ["--preset", "nano", "pool=60", "valid=40", "test=40", "rounds=2", "samples=4", "gate.patience=5"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (tmp_path / "log").open("w") as log:
        run = subprocess.Popen(
            [*command, "run", "rest_em", *settings, "--out", str(out)], stdout=log, stderr=log, env=environment
        )
        while not (out / "run.yaml").exists():
            assert run.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.1)
        watcher = subprocess.Popen(
            [*command, "report", str(out), "--serve"],
            stdout=subprocess.PIPE,
            text=True,
            env={**environment, "COLUMNS": "300"},
        )
        assert watcher.stdout is not None
        port = int(watcher.stdout.readline().partition(f"{ADDRESS}:")[2].partition("/")[0])
        seen: set[str] = set()
        while run.poll() is None and len(seen) < 4:
            line = http.client.HTTPConnection(ADDRESS, port, timeout=60)
            line.request("GET", "/state.json")
            seen.add(json.loads(line.getresponse().read())["revision"])
            line.close()
            time.sleep(0.3)
        assert len(seen) >= 3, "it has not followed the run"
        watcher.send_signal(signal.SIGKILL)
        watcher.wait()
        assert run.wait(timeout=300) in (0, 3), (tmp_path / "log").read_text()
    again = subprocess.run(
        [*command, "status", str(out), "--json"], capture_output=True, text=True, check=True, env=environment
    )
    assert [each["round"] for each in json.loads(again.stdout)["rounds"]] == [0, 1, 2]
