"""What was unpacked for restores: whole after any loss of power, and never taken from a reader."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.agent.storage.conftest import MakeDeep
from tests.unit.builders import make_archive
from tryitnow.agent.storage.generations import (
    CHECKPOINTED_VOLUMES,
    Generation,
    GenerationStore,
    belongs_to,
    image_tag,
)
from tryitnow.agent.storage.unpack import CHECKPOINT, DEV_SHM, HOSTS

STEM = "default_shop_0123"
SHA256 = make_archive().sha256


@pytest.fixture
def store(tmp_path: Path) -> GenerationStore:
    store = GenerationStore(tmp_path / "data")
    store.open()
    return store


def begin(store: GenerationStore) -> Path:
    """Unpack an archive, without finishing it."""
    unfinished = store.begin(STEM)
    images = unfinished / "shop" / CHECKPOINT
    images.mkdir(parents=True)
    (images / "inventory.img").write_bytes(b"inventory")
    (images / "pages-1.img").write_bytes(bytes(5000))
    (unfinished / "shop" / DEV_SHM).write_bytes(b"a tar")
    (unfinished / "shop" / HOSTS).write_text("192.0.2.1 partner\n")
    data = unfinished / CHECKPOINTED_VOLUMES / "data"
    data.mkdir(parents=True)
    (data / "file").write_text("content")
    return unfinished


def make(store: GenerationStore, sha256: str = SHA256) -> Generation:
    return store.finish(begin(store), sha256, {"shop": "image"})


def reopened(store: GenerationStore) -> GenerationStore:
    """The store as the next agent finds it."""
    again = GenerationStore(store.directory)
    again.open()
    return again


# -- leases ---------------------------------------------------------------------------------------


def test_what_nobody_uses_can_go_at_once(store: GenerationStore) -> None:
    reported: list[str] = []
    make(store).when_unused(lambda: reported.append("unused"))
    assert reported == ["unused"]


def test_what_is_used_goes_with_the_last_lease(store: GenerationStore) -> None:
    generation, reported = make(store), list[str]()
    with generation.leased():
        generation.acquire()
        generation.when_unused(lambda: reported.append("unused"))
        generation.release()
        assert reported == []
    assert reported == ["unused"]
    assert generation.leases == 0


def test_a_lease_ends_with_its_block_whatever_happens_in_it(store: GenerationStore) -> None:
    generation = make(store)
    with pytest.raises(ValueError, match="broken"), generation.leased():
        raise ValueError("broken")
    assert generation.leases == 0


def test_it_goes_once_although_a_late_reader_comes_and_leaves(store: GenerationStore) -> None:
    generation, reported = make(store), list[str]()
    with generation.leased():
        generation.when_unused(lambda: reported.append("unused"))
    with generation.leased():
        pass
    assert reported == ["unused"]


def test_everybody_who_waits_for_its_end_is_reported(store: GenerationStore) -> None:
    generation, reported = make(store), list[str]()
    with generation.leased():
        generation.when_unused(lambda: reported.append("first"))
        generation.when_unused(lambda: reported.append("second"))
    assert reported == ["first", "second"]


def test_two_generations_are_never_the_same(store: GenerationStore) -> None:
    first, second = make(store), make(store)
    assert first != second
    assert (first.number, second.number) == (1, 2)
    assert first.directory != second.directory


# -- found again ----------------------------------------------------------------------------------


def test_the_next_agent_finds_the_newest_of_that_archive(store: GenerationStore) -> None:
    make(store)
    newest = make(store)
    make(store, "f" * 64)
    found = reopened(store).find(STEM, SHA256)
    assert found is not None
    assert found.directory == newest.directory
    assert found.images == {"shop": "image"}
    assert found.fingerprint == newest.fingerprint
    assert found.is_intact()


def test_of_another_archive_nothing_is_found(store: GenerationStore) -> None:
    make(store)
    assert store.find(STEM, "f" * 64) is None
    assert store.find("default_other_0123", SHA256) is None


def test_what_was_not_finished_is_cleared_at_the_start(store: GenerationStore) -> None:
    kept = make(store)
    unfinished, scratch = begin(store), store.scratch("shop")
    (scratch / "half").touch()
    again = reopened(store)
    assert not unfinished.exists()
    assert not scratch.exists()
    assert again.find(STEM, SHA256) is not None
    assert again.others(STEM, None) == [kept.directory]


def test_a_crash_before_the_mark_leaves_nothing_that_is_used(store: GenerationStore) -> None:
    older, newer = make(store), make(store)
    (newer.directory / "generation.json").unlink()
    found = reopened(store).find(STEM, SHA256)
    assert found is not None
    assert found.directory == older.directory
    assert store.others(STEM, found) == [newer.directory], "and it is known as a leftover"


def test_a_crash_in_a_removal_leaves_nothing_that_is_used(store: GenerationStore) -> None:
    generation = make(store)
    (generation.directory / "shop" / CHECKPOINT / "pages-1.img").unlink()
    assert reopened(store).find(STEM, SHA256) is None


@pytest.mark.parametrize("mark", ["", "{", "[]", "{}", "null", '{"archive_sha256": 1}'])
def test_a_mark_that_cannot_be_read_is_none(store: GenerationStore, mark: str) -> None:
    generation = make(store)
    (generation.directory / "generation.json").write_text(mark)
    assert store.find(STEM, SHA256) is None


def test_numbers_are_not_used_twice_while_one_of_them_lies_here(store: GenerationStore) -> None:
    first, second = make(store), make(store)
    store.remove(first.directory)
    assert make(store).number == second.number + 1


def test_an_unfinished_one_has_its_number(store: GenerationStore) -> None:
    unfinished = begin(store)
    assert store.number_of(unfinished) == 1
    other = store.begin(STEM)
    assert store.number_of(other) == 2
    store.abandon(unfinished)
    store.abandon(unfinished)
    assert not unfinished.exists()


# -- the fingerprint ------------------------------------------------------------------------------


def change_content(generation: Generation) -> None:
    path = generation.directory / "shop" / CHECKPOINT / "pages-1.img"
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def take_away(generation: Generation) -> None:
    (generation.directory / "shop" / CHECKPOINT / "inventory.img").unlink()


def add(generation: Generation) -> None:
    (generation.directory / CHECKPOINTED_VOLUMES / "data/new").touch()


def rename(generation: Generation) -> None:
    path = generation.directory / CHECKPOINTED_VOLUMES / "data/file"
    path.rename(path.with_name("other"))


def change_mode(generation: Generation) -> None:
    (generation.directory / CHECKPOINTED_VOLUMES / "data/file").chmod(0o600)


@pytest.mark.parametrize("touch", [change_content, take_away, add, rename, change_mode])
def test_whatever_was_touched_is_not_used(store: GenerationStore, touch: object) -> None:
    generation = make(store)
    assert generation.is_intact()
    assert callable(touch)
    touch(generation)
    assert not generation.is_intact()
    assert store.find(STEM, SHA256) is None


def test_reading_it_and_linking_to_it_touches_nothing(
    store: GenerationStore, tmp_path: Path
) -> None:
    generation = make(store)
    generation.link_images("shop", tmp_path)
    assert (tmp_path / CHECKPOINT / "pages-1.img").read_bytes() == bytes(5000)
    assert (tmp_path / DEV_SHM).read_bytes() == b"a tar"
    assert generation.is_intact()


def test_a_name_that_is_no_utf_8_is_a_name(store: GenerationStore) -> None:
    unfinished = begin(store)
    odd = unfinished / CHECKPOINTED_VOLUMES / "data" / os.fsdecode(b"caf\xe9.jpg")
    odd.write_text("a photo")
    generation = store.finish(unfinished, SHA256, {"shop": "image"})
    assert store.find(STEM, SHA256) is not None
    data = generation.directory / CHECKPOINTED_VOLUMES / "data"
    (data / odd.name).rename(data / os.fsdecode(b"caf\xe8.jpg"))
    assert store.find(STEM, SHA256) is None


def test_a_line_end_in_a_name_hides_nothing(store: GenerationStore) -> None:
    unfinished = begin(store)
    (unfinished / CHECKPOINTED_VOLUMES / "data" / "two\nlines").touch()
    generation = store.finish(unfinished, SHA256, {})
    (generation.directory / CHECKPOINTED_VOLUMES / "data" / "two\nlines").unlink()
    assert not generation.is_intact()


def test_a_link_is_not_followed(store: GenerationStore, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    unfinished = begin(store)
    (unfinished / CHECKPOINTED_VOLUMES / "data/link").symlink_to(tmp_path / "elsewhere")
    generation = store.finish(unfinished, SHA256, {})
    (tmp_path / "elsewhere/new").touch()
    assert generation.is_intact()


def test_a_tree_of_many_levels_is_like_any_other(
    store: GenerationStore, make_deep: MakeDeep
) -> None:
    unfinished = begin(store)
    make_deep(unfinished / CHECKPOINTED_VOLUMES / "data/tree")
    generation = store.finish(unfinished, SHA256, {"shop": "image"})
    assert store.find(STEM, SHA256) is not None
    make_deep(begin(store) / "shop/tree")
    make_deep(store.scratch("shop") / "tree")
    again = reopened(store)
    again.remove(generation.directory)
    assert not generation.directory.exists()
    abandoned, left = begin(store), begin(store)
    for each in (abandoned, left):
        make_deep(each / "shop/tree")
    store.abandon(abandoned)
    store.remove_all(STEM)
    assert store.stems() == set()


# -- what a restore takes from it -----------------------------------------------------------------


def test_the_memory_of_a_demo_is_the_size_of_its_pages(store: GenerationStore) -> None:
    assert make(store).memory_bytes() == 5000


def test_the_disk_of_a_demo_is_what_copies_of_its_volumes_take(store: GenerationStore) -> None:
    unfinished = begin(store)
    (unfinished / CHECKPOINTED_VOLUMES / "data" / "large").write_bytes(bytes(100_000))
    made = store.finish(unfinished, SHA256, {})
    assert 100_000 <= made.disk_bytes <= 200_000
    found = reopened(store).find(STEM, SHA256)
    assert found is not None
    assert found.disk_bytes == made.disk_bytes


def test_hosts_are_those_at_the_checkpoint(store: GenerationStore) -> None:
    generation = make(store)
    assert generation.hosts_of("shop") == "192.0.2.1 partner\n"
    assert generation.hosts_of("database") == ""


def test_without_shared_memory_there_is_no_link_to_it(
    store: GenerationStore, tmp_path: Path
) -> None:
    unfinished = begin(store)
    (unfinished / "shop" / DEV_SHM).unlink()
    store.finish(unfinished, SHA256, {}).link_images("shop", tmp_path)
    assert not (tmp_path / DEV_SHM).is_symlink()


def test_a_link_of_that_name_is_an_error_of_the_disk(
    store: GenerationStore, tmp_path: Path
) -> None:
    generation = make(store)
    generation.link_images("shop", tmp_path)
    with pytest.raises(OSError, match="exists"):
        generation.link_images("shop", tmp_path)


# -- removed --------------------------------------------------------------------------------------


def test_removing_takes_one_and_leaves_the_others(store: GenerationStore) -> None:
    first, second = make(store), make(store)
    store.remove(first.directory)
    store.remove(first.directory)
    found = store.find(STEM, SHA256)
    assert found is not None
    assert found.directory == second.directory
    store.remove(second.directory)
    assert store.stems() == set()


def test_removing_all_leaves_other_archives(store: GenerationStore) -> None:
    make(store)
    begin(store)
    other = store.finish(store.begin("default_other_0123"), SHA256, {})
    store.remove_all(STEM)
    store.remove_all(STEM)
    assert store.stems() == {"default_other_0123"}
    assert other.directory.exists()


def test_images_are_reported_by_their_archive() -> None:
    tag = image_tag(SHA256, 7, "shop")
    assert belongs_to(tag, SHA256)
    assert not belongs_to(tag, "f" * 64)
    assert len(tag) <= 128, "a tag has no more (OCI distribution specification)"
    assert image_tag(SHA256, 7, "shop") != image_tag(SHA256, 8, "shop")
