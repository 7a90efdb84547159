"""Kestrun's cmdlets as Python functions: ``Verb-KrNoun -ParamName value`` is ``verb_kr_noun(param_name=value)``.

A host script begins with ``from cmdlets import *``.
"""

# ruff: noqa: F403 - this module is made of the others

from cmdlets import _errors, caches, cookies, logging, requests, responses, routes, server, sessions
from cmdlets.caches import *
from cmdlets.cookies import *
from cmdlets.logging import *
from cmdlets.requests import *
from cmdlets.responses import *
from cmdlets.routes import *
from cmdlets.server import *
from cmdlets.sessions import *

__all__ = [
    *caches.__all__,
    *cookies.__all__,
    *logging.__all__,
    *requests.__all__,
    *responses.__all__,
    *routes.__all__,
    *server.__all__,
    *sessions.__all__,
]

_errors.show_errors_plainly()
