"""From cases to jobs to results:
which checks run where, strict expected failures, and one function that runs them.

Nothing is imported to make the list but what is needed to see which checks apply; a backend that is not
installed gives one skipped job per case, naming it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from .case import Case
from .errors import ConformanceError, MissingBackend
from .precision import precision
from .registry import Check, checks_of

__all__ = ["CheckResult", "Job", "check_case", "installed", "jobs", "run_job"]


@dataclass(frozen=True)
class CheckResult:
    """status: passed, failed, skipped (missing backend), closed (capability),
    expected (a declared failure)."""

    check: str
    case: str
    kind: str
    group: str
    status: str
    backend: str = ""
    dtype: str = ""
    message: str = ""
    since: int = 1

    @property
    def ok(self) -> bool:
        """Whether this result is no reason to reject the plugin:
        advisory failures are reported, not fatal."""
        return self.status != "failed" or self.group == "advisory"

    def __str__(self) -> str:
        where = "-".join(filter(None, (self.case, self.backend, self.dtype)))
        return f"{self.status:8} {self.check} [{where}]{': ' + self.message if self.message else ''}"


@dataclass(frozen=True)
class Job:
    """One check of one case on one backend with one dtype;
    call it to run it, it raises what the check raises."""

    check: Check | None
    case: Case
    backend: str = ""
    dtype: str = ""
    missing: str = ""
    closed: str = ""

    @property
    def id(self) -> str:
        what = self.check.id if self.check is not None else "backend"
        parts = [self.case.name, what]
        if self.missing:
            parts = [self.case.name, f"{self.missing}-missing"]
        elif self.closed:
            parts.append("closed")
        else:
            parts += filter(None, (self.backend, self.dtype))
        return "-".join(parts)

    def __call__(self) -> None:
        from ..backends import get_backend

        if self.missing:
            raise MissingBackend(
                f"backend {self.missing} is not installed (pip install 'cola-core[{self.missing}]')"
            )
        if self.check is None or self.closed:
            return
        backend = get_backend(self.backend) if self.backend else None
        reason = self._expected(self.check.id)
        try:
            with precision(self.backend, self.dtype), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # checks that are about warnings record their own
                self.check(self.case, backend, self.dtype, self.case.seed)
        except ConformanceError as error:
            if reason is not None:
                raise Expected(f"{reason} ({error})") from error
            raise
        except Exception as error:
            if reason is not None:
                raise Expected(f"{reason} ({type(error).__name__}: {error})") from error
            error.add_note(f"while checking {self.check.id} of {self.case.name}")
            raise
        if reason is not None:
            raise ConformanceError(
                f"{self.check.id} of {self.case.name} passes, though it is declared an expected failure "
                f"({reason}). Remove the entry from expected_failures."
            )

    def _expected(self, check: str) -> str | None:
        """The declared reason to fail: for this check, on this backend, or with this dtype."""
        declared = self.case.expected_failures
        for key in (f"{check}@{self.backend}-{self.dtype}", f"{check}@{self.backend}", check):
            if key in declared:
                return declared[key]
        return None


class Expected(Exception):
    """A declared failure happened."""


def installed(backend: str) -> bool:
    """Whether the array library of a backend can be imported (without importing it)."""
    return find_spec(backend) is not None


def jobs(case: Case, backends: Sequence[str] | None = None, dtypes: Sequence[str] | None = None) -> list[Job]:
    """All jobs of a case, in a stable order."""
    if case.kind in ("domain", "plugin"):
        return _plain_jobs(case, backends)
    claimed = [b for b in case.capabilities.backends.names if backends is None or b in backends]
    present = [b for b in claimed if installed(b)]
    out = [Job(None, case, missing=b) for b in claimed if b not in present]
    if not present:
        return out
    names = tuple(d for d in case.capabilities.all_dtypes if dtypes is None or d in dtypes)
    for c in checks_of(case.kind):
        why = case.capabilities.why_closed(c.capability)
        if why:
            out.append(Job(c, case, closed=why))
            continue
        here = [b for b in present if c.backends is None or b in c.backends]
        if not here or not _applies(c, case, present[0]):
            continue
        out += [Job(c, case, b, d) for b in here for d in c.select(names, b, case.name)]
    return out


def _plain_jobs(case: Case, backends: Sequence[str] | None) -> list[Job]:
    """Checks of modules and plugins run once; values of a domain run on every backend."""
    out = []
    for c in checks_of(case.kind):
        if c.backends is None:
            out.append(Job(c, case))
            continue
        for b in case.capabilities.backends.names:
            if backends is None or b in backends:
                out.append(Job(c, case, b, "float64") if installed(b) else Job(None, case, missing=b))
    return out


def _applies(check: Check, case: Case, first: str) -> bool:
    if check.applies is None:
        return True
    names = case.capabilities.backends.names
    if names[0] != first:  # look at an instance on a backend that is here
        from dataclasses import replace

        from .capabilities import only

        shown = replace(case.capabilities, backends=only(first, reason="the first one installed"))
        return check.applies(case.replace(capabilities=shown))
    return check.applies(case)


def run_job(job: Job) -> CheckResult:
    """Run one job and say what became of it; nothing is raised."""
    check = job.check
    base: dict[str, Any] = dict(
        check=check.id if check is not None else "backend",
        case=job.case.name,
        kind=job.case.kind,
        group=check.group if check is not None else "required",
        backend=job.backend or job.missing,
        dtype=job.dtype,
        since=check.since if check is not None else 1,
    )
    if job.closed:
        return CheckResult(status="closed", message=job.closed, **base)
    try:
        job()
    except MissingBackend as error:
        return CheckResult(status="skipped", message=str(error), **base)
    except Expected as error:
        return CheckResult(status="expected", message=str(error), **base)
    except ConformanceError as error:
        return CheckResult(status="failed", message=str(error), **base)
    except Exception as error:  # noqa: BLE001 - a check that meets an unforeseen error has failed
        return CheckResult(status="failed", message=f"{type(error).__name__}: {error}", **base)
    return CheckResult(status="passed", **base)


def check_case(
    case: Case,
    backends: Sequence[str] | None = None,
    dtypes: Sequence[str] | None = None,
    callback: Callable[[CheckResult], None] | None = None,
) -> list[CheckResult]:
    """Run every check of one case; one result per check, backend and dtype. Raises nothing."""
    out = []
    for job in jobs(case, backends, dtypes):
        result = run_job(job)
        out.append(result)
        if callback is not None:
            callback(result)
    return out


def all_jobs(
    cases: Iterable[Case], backends: Sequence[str] | None = None, dtypes: Sequence[str] | None = None
) -> list[Job]:
    """The jobs of several cases; names must differ."""
    seen: set[tuple[str, str]] = set()
    out: list[Job] = []
    for case in cases:
        if (case.kind, case.name) in seen:
            raise ValueError(f"two {case.kind} cases are called {case.name!r}")
        seen.add((case.kind, case.name))
        out += jobs(case, backends, dtypes)
    return out
