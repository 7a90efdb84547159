"""The version of kestrun_py."""

__version__ = "0.1.0"
