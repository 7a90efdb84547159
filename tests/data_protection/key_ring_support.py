"""What the data protection tests share: a clock that stands still, a log and a store to look into."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from kestrun_py.data_protection import MemoryXmlRepository, StoredElement

START = datetime(2030, 1, 1, tzinfo=UTC)

DESERIALIZER = (
    "Microsoft.AspNetCore.DataProtection.AuthenticatedEncryption.ConfigurationModel."
    "AuthenticatedEncryptorDescriptorDeserializer, Microsoft.AspNetCore.DataProtection, Version=2.0.0.0, "
    "Culture=neutral, PublicKeyToken=adb9793829ddae60"
)


def key_xml(
    key_id: UUID | str,
    *,
    master_key: bytes = bytes(range(64)),
    encryption: str = "AES_256_CBC",
    validation: str = '<validation algorithm="HMACSHA256" />',
    created: datetime = START,
    activated: datetime | None = None,
    expires: datetime | None = None,
    deserializer: str = DESERIALIZER,
) -> str:
    """A key as ASP.NET Core writes it into a file."""
    until = expires or created + timedelta(days=90)
    return f"""<?xml version="1.0" encoding="utf-8"?>
<key id="{key_id}" version="1">
  <creationDate>{created.isoformat().replace("+00:00", "Z")}</creationDate>
  <activationDate>{(activated or created).isoformat().replace("+00:00", "Z")}</activationDate>
  <expirationDate>{until.isoformat().replace("+00:00", "Z")}</expirationDate>
  <descriptor deserializerType="{deserializer}">
    <descriptor>
      <encryption algorithm="{encryption}" />
      {validation}
      <masterKey p4:requiresEncryption="true" xmlns:p4="http://schemas.asp.net/2015/03/dataProtection">
        <!-- Warning: not encrypted. -->
        <value>{base64.b64encode(master_key).decode()}</value>
      </masterKey>
    </descriptor>
  </descriptor>
</key>"""


def revocation_xml(target: UUID | str, date: datetime) -> str:
    return (
        f'<revocation version="1"><revocationDate>{date.isoformat()}</revocationDate>'
        f'<!-- why --><key id="{target}" /><reason>lost</reason></revocation>'
    )


def stored(*texts: str) -> list[StoredElement]:
    """The texts as a store returns them."""
    return [StoredElement(f"element {number}", text) for number, text in enumerate(texts, 1)]


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> float:
        return self.time.timestamp()

    def advance(self, **amount: float) -> None:
        self.time += timedelta(**amount)


class Log(Any):  # type: ignore[misc] # stands for a Logger
    """Keeps what is logged as (level, rendered text)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.tracebacks: list[BaseException] = []

    def __getattr__(self, level: str) -> Any:
        def write(template: str, *values: object, exception: BaseException | None = None) -> None:
            text = " | ".join([template, *map(str, values)])
            if exception is not None:
                self.tracebacks.append(exception)
            self.lines.append((level, text if exception is None else f"{text} | {exception}"))

        return write

    def texts(self, level: str) -> list[str]:
        return [text for at, text in self.lines if at == level]


class Store(MemoryXmlRepository):
    """A store that counts how often it is read and can be made to fail."""

    def __init__(self, *elements: str) -> None:
        super().__init__()
        self._elements.extend(elements)
        self.reads = 0
        self.broken: Exception | None = None
        self.read_only: Exception | None = None

    @property
    def elements(self) -> list[str]:
        return self._elements

    async def read_all(self) -> list[StoredElement]:
        self.reads += 1
        if self.broken is not None:
            raise self.broken
        return await super().read_all()

    async def append(self, xml: str, friendly_name: str, expected: int) -> bool:
        if self.read_only is not None:
            raise self.read_only
        return await super().append(xml, friendly_name, expected)
