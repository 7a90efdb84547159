"""Real processes over one folder."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kestrun_py

ROUNDS = 5

# For each folder given: waits for a line, writes a cookie with its own ring, and reads the cookie given next.
NODE = """
import asyncio, sys
from kestrun_py.data_protection import CookieProtector, FileXmlRepository, KeyRing

async def main():
    print("ready", flush=True)
    for line in sys.stdin:
        ring = KeyRing(FileXmlRepository(line.strip()), application_name="app")
        protector = CookieProtector(ring)
        print(await protector.write("382c74c3-721d-4f34-80e5-57657b6cbc27"), flush=True)
        print(await protector.read(sys.stdin.readline().strip()), flush=True)
        await ring.close()

asyncio.run(main())
"""


class Node:
    def __init__(self) -> None:
        root = str(Path(kestrun_py.__file__).parents[1])
        self.process = subprocess.Popen(
            [sys.executable, "-c", NODE],
            env=os.environ | {"PYTHONPATH": root},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.communicate(timeout=30)
        assert self.process.returncode == 0


@pytest.fixture
def nodes() -> Iterator[list[Node]]:
    nodes = [Node(), Node()]
    yield nodes
    for node in nodes:
        node.end()


def test_two_processes_that_start_at_once_share_one_key(nodes: list[Node], tmp_path: Path) -> None:
    assert [node.hear() for node in nodes] == ["ready", "ready"]
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        for node in nodes:
            node.tell(str(folder))
        cookies = [node.hear() for node in nodes]
        for node, cookie in zip(nodes, reversed(cookies), strict=True):
            node.tell(cookie)
        assert [node.hear() for node in nodes] == ["382c74c3-721d-4f34-80e5-57657b6cbc27"] * 2
        assert len(list(folder.glob("key-*.xml"))) == 1
        assert list(folder.glob("*.tmp")) == []
