"""The plugin's edges: light import, metadata, commands, benchmark, devices."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import pytest

from cola_gpu import cli, devices, missing


def command(*words):
    parser = argparse.ArgumentParser(prog="cola-core")
    cli.register(parser.add_subparsers())
    args = parser.parse_args(words)
    return args.func(args)


@pytest.mark.parametrize(
    "module",
    [
        "cola_gpu",
        "cola_gpu.plugin",
        "cola_gpu.cli",
        "cola_gpu.lapack",
        "cola_gpu.cg",
        "cola_gpu.gmres_ir",
        "cola_gpu.bench.run",
        "cola_gpu.sharding.stack",
    ],
)
def test_import_is_light(module):
    code = (
        f"import sys, {module}\n"
        "heavy = {'torch', 'jax', 'scipy.sparse.linalg'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_plugin_introduces_itself():
    from cola_core.plugins import PLUGIN_API
    from cola_gpu import __version__, plugin

    info = plugin.cola_plugin_info()
    assert (info.name, info.api, info.version) == ("gpu", PLUGIN_API, __version__)


def test_registers_the_algorithms():
    from cola_core.plugins import Registrar
    from cola_gpu import plugin
    from cola_gpu.cg import MixedPrecisionCG
    from cola_gpu.gmres_ir import MixedPrecisionGMRES

    staged = []

    class Recorder(Registrar):
        def algorithm(self, question, cls, *, name=None, automatic=True):
            staged.append((name, cls, automatic))
            return super().algorithm(question, cls, name=name, automatic=automatic)

    plugin.cola_register(Recorder("gpu"), "always")
    assert ("mixed-cg", MixedPrecisionCG, False) in staged
    assert ("mixed-gmres", MixedPrecisionGMRES, False) in staged
    automatic = {name for name, _, chosen in staged if chosen}
    assert automatic == {"device-cg", "device-slq", "device-lanczos", "device-block-lanczos", "device-lobpcg"}


def test_each_is_found_by_name_before_the_package_is_loaded():
    import tomllib
    from pathlib import Path

    from cola_core.plugins import Registrar
    from cola_gpu import plugin

    registered = set()

    class Recorder(Registrar):
        def algorithm(self, question, cls, *, name=None, automatic=True):
            registered.add((question if isinstance(question, str) else question.__name__, name))
            return super().algorithm(question, cls, name=name, automatic=automatic)

    plugin.cola_register(Recorder("gpu"), "always")
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    due = set(tomllib.loads(text)["project"]["entry-points"]["cola_core.algorithms"])
    assert {f"{question}.{name}" for question, name in registered} == due


def test_info(capsys):
    assert command("gpu", "info") == 0
    assert "numpy/cpu" in capsys.readouterr().out
    assert command("gpu", "info", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["devices"][0]["framework"] == "numpy"
    assert {f["name"] for f in report["frameworks"]} == {"numpy", "torch", "jax"}
    parts = {p["name"]: p for p in report["accelerator"]}
    assert set(parts) == {"driver", "torch-cuda", "triton", "jax-gpu"}
    assert all(p["complete"] == (p["remedy"] == "") for p in parts.values())


def test_info_without_frameworks(capsys, monkeypatch):
    for module in (devices, missing):
        monkeypatch.setattr(
            module, "find_spec", lambda name: None if name in ("torch", "jax", "triton") else object()
        )
    assert command("gpu", "info") == 0
    out = capsys.readouterr().out
    assert "torch  not installed" in out and "no accelerator found" in out
    assert "PyTorch is not installed; to have it" in out and "JAX is not installed; to have it" in out
    assert [d.framework for d in devices.devices()] == ["numpy"]
