"""What a notebook calls."""

import kdlab


def test_quiet_prints_warnings_alone(workplace, taught, capsys):
    overrides = ["teacher=run", f"teacher.run={taught.path}", "data.split_seed=5", "trainer.max_epochs=1"]
    capsys.readouterr()
    run = kdlab.train(overrides, quiet=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and "warning: its data.split_seed differ" in lines[0]
    assert kdlab.train(overrides, quiet=True).path == run.path and capsys.readouterr().out == ""
    assert kdlab.train(overrides).path == run.path and "finished already" in capsys.readouterr().out
