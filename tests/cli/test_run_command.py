"""`kestrun run`: what a script finds, how its errors are shown, --reload and --workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import aiohttp
import pytest
from ports import free_port
from sample_process import KESTRUN, SAMPLES, Running, environment, new_client
from waiting import until

HOST = """
import os
from cmdlets import *

new_kr_server("Demo")
add_kr_endpoint(port=int(os.environ["PORT"]){tls})
{cache}
enable_kr_configuration()


@add_kr_map_route("/", verbs="Get")
def root():
    write_kr_json_response({{"pid": os.getpid(), "word": "{word}"}})


start_kr_server()
"""


STOP_ROUTE = """
@add_kr_map_route("/stop", verbs="Get")
def stop():
    stop_kr_server()


"""


def script(folder: Path, text: str, name: str = "app.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def host(folder: Path, *, word: str = "hello", cache: str = "", tls: str = "") -> Path:
    return script(folder, HOST.format(word=word, cache=cache, tls=tls))


def run(*arguments: str | Path, folder: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*KESTRUN, "run", *arguments],
        env=environment(**variables),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_script_finds_what_python_would_give_it(tmp_path: Path) -> None:
    script(tmp_path, "word = 'beside'", "neighbour.py")
    path = script(
        tmp_path,
        "import os, sys, neighbour\n"
        "print(__name__, sys.argv, os.environ['PORT'], neighbour.word, sys.path[0], sep='|')\n",
    )
    done = run(path, "--port", "5123", "--", "--flag", "value")
    assert done.returncode == 0
    assert done.stdout.strip() == f"__main__|['{path}', '--flag', 'value']|5123|beside|{tmp_path}"


def test_the_current_folder_is_no_place_to_import_from(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    script(folder, "raise RuntimeError('a stray file')", "argparse.py")
    assert run(script(tmp_path, "import argparse"), folder=folder).returncode == 0


def test_a_misspelt_option_is_not_passed_on(tmp_path: Path) -> None:
    done = run(script(tmp_path, ""), "--prot", "5000")
    assert done.returncode == 2
    assert "No such option" in done.stderr
    assert "--port" in done.stderr


@pytest.mark.parametrize("option", ["--unknown", "--unknown=5", "-x"])
def test_an_option_of_the_script_without_dashes_before_it(tmp_path: Path, option: str) -> None:
    done = run(script(tmp_path, ""), option)
    assert done.returncode == 2
    name = option.partition("=")[0]
    assert done.stderr.endswith(f"Options of the script follow a --: kestrun run FILE -- {name}\n")


@pytest.mark.parametrize("port", ["0", "65536", "http"])
def test_a_port_that_is_none(tmp_path: Path, port: str) -> None:
    assert run(script(tmp_path, ""), "--port", port).returncode == 2


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = run(tmp_path / "nothing.py")
    assert done.returncode == 2
    assert "does not exist" in done.stderr


# Errors


UNSTARTED = "from cmdlets import *\nnew_kr_server('Demo')\nenable_kr_configuration()\n"


@pytest.mark.parametrize(
    "text", [UNSTARTED, "from kestrun_py import KestrunHost\nshop = KestrunHost('Demo').enable_configuration()\n"]
)
def test_a_host_that_is_not_started(tmp_path: Path, text: str) -> None:
    path = script(tmp_path, text)
    done = run(path)
    assert done.returncode == 1
    assert done.stderr == (
        f"kestrun: {path} has ended and has not started its host 'Demo': call start_kr_server() at its end "
        "(host.run() for a KestrunHost).\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "from kestrun_py import KestrunHost\napp = KestrunHost('Demo').create_app()\n",
        "from cmdlets import *\nnew_kr_server('Demo')\nadd_kr_endpoint(port=0)\nstart_kr_server(no_wait=True)\n",
        UNSTARTED + "remove_kr_server('Demo')\n",
        "print('no host at all')",
    ],
)
def test_a_script_that_starts_or_needs_no_host(tmp_path: Path, text: str) -> None:
    done = run(script(tmp_path, text))
    assert (done.returncode, done.stderr) == (0, "")


def test_an_error_shows_the_scripts_lines_alone(tmp_path: Path) -> None:
    path = script(tmp_path, "def divide(a, b):\n    return a / b\n\n\ndivide(1, 0)\n")
    done = run(path)
    assert done.returncode == 1
    assert done.stderr.startswith(f'Traceback (most recent call last):\n  File "{path}", line 5, in <module>\n')
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert "kestrun_py" not in done.stderr
    assert "runpy" not in done.stderr


def test_an_error_with_a_cause_shows_both(tmp_path: Path) -> None:
    path = script(tmp_path, "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise OSError('no') from error\n")
    done = run(path)
    assert "ZeroDivisionError" in done.stderr
    assert done.stderr.endswith("OSError: no\n")
    assert "runpy" not in done.stderr


def test_a_syntax_error_shows_its_line(tmp_path: Path) -> None:
    path = script(tmp_path, "x = 1\ny = (\n")
    done = run(path)
    assert done.returncode == 1
    assert f'File "{path}", line 2' in done.stderr
    assert "SyntaxError" in done.stderr
    assert "runpy" not in done.stderr


def test_an_error_of_kestrun_py_is_its_message_and_place(tmp_path: Path) -> None:
    path = script(tmp_path, "from cmdlets import *\n\nnew_kr_server('  ')\n")
    done = run(path)
    assert done.returncode == 1
    assert done.stderr == f"kestrun: Instance name is required. ({path}, line 3)\n"


def test_an_exit_code_is_passed_on(tmp_path: Path) -> None:
    assert run(script(tmp_path, "import sys; sys.exit(7)")).returncode == 7


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(host(tmp_path), "--port", str(port))
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_port_in_the_environment(tmp_path: Path) -> None:
    path = script(tmp_path, "from cmdlets import *\nnew_kr_server('Demo')\nadd_kr_endpoint()\n")
    done = run(path, PORT="many")
    assert done.returncode == 1
    assert "Environment variable PORT has invalid value 'many'." in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_with_code_0(tmp_path: Path, number: signal.Signals) -> None:
    port = free_port()
    with Running([*KESTRUN, "run", host(tmp_path), "--port", str(port)], port) as app:
        assert app.stop(number) == 0
        assert "Traceback" not in app.output()


# --reload


async def answer(port: int, path: str = "/", scheme: str = "http") -> dict[str, object]:
    """What a new connection is answered; nothing if nobody answers."""
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with new_client(f"{scheme}://127.0.0.1:{port}") as client, client.get(path) as response:
            body: dict[str, object] = await response.json()
            return body
    return {}


async def says(port: int, word: str) -> bool:
    return (await answer(port)).get("word") == word


async def test_a_change_starts_the_script_again(tmp_path: Path) -> None:
    port = free_port()
    path = host(tmp_path, word="one")
    with Running([*KESTRUN, "run", path, "--port", str(port), "--reload"], port) as app:
        await until(lambda: says(port, "one"))
        host(tmp_path, word="two")
        await until(lambda: says(port, "two"))
        path.write_text("def broken(:\n")

        async def waits() -> bool:
            return "waiting for a change" in app.output()

        await until(waits)
        assert "SyntaxError" in app.output()
        host(tmp_path, word="three")
        await until(lambda: says(port, "three"))
        assert app.stop() == 0
    assert await answer(port) == {}


def test_reload_and_workers_do_not_go_together(tmp_path: Path) -> None:
    done = run(script(tmp_path, ""), "--reload", "--workers", "2")
    assert done.returncode == 2
    assert "--reload runs one process" in done.stderr


def test_reload_ends_with_a_script_that_ends(tmp_path: Path) -> None:
    done = run(script(tmp_path, "print('done')"), "--reload")
    assert (done.returncode, done.stdout) == (0, "done\n")


# --workers


def test_workers_refuse_sessions_in_memory(tmp_path: Path) -> None:
    done = run(host(tmp_path, cache="add_kr_session()"), "--workers", "3", PORT=str(free_port()))
    assert done.returncode == 1
    assert done.stderr.count("memory cache") == 1
    assert "Redis" in done.stderr
    assert "Traceback" not in done.stderr


async def test_workers_share_a_port(tmp_path: Path) -> None:
    port = free_port()
    with Running([*KESTRUN, "run", host(tmp_path), "--port", str(port), "--workers", "3"], port) as app:
        pids: set[object] = set()

        async def all_answer() -> bool:
            pids.add((await answer(port)).get("pid"))
            return len(pids - {None}) == 3

        await until(all_answer)
        victim = next(pid for pid in pids if isinstance(pid, int))
        os.kill(victim, signal.SIGKILL)
        await until(lambda: a_new_one_answers(port, pids))
        assert app.stop() == 0
        assert "Traceback" not in app.output()
    assert await answer(port) == {}


async def test_workers_share_no_port_with_those_of_another_group(tmp_path: Path) -> None:
    port = free_port()
    command = ["--port", str(port), "--workers", "2"]
    with Running([*KESTRUN, "run", host(tmp_path), *command], port):
        (tmp_path / "second").mkdir()
        done = await asyncio.to_thread(run, host(tmp_path / "second", word="second"), *command)
        assert done.returncode == 1
        assert done.stderr.count(f"127.0.0.1:{port}: address already in use") == 1
        assert "Traceback" not in done.stderr
        for _ in range(20):
            assert await says(port, "hello")


async def a_new_one_answers(port: int, known: set[object]) -> bool:
    return (await answer(port)).get("pid") not in {*known, None}


async def test_a_worker_that_is_told_to_end_is_replaced_and_a_stop_in_a_script_ends_all(tmp_path: Path) -> None:
    port = free_port()
    path = host(tmp_path)
    path.write_text(path.read_text().replace("start_kr_server()", STOP_ROUTE + "start_kr_server()"))
    with Running([*KESTRUN, "run", path, "--port", str(port), "--workers", "2"], port) as app:
        seen: set[object] = set()

        async def both_answer() -> bool:
            seen.add((await answer(port)).get("pid"))
            return len(seen - {None}) == 2

        await until(both_answer)
        os.kill(next(pid for pid in seen if isinstance(pid, int)), signal.SIGTERM)
        await until(lambda: a_new_one_answers(port, seen))
        assert "ended with code 0; it starts again" in app.output()
        async with new_client(f"http://127.0.0.1:{port}") as client, client.get("/stop") as response:
            assert response.status == 202
        assert await asyncio.to_thread(app.process.wait, 30) == 0
    assert await answer(port) == {}


async def test_workers_present_one_certificate(tmp_path: Path) -> None:
    port = free_port()
    path = host(tmp_path, tls=", self_signed_cert=True")
    with Running([*KESTRUN, "run", path, "--port", str(port), "--workers", "2"], port):
        seen: dict[object, str] = {}

        async def both_answer() -> bool:
            pid = (await answer(port, scheme="https")).get("pid")
            if pid is not None:
                seen[pid] = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
            return len(seen) == 2

        await until(both_answer)
        certificates = {await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port)) for _ in range(10)}
        assert len({*certificates, *seen.values()}) == 1


async def test_workers_share_sessions_in_redis(redis_url: str) -> None:
    port = free_port()
    command = [*KESTRUN, "run", str(SAMPLES / "19_2_sessions_redis.py"), "--workers", "2"]
    with Running([*command, "--port", str(port), "--", "--redis", redis_url], port):
        async with new_client(f"https://127.0.0.1:{port}") as client:
            for counter in range(1, 21):
                async with client.get("/session/counter", headers={"Connection": "close"}) as response:
                    assert (await response.json())["counter"] == counter
