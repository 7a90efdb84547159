"""A pytest plugin: with CI=true a skipped test is a failed test.

Exceptions are tests that want what no package installs, a real SQL Server or the recordings of Kestrun's answers: a
reason that names KESTRUN_TEST_SQLSERVER or --golden is accepted.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Final, TypeVar

import pytest

_ACCEPTED: Final = ("KESTRUN_TEST_SQLSERVER", "--golden")

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _refuse_skip((yield))


def _refuse_skip(report: Report) -> Report:
    expected_failure = hasattr(report, "wasxfail")
    if report.skipped and not expected_failure and os.environ.get("CI") == "true":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(text in reason for text in _ACCEPTED):
            report.outcome = "failed"
            report.longrepr = f"With CI=true nothing may be skipped. {reason}"
    return report
