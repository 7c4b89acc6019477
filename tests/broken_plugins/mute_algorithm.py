"""Registers an algorithm for a question it has no method for."""

from dataclasses import dataclass

from common import good_rule, info

from cola_core.algorithms import Algorithm
from cola_core.linalg import logdet
from cola_core.plugins import hookimpl


@dataclass(frozen=True)
class Mute(Algorithm):
    def solve(self, A, b):
        return b


@hookimpl
def cola_plugin_info():
    return info("mute_algorithm")


@hookimpl
def cola_register(registrar, trigger):
    good_rule(registrar)
    registrar.algorithm(logdet, Mute)
