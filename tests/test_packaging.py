"""The plug-in folders stand at the top level and are parts of selftrain: each rule that makes this hold."""

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

import selftrain
from selftrain.plugins import KINDS, available

PACKAGE = Path(selftrain.__file__).parent
FOLDERS = {"pipelines": "recipe", "verifiers": "verifier", "data": "data"}
ENGINE = sorted(path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in FOLDERS)
HEAVY = ("torch", "vllm", "trl", "peft", "transformers", "accelerate", "datasets", "pyarrow", "pandas", "numpy")

LIST_PLUGINS = """
import json
from selftrain.plugins import KINDS, available, load
load("data", "sums")
found = {kind: {name: [f.module, str(f.path)] for name, f in available(kind).items()} for kind in KINDS}
print(json.dumps({"package": __import__("selftrain").__file__, "found": found}))
"""


def run(command: Sequence[str | Path], cwd: Path, **environment: str) -> str:
    """Run a command that must succeed; return what it prints."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(command, cwd=cwd, env=clean | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def environment(folder: Path) -> Path:
    """Make an environment that sees this one's libraries, but no selftrain; return its Python."""
    run([sys.executable, "-m", "venv", "--without-pip", folder], folder.parent)
    # A line in a .pth file adds the folder without reading the .pth files in it, so no editable install comes along.
    Path(site_packages(folder), "libraries.pth").write_text(sysconfig.get_paths()["purelib"], encoding="utf-8")
    return folder / "bin" / "python"


def site_packages(folder: Path) -> Path:
    return next((folder / "lib").glob("python*")) / "site-packages"


def pip_install(python: Path, *what: str | Path) -> None:
    """Install without a network and without touching what the environment only sees."""
    options = ["--quiet", "--no-input", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed"]
    run([sys.executable, "-m", "pip", "--python", python, "install", *options, *what], python.parent)


def package(folder: Path, name: str, files: dict[str, str], entry_points: str = "") -> Path:
    """Write the source of a package that pip can build."""
    top = {Path(path).parts[0] for path in files}
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools>=77"]\nbuild-backend = "setuptools.build_meta"\n'
        f'[project]\nname = "{name}"\nversion = "1.0"\n{entry_points}\n'
        f"[tool.setuptools.packages.find]\ninclude = {json.dumps([f'{each}*' for each in sorted(top)])}\n",
        encoding="utf-8",
    )
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout's files, with compiled files where running from it would leave some."""
    root = PACKAGE.parent
    if not (root / ".git").exists() or not (root / "pyproject.toml").is_file():
        pytest.skip("not in a git checkout")
    copy = tmp_path_factory.mktemp("source")
    listed = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], root)
    for name in filter(None, listed.split("\0")):
        if (root / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, copy / name)
    for folder in ("selftrain", *FOLDERS, "data/nano"):
        (copy / folder / "__pycache__").mkdir(parents=True)
        (copy / folder / "__pycache__" / "left.cpython-311.pyc").write_bytes(b"left by a run")
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made by way of the source distribution, as it is for a release."""
    out = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source], out)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a package that takes the import name `verifiers`, as one on PyPI does."""
    files = {"verifiers/__init__.py": "OWNER = 'stand-in'\n", "verifiers/number.py": "OWNER = 'stand-in'\n"}
    source = package(tmp_path_factory.mktemp("stand-in"), "verifiers", files)
    run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "."], source)
    return next(source.glob("*.whl"))


def plugins_seen(python: Path, cwd: Path, **environment: str) -> tuple[Path, dict[str, dict[str, list[str]]]]:
    """Return where selftrain is imported from, and the built-in plug-ins found there."""
    seen = json.loads(run([python, "-c", LIST_PLUGINS], cwd, **environment))
    return Path(seen["package"]).parent, seen["found"]


def assert_all_found(source: Path, root: Path, found: dict[str, dict[str, list[str]]]) -> None:
    """Every file of the folders is a plug-in, under its one module name, at its place below `root`."""
    for folder, kind in FOLDERS.items():
        names = sorted(path.stem for path in (source / folder).glob("[!_]*.py"))
        assert sorted(found[kind]) == names
        for name in names:
            assert found[kind][name] == [f"selftrain.{folder}.{name}", str(root / folder / f"{name}.py")]


def test_plug_ins_are_found_in_a_clone(source: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    imported, found = plugins_seen(python, tmp_path, PYTHONPATH=str(source))
    assert imported == source / "selftrain"
    assert_all_found(source, source, found)


def test_plug_ins_are_found_in_an_editable_install(source: Path, stand_in: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(source, clone)
    python = environment(tmp_path / "venv")
    pip_install(python, "--editable", clone)
    pip_install(python, stand_in)
    imported, found = plugins_seen(python, tmp_path)
    assert imported == clone / "selftrain"
    assert_all_found(clone, clone, found)
    assert owner(python, tmp_path) == "stand-in"


def test_plug_ins_are_found_in_a_wheel(source: Path, wheel: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    pip_install(python, wheel)
    imported, found = plugins_seen(python, tmp_path)
    assert imported == site_packages(tmp_path / "venv") / "selftrain"
    assert_all_found(source, imported, found)


def owner(python: Path, cwd: Path, **environment: str) -> str:
    return run([python, "-c", "import verifiers, verifiers.number as n; print(n.OWNER)"], cwd, **environment).strip()


@pytest.mark.parametrize("ours_first", [True, False], ids=["selftrain first", "verifiers first"])
def test_another_package_named_verifiers_keeps_its_name_and_files(
    ours_first: bool, source: Path, wheel: Path, stand_in: Path, tmp_path: Path
) -> None:
    python = environment(tmp_path / "venv")
    for each in [wheel, stand_in] if ours_first else [stand_in, wheel]:
        pip_install(python, each)
    place = site_packages(tmp_path / "venv")
    # Some packages leave a pyproject.toml beside themselves; it does not make site-packages a checkout of ours.
    (place / "pyproject.toml").write_text("[project]\nname = 'stray'\n", encoding="utf-8")
    assert sorted(path.name for path in (place / "verifiers").glob("*.py")) == ["__init__.py", "number.py"]
    assert owner(python, tmp_path) == "stand-in"
    _, found = plugins_seen(python, tmp_path)
    assert_all_found(source, place / "selftrain", found)


def test_another_package_named_verifiers_wins_inside_a_clone(source: Path, stand_in: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    pip_install(python, stand_in)
    assert owner(python, source) == "stand-in"  # `python -c` puts the clone's root, with our folder, first on the path
    _, found = plugins_seen(python, source)
    assert_all_found(source, source, found)
    assert not list(source.glob("verifiers/__init__.py"))


def test_an_installed_package_plugs_in_by_its_entry_point(source: Path, wheel: Path, tmp_path: Path) -> None:
    files = {
        "acme_selftrain/__init__.py": "",
        "acme_selftrain/verifiers/__init__.py": "",
        "acme_selftrain/verifiers/loud.py": "def verify(*, problem, response):\n    return response.isupper()\n",
        "acme_selftrain/verifiers/number.py": "def verify(*, problem, response):\n    return False\n",
        "acme_selftrain/data/__init__.py": "",
        "acme_selftrain/data/shouts.py": "def load():\n    return []\n",
    }
    entry_points = '[project.entry-points."selftrain.plugins"]\nacme = "acme_selftrain"\n'
    python = environment(tmp_path / "venv")
    pip_install(python, wheel, package(tmp_path / "acme", "acme-selftrain", files, entry_points))
    _, found = plugins_seen(python, tmp_path)
    theirs = {kind: [name for name in names if "/" in name] for kind, names in found.items()}
    assert theirs == {"recipe": [], "verifier": ["acme/loud", "acme/number"], "data": ["acme/shouts"]}
    assert found["verifier"]["number"][0] == "selftrain.verifiers.number"
    loud = "from selftrain.plugins import load; print(load('verifier', 'acme/loud').verify(problem=None, response='A'))"
    assert run([python, "-c", loud], tmp_path).strip() == "True"


def test_the_wheel_holds_every_file_and_nothing_else(source: Path, wheel: Path) -> None:
    listed = [
        path.relative_to(source) for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    wanted = {str(path) for path in listed if path.parts[0] == "selftrain"}
    wanted |= {f"selftrain/{path}" for path in listed if path.parts[0] in FOLDERS}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert held == wanted
        for folder in FOLDERS:
            for path in listed:
                if path.parts[0] == folder:
                    assert archive.read(f"selftrain/{path}") == (source / path).read_bytes()


def test_the_wheel_carries_the_license_and_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name.partition(".dist-info/")[2]: name for name in archive.namelist() if ".dist-info/" in name}
        assert "Apache License" in archive.read(names["licenses/LICENSE"]).decode()
        assert "selftrain = selftrain.cli:main" in archive.read(names["entry_points.txt"]).decode()


def test_import_selftrain_imports_nothing_heavy(tmp_path: Path) -> None:
    modules = run([sys.executable, "-c", "import selftrain, sys; print(*sys.modules)"], tmp_path).split()
    assert "selftrain.records" in modules
    assert not set(HEAVY) & set(modules)


def test_finding_plug_ins_imports_none_of_them(tmp_path: Path) -> None:
    code = "import selftrain.plugins as p, sys; [p.available(kind) for kind in p.KINDS]; print(*sys.modules)"
    modules = run([sys.executable, "-c", code], tmp_path).split()
    assert not [name for name in modules if name.split(".")[:2] in [["selftrain", folder] for folder in FOLDERS]]
    assert not set(HEAVY) & set(modules)


def test_kinds_name_the_folders() -> None:
    assert {folder: kind for kind, (folder, _) in KINDS.items()} == FOLDERS


@pytest.mark.parametrize("path", ENGINE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_engine_names_no_plug_in_module(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for name in imported_names(node, path):
            parts = name.split(".")
            assert parts[0] not in FOLDERS, f"{path}: imports {name}"
            assert not (parts[0] == "selftrain" and parts[1:2] and parts[1] in FOLDERS), f"{path}: imports {name}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not node.value.startswith(tuple(f"selftrain.{folder}." for folder in FOLDERS)), (
                f"{path}: {node.value}"
            )


def imported_names(node: ast.AST, path: Path) -> list[str]:
    """Return the full names of the modules, or of what in them, that an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    above = ["selftrain", *path.relative_to(PACKAGE).parent.parts] if node.level else []
    start = above[: len(above) - node.level + 1] + ([node.module] if node.module else [])
    return [".".join([*start, alias.name]) for alias in node.names]


@pytest.mark.slow
def test_no_module_is_loaded_under_two_names(tmp_path: Path) -> None:
    """Import every module of the engine by name and every plug-in as the engine does, then look at all files."""
    names = sorted(".".join(("selftrain", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in ENGINE)
    code = f"""
import importlib, json, sys
from selftrain.plugins import KINDS, available, load
for name in {[name.removesuffix(".__init__") for name in names]}:
    importlib.import_module(name)
for kind in KINDS:
    for name in available(kind):
        load(kind, name)
print(json.dumps([[n, m.__file__] for n, m in sorted(sys.modules.items()) if getattr(m, "__file__", None)]))
"""
    loaded = json.loads(run([sys.executable, "-c", code], tmp_path, OMP_NUM_THREADS="1").splitlines()[-1])
    roots = {PACKAGE, *(found.path.parent for kind in KINDS for found in available(kind).values())}
    ours = [(name, file) for name, file in loaded if any(root in Path(file).parents for root in roots)]
    files = [file for _, file in ours]
    assert len(files) == len(set(files)), sorted(each for each in ours if files.count(each[1]) > 1)
    assert {name for name, _ in ours if name.startswith("selftrain.verifiers.")} >= {
        found.module for found in available("verifier").values() if found.module.startswith("selftrain.")
    }
