"""Calls its algorithm as one of the core's is called."""

from dataclasses import dataclass

from common import good_rule, info

from cola_core.algorithms import Algorithm
from cola_core.linalg import solve
from cola_core.plugins import hookimpl


@dataclass(frozen=True)
class Mine(Algorithm):
    def solve(self, A, b):
        return b


@hookimpl
def cola_plugin_info():
    return info("duplicate_algorithm")


@hookimpl
def cola_register(registrar, trigger):
    good_rule(registrar)
    registrar.algorithm(solve, Mine, name="cg")
