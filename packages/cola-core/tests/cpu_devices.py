"""The environment of a program that sees several CPU devices, with the flags of XLA that the tests have."""

from __future__ import annotations

import os


def environment(count: int) -> dict[str, str]:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}".strip()
    return {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
