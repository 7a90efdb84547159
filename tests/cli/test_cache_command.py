"""`kestrun cache ping` and `kestrun cache create-table`, against real servers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import postgres_server
import pytest
from ports import free_port
from sample_process import KESTRUN, SAMPLES, environment


def cache(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*KESTRUN, "cache", *arguments], env=environment(**variables), capture_output=True, text=True, timeout=60
    )


def script(folder: Path, cache: str) -> Path:
    path = folder / "app.py"
    path.write_text(
        "from cmdlets import *\n\nnew_kr_server('Demo')\nadd_kr_endpoint(port=5000)\n"
        f"{cache}\nstart_kr_server()\nprint('not reached')\n"
    )
    return path


# ping


def test_ping_redis(redis_url: str) -> None:
    done = cache("ping", "--redis", redis_url)
    assert (done.returncode, done.stderr) == (0, "")
    lines = dict(line.split(":", 1) for line in done.stdout.splitlines())
    assert lines["server"].split()[0] == "Redis"
    assert lines["server"].split()[1][0].isdigit()
    assert lines["round trip"].endswith(" ms")
    assert lines["address"].strip() == redis_url.removeprefix("redis://")
    assert lines["probe"].strip() == "written, read, removed"


def test_ping_nobody() -> None:
    where = f"127.0.0.1:{free_port()}"
    done = cache("ping", "--redis", f"redis://:secret@{where}")
    assert done.returncode == 1
    assert where in done.stderr
    assert "secret" not in done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("cannot be reached") == 1


def test_ping_a_server_that_is_no_sentinel(redis_url: str) -> None:
    done = cache("ping", "--redis", f"{redis_url.removeprefix('redis://')},serviceName=main")
    assert done.returncode == 1
    assert "does not answer as a Sentinel" in done.stderr
    assert "Traceback" not in done.stderr


def test_ping_a_malformed_address() -> None:
    done = cache("ping", "--redis", "localhost,frobnicate=1")
    assert done.returncode == 1
    assert "frobnicate" in done.stderr


def test_ping_takes_the_cache_of_a_script(redis_url: str, tmp_path: Path) -> None:
    path = script(tmp_path, f"add_kr_distributed_redis_cache(configuration={redis_url!r})")
    done = cache("ping", "--file", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Starting" not in done.stdout  # for nothing does
    assert "probe:       written, read, removed\n" in done.stdout
    assert done.stdout.startswith("server:      Redis ")  # and not: Starting Kestrun server ...
    assert "not reached" not in done.stdout


def test_ping_takes_the_cache_of_a_sample(redis_url: str) -> None:
    done = cache("ping", "--file", SAMPLES / "19_2_sessions_redis.py", UPSTASH_REDIS_URL=redis_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "server:      Redis " in done.stdout


def test_ping_memory(tmp_path: Path) -> None:
    done = cache("ping", "--file", script(tmp_path, "add_kr_session()"))
    assert done.returncode == 0
    assert "server:      memory " in done.stdout


def test_ping_a_script_without_a_cache(tmp_path: Path) -> None:
    done = cache("ping", "--file", script(tmp_path, ""))
    assert done.returncode == 1
    assert "adds no cache" in done.stderr


def test_ping_a_script_that_fails(tmp_path: Path) -> None:
    path = script(tmp_path, "1 / 0")
    done = cache("ping", "--file", path)
    assert done.returncode == 1
    assert f'File "{path}", line 5' in done.stderr
    assert "kestrun_py" not in done.stderr


@pytest.mark.parametrize("options", [[], ["--redis", "localhost", "--file", __file__]])
def test_ping_wants_one_cache(options: list[str]) -> None:
    done = cache("ping", *options)
    assert done.returncode == 2
    assert "Give one of --redis, --connection-string and --file." in done.stderr


@pytest.mark.parametrize("dialect", [["--dialect", "postgres"], []])
def test_ping_postgres_says_whether_the_table_exists(postgres_database: str, dialect: list[str]) -> None:
    options = [*dialect, "--connection-string", postgres_database]
    done = cache("ping", *options)
    assert done.returncode == 1
    assert "server:      PostgreSQL " in done.stdout
    assert "table:       public.Sessions does not exist\n" in done.stdout
    assert "probe:" not in done.stdout
    assert "kestrun cache create-table" in done.stderr
    assert cache("create-table", *options).returncode == 0
    done = cache("ping", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert "server:      PostgreSQL " in done.stdout
    assert "table:       public.Sessions exists\n" in done.stdout
    assert "key ring:    public.DataProtectionKeys exists\n" in done.stdout
    assert "probe:       written, read, removed\n" in done.stdout
    postgres_server.shared_server().execute('DROP TABLE "DataProtectionKeys"', database=name_of(postgres_database))
    assert "key ring:    public.DataProtectionKeys does not exist\n" in cache("ping", *options).stdout


def name_of(connection_string: str) -> str:
    return dict(part.split("=") for part in connection_string.split(";"))["Database"]


def test_ping_sql_server(sqlserver_table: str) -> None:
    done = cache("ping", "--connection-string", sqlserver_table)
    assert (done.returncode, done.stderr) == (0, "")
    assert "table:       dbo.Sessions exists\n" in done.stdout


# create-table


def test_create_table_once(postgres_database: str) -> None:
    options = ["--dialect", "postgres", "--connection-string", postgres_database, "--table", "Visits"]
    done = cache("create-table", *options)
    assert done.returncode == 0
    assert done.stdout == "The table public.Visits is made.\nThe table public.DataProtectionKeys is made.\n"
    done = cache("create-table", *options)
    assert done.returncode == 1
    assert "public.Visits exists already" in done.stderr


def test_create_table_adds_the_key_ring_to_a_table_of_microsofts_tool(postgres_database: str) -> None:
    options = ["--connection-string", postgres_database]
    assert cache("create-table", *options).returncode == 0
    postgres_server.shared_server().execute('DROP TABLE "DataProtectionKeys"', database=name_of(postgres_database))
    done = cache("create-table", *options)
    assert done.returncode == 0
    assert done.stdout == (
        "The table public.Sessions exists already, and is left as it is.\n"
        "The table public.DataProtectionKeys is made.\n"
    )


def test_create_table_needs_a_place() -> None:
    done = cache("create-table")
    assert done.returncode == 2
    assert "--connection-string" in done.stderr


def test_a_connection_string_that_cannot_be_understood_is_not_shown() -> None:
    done = cache("create-table", "--dialect", "postgres", "--connection-string", "Host=x;Password=secret;Colour=red")
    assert done.returncode == 1
    assert "Part 3 of the connection string" in done.stderr
    assert "colour" not in done.stderr.lower()
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--schema", "dbo"], ["[dbo].[Sessions]", "datetimeoffset", "nvarchar(449)"]),
        (["--schema", "app", "--table", "Visits"], ["[app].[Visits]"]),
        (["--dialect", "postgres"], ['"public"."Sessions"', "BEGIN;", "COMMIT;"]),
    ],
)
def test_the_script_is_printed(options: list[str], parts: list[str]) -> None:
    done = cache("create-table", "--script", *options)
    assert (done.returncode, done.stderr) == (0, "")
    for part in parts:
        assert part.lower() in done.stdout.lower()


def test_the_printed_script_makes_the_table(postgres_database: str) -> None:
    made = cache("create-table", "--script", "--dialect", "postgres").stdout
    database = name_of(postgres_database)
    for statement in made.split(";\n"):
        if statement.strip() and statement not in ("BEGIN", "COMMIT"):
            postgres_server.shared_server().execute(statement, database=database)
    done = cache("ping", "--dialect", "postgres", "--connection-string", postgres_database)
    assert done.returncode == 0, done.stderr
