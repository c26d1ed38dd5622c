"""Every code block of the documents is run by a test of this folder."""
import importlib
import pathlib

import pytest
import seed_documents

HERE = pathlib.Path(__file__).resolve().parent
BLOCKS = [
    block for document in seed_documents.DOCUMENTS for block in seed_documents.code_blocks(document)
]


@pytest.fixture(scope="module")
def covered():
    for path in sorted(HERE.glob("test_seed_*.py")):
        importlib.import_module(path.stem)
    return seed_documents.COVERED


def test_every_document_is_read():
    stored = sorted(path.stem for path in seed_documents.FOLDER.glob("*.md"))
    assert stored == sorted(seed_documents.DOCUMENTS)
    # Each opening and each closing fence belongs to a block.
    for document in seed_documents.DOCUMENTS:
        lines = seed_documents.text_of(document).splitlines()
        fences = sum(line.startswith("```") for line in lines)
        assert fences == 2 * sum(block.document == document for block in BLOCKS) > 0


@pytest.mark.parametrize("block", BLOCKS, ids=[block.id for block in BLOCKS])
def test_a_test_runs_the_block(block, covered):
    assert (block.document, block.line) in covered


def test_what_is_covered_must_be_there_and_a_test():
    with pytest.raises(ValueError, match="no block at line 1"):
        seed_documents.covers("003", 1)
    with pytest.raises(ValueError, match="is no test"):
        seed_documents.covers("003", 58)(helper)


def helper():
    """Not collected by pytest."""
