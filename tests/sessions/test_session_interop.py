"""A session that an ASP.NET Core host began: its cookie, its key ring and its blob, by the known vectors."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from session_support import COOKIE, RecordingCache, Site, Sites, as_async_def

from kestrun_py import KestrunHost
from kestrun_py.caching import Expiration
from kestrun_py.sessions import blob

KEY = """<?xml version="1.0" encoding="utf-8"?>
<key id="{key_id}" version="1">
  <creationDate>{created}</creationDate>
  <activationDate>{created}</activationDate>
  <expirationDate>{expires}</expirationDate>
  <descriptor deserializerType="{deserializer}">
    <descriptor>
      <encryption algorithm="{algorithm}" />
      <validation algorithm="HMACSHA256" />
      <masterKey p4:requiresEncryption="true" xmlns:p4="http://schemas.asp.net/2015/03/dataProtection">
        <value>{master_key}</value>
      </masterKey>
    </descriptor>
  </descriptor>
</key>"""

DESERIALIZER = (
    "Microsoft.AspNetCore.DataProtection.AuthenticatedEncryption.ConfigurationModel."
    "AuthenticatedEncryptorDescriptorDeserializer, Microsoft.AspNetCore.DataProtection"
)


async def serve(sites: Sites, folder: Path, known: dict[str, Any], algorithm: str) -> Site:
    """A host with the vectors' key, and the vectors' session in its cache."""
    now = datetime.now(UTC)
    text = KEY.format(
        key_id=known["key_id"],
        created=(now - timedelta(days=3)).isoformat(),
        expires=(now + timedelta(days=60)).isoformat(),
        deserializer=DESERIALIZER,
        algorithm=algorithm,
        master_key=base64.b64encode(bytes.fromhex(known["master_key_hex"])).decode(),
    )
    folder.joinpath(f"key-{known['key_id']}.xml").write_text(text)

    def configure(host: KestrunHost) -> None:
        host.add_data_protection(application_name=known["purposes"][0], folder=folder)

    routes = {
        "/get": as_async_def(lambda session: [session.get_string("Key"), session.id]),
        "/set": as_async_def(lambda session: session.set_string("Key", "Other")),
    }
    return await sites.serve(routes, cache=RecordingCache(), configure=configure)


@pytest.mark.parametrize("kind", ["cookie_cbc", "cookie_gcm"])
@pytest.mark.parametrize("escaped", [True, False])
async def test_a_session_that_aspnet_has_started(
    sites: Sites, tmp_path: Path, vectors: dict[str, Any], kind: str, escaped: bool
) -> None:
    known = vectors["cookie_cbc"]
    algorithm = "AES_256_CBC" if kind == "cookie_cbc" else "AES_256_GCM"
    value = vectors[kind]["cookie_value"]
    cookie = value.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D") if escaped else value
    if escaped and kind == "cookie_cbc":
        assert cookie == known["cookie_value_escaped"]
    stored = bytes.fromhex(vectors["session_blobs"]["Key=Value"])
    session_id = vectors["session_blobs"]["session_id"]

    site = await serve(sites, tmp_path, known, algorithm)
    await site.cache.store(known["session_key"], stored, Expiration(1200))
    answer = await site.get("/get", cookie)
    assert answer.text == f'{{"result":["Value","{session_id}"]}}'
    assert answer.set_cookie == []
    assert set(site.cache.keys) == {known["session_key"]}

    answer = await site.get("/set", cookie)
    assert answer.set_cookie == []
    assert site.cache.entries[known["session_key"]] == stored.replace(b"Value", b"Other")
    assert not site.log.alarms


async def test_a_session_started_here_looks_the_same(sites: Sites, tmp_path: Path, vectors: dict[str, Any]) -> None:
    known = vectors["cookie_cbc"]
    site = await serve(sites, tmp_path, known, "AES_256_CBC")
    answer = await site.get("/set")
    [header] = answer.set_cookie
    assert header.startswith(f"{COOKIE}=CfDJ8DMiEQBVRHdmiJmqu8zd7v")  # the magic and the vectors' key id
    [(key, stored)] = site.cache.entries.items()
    assert len(key) == 36
    assert key == key.lower()
    assert [len(part) for part in key.split("-")] == [8, 4, 4, 4, 12]
    session_id, values = blob.decode(stored)
    assert values == {"Key": b"Other"}
    template = bytes.fromhex(vectors["session_blobs"]["Key=Value"]).replace(b"Value", b"Other")
    assert stored == template[:4] + session_id + template[20:]
