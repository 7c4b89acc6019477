"""What a plugin does to a fresh process, as JSON:
run as ``python -m cola_core.testing.plugin_probe MODE NAME``.

Modes: load (import, register, register again), off (with COLA_DISABLE_PLUGINS set), broken (its module
raises on import). Separate processes, because what is imported and registered cannot be undone.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

HEAVY = ("torch", "jax", "scipy", "triton", "pandas", "matplotlib")


def core_answers() -> dict[str, list[float]]:
    """Answers of core questions on core operators; no plugin may change them."""
    import numpy as np

    import cola_core as cola
    from cola_core import ops

    M = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 2.0]])
    N = np.array([[2.0, -1.0], [-1.0, 2.0]])
    shapes: dict[str, Any] = {
        "dense": ops.Dense(M),
        "psd": cola.PSD(M),
        "diagonal": ops.Diagonal(np.array([1.0, 2.0, 3.0])),
        "kronecker": cola.kron(cola.PSD(M), cola.PSD(N)),
        "kronsum": cola.kronsum(cola.PSD(M), cola.PSD(N)),
        "blockdiag": cola.block_diag(cola.PSD(M), cola.PSD(N)),
        "shifted": cola.kron(cola.PSD(M), cola.PSD(N)) + 0.5 * ops.Identity(6),
        "lowrank": ops.LowRank(M[:, :1]) + cola.PSD(ops.Diagonal(np.array([1.0, 2.0, 3.0]))),
    }
    out: dict[str, list[float]] = {}
    for name, A in shapes.items():
        b = np.arange(1.0, A.shape[-1] + 1)
        out[f"{name} product"] = (A @ b).tolist()
        out[f"{name} solve"] = cola.solve(A, b).tolist()
        out[f"{name} slogdet"] = [float(x) for x in cola.slogdet(A)]
        out[f"{name} trace"] = [float(cola.trace(A))]
        out[f"{name} diag"] = cola.diag(A).tolist()
        if A.isa(cola.SelfAdjoint):
            out[f"{name} eigenvalues"] = cola.eigvalsh(A).tolist()
            out[f"{name} exp"] = (cola.exp(A) @ b).tolist()
    return out


def _heavy() -> list[str]:
    return sorted(m for m in HEAVY if m in sys.modules)


def load(name: str) -> dict[str, Any]:
    """Import the core, the light module, register, register again, resolve all entry points."""
    import cola_core  # noqa: F401
    from cola_core.dispatch.registry import REGISTRY
    from cola_core.plugins.manager import MANAGER
    from cola_core.plugins.registrar import Registrar

    index = MANAGER.discover()
    record = MANAGER.records[name]
    distribution = record.entry.distribution
    entries = [e for e in index.entries if e.distribution == distribution]
    tops = sorted({e.module.partition(".")[0] for e in entries})
    facts: dict[str, Any] = {
        "entries": [(e.group, e.name, e.value) for e in entries],
        "distribution": distribution,
    }
    facts["imported_with_core"] = [t for t in tops if t in sys.modules and t != "cola_core"]
    before = set(_heavy())
    try:
        record.entry.load()
        facts["light"] = sorted(set(_heavy()) - before)
    except Exception as error:  # noqa: BLE001 - reported as a fact
        facts["light_error"] = f"{type(error).__name__}: {error}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        MANAGER.load("core", "always", explicit=True)
        MANAGER.load(name, "always")
    facts["warnings"] = [str(w.message) for w in caught if name in str(w.message)]
    facts.update(state=record.state, reason=record.reason, api=getattr(record.info, "api", None))
    facts["info_name"] = getattr(record.info, "name", None)
    facts["answers"] = _try(core_answers)

    def ids() -> list[str]:
        rules = [r.id for rules in REGISTRY.rules.values() for r in rules]
        return sorted(rules + [e.id for entries in REGISTRY.algorithms.values() for e in entries])

    facts["registered"] = ids()
    if record.state == "active":
        try:
            registrar = Registrar(record.name, record.entry.version)
            MANAGER._call(name, "cola_register", registrar=registrar, trigger="always")
            registrar.commit()
            facts["again"] = ids()
        except Exception as error:  # noqa: BLE001 - reported as a fact
            facts["again_error"] = f"{type(error).__name__}: {error}"
        for rule in REGISTRY.overrides():
            if rule.provenance.plugin == name:
                declared = rule.replaces is not None or rule.precedence > 0
                facts.setdefault("overrides", []).append((rule.id, declared))
        from cola_core.testing.rule_checks import ambiguities

        facts["ambiguous"] = [
            f"{a} and {b} for {cls.__name__}"
            for a, b, cls in ambiguities(REGISTRY)
            if name in (a.provenance.plugin, b.provenance.plugin)
        ]
    unresolved = []
    for e in entries:
        try:
            e.load()
        except Exception as error:  # noqa: BLE001 - reported as a fact
            unresolved.append(f"{e.group} {e.name} = {e.value}: {type(error).__name__}: {error}")
    facts["unresolved"] = unresolved
    return facts


def off(name: str) -> dict[str, Any]:
    """The plugin is disabled by the environment."""
    from cola_core.plugins.manager import MANAGER

    MANAGER.discover()
    MANAGER.load(name, "always")
    return {"state": MANAGER.records[name].state, "answers": _try(core_answers)}


def broken(name: str) -> dict[str, Any]:
    """Importing the plugin's module fails; the core must go on, with one warning that names the plugin."""
    from cola_core.plugins.manager import MANAGER

    MANAGER.discover()
    target = MANAGER.records[name].entry.module

    class Fails:
        def find_spec(self, fullname: str, path: Any = None, target_: Any = None) -> None:
            if fullname == target:
                raise ImportError(f"simulated failure of {fullname}")

    sys.meta_path.insert(0, Fails())  # type: ignore[arg-type]
    sys.modules.pop(target, None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        MANAGER.load("core", "always", explicit=True)
        MANAGER.load(name, "always")
        MANAGER.load(name, "always")
        answers = _try(core_answers)
    from cola_core.errors import PluginLoadWarning

    told = [str(w.message) for w in caught if issubclass(w.category, PluginLoadWarning)]
    return {"state": MANAGER.records[name].state, "warnings": told, "answers": answers}


def _try(call: Any) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - reported as a fact
        return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    mode, plugin = sys.argv[1:3]
    out = {"load": load, "off": off, "broken": broken}[mode](plugin)
    print("\n" + json.dumps(out))
