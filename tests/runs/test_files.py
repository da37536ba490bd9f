"""Files are whole or absent."""

import os

import pytest

from kdlab.runs.files import content_hash, link, write_atomically, write_text


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")

    def torn(temporary):
        temporary.write_text("ne")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        write_atomically(path, torn)
    assert path.read_text() == "old" and [found.name for found in tmp_path.iterdir()] == ["file"]


def test_the_old_file_is_replaced_and_not_written_over(tmp_path):
    """Who is reading it then, or has a link to it, still has the whole of the old one."""
    path, linked = tmp_path / "file", tmp_path / "linked"
    write_text(path, "the old content")
    os.link(path, linked)
    write_text(path, "new")
    assert path.read_text() == "new" and linked.read_text() == "the old content"


def test_link_survives_the_replacement_of_its_source(tmp_path):
    """best.ckpt keeps its content when last.ckpt is written anew."""
    last, best = tmp_path / "last", tmp_path / "best"
    write_text(last, "epoch 1")
    link(last, best)
    write_text(last, "epoch 2")
    assert best.read_text() == "epoch 1"


def test_content_hash_of_a_folder_knows_names_and_contents(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    for folder, name in ((first, "x"), (second, "y")):
        folder.mkdir()
        (folder / name).write_text("same")
    assert content_hash(first) != content_hash(second)
    (second / "y").rename(second / "x")
    assert content_hash(first) == content_hash(second)


def test_a_full_disk_names_the_file_of_a_checkpoint(tmp_path):
    """torch alone would say that it is at an unexpected position."""
    resource = pytest.importorskip("resource")
    import torch

    from kdlab.runs.checkpoints import AtomicCheckpointIO

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        with pytest.raises(OSError, match="last.ckpt"):
            AtomicCheckpointIO().save_checkpoint({"x": torch.zeros(5000)}, tmp_path / "last.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
