"""pytest entry point of the conformance kit: four options, no imports of the core.

Loaded by every pytest run of an environment that has cola-core, so it must cost nothing: neither cola_core
nor numpy is imported here. ``cola_core.testing.pytest_front`` reads ``REQUIRED`` when a conformance test
runs.
"""

import os

# what is chosen must not depend on who runs the tests
os.environ.setdefault("COLA_PROFILE", "default")

REQUIRED: set[str] = set()
"""Backends whose absence is a failure instead of a skip (``--cola-require-backend``)."""

BACKENDS = ("numpy", "torch", "jax")

SHARE = 3
"""Of so many cases, one is asked each question on a backend given by ``--cola-share-backend``."""


def pytest_addoption(parser):
    group = parser.getgroup("cola-core", "conformance kit of cola-core")
    group.addoption(
        "--cola-require-backend",
        action="append",
        default=[],
        metavar="NAME",
        help="fail, instead of skip, conformance tests of this backend (numpy, torch, jax) if it is "
        "not installed; may be given several times",
    )
    group.addoption(
        "--cola-only-backend",
        action="append",
        default=[],
        metavar="NAME",
        help="run only the tests of this backend (those without a backend run always); may be given "
        "several times",
    )
    group.addoption(
        "--cola-sample-backend",
        action="append",
        default=[],
        metavar="NAME",
        help="run the conformance tests of this backend in one dtype per case and check, a different one for "
        "each, instead of in all; for backends that compile every shape; may be given several times",
    )
    group.addoption(
        "--cola-share-backend",
        action="append",
        default=[],
        metavar="NAME[:N]",
        help=f"in the conformance tests of this backend, ask each question of one case in N (default "
        f"{SHARE}), in turn, and run every other check on one case in N/{SHARE}; may be given several times",
    )


def pytest_configure(config):
    REQUIRED.update(config.getoption("--cola-require-backend", default=[]))


def pytest_collection_modifyitems(config, items):
    only = set(config.getoption("--cola-only-backend", default=[]))
    sampled = set(config.getoption("--cola-sample-backend", default=[]))
    shared = dict(_share(text) for text in config.getoption("--cola-share-backend", default=[]))
    if not only and not sampled and not shared:
        return
    groups: dict[tuple[str, ...], list] = {}
    for item in items:
        job = _job(item)
        if job is not None and job.backend in sampled and job.check is not None:
            groups.setdefault(
                (item.nodeid.partition("[")[0], job.case.name, job.check.id, job.backend), []
            ).append(item)
    drop: set[int] = {id(item) for item in items if _not_its_turn(_job(item), shared)}
    for key, group in groups.items():
        keep = sum(map(ord, repr(key[1:]))) % len(group)  # varied, and the same in every run
        drop.update(id(item) for i, item in enumerate(group) if i != keep)
    if only:
        drop.update(id(item) for item in items if _backend(item) not in only | {None})
    if drop:
        config.hook.pytest_deselected(items=[item for item in items if id(item) in drop])
        items[:] = [item for item in items if id(item) not in drop]


def _share(text):
    """("jax", 12) of "jax:12"."""
    name, _, number = text.partition(":")
    return name, int(number or SHARE)


def _not_its_turn(job, shared):
    """Whether a check is one that another case goes through in this one's place."""
    if job is None or job.backend not in shared or job.check is None:
        return False
    one_in = shared[job.backend]
    # comparing plans with runs asks every question
    asks = job.check.id.startswith("question.") or job.check.id == "operator.plan-matches-run"
    if not asks:
        one_in = max(one_in // SHARE, 1)
    return sum(map(ord, job.case.name + job.check.id)) % one_in > 0


def _job(item):
    """The conformance job of a test, if it is one."""
    params = getattr(getattr(item, "callspec", None), "params", {})
    for value in params.values():
        job = getattr(value, "job", None)
        if job is not None and hasattr(job, "case"):
            return job
    return None


def _backend(item):
    """The backend a test is parametrised with, or None."""
    job = _job(item)
    if job is not None:
        return job.backend or job.missing or None
    params = getattr(getattr(item, "callspec", None), "params", {})
    for name in ("backend", "library"):
        value = params.get(name)
        if isinstance(value, str) and value in BACKENDS:
            return value
    return None
