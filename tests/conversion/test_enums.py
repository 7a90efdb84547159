from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from kestrun_py.conversion.enums import enum_text, to_enum
from kestrun_py.errors import ArgumentError


class Policy(Enum):
    SAME_AS_REQUEST = 0
    ALWAYS = 1


@pytest.mark.parametrize(
    "value", [Policy.SAME_AS_REQUEST, "SameAsRequest", "sameasrequest", "SAME_AS_REQUEST", " sameAsRequest "]
)
def test_member_or_name_in_any_case(value: Any) -> None:
    assert to_enum(Policy, value, "secure_policy") is Policy.SAME_AS_REQUEST


@pytest.mark.parametrize("value", ["Sometimes", "", 1, None, True])
def test_anything_else_is_refused_with_the_list(value: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        to_enum(Policy, value, "secure_policy")
    assert str(caught.value) == f"secure_policy: {value!r} is not one of SameAsRequest, Always."


def test_text_is_the_name_of_dotnet() -> None:
    assert enum_text(Policy.SAME_AS_REQUEST) == "SameAsRequest"
