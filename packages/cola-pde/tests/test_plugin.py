"""How the core finds the package, and that finding it is cheap."""

import subprocess
import sys

import cola_pde
from cola_core.plugins import PLUGIN_API
from cola_pde import plugin


def test_info():
    info = plugin.cola_plugin_info()
    assert info.name == "pde" and info.api == PLUGIN_API and info.version == cola_pde.__version__


def test_importing_the_plugin_imports_no_numerical_code():
    code = (
        "import sys, cola_core.plugins; before = set(sys.modules); import cola_pde.plugin; "
        "new = sorted(m for m in set(sys.modules) - before if not m.startswith('cola_pde')); "
        "assert not any(m.split('.')[0] in ('scipy', 'torch', 'jax') for m in new), new; "
        "assert 'scipy.fft' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_resolve():
    for name in cola_pde.__all__:
        assert getattr(cola_pde, name) is not None
    assert set(cola_pde.__all__) <= set(dir(cola_pde))
