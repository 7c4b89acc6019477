"""What every rule of the core says of itself."""

import pytest

from cola_core.dispatch import REGISTRY
from cola_core.plugins.manager import MANAGER

MANAGER.load("core", "always", explicit=True)
RULES = {r.id: r for rules in REGISTRY.rules.values() for r in rules if r.provenance.plugin == "core"}


@pytest.mark.parametrize("field", ["source", "complexity"])
def test_every_rule_says(field):
    silent = [rule.id for rule in RULES.values() if not getattr(rule, field).strip()]
    assert not silent, f"rules without {field}="


def test_complexities_are_short_and_use_the_symbols_of_the_page():
    for rule in RULES.values():
        text = rule.complexity
        assert len(text) < 100 and "\n" not in text and not text.endswith("."), f"{rule.id}: {text}"
        assert "n^" not in text.replace("n_i^", ""), f"{rule.id}: {text}; N is the whole size, n_i a part's"
