"""The packages as metadata and as files: one version, sound entry points, complete wheels and sdists."""

import email
import importlib
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ["cola-core", "cola-gpu", "cola-gp", "cola-pde", "cola-emlp"]
PLUGINS = PACKAGES[1:]
GROUPS = {
    "cola_core.plugins",
    "cola_core.operators",
    "cola_core.algorithms",
    "cola_core.rules",
    "cola_core.domains",
    "cola_core.conformance",
    "cola_core.commands",
}
TRIGGERS = {"always", "backend.torch", "backend.jax", "device.cuda", "device.tpu", "device.mps"}


def project(name: str) -> dict:
    return tomllib.loads((ROOT / "packages" / name / "pyproject.toml").read_text())


def module(name: str) -> str:
    return name.replace("-", "_")


def entry_points(name: str) -> list[tuple[str, str, str]]:
    """(group, name, value) of everything a package declares."""
    groups = project(name)["project"].get("entry-points", {})
    return [(group, key, value) for group, entries in groups.items() for key, value in entries.items()]


def test_every_package_folder_is_listed():
    assert sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml")) == sorted(PACKAGES)


def test_the_root_holds_tool_settings_only():
    assert set(tomllib.loads((ROOT / "pyproject.toml").read_text())) == {"tool"}


def test_one_version():
    versions = {name: project(name)["project"]["version"] for name in PACKAGES}
    assert len(set(versions.values())) == 1, versions


def test_the_changelog_knows_the_version():
    version = project("cola-core")["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("plugin", PLUGINS)
def test_plugins_bound_the_core_on_both_sides(plugin):
    version = Version(project("cola-core")["project"]["version"])
    (core,) = [
        r for r in map(Requirement, project(plugin)["project"]["dependencies"]) if r.name == "cola-core"
    ]
    floor, ceiling = f"{version.major}.{version.minor}", f"{version.major}.{version.minor + 1}"
    assert core.specifier == Requirement(f"cola-core>={floor},<{ceiling}").specifier
    assert version in core.specifier


@pytest.mark.parametrize("plugin", PLUGINS)
def test_no_plugin_requires_another(plugin):
    required = {Requirement(text).name for text in project(plugin)["project"]["dependencies"]}
    assert not required & {*PLUGINS, "torch", "jax"}


def test_extras_of_the_core_pin_its_plugins():
    core = project("cola-core")["project"]
    for plugin in PLUGINS:
        assert core["optional-dependencies"][plugin.removeprefix("cola-")] == [f"{plugin}=={core['version']}"]
    everything = Requirement(core["optional-dependencies"]["all"][0])
    assert everything.name == "cola-core"
    assert {"torch", "jax", "gpu", "gp", "pde", "emlp"} <= everything.extras


def test_the_core_needs_no_backend_and_no_plugin():
    required = {Requirement(text).name for text in project("cola-core")["project"]["dependencies"]}
    assert not required & {*PLUGINS, "torch", "jax"}
    assert {"numpy", "scipy", "plum-dispatch", "pluggy", "array-api-compat", "optree"} <= required


@pytest.mark.parametrize("name", PACKAGES)
def test_common_metadata(name):
    here = project(name)
    assert here["build-system"]["build-backend"] == "hatchling.build"
    assert here["project"]["requires-python"] == ">=3.11"
    assert here["project"]["license"] == "Apache-2.0"
    assert (ROOT / "packages" / name / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert {"torch", "jax"} <= set(here["project"]["optional-dependencies"])


def test_packages_agree_on_shared_requirements():
    stated: dict[str, set[str]] = {}
    for name in PACKAGES:
        here = project(name)["project"]
        texts = [*here["dependencies"], *sum(here["optional-dependencies"].values(), [])]
        for requirement in map(Requirement, texts):
            if requirement.name not in PACKAGES:
                stated.setdefault(requirement.name, set()).add(str(requirement.specifier))
    assert {name: ranges for name, ranges in stated.items() if len(ranges) > 1} == {}


def pins(file: str) -> dict[str, Version]:
    lines = [line.split("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    return {name: Version(version) for name, version in (line.split("==") for line in lines if line)}


def test_constraints_satisfy_every_range():
    known = pins("constraints.txt")
    assert known["torch"] == Version("2.13.0")
    for name in PACKAGES:
        here = project(name)["project"]
        for text in [*here["dependencies"], *sum(here["optional-dependencies"].values(), [])]:
            requirement = Requirement(text)
            if requirement.name not in PACKAGES:
                assert known[requirement.name] in requirement.specifier, (name, text)


def test_the_minimum_environment_holds_exactly_the_floors():
    known = pins("constraints-min.txt")
    for name in PACKAGES:
        for requirement in map(Requirement, project(name)["project"]["dependencies"]):
            if requirement.name not in PACKAGES:
                floor = [s.version for s in requirement.specifier if s.operator == ">="]
                assert [known[requirement.name]] == [Version(v) for v in floor], (name, str(requirement))


@pytest.mark.parametrize("name", PLUGINS)
def test_every_plugin_is_found(name):
    groups = project(name)["project"]["entry-points"]
    short = name.removeprefix("cola-")
    assert groups["cola_core.plugins"] == {short: f"{module(name)}.plugin"}
    assert groups["cola_core.domains"] == {short: module(name)}
    assert groups["cola_core.conformance"] == {short: f"{module(name)}.conformance"}


def test_the_core_joins_as_a_plugin():
    here = project("cola-core")["project"]
    assert here["entry-points"]["cola_core.plugins"] == {"core": "cola_core.plugins.core_plugin"}
    assert here["entry-points"]["pytest11"] == {"cola_core": "_cola_core_pytest"}
    assert here["scripts"] == {"cola-core": "cola_core.cli:main"}


@pytest.mark.parametrize("name", PACKAGES)
def test_entry_points_are_legal(name):
    for group, key, value in entry_points(name):
        if name == "cola-core" and group == "pytest11":
            continue
        assert group in GROUPS, f"unknown group {group}"
        assert value.split(":")[0].split(".")[0] == module(name), f"{key} leaves {name}: {value}"
        if group == "cola_core.rules":
            assert key in TRIGGERS, f"unknown trigger {key}"
        elif group == "cola_core.algorithms":
            question, dot, algorithm = key.partition(".")
            assert dot and question.isidentifier() and algorithm.replace("-", "_").isidentifier(), key
        else:
            assert key.replace("-", "_").isidentifier(), key


@pytest.mark.parametrize("name", PACKAGES)
def test_entry_points_resolve(name):
    for group, key, value in entry_points(name):
        where, _, attribute = value.partition(":")
        target = importlib.import_module(where)
        for part in filter(None, attribute.split(".")):
            assert hasattr(target, part), f"{group}: {key} = {value} does not exist"
            target = getattr(target, part)


def build(source: Path, into: Path, *targets: str) -> None:
    flags = [word for target in targets for word in ("-t", target)]
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(into), *flags]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def wheel_files(folder: Path) -> dict[str, bytes]:
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


@pytest.fixture(scope="module", params=PACKAGES)
def built(request, tmp_path_factory) -> tuple[str, Path]:
    """A package's name, and a folder with its wheel and its sdist."""
    folder = tmp_path_factory.mktemp(request.param)
    build(ROOT / "packages" / request.param, folder, "wheel", "sdist")
    return request.param, folder


def test_wheel_is_complete(built):
    name, folder = built
    files = wheel_files(folder)
    info = f"{module(name)}-{project(name)['project']['version']}.dist-info"
    assert f"{module(name)}/py.typed" in files
    assert f"{info}/licenses/LICENSE" in files

    declared = ConfigParser(delimiters=("=",))
    declared.optionxform = str
    declared.read_string(files[f"{info}/entry_points.txt"].decode())
    for group, key, value in entry_points(name):
        assert declared[group][key] == value

    source = ROOT / "packages" / name / "src"
    in_source = {p.relative_to(source).as_posix() for p in source.rglob("*.py")}
    assert in_source <= set(files), in_source - set(files)

    tops = {file.split("/")[0] for file in files} - {info}
    assert tops == ({"cola_core", "_cola_core_pytest.py"} if name == "cola-core" else {module(name)})


def test_the_template_of_new_plugins_is_the_example(tmp_path):
    build(ROOT / "packages" / "cola-core", tmp_path, "wheel")
    prefix = "cola_core/plugins/_template/"
    template = {
        f.removeprefix(prefix): data for f, data in wheel_files(tmp_path).items() if f.startswith(prefix)
    }
    example = ROOT / "examples" / "cola-circulant"
    assert {"pyproject.toml", "README.md"} <= set(template)
    assert any(file.startswith("tests/test_") for file in template)
    for file, data in template.items():
        assert (example / file).read_bytes() == data


def test_wheel_describes_itself(built):
    name, folder = built
    files = wheel_files(folder)
    (metadata,) = [
        email.message_from_bytes(data) for file, data in files.items() if file.endswith("/METADATA")
    ]
    assert metadata["Name"] == name
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().startswith(f"# {name}\n")


def test_sdist_builds_the_same_wheel(built, tmp_path):
    name, folder = built
    (path,) = folder.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        sdist.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    assert (source / "tests").is_dir()
    assert (source / "LICENSE").is_file()
    build(source, tmp_path / "again", "wheel")
    again, first = wheel_files(tmp_path / "again"), wheel_files(folder)
    record = f"{module(name)}-{project(name)['project']['version']}.dist-info/RECORD"  # its order may differ
    assert sorted(again.pop(record).splitlines()) == sorted(first.pop(record).splitlines())
    assert again == first
