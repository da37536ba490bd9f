"""The names of groups: the keys in which they differ, as a user would type them."""

from kdlab.compare.labels import labels


def test_a_config_in_place_of_nothing_is_named_by_its_own_keys():
    """One group has student.initial.of=null, the other a model there."""
    same = {"strategy": "offline", "losses": "ce+kd"}
    model = {"student.initial.of._target_": "kdlab.models.TextEncoder", "student.initial.of.pretrained": "data/MiniLM"}
    groups = [
        {**same, "loss.kd.temperature": 1, "student.initial.of": None},
        {**same, "loss.kd.temperature": 1, **model},
        {**same, "loss.kd.temperature": 4, "student.initial.of": None},
        {**same, "loss.kd.temperature": 4, **model},
    ]
    assert labels(groups) == [
        "offline ce+kd  kd.temperature=1  student.initial.of=None",
        "offline ce+kd  kd.temperature=1  student.initial.of.pretrained=data/MiniLM",
        "offline ce+kd  kd.temperature=4  student.initial.of=None",
        "offline ce+kd  kd.temperature=4  student.initial.of.pretrained=data/MiniLM",
    ]


def test_a_class_is_named_where_nothing_else_differs():
    one, other = ({"strategy": "offline", "losses": "kd", "student.x._target_": name} for name in ("A", "B"))
    assert labels([one, other]) == ["offline kd  student.x._target_=A", "offline kd  student.x._target_=B"]


def test_a_key_that_one_group_has_alone():
    one, other = {"strategy": "offline", "losses": "kd", "student.x": 1}, {"strategy": "offline", "losses": "kd"}
    assert labels([one, other]) == ["offline kd  student.x=1", "offline kd  student.x=-"]
