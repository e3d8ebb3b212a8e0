"""A folder's images: found in order, remembered, and found anew once the folder changes."""

import os
import time

import pytest

from cnnbench.data import file_index
from cnnbench.data.file_index import find_images


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Five images in three directories, which changed a minute ago; any folder is worth remembering."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(file_index, "WORTH_REMEMBERING", 1)
    root = tmp_path / "images"
    for name in ("b/2.jpg", "b/10.JPEG", "b/deep/0.png", "a/ä.webp", "a/1.jpg", "a/notes.txt", "a/.1.jpg", ".x/1.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    settle(root)
    return root


def settle(root):
    for directory in (root, *(path for path in root.rglob("*") if path.is_dir())):
        os.utime(directory, (time.time() - 60,) * 2)


def names(root):
    return [str(path.relative_to(root)) for path in find_images(root)]


FOUND = ["a/1.jpg", "a/ä.webp", "b/10.JPEG", "b/2.jpg", "b/deep/0.png"]


@pytest.fixture
def no_search(monkeypatch):
    def walk(*args, **kwargs):
        raise AssertionError("the folder was searched")

    return lambda: monkeypatch.setattr(os, "walk", walk)


def test_images_are_in_order_and_know_their_directory(folder):
    files = find_images(folder)
    assert [str(path.relative_to(folder)) for path in files] == FOUND
    assert files.first_directory().tolist() == ["a", "a", "b", "b", "b"]
    part = files.subset([4, 0])
    assert [path.name for path in part] == ["0.png", "1.jpg"]
    assert part.first_directory().tolist() == ["b", "a"]
    assert part.subset([1])[0] == folder / "a/1.jpg"


def test_a_folder_is_searched_once(folder, no_search):
    assert names(folder) == FOUND
    no_search()
    assert names(folder) == FOUND


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "new directory", "directory gone"])
def test_a_folder_that_changed_is_searched_again(folder, change):
    assert names(folder) == FOUND
    if change == "added":
        (folder / "b/deep/1.png").touch()
    elif change == "removed":
        (folder / "a/1.jpg").unlink()
    elif change == "renamed":
        (folder / "b/2.jpg").rename(folder / "b/3.jpg")
    elif change == "new directory":
        (folder / "b/new").mkdir()
        (folder / "b/new/0.jpg").touch()
    else:
        (folder / "b/deep/0.png").unlink()
        (folder / "b/deep").rmdir()
    expected = sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.suffix.lower() in file_index.EXTENSIONS and "/." not in f"/{path.relative_to(folder)}"
    )
    assert sorted(names(folder)) == expected != FOUND


def test_a_folder_that_may_still_change_is_not_remembered(folder, tmp_path):
    (folder / "a/2.jpg").touch()
    assert len(names(folder)) == 6
    assert not list((tmp_path / "cache").rglob("*.json"))


def test_a_folder_that_changes_while_it_is_searched_is_not_remembered(folder, tmp_path, monkeypatch):
    """The search may have passed the directory before, and take long after."""
    ten_seconds_ago, walk = time.time() - 10, os.walk

    def walk_for_long(*args, **kwargs):
        monkeypatch.setattr(time, "time", lambda: ten_seconds_ago + 10)
        os.utime(folder / "b", (ten_seconds_ago + 1,) * 2)
        return walk(*args, **kwargs)

    monkeypatch.setattr(time, "time", lambda: ten_seconds_ago)
    monkeypatch.setattr(os, "walk", walk_for_long)
    assert names(folder) == FOUND
    assert not list((tmp_path / "cache").rglob("*.json"))


@pytest.mark.parametrize("harm", ["", "{", "[]", '{"format": 1}'])
def test_a_damaged_index_is_not_believed(folder, tmp_path, harm):
    assert names(folder) == FOUND
    (index,) = (tmp_path / "cache").rglob("*.json")
    index.write_text(harm)
    assert names(folder) == FOUND


def test_two_folders_do_not_share_an_index(folder, tmp_path):
    names(folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/1.jpg").touch()
    assert names(tmp_path / "other") == ["1.jpg"]


def test_without_a_place_to_remember_a_folder_is_read_all_the_same(folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert names(folder) == FOUND
