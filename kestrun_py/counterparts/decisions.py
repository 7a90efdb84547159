"""What the table of counterparts cannot find out by itself.

A key is a family, a cmdlet (``Add-KrSession``), a parameter of one cmdlet (``Add-KrSession -Cookie``), or a parameter
of all cmdlets that have it (``* -PassThru``). The narrowest key counts. A test refuses entries that have become untrue.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["INSTEAD", "NOT_MEANT", "OTHER_NAMES"]

# What exists here under a name that the naming rule does not give: a function, or a keyword.
OTHER_NAMES: Final[Mapping[str, str]] = {}

_NAMED_PIPES = "named pipes are a part of Windows; use add_kr_listen_unix_socket"
_NO_SERVICE_HOST = "a Python host is installed as a wheel, and systemd runs it as a service"

# What will have no counterpart, and why.
NOT_MEANT: Final[Mapping[str, str]] = {
    "* -PassThru": "a definition always returns the host, or what -PassThru would return",
    "* -ExtraImports": "a script imports what it uses",
    "* -ExtraRefs": "a script imports what it uses",
    "* -FormatProvider": "values are formatted without a culture",
    "Add-KrEnrichErrorRecord": "an exception carries what PowerShell keeps in an error record",
    "Add-KrNamedPipeListener": _NAMED_PIPES,
    "Add-KrPowerShellRazorPagesRuntime": "Razor pages are C#; use write_kr_html_response",
    "Add-KrRazorPageService": "Razor pages are C#; use write_kr_html_response",
    "Add-KrScriptBlock": "a function is a value in Python; define it and use its name",
    "Add-KrSinkEventLog": "the event log is a part of Windows; use add_kr_sink_file",
    "Add-KrSinkPowerShell": "it writes to PowerShell's streams; use add_kr_sink_console",
    "Add-KrWindowsAuthentication": "signing in with Windows accounts needs Windows; let a proxy in front do it",
    "Enable-KrConfiguration -ExcludeFunctions": "nothing is copied into runspaces",
    "Enable-KrConfiguration -ExcludeVariables": "nothing is copied into runspaces",
    "Get-KrServiceDescriptor": _NO_SERVICE_HOST,
    "New-KrServer -DisablePowershellMiddleware": "there is no PowerShell to leave out",
    "New-KrServiceDescriptor": _NO_SERVICE_HOST,
    "New-KrServicePackage": _NO_SERVICE_HOST,
    "NoDefault": "a parameter of a Python function without a default has none",
    "Set-KrPythonRuntime": "the host is Python itself",
    "Set-KrServerNamedPipeOptions": _NAMED_PIPES,
    "Set-KrServerOptions -DisableStringReuse": "it is an optimisation of .NET's memory",
    "Set-KrServiceDescriptor": _NO_SERVICE_HOST,
    "Write-KrLog -ErrorRecord": "pass the exception: exception=error",
    "Write-KrLog -PassThru": "write_kr_log returns nothing; write the text with an f-string",
}

_MIDDLEWARE = "use get_kr_server().use(...) with an aiohttp middleware"
_MODULE_VARIABLE = "use a variable of the script's module, guarded by a threading.Lock"
_OWN_DOCUMENT = "answer with a document of your own from a route"
_OWN_RESPONSE = "return an aiohttp response from the route's function"

# What to use until a counterpart is here.
INSTEAD: Final[Mapping[str, str]] = {
    "Authentication": f"{_MIDDLEWARE} that checks the request",
    "ClaimPolicy": "check the user in the route's function",
    "Cookies": f"{_OWN_RESPONSE} with set_cookie",
    "Form": "use get_kr_request_body, which reads forms",
    "Health": "answer with write_kr_json_response from a route",
    "Helper": "use Python's standard library",
    "JWT": "use the joserfc package",
    "Localization": "use Python's gettext",
    "Locks": "use a threading.Lock",
    "Logging": "use add_kr_sink_console and add_kr_sink_file",
    "Middleware": _MIDDLEWARE,
    "OpenAPI": _OWN_DOCUMENT,
    "Request": "use get_kr_context().request",
    "Response": _OWN_RESPONSE,
    "Route": "use add_kr_map_route",
    "Runtime": "use Python's sys and platform",
    "Scheduling": "use the APScheduler package, or a thread of the script",
    "Server": "use add_kr_endpoint and set_kr_server_options",
    "SharedState": _MODULE_VARIABLE,
    "SignalR": "let the client ask a route again and again",
    "Sse": "return an aiohttp.web.StreamResponse that an async def has started",
    "Tasks": "use a thread or an asyncio task of the script",
    "Add-KrAntiforgeryTokenRoute": _MIDDLEWARE,
    "Add-KrApiDocumentationRoute": _OWN_DOCUMENT,
    "Add-KrEnrichProperty": "put the value into the message's template",
    "Add-KrFileServerMiddleware": "return an aiohttp.web.FileResponse from a route",
    "Add-KrFormRoute": "use add_kr_map_route and get_kr_request_body",
    "Add-KrHtmlTemplateRoute": "use add_kr_map_route and write_kr_html_response",
    "Add-KrOpenApiRoute": _OWN_DOCUMENT,
    "Add-KrStaticFilesMiddleware": "return an aiohttp.web.FileResponse from a route",
    "ConvertTo-KrBase64Url": "use base64.urlsafe_b64encode",
    "Get-KrDefaultLogger": "keep what register_kr_logger returns",
    "Get-KrEnvironment": "use get_kr_server().environment",
    "Get-KrVersion": "use kestrun_py.__version__",
    "Invoke-KrWebRequest": "use aiohttp.ClientSession or urllib.request",
    "Set-KrDefaultLogger": "use register_kr_logger(name, set_as_default=True)",
    "Set-KrEnvironment": "use new_kr_server(name, environment=...)",
    "Add-KrMapRoute -AuthorizationPolicy": "check the user in the route's function",
    "Add-KrMapRoute -AuthorizationScheme": "check the user in the route's function",
    "Add-KrMapRoute -CorsPolicy": _MIDDLEWARE,
    "Add-KrMapRoute -Options": "give the options as arguments",
    "Add-KrDistributedRedisCache -Options": "use configuration_options",
    "Add-KrDistributedSqlServerCache -Options": "give the options as arguments",
    "Set-KrServerOptions -DefaultUploadPath": "save the files in the route's function",
}
