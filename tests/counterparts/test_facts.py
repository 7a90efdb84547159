"""What the package knows of Kestrun's cmdlets."""

from __future__ import annotations

import pytest

from kestrun_py.counterparts import Cmdlet, Parameter, find_cmdlet, kestrun_cmdlets


def cmdlet(name: str) -> Cmdlet:
    found = find_cmdlet(name)
    assert found is not None
    return found


def parameter(name: str, of: str) -> Parameter:
    found = cmdlet(of).find_parameter(name)
    assert found is not None
    return found


def test_all_cmdlets_and_parameters_of_the_module_are_there() -> None:
    parameters = [each for one in kestrun_cmdlets().values() for each in one.parameters.values()]
    assert len(kestrun_cmdlets()) == 242
    assert len([each for each in parameters if each.reported]) == 1297


def test_no_two_of_them_get_one_name_here() -> None:
    functions = [one.function for one in kestrun_cmdlets().values()]
    assert len(set(functions)) == len(functions)
    for one in kestrun_cmdlets().values():
        keywords = [each.keyword for each in one.parameters.values()]
        assert len(set(keywords)) == len(keywords), one.name


@pytest.mark.parametrize("name", ["Add-KrSession", "add-krsession", "add_kr_session", "AddKrSession"])
def test_a_cmdlet_is_found_in_every_spelling(name: str) -> None:
    assert cmdlet(name).name == "Add-KrSession"


def test_an_alias_finds_its_cmdlet() -> None:
    assert cmdlet("ScriptBlock").name == "Add-KrScriptBlock"


def test_a_name_that_no_cmdlet_has() -> None:
    assert find_cmdlet("Add-KrNothing") is None
    assert cmdlet("Add-KrSession").find_parameter("Nothing") is None


@pytest.mark.parametrize("name", ["Pattern", "-Pattern", "pattern", "Path"])
def test_a_parameter_is_found_by_name_and_alias(name: str) -> None:
    assert parameter(name, of="Add-KrMapRoute").name == "Pattern"


def test_what_is_known_of_a_parameter() -> None:
    block = parameter("ScriptBlock", of="Add-KrMapRoute")
    assert block.type == "ScriptBlock"
    assert block.sets["ScriptBlock"].mandatory
    assert block.sets["ScriptBlock"].position == 0
    assert not block.is_switch
    assert parameter("AllowAnonymous", of="Add-KrMapRoute").is_switch
    assert parameter("DuplicateAction", of="Add-KrMapRoute").values == ("Throw", "Skip", "Allow", "Warn")
    assert parameter("LoggerConfig", of="Add-KrSinkConsole").sets[""].pipeline
