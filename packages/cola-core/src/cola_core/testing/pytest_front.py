"""The pytest front end: ``@parametrize_with_checks(cases)``.

    from cola_core.testing import parametrize_with_checks
    from mypackage.conformance import cases

    @parametrize_with_checks(cases())
    def test_conformance(check):
        check()

One test per check, case, backend and dtype, with ids such as ``kronecker-operator.matvec-torch-float32``. A
backend that is not installed gives one skip per case that names it; ``--cola-require-backend torch`` makes
that a failure. Needs pytest (and nothing else does in this kit).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .case import Case
from .errors import ConformanceError, MissingBackend
from .run import Expected, Job, all_jobs

__all__ = ["parametrize_with_checks"]


def parametrize_with_checks(
    cases: Iterable[Case],
    backends: Sequence[str] | None = None,
    dtypes: Sequence[str] | None = None,
    argument: str = "check",
) -> Any:
    """A ``pytest.mark.parametrize`` over the jobs of the cases; the test calls its argument."""
    import pytest

    params = [pytest.param(_under_pytest(job), id=job.id) for job in all_jobs(cases, backends, dtypes)]
    return pytest.mark.parametrize(argument, params)


def _under_pytest(job: Job) -> Callable[[], None]:
    def check() -> None:
        import pytest

        if job.closed:
            pytest.skip(f"closed: {job.closed}")
        try:
            job()
        except MissingBackend as error:
            if job.missing in _required():
                pytest.fail(f"{error}, and --cola-require-backend asks for it", pytrace=False)
            pytest.skip(str(error))
        except Expected as error:
            pytest.xfail(str(error))
        except ConformanceError as error:
            if job.check is not None and job.check.group == "advisory":
                pytest.xfail(f"advisory: {error}")
            raise

    check.job = job  # type: ignore[attr-defined]
    return check


def _required() -> set[str]:
    entry = sys.modules.get("_cola_core_pytest")
    return set() if entry is None else entry.REQUIRED
