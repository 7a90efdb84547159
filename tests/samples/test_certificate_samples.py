"""The samples with certificates: 6.1, 6.2, 6.3, 7.3."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from ports import free_port
from sample_process import new_client, run_sample


async def post(client: ClientSession, path: str, body: Any) -> tuple[int, Any]:
    async with client.post(path, json=body) as response:
        assert response.headers["Content-Type"] == "application/json; charset=utf-8"
        return response.status, await response.json()


async def test_self_signed() -> None:
    with run_sample("6_1_cert_self_signed.py", "--trust-root") as sample:
        async with new_client(f"https://127.0.0.1:{sample.port}") as client, client.get("/hello") as response:
            assert await response.text() == "hello https"
        assert sample.stop() == 0
        output = sample.output()
    assert "Development root: CN=Kestrun Development Root CA\nLeaf certificate: CN=localhost\n" in output
    assert "trust_root does not change" in output


async def test_signing_requests() -> None:
    with run_sample("6_2_cert_csr.py") as sample:
        async with new_client(f"http://127.0.0.1:{sample.port}") as client:
            status, answer = await post(client, "/certs/csr", {"DnsNames": "a.example", "Country": "US"})
            assert status == 200
            assert answer["csrPem"].startswith("-----BEGIN CERTIFICATE REQUEST-----\n")
            assert answer.keys() == {"csrPem", "privateKeyPem", "publicKeyPem"}
            for body, reason in [
                ({"DnsNames": ["a"], "KeyType": "Dsa"}, "key_type"),
                ({"DnsNames": ["a"], "KeyLength": "2048"}, "key_length"),
                ({"DnsNames": [1]}, "dns_names"),
                ({"DnsNames": ["a"], "Org": 5}, "org"),
                ({}, "DnsNames is missing"),
                ([], "must be a JSON object"),
            ]:
                status, answer = await post(client, "/certs/csr", body)
                assert (status, reason in answer["error"]) == (400, True), answer


async def test_import_and_export(tmp_path: Path) -> None:
    with run_sample("6_3_cert_import_export.py") as sample:
        async with new_client(f"http://127.0.0.1:{sample.port}") as client:
            path = str(tmp_path / "c")
            body = {"outPath": path, "outFormat": "Pfx", "includePrivateKey": True, "password": "p@ss"}
            assert await post(client, "/certs/export", body) == (
                200,
                {"exported": True, "path": path, "format": "Pfx"},
            )
            assert stat.S_IMODE((tmp_path / "c.pfx").stat().st_mode) == 0o600
            status, answer = await post(client, "/certs/import", {"filePath": f"{path}.pfx", "password": "p@ss"})
            assert status == 200
            assert answer.keys() == {"subject", "notAfter", "valid", "purposes"}
            assert (answer["subject"], answer["valid"]) == ("CN=temp.example.com", True)
            wrong: list[tuple[str, dict[str, object], str]] = [
                ("import", {"filePath": f"{path}.pfx", "password": "other"}, "the password opens"),
                ("import", {"filePath": path}, f"Certificate file not found at path: {path}"),
                ("import", {}, "not found"),
                ("export", {"outFormat": "Pfx"}, "outPath"),
                ("export", {"outPath": path, "outFormat": "Der"}, "format"),
            ]
            for route, request, reason in wrong:
                status, answer = await post(client, f"/certs/{route}", request)
                assert (status, reason in answer["error"]) == (400, True), answer


async def test_https() -> None:
    port = free_port(443)
    with run_sample("7_3_https.py", ports=[port, port + 443]) as sample:
        for scheme, one, path, text in [
            ("http", port, "/unsecure", "Unsecure hello"),
            ("https", port + 443, "/secure", "Secure hello"),
            ("http", port, "/secure", None),
            ("https", port + 443, "/unsecure", None),
        ]:
            async with new_client(f"{scheme}://127.0.0.1:{one}") as client, client.get(path) as response:
                assert response.status == (404 if text is None else 200)
                assert text is None or await response.text() == text
        assert sample.stop() == 0
