"""Arrays by handle: the digest is of the content, and a store gives back what it took."""

import gzip
import hashlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.backend import array_digest
from tools.arrays import DiskStore, MemoryStore, handle_of, handles_in
from tools.errors import BadInput

arrays = hnp.arrays(
    dtype=st.sampled_from([np.uint8, np.int32, np.float32, np.bool_]),
    shape=hnp.array_shapes(max_dims=3, max_side=6),
)


def test_digest_is_sha256_over_dtype_shape_and_bytes() -> None:
    array = np.array([[1, 2], [3, 4]], np.int32)
    assert array_digest(array) == hashlib.sha256(b"<i4|2,2|" + array.tobytes()).hexdigest()
    assert array_digest(array) != array_digest(array.reshape(4))
    assert array_digest(array) != array_digest(array.astype(np.uint32))
    assert array_digest(array.T) == array_digest(np.ascontiguousarray(array.T))


@given(array=arrays)
def test_a_disk_store_gives_back_what_it_took(array, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("blobs")
    handle = DiskStore(folder).put(array)
    again = DiskStore(folder).get(handle.digest)
    np.testing.assert_array_equal(again, array)
    assert again.dtype == array.dtype
    assert not again.flags.writeable


def test_a_changed_blob_is_refused(tmp_path) -> None:
    store = DiskStore(tmp_path)
    right, wrong = store.put(np.zeros(3)), store.put(np.ones(3))
    files = {path.name.split(".")[0]: path for path in tmp_path.iterdir()}
    files[right.digest].write_bytes(files[wrong.digest].read_bytes())
    with pytest.raises(BadInput, match="changed after it was written"):
        DiskStore(tmp_path).get(right.digest)
    files[right.digest].write_bytes(b"\x1f\x8b garbage")
    with pytest.raises(BadInput, match="damaged"):
        DiskStore(tmp_path).get(right.digest)


def test_the_memory_of_a_disk_store_is_bounded(tmp_path) -> None:
    store = DiskStore(tmp_path, keep_bytes=1000)
    handles = [store.put(np.full(100, value)) for value in range(5)]
    assert len(store._recent) == 1
    assert [int(store.get(handle.digest)[0]) for handle in handles] == [0, 1, 2, 3, 4]


def test_handles_are_found_wherever_they_are() -> None:
    first, second = handle_of(np.zeros(2)), handle_of(np.ones(2))
    plain = {"a": [first.model_dump(mode="json"), 3], "b": {"c": second.model_dump(mode="json")}}
    assert list(handles_in(plain)) == [first, second]


def test_an_unknown_digest_is_a_key_error(tmp_path) -> None:
    for store in (MemoryStore(), DiskStore(tmp_path)):
        with pytest.raises(KeyError):
            store.get("0" * 64)


def test_an_array_that_would_fill_the_memory_is_refused_by_its_header(tmp_path) -> None:
    store = DiskStore(tmp_path)
    header = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (2**20, 2**10)}
    np.lib.format.write_array_header_1_0(header, shape)
    with gzip.open(tmp_path / f"{'0' * 64}.npy.gz", "wb") as file:
        file.write(header.getvalue())
    with pytest.raises(BadInput, match="it has more than"):
        store.get("0" * 64)
