"""kestrun_py: Kestrun's web host and client sessions for Python, on aiohttp."""

__version__ = "0.1.0"
