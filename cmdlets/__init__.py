"""Kestrun's cmdlets as Python functions: ``Verb-KrNoun -ParamName value`` is ``verb_kr_noun(param_name=value)``.

A host script begins with ``from cmdlets import *``.
"""

# ruff: noqa: F403, F405 - this module is made of the others by scripts/make_cmdlets.py

from cmdlets.caches import *
from cmdlets.certificates import *
from cmdlets.cookies import *
from cmdlets.helpers import *
from cmdlets.logging import *
from cmdlets.middleware import *
from cmdlets.requests import *
from cmdlets.responses import *
from cmdlets.routes import *
from cmdlets.server import *
from cmdlets.sessions import *

# Written out, because type checkers do not add up the modules' lists.
__all__ = [
    "abandon_kr_session",
    "add_kr_cache_response",
    "add_kr_data_protection",
    "add_kr_distributed_postgres_cache",
    "add_kr_distributed_redis_cache",
    "add_kr_distributed_sqlserver_cache",
    "add_kr_endpoint",
    "add_kr_forwarded_header",
    "add_kr_listen_unix_socket",
    "add_kr_map_route",
    "add_kr_session",
    "add_kr_sink_console",
    "add_kr_sink_file",
    "clear_kr_session",
    "close_kr_logger",
    "convert_from_kr_jwk_json_to_certificate",
    "convert_from_kr_yaml",
    "convert_to_kr_jwk_json",
    "convert_to_kr_yaml",
    "enable_kr_configuration",
    "expand_kr_object",
    "export_kr_certificate",
    "get_kr_certificate_purpose",
    "get_kr_context",
    "get_kr_jwk_thumbprint",
    "get_kr_request_body",
    "get_kr_request_cookie",
    "get_kr_request_header",
    "get_kr_request_query",
    "get_kr_request_route_param",
    "get_kr_root",
    "get_kr_server",
    "get_kr_session_byte",
    "get_kr_session_id",
    "get_kr_session_int32",
    "get_kr_session_json",
    "get_kr_session_string",
    "import_kr_certificate",
    "initialize_kr_root",
    "new_kr_certificate_request",
    "new_kr_cookie_builder",
    "new_kr_logger",
    "new_kr_private_key_jwt",
    "new_kr_self_signed_certificate",
    "new_kr_server",
    "register_kr_logger",
    "remove_kr_server",
    "remove_kr_session",
    "renew_kr_session",
    "resolve_kr_path",
    "set_kr_logger_level",
    "set_kr_server_options",
    "set_kr_session_byte",
    "set_kr_session_int32",
    "set_kr_session_json",
    "set_kr_session_string",
    "start_kr_server",
    "stop_kr_server",
    "test_kr_cache_revalidation",
    "test_kr_certificate",
    "write_kr_binary_response",
    "write_kr_bson_response",
    "write_kr_cbor_response",
    "write_kr_csv_response",
    "write_kr_error_response",
    "write_kr_file_response",
    "write_kr_form_url_encoded_response",
    "write_kr_html_response",
    "write_kr_json_response",
    "write_kr_log",
    "write_kr_redirect_response",
    "write_kr_response",
    "write_kr_status_response",
    "write_kr_stream_response",
    "write_kr_text_response",
    "write_kr_xml_response",
    "write_kr_yaml_response",
]
