"""Running a host script inside this process."""

from __future__ import annotations

import os
import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import click

from kestrun_py._plain_errors import own_frames, plain_error
from kestrun_py.host import KestrunHost
from kestrun_py.host_registry import registered_hosts, resolve_host
from kestrun_py.hosting.base import HostBase, before_serving

__all__ = ["load_host", "run_script"]

_NOT_STARTED: Final = (
    "has ended and has not started its host '{}': call start_kr_server() at its end (host.run() for a KestrunHost)."
)


def run_script(script: Path, arguments: Sequence[str], port: int | None = None) -> int:
    """Runs a script as ``python script arguments`` would, and returns the exit code.

    An error of kestrun_py is shown as its message and the script's line; another exception as the traceback
    that Python would show, without the frames of this command. A script that has made a host and started none is an
    error as well.

    Args:
        script: The script's file.
        arguments: What the script finds in ``sys.argv[1:]``.
        port: The environment variable PORT for the script; None leaves it as it is.
    """
    if port is not None:
        os.environ["PORT"] = str(port)
    started: list[HostBase] = []
    try:
        with before_serving(started.append):
            made = _execute(script, arguments)
    except Exception as error:
        _show(error, script)
        return 1
    except KeyboardInterrupt:
        return 130
    if made and not started:
        click.echo(f"kestrun: {script} {_NOT_STARTED.format(made[0].name)}", err=True)
        return 1
    return 0


class _Reached(BaseException):
    """A script has come to the point where its host would serve."""

    def __init__(self, host: HostBase) -> None:
        self.host = host


def load_host(script: Path) -> HostBase:
    """Runs a script up to where it would start to serve, and returns the host that it would start.

    An error of the script is shown as `run_script` shows it, and ends the program with code 1.
    """

    def stop_here(host: HostBase) -> NoReturn:
        raise _Reached(host)

    with before_serving(stop_here):
        try:
            _execute(script, ())
            host: HostBase = resolve_host()
        except _Reached as reached:
            host = reached.host
        except Exception as error:
            _show(error, script)
            sys.exit(1)
    return host.enable_configuration()


def _execute(script: Path, arguments: Sequence[str]) -> list[KestrunHost]:
    """Runs a script, and returns the hosts that it has made and not removed."""
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.parent.resolve()))
    names = runpy.run_path(str(script), run_name="__main__")
    return [*registered_hosts(), *(value for value in names.values() if isinstance(value, KestrunHost))]


def _show(error: Exception, script: Path) -> None:
    text = plain_error(error, str(script))
    if text is not None:
        click.echo(f"kestrun: {text}", err=True)
    else:
        click.echo(_own_traceback(error, script), err=True, nl=False)


def _own_traceback(error: Exception, script: Path) -> str:
    shown = traceback.TracebackException.from_exception(error)
    shown.stack = own_frames(error, str(script))
    return "".join(shown.format())
