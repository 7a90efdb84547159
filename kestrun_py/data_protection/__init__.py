"""ASP.NET Core's data protection: a ring of keys that several hosts share, and what is protected with it.

Start with `KeyRing`; `CookieProtector` is what the sessions use of it.
"""

from kestrun_py.data_protection.cookie_protector import CookieProtector
from kestrun_py.data_protection.key_folder import FileXmlRepository, default_key_folder, open_default_repository
from kestrun_py.data_protection.key_ring import KeyRing
from kestrun_py.data_protection.protector import DataProtector
from kestrun_py.data_protection.repositories import MemoryXmlRepository, StoredElement, XmlRepository

__all__ = [
    "CookieProtector",
    "DataProtector",
    "FileXmlRepository",
    "KeyRing",
    "MemoryXmlRepository",
    "StoredElement",
    "XmlRepository",
    "default_key_folder",
    "open_default_repository",
]
