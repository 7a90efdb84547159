"""The naming rule, from PowerShell's spelling to Python's."""

from __future__ import annotations

import pytest

from kestrun_py.conversion.names import cmdlet_name, host_verb_name, parameter_name


@pytest.mark.parametrize(
    ("cmdlet", "function"),
    [
        ("Add-KrSession", "add_kr_session"),
        ("Add-KrDistributedSqlServerCache", "add_kr_distributed_sqlserver_cache"),
        ("Get-KrSessionInt32", "get_kr_session_int32"),
        ("Add-KrOpenApiInfo", "add_kr_openapi_info"),
        ("Add-KrJWTBearerAuthentication", "add_kr_jwt_bearer_authentication"),
        ("Add-KrOAuth2Authentication", "add_kr_oauth2_authentication"),
        ("Add-KrGitHubAuthentication", "add_kr_github_authentication"),
        ("Send-KrSignalREvent", "send_kr_signalr_event"),
        ("Set-KrPowerShellErrorResponse", "set_kr_powershell_error_response"),
        ("ConvertTo-KrBase64Url", "convert_to_kr_base64_url"),
        ("NoDefault", "no_default"),
    ],
)
def test_a_cmdlet(cmdlet: str, function: str) -> None:
    assert cmdlet_name(cmdlet) == function


@pytest.mark.parametrize(
    ("parameter", "keyword"),
    [
        ("IdleTimeout", "idle_timeout"),
        ("-IdleTimeout", "idle_timeout"),
        ("IOTimeout", "io_timeout"),
        ("IPAddress", "ip_address"),
        ("HttpOnly", "http_only"),
        ("SameSite", "same_site"),
        ("CertPath", "cert_path"),
        ("X509Certificate", "x509_certificate"),
        ("XForwardedFor", "x_forwarded_for"),
        ("AllowSynchronousIO", "allow_synchronous_io"),
        ("ETag", "etag"),
        ("loggerConfig", "logger_config"),
        ("In", "in_"),
        ("Global", "global_"),
    ],
)
def test_a_parameter(parameter: str, keyword: str) -> None:
    assert parameter_name(parameter) == keyword


def test_a_verb_of_the_host_has_no_prefix() -> None:
    assert host_verb_name("add_kr_distributed_redis_cache") == "add_distributed_redis_cache"
