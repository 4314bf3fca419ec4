"""What the cache has is known by what it was made of, and by nothing else."""

from __future__ import annotations

from pathlib import Path

from lab.cache import tree_key


def test_a_module_that_was_imported_is_the_same_as_before(tmp_path: Path) -> None:
    (tmp_path / "sbom.py").write_text("pass\n")
    before = tree_key(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/sbom.cpython-311.pyc").write_bytes(b"bytecode")
    assert tree_key(tmp_path) == before
    (tmp_path / "sbom.py").write_text("changed\n")
    assert tree_key(tmp_path) != before
