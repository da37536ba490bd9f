"""What a loss declares, and that a loss around another one forwards all of it."""

from dataclasses import fields

import pytest

from kdlab.losses import HintonKD, LogitMSE, Standardised
from kdlab.losses.base import Loss, Needs

#: of each declared attribute, a value that is not the default
OTHER = {
    bool: lambda default: not default,
    int: lambda default: default + 1,
    str: lambda default: "batch",
    tuple: lambda default: ("temperature",),
}


def declared() -> dict[str, object]:
    """The attributes that the base class declares for the authors of losses, with their defaults. Sparse targets are
    not forwarded: a loss around another one changes logits that it does not have then."""
    return {name: getattr(Loss, name) for name in Loss.__annotations__ if name not in ("function", "sparse")}


def test_every_declared_attribute_is_a_field():
    assert {one.name: one.default for one in fields(Needs)} == declared()
    assert len(declared()) >= 10 and Loss().needs == Needs()


def changed(name: str) -> Loss:
    loss, default = HintonKD(), declared()[name]
    setattr(loss, name, OTHER[type(default)](default))
    return loss


@pytest.mark.parametrize("name", sorted(declared()))
def test_a_loss_around_another_forwards_what_it_declares(name):
    inner = changed(name)
    outer = Standardised(inner)
    expected = {"fixed": ("loss.temperature",), "reads_logits": False}.get(name, getattr(inner, name))
    assert getattr(outer, name) == expected
    assert name == "reads_logits" or getattr(outer, name) != getattr(Standardised(HintonKD()), name)


@pytest.mark.parametrize("name", sorted(declared()))
def test_needs_are_taken_over_whole(name):
    taken = HintonKD()
    taken.declare(changed(name).needs)
    assert taken.needs == changed(name).needs != HintonKD().needs == Needs()


def test_a_loss_on_standardised_logits_does_not_read_the_logits_themselves():
    assert LogitMSE().reads_logits and not Standardised(LogitMSE()).reads_logits
