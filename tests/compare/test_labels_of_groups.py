"""The names of groups: the keys in which they differ, as a user would type them."""

from kdlab.compare.labels import fixed, labels


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


def test_what_follows_from_a_choice_that_is_named_is_left_out():
    same = {"strategy": "offline", "losses": "kd", "data": "digits", "data.mixing.alpha": 1, "mixing": "mixup"}
    small = {**same, "student": "cnn", "student.width": 8, "student.depth": 2}
    other = {**same, "student": "resnet", "student.stages": 3}
    unmixed = {**small, "mixing": "none", "data.mixing.alpha": None}
    assert fixed([small, small], [other]) == ["student=cnn"]
    assert fixed([small, small], [other, unmixed]) == ["mixing=mixup", "student=cnn"]
    # another group with the same choice: the choice alone would not tell them apart
    assert fixed([small, small], [other, {**small, "student.width": 16}]) == ["student=cnn", "student.width=8"]
    assert fixed([small, small], [{**small, "student.width": 16}]) == ["student.width=8"]
