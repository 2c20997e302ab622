"""The two runtimes: the same results, and faults that come back as data."""

import numpy as np
import pytest
import ray

from models.backend import Image
from tools import place
from tools.arrays import ArrayHandle, MemoryStore, handle_of
from tools.execute import CallRequest, CallResult, ImageHandle
from tools.ray_runtime import RayRuntime
from tools.registry import DEFAULT_BACKENDS
from tools.runtime import LocalRuntime


def request(image: Image, tool: str, args: dict, inputs=None, call: str = "$1") -> CallRequest:
    return CallRequest(
        call=call,
        tool=tool,
        args=args,
        image=ImageHandle(pixels=handle_of(image.rgb), mpp=image.mpp),
        inputs=inputs or {},
        backends=DEFAULT_BACKENDS.get(tool, ()),
    )


def store_with(image: Image) -> MemoryStore:
    store = MemoryStore()
    store.put(image.rgb)
    return store


def plain(result: CallResult) -> dict:
    return result.model_dump(exclude={"seconds", "attempts", "device", "threads"})


def chain(runtime, image: Image) -> list[tuple[dict, dict]]:
    """A region, the nuclei in it, their boxes and figures: results and arrays."""
    store = store_with(image)
    region = runtime.execute(request(image, "segment", {"target": "dermis"}), store)
    within = {"within": ("segment", region.output)}
    count = request(image, "count_nuclei", {"within": "$1"}, within, "$2")
    nuclei = runtime.execute(count, store)
    source = {"source": ("count_nuclei", nuclei.output)}
    boxes = request(image, "extract_boxes", {"source": "$2"}, source, "$3")
    figures = request(image, "measure", {"source": "$2"}, source, "$4")
    check = request(image, "check_image", {}, call="check")
    tissue = request(image, "classify_tissue", {"expected": "skin"}, call="$5")
    rest = [runtime.execute(item, store) for item in (boxes, figures, check, tissue)]
    return [(plain(result), store.arrays) for result in (region, nuclei, *rest)]


def test_both_runtimes_give_the_same(skin, ray_runtime) -> None:
    local, remote = chain(LocalRuntime(), skin), chain(ray_runtime, skin)
    for (here, arrays_here), (there, arrays_there) in zip(local, remote, strict=True):
        assert here["error"] is None
        assert here == there
        assert arrays_here.keys() == arrays_there.keys()


def test_a_result_tells_where_it_was_computed(skin, ray_runtime) -> None:
    here, there = (
        runtime.execute(request(skin, "check_image", {}), store_with(skin))
        for runtime in (LocalRuntime(), ray_runtime)
    )
    assert (here.device, here.threads) == (place.device(), place.threads())
    assert (there.device, there.threads) == ("cpu", 1)  # a worker's, not this process's


def test_keys_are_of_content_and_not_of_names(skin) -> None:
    runtime, store = LocalRuntime(), store_with(skin)
    first = runtime.execute(request(skin, "segment", {"target": "dermis"}), store)
    named = request(skin, "segment", {"target": "dermis"}, call="$7")
    assert runtime.execute(named, store).key == first.key
    other = Image(np.ascontiguousarray(skin.rgb[::-1]), skin.mpp)
    store.put(other.rgb)
    assert runtime.execute(request(other, "segment", {"target": "dermis"}), store).key != first.key


@pytest.mark.parametrize("runtime", ["local", "ray"])
def test_what_is_missing_is_an_error_value(skin, ray_runtime, runtime) -> None:
    chosen = LocalRuntime() if runtime == "local" else ray_runtime
    unseen = Image(np.ascontiguousarray(skin.rgb[:, ::-1]), skin.mpp)
    lost = chosen.execute(request(unseen, "segment", {"target": "dermis"}), MemoryStore())
    assert lost.error is not None
    assert lost.error.code == "no_input"
    unknown = request(skin, "segment", {"target": "flux capacitor"})
    result = chosen.execute(unknown, store_with(skin))
    assert result.error is not None
    assert (result.error.code, result.error.missing) == ("outside_vocabulary", "flux capacitor")
    wrong = chosen.execute(request(skin, "segment", {"target": ""}), store_with(skin))
    assert wrong.error is not None
    assert wrong.error.code == "bad_input"


def test_a_call_over_its_time_is_stopped_and_the_worker_made_anew(skin, ray_cluster) -> None:
    runtime = RayRuntime(workers=1, timeout_s=0.001)
    result = runtime.execute(request(skin, "check_image", {}), store_with(skin))
    assert result.error is not None
    assert result.error.code == "timeout"
    runtime._timeout_s = 120
    again = runtime.execute(request(skin, "check_image", {}), store_with(skin))
    assert again.error is None
    runtime.close()


def test_a_lost_worker_is_retried_once(skin, ray_cluster) -> None:
    runtime = RayRuntime(workers=1, timeout_s=120)
    ray.kill(runtime._slots[0].actor)
    result = runtime.execute(request(skin, "check_image", {}), store_with(skin))
    assert (result.error, result.attempts) == (None, 2)
    runtime.close()


def test_arrays_from_workers_are_what_their_handles_say(skin, ray_runtime) -> None:
    store = store_with(skin)
    result = ray_runtime.execute(request(skin, "count_nuclei", {}), store)
    assert result.output is not None
    handle = ArrayHandle.model_validate(result.output["mask"])
    assert handle_of(store.get(handle.digest)) == handle
