"""``kdlab cache``: list, build, verify, prune."""

import re

RUN = ["trainer.max_epochs=2", "data.augment.flip=0.5", 'teacher.overrides=["trainer.max_epochs=3"]', "progress=none"]


def test_build_list_verify_prune(kdlab, workplace):
    assert kdlab("cache")[1].startswith("there are no kept answers below runs")
    code, out, err = kdlab("cache", "build", *RUN)
    assert code == 0, err
    (folder,) = (workplace / "runs" / ".cache").iterdir()
    assert out.strip().splitlines()[-1] == str(folder.relative_to(workplace))
    assert "2 passes over the training samples" in out and not (workplace / "runs" / "quickstart").exists()
    code, out, _ = kdlab("cache", "list")
    assert code == 0 and re.search(rf"{folder.name} +views +3 +0\.1\d MB", out)
    code, out, _ = kdlab("cache", "verify", "--live", *RUN)
    assert code == 0 and "3 files, all as they were written" in out and "at most 0.0e+00 from the live teacher" in out
    (file,) = folder.glob("train-e1-v0.logits.*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    code, out, _ = kdlab("cache", "verify")
    assert code == 1 and "3 files, 1 damaged" in out and f"{file.relative_to(workplace)} is damaged" in out
    cure = re.search(r"remove it with: kdlab (.*)", out)[1].split()
    code, out, _ = kdlab("cache", "prune")
    assert code == 0 and "would remove" in out and folder.is_dir()
    code, out, _ = kdlab(*cure)
    assert code == 0 and out.startswith("removed runs/.cache/") and not folder.exists()


def test_bad_input(kdlab, workplace):
    for arguments, message in (
        (["build", "teacher=none", "strategy=supervised"], "teacher: this run has none"),
        (["build", "mixing=mixup"], "teacher.cache: data.mixing mixes the images of a batch"),
        (["build", "teacher.cache=live"], "teacher.cache=live keeps nothing; choose fixed, views, replicas or auto"),
        (["build", "loss=[ce]"], "no term of the loss learns from the teacher"),
        (["verify", "runs"], "runs is no folder of kept answers; kdlab cache list shows them"),
        (["verify", "--live", *RUN], "is not trained, so nothing of it can be kept"),
        (["prune", "."], ". is no folder of kept answers"),
        (["nothing"], None),
    ):
        code, _, err = kdlab("cache", *arguments)
        if message is None:
            assert code == 0  # the folder of runs to list
        else:
            assert code == 2 and message in err, (arguments, err)
    assert not (workplace / "runs").exists()
