"""What became of each of Kestrun's cmdlets and parameters here, and what to say about one that is not here."""

from kestrun_py.counterparts.facts import Cmdlet, Parameter, ParameterSet, find_cmdlet, kestrun_cmdlets
from kestrun_py.counterparts.table import Counterpart, ParameterCounterpart, State, counterparts

__all__ = [
    "Cmdlet",
    "Counterpart",
    "Parameter",
    "ParameterCounterpart",
    "ParameterSet",
    "State",
    "counterparts",
    "find_cmdlet",
    "kestrun_cmdlets",
]
