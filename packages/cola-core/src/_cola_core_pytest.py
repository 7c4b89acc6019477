"""pytest entry point of the conformance kit: one option, no imports.

Loaded by every pytest run of an environment that has cola-core, so it must cost nothing: neither cola_core
nor numpy is imported here. ``cola_core.testing.pytest_front`` reads ``REQUIRED`` when a conformance test
runs.
"""

REQUIRED: set[str] = set()
"""Backends whose absence is a failure instead of a skip (``--cola-require-backend``)."""


def pytest_addoption(parser):
    group = parser.getgroup("cola-core", "conformance kit of cola-core")
    group.addoption(
        "--cola-require-backend",
        action="append",
        default=[],
        metavar="NAME",
        help="fail, instead of skip, conformance tests of this backend (numpy, torch, jax) if it is "
        "not installed; "
        "may be given several times",
    )


def pytest_configure(config):
    REQUIRED.update(config.getoption("--cola-require-backend", default=[]))
