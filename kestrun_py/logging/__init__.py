"""Logging: Serilog's levels, templates, sinks and named loggers, on structlog.

What is logged runs through a structlog processor chain; a logger may also stand in front of any structlog
logger of the user's own (`Logger`).
"""

from kestrun_py.logging.configuration import LoggerConfiguration
from kestrun_py.logging.events import Formatter, LogEvent, output_formatter
from kestrun_py.logging.files import FILE_SIZE_LIMIT, FILE_TEMPLATE, FileSink, RollingInterval, RollingIntervalText
from kestrun_py.logging.levels import LogLevel, LogLevelText
from kestrun_py.logging.logger import Logger
from kestrun_py.logging.registry import (
    close_all_loggers,
    close_logger,
    default_logger,
    get_logger,
    loggers_for,
    register_logger,
    registered_loggers,
    set_default_logger,
)
from kestrun_py.logging.sinks import CONSOLE_TEMPLATE, ConsoleSink, Sink

__all__ = [
    "CONSOLE_TEMPLATE",
    "FILE_SIZE_LIMIT",
    "FILE_TEMPLATE",
    "ConsoleSink",
    "FileSink",
    "Formatter",
    "LogEvent",
    "LogLevel",
    "LogLevelText",
    "Logger",
    "LoggerConfiguration",
    "RollingInterval",
    "RollingIntervalText",
    "Sink",
    "close_all_loggers",
    "close_logger",
    "default_logger",
    "get_logger",
    "loggers_for",
    "output_formatter",
    "register_logger",
    "registered_loggers",
    "set_default_logger",
]
