"""What was composed before is used again: the result is Hydra's own, and a changed file is seen."""

from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from kdlab.config import parsed, remembered
from kdlab.config.compose import VERSION_BASE, compose, composing_within_hydra, register_resolvers
from kdlab.config.paths import conf_dir
from kdlab.errors import InputError

OVERRIDES = [
    ["loss.kd.temperature=8"],
    ["loss.kd.temperature=2", "seed=3", "loss.kd.temperature=5"],
    ["loss=[ce,dkd]", "loss.dkd.beta=2", "optimizer.lr=0.5", "trainer.max_epochs=3"],
    ["strategy=supervised", "student=cnn", "seed=2"],
    ["+loss.gap={_target_: my_losses.Gap, weight: 0.5}", "seed=2"],
    ["~loss.kd", "seed=2"],
    ["+student@strategy.peers.wide=mlp_wide", "strategy=online", "seed=2"],
    ["student=cnn", "seed=2", "student.widths=[8,16]", "name='a,b'"],
    ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5", "seed=4"],
    ["hydra.job.chdir=true", "seed=4"],
    ["experiment=hinton2015/three_percent", "seed=4", "+trainer.deterministic=true", "paths.runs=elsewhere"],
]


def composed(overrides: list[str], folder: Path, remember: bool):
    """The composition of Hydra in a folder, with or without what was composed before."""
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folder), version_base=VERSION_BASE):
            if remember:
                remembered.remember(GlobalHydra.instance().config_loader())
            return hydra_compose("train", overrides, return_hydra_config=True)
    finally:
        GlobalHydra.instance().clear()


@pytest.mark.parametrize("overrides", OVERRIDES, ids=" ".join)
def test_a_composition_of_known_choices_is_that_of_hydra(overrides):
    register_resolvers()
    expected = composed(overrides, conf_dir(), remember=False)
    first, second = (composed(overrides, conf_dir(), remember=True) for _ in range(2))
    for found in (first, second):
        assert OmegaConf.to_container(found, resolve=False) == OmegaConf.to_container(expected, resolve=False)
        assert list(found) == list(expected) and list(found.loss) == list(expected.loss)
        for key in ("", "hydra", "loss", "trainer"):  # the same keys can be added or changed
            one, other = (OmegaConf.select(config, key) if key else config for config in (found, expected))
            assert OmegaConf.is_struct(one) == OmegaConf.is_struct(other)
            assert OmegaConf.is_readonly(one) == OmegaConf.is_readonly(other)


def test_changes_do_not_compose_again(monkeypatch):
    compose(["seed=1", "loss.kd.temperature=2"])
    kept, files = len(remembered._kept), len(parsed._parsed)
    monkeypatch.setattr(
        "hydra._internal.config_loader_impl.create_defaults_list", lambda **_: pytest.fail("it is composed again")
    )
    config = compose(["seed=7", "loss.kd.temperature=3.5"])
    assert (config["seed"], config["loss"]["kd"]["temperature"]) == (7, 3.5)
    assert config["overrides"] == ["seed=7", "loss.kd.temperature=3.5"]
    assert (len(remembered._kept), len(parsed._parsed)) == (kept, files)


def test_what_a_caller_changes_in_its_config_stays_with_it():
    overrides = ["loss=[ce,kd]", "seed=5"]
    compose(overrides)["loss"]["kd"]["temperature"] = 99
    assert compose(overrides)["loss"]["kd"]["temperature"] == 4


@pytest.mark.parametrize("choice", [True, False], ids=["choice", "change"])
def test_a_file_that_changed_is_read_again(tmp_path, choice):
    (tmp_path / "data").mkdir()
    (tmp_path / "train.yaml").write_text("defaults: [_self_, {data: small}]\nseed: 1\n")
    (tmp_path / "data" / "small.yaml").write_text("rows: 10\n")
    (tmp_path / "data" / "large.yaml").write_text("rows: 50\n")
    overrides = ["data=small", *([] if choice else ["seed=2"])]
    assert composed(overrides, tmp_path, remember=True).data.rows == 10
    (tmp_path / "data" / "small.yaml").write_text("rows: 20\n")
    assert composed(overrides, tmp_path, remember=True).data.rows == 20
    (tmp_path / "train.yaml").write_text("defaults: [_self_, {data: small}]\nseed: 1\nadded: 7\n")
    assert composed(overrides, tmp_path, remember=True).added == 7
    assert composed(["data=large", *overrides[1:]], tmp_path, remember=True).data.rows == 50


def test_a_new_folder_may_make_a_group_of_a_key(tmp_path):
    (tmp_path / "train.yaml").write_text("defaults: [_self_]\ndata: {rows: 1}\nseed: 1\n")
    assert composed(["data=small", "seed=2"], tmp_path, remember=True).data == "small"
    (tmp_path / "data").mkdir()
    with pytest.raises(Exception, match="Could not override 'data'"):
        composed(["data=small", "seed=2"], tmp_path, remember=True)


def test_too_many_files_are_not_looked_at(tmp_path, monkeypatch):
    (tmp_path / "train.yaml").write_text("seed: 1\n")
    monkeypatch.setattr(remembered, "MOST_FILES", 0)
    before = dict(remembered._kept)
    assert composed(["seed=2"], tmp_path, remember=True).seed == 2
    assert remembered._kept == before


@pytest.mark.parametrize(
    "overrides",
    [["loss.kd.temprature=2"], ["student=nothing", "seed=1"], ["seed=1,2"], ["seed=[1", "name=a"], ["+seed=3"]],
    ids=" ".join,
)  # fmt: skip
def test_errors_are_those_of_hydra(overrides, monkeypatch):
    for others in (["seed=1"], ["loss.kd.temperature=2"]):
        compose(others)
    with pytest.raises(InputError) as found:
        compose(overrides)
    monkeypatch.setattr("kdlab.config.compose.remember", lambda loader: None)
    with pytest.raises(InputError) as expected:
        compose(overrides)
    assert str(found.value) == str(expected.value)


def test_the_working_directory_is_that_of_the_moment(tmp_path, monkeypatch):
    composed(["seed=1"], conf_dir(), remember=True)
    monkeypatch.chdir(tmp_path)
    assert composed(["seed=2"], conf_dir(), remember=True).hydra.runtime.cwd == str(tmp_path)


def test_a_sweep_within_hydra_uses_it(monkeypatch):
    with initialize_config_dir(str(conf_dir()), version_base=VERSION_BASE), composing_within_hydra():
        remembered.remember(GlobalHydra.instance().config_loader())
        remembered.remember(GlobalHydra.instance().config_loader())  # twice is the same as once
        compose(["seed=1"])
        monkeypatch.setattr(
            "hydra._internal.config_loader_impl.create_defaults_list", lambda **_: pytest.fail("it is composed again")
        )
        assert compose(["seed=2"])["seed"] == 2


def test_a_config_without_a_file_is_composed_each_time():
    store = ConfigStore.instance()
    before = dict(store.repo)
    try:
        for width in (8, 16):
            store.store(group="student", name="stored", node={"_target_": "kdlab.models.MLP", "hidden": [width]})
            assert compose(["student=stored", "seed=3"])["student"]["hidden"] == [width]
    finally:
        store.repo = before
