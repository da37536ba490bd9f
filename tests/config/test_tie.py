"""The weight of ce, tied by what the files of the chosen terms state."""

import pytest

from kdlab.cli.main import main
from kdlab.config.check import check
from kdlab.config.compose import compose
from kdlab.errors import InputError


def weights(*overrides):
    return {name: node["weight"] for name, node in compose(overrides)["loss"].items()}


@pytest.mark.parametrize(
    "losses, expected",
    [
        ("[ce,kd]", 0.1),
        ("[ce,kd_standardised]", 0.1),
        ("[ce,ctkd]", 0.1),
        ("[ce,multi_level]", 0.1),
        ("[ce,hard_kd]", 0.5),
        ("[ce,virtual_teacher]", 0.9),
        ("[ce,kd_standardised,ctkd]", 0.1),
        ("[ce,kd,kd_standardised]", 0.1),
        ("[ce,kd,attention]", 0.1),
        ("[ce,dkd]", 1.0),
        ("[ce,dkd_standardised]", 1.0),
        ("[ce,dist]", 1.0),
        ("[ce,simkd]", 1.0),
        ("[ce]", 1.0),
    ],
)
def test_ce_has_the_weight_that_its_neighbours_authors_give_it(losses, expected):
    assert weights(f"loss={losses}")["ce"] == pytest.approx(expected)


def test_the_file_states_it_and_the_composed_config_does_not():
    """So the hash of a run is that of the same numbers, however they came to be."""
    config = compose(["loss=[ce,kd,kd_standardised]"])
    assert all("with_ce" not in node for node in config["loss"].values())
    assert config["loss"] == compose(["loss=[ce,kd,kd_standardised]", "loss.ce.weight=0.1"])["loss"]


def test_a_number_breaks_the_tie():
    assert weights("loss=[ce,kd_standardised]", "loss.ce.weight=1")["ce"] == 1
    assert weights("loss=[ce,kd,hard_kd]", "loss.ce.weight=0.4") == {"ce": 0.4, "kd": 0.9, "hard_kd": 0.5}
    assert weights("strategy=cs_kd", "loss=[ce,kd_standardised]")["ce"] == 1.0  # the strategy's own


def test_the_tie_follows_the_weight_of_kd():
    assert weights("loss=[ce,kd,hard_kd]", "loss.kd.weight=0.5")["ce"] == 0.5  # both state one half
    assert weights("loss=[ce,kd_standardised]", "loss.kd_standardised.weight=3")["ce"] == 0.1


@pytest.mark.parametrize(
    "losses, words",
    [
        ("[ce,kd,hard_kd]", "kd: 0.1, hard_kd: 0.5"),
        ("[ce,ctkd,hard_kd]", "ctkd: 0.1, hard_kd: 0.5"),
        ("[ce,multi_level,virtual_teacher]", "multi_level: 0.1, virtual_teacher: 0.9"),
    ],
)
def test_two_terms_that_state_different_weights_are_refused(losses, words):
    with pytest.raises(InputError, match="loss.ce.weight: the terms state different weights") as error:
        compose([f"loss={losses}"])
    assert words in str(error.value)
    cure = str(error.value).rpartition("for example ")[2]
    check(compose([f"loss={losses}", cure]))


def test_without_ce_nothing_is_tied():
    assert weights("loss=[kd,hard_kd]") == {"kd": 0.9, "hard_kd": 0.5}


def test_a_wrong_weight_is_named_by_its_own_key():
    with pytest.raises(InputError, match="loss.kd.weight must be a finite number, got 'abc'") as error:
        check(compose(["loss=[ce,kd,ctkd]", "loss.kd.weight=abc"]))
    assert len(error.value.problems) == 1


def test_a_loss_of_ones_own_states_it_too(workplace, capsys):
    (workplace / "conf" / "loss").mkdir(parents=True)
    (workplace / "conf" / "loss" / "mine.yaml").write_text(
        "mine:\n  _target_: kdlab.losses.HintonKD\n  weight: 2.0\n  with_ce: 0.25\n  temperature: 3.0\n"
    )
    assert (
        main(
            [
                "train",
                "--config-dir",
                "conf",
                "loss=[ce,mine]",
                "trainer.max_epochs=1",
                "data.fraction=0.1",
                "progress=none",
            ]
        )
        == 0
    )
    capsys.readouterr()
    assert main(["runs", "show", str(next((workplace / "runs" / "quickstart").glob("offline-ce+mine*")))]) == 0
    assert "0.25" in capsys.readouterr().out
