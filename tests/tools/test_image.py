"""`tools.image`: every format as people have it, and one line for whatever is wrong."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from PIL import PngImagePlugin

from agent.samples import sample_path
from tools.errors import BadInput
from tools.image import MIN_SIDE, LoadedImage, read_image

DATA = Path(__file__).parents[1] / "data" / "skin-256.png"
RGB = np.asarray(PillowImage.open(DATA).convert("RGB"))[:96, :80].copy()
MPP_TAGS: dict[str, Any] = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}  # 0.5 µm


def pillow(image: PillowImage.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def tiff(array: np.ndarray = RGB, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **({"photometric": "rgb"} | options))
    return buffer.getvalue()


def pyramid(**options: Any) -> bytes:
    """Two levels in SubIFDs, or as pages where OpenSlide is to read them."""
    buffer = io.BytesIO()
    subifds = options.pop("subifds", 0)
    common: dict[str, Any] = {"photometric": "rgb", "tile": (16, 16), "metadata": None}
    common |= {"compression": "deflate"} | options
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(RGB, subifds=subifds, **common, **MPP_TAGS)
        writer.write(RGB[::2, ::2], subfiletype=1, **common)
    return buffer.getvalue()


def read(tmp_path: Path, data: bytes, name: str = "image", **options: Any) -> LoadedImage:
    path = tmp_path / name
    path.write_bytes(data)
    return read_image(path, **options)


def refused(tmp_path: Path, data: bytes, **options: Any) -> str:
    with pytest.raises(BadInput) as caught:
        read(tmp_path, data, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path) not in message
    return message


def distance(image: LoadedImage, expected: np.ndarray = RGB) -> int:
    return int(np.abs(image.image.rgb.astype(int) - expected.astype(int)).max())


# ---- pixels ------------------------------------------------------------------------------------

LOSSLESS: dict[str, Callable[[], bytes]] = {
    "png": lambda: pillow(PillowImage.fromarray(RGB), format="PNG"),
    "bmp": lambda: pillow(PillowImage.fromarray(RGB), format="BMP"),
    "webp": lambda: pillow(PillowImage.fromarray(RGB), format="WEBP", lossless=True),
    "jp2": lambda: pillow(PillowImage.fromarray(RGB), format="JPEG2000"),
    "ppm": lambda: pillow(PillowImage.fromarray(RGB), format="PPM"),
    "png16": lambda: imagecodecs.png_encode(RGB.astype(np.uint16) * 257),
    "tiff": tiff,
    "tiff-bigtiff": lambda: tiff(bigtiff=True),
    "tiff-big-endian": lambda: tiff(RGB.astype(np.uint16) * 257, byteorder=">"),
    "tiff-strips": lambda: tiff(compression="deflate", rowsperstrip=7),
    "tiff-lzw": lambda: tiff(compression="lzw", predictor=True),
    "tiff-tiles": lambda: tiff(compression="deflate", tile=(32, 48)),
    "tiff-planar": lambda: tiff(np.moveaxis(RGB, 2, 0), planarconfig="separate"),
    "tiff-planar-tiles": lambda: tiff(
        np.moveaxis(RGB, 2, 0), planarconfig="separate", tile=(32, 32), compression="zstd"
    ),
    "tiff-16": lambda: tiff(RGB.astype(np.uint16) * 257, compression="deflate"),
    "tiff-float-unit": lambda: tiff(RGB.astype(np.float32) / 255),
    "tiff-float-255": lambda: tiff(RGB.astype(np.float64), compression="deflate"),
    "tiff-channel-pages": lambda: tiff(
        np.moveaxis(RGB, 2, 0), ome=True, photometric="minisblack", metadata={"axes": "CYX"}
    ),
    "tiff-stack": lambda: tiff(np.stack([RGB, 255 - RGB])),
    "pyramid": pyramid,
    "pyramid-subifds": lambda: pyramid(subifds=1),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_keep_every_pixel_whole_and_in_part(tmp_path: Path, name: str) -> None:
    data = LOSSLESS[name]()
    whole = read(tmp_path, data, name)
    assert distance(whole) == 0
    assert whole.name == name
    part = read(tmp_path, data, name, region=(17, 30, 40, 51))
    assert part.image.rgb.flags.c_contiguous
    np.testing.assert_array_equal(part.image.rgb, RGB[30:81, 17:57])


def test_lossy_formats_come_close(tmp_path: Path) -> None:
    smooth = np.asarray(PillowImage.fromarray(RGB).resize((20, 24)).resize((80, 96)))
    picture = PillowImage.fromarray(smooth)
    for data in (
        pillow(picture, format="JPEG", quality=97, subsampling=0),
        pillow(picture, format="AVIF", quality=97, subsampling="4:4:4"),
        pillow(picture, format="WEBP", quality=100),
        tiff(smooth, compression="jpeg", compressionargs={"level": 97}, tile=(32, 32)),
    ):
        assert np.abs(read(tmp_path, data).image.rgb - smooth.astype(float)).mean() < 4


def test_grey_becomes_rgb(tmp_path: Path) -> None:
    grey = RGB[..., 1]
    expected = np.stack([grey] * 3, axis=-1)
    for data in (
        pillow(PillowImage.fromarray(grey), format="PNG"),
        tiff(grey, photometric="minisblack"),
        tiff(255 - grey, photometric="miniswhite"),
        imagecodecs.png_encode(grey.astype(np.uint16) * 257),
    ):
        assert distance(read(tmp_path, data), expected) == 0


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    bits = RGB[..., 1] > 128
    expected = np.stack([bits * np.uint8(255)] * 3, axis=-1)
    for data in (
        pillow(PillowImage.fromarray(bits), format="PNG"),
        pillow(PillowImage.fromarray(bits), format="TIFF", compression="group4"),
    ):
        assert distance(read(tmp_path, data), expected) == 0


def test_palettes_are_expanded(tmp_path: Path) -> None:
    palette = PillowImage.fromarray(RGB).quantize(32)
    expected = np.asarray(palette.convert("RGB"))
    for data in (pillow(palette, format=kind) for kind in ("PNG", "GIF", "TIFF", "BMP")):
        assert distance(read(tmp_path, data), expected) == 0


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    alpha = np.full(RGB.shape[:2], 255, np.uint8)
    alpha[:40] = 0
    alpha[40:60] = 51
    rgba = np.dstack([RGB, alpha])
    opacity = alpha[..., None] / 255
    expected = np.rint(RGB * opacity + 255 * (1 - opacity))
    multiplied = np.dstack([np.rint(RGB * opacity).astype(np.uint8), alpha])
    for data in (
        pillow(PillowImage.fromarray(rgba), format="PNG"),
        imagecodecs.png_encode(rgba.astype(np.uint16) * 257),
        tiff(rgba, extrasamples=["unassalpha"]),
        tiff(multiplied, extrasamples=["assocalpha"]),
    ):
        image = read(tmp_path, data)
        assert distance(image, expected) <= 1
        assert "transparency laid on white" in image.notes


def test_an_extra_sample_that_is_no_alpha_is_left_out(tmp_path: Path) -> None:
    extra = np.dstack([RGB, np.zeros(RGB.shape[:2], np.uint8)])
    assert distance(read(tmp_path, tiff(extra, extrasamples=["unspecified"]))) == 0


def test_cmyk_is_converted_and_said(tmp_path: Path) -> None:
    cmyk = np.asarray(PillowImage.fromarray(RGB).convert("CMYK"))
    image = read(tmp_path, tiff(cmyk, photometric="separated"))
    assert distance(image) <= 1
    assert image.notes == ("CMYK converted without its colour profile",)
    jpeg = pillow(PillowImage.fromarray(cmyk, "CMYK"), format="JPEG", quality=97, subsampling=0)
    assert np.abs(read(tmp_path, jpeg).image.rgb - RGB.astype(float)).mean() < 8


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_sixteen_bit_files_are_scaled_by_their_real_depth(tmp_path: Path, bits: int) -> None:
    white = RGB.copy()
    white[:4] = 255
    deep = np.rint(white * ((2**bits - 1) / 255)).astype(np.uint16)
    for data in (tiff(deep), imagecodecs.png_encode(deep)):
        image = read(tmp_path, data)
        assert distance(image, white) == 0
        assert image.notes == (f"16-bit samples read as {bits}-bit and scaled to 8-bit",)


def test_orientation_tags_are_applied(tmp_path: Path) -> None:
    upright = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, 1),
    }
    for orientation, turn in upright.items():
        exif = PillowImage.Exif()
        exif[0x0112] = orientation
        tag = [(274, 3, 1, orientation, True)]
        for data in (
            pillow(PillowImage.fromarray(RGB), format="PNG", exif=exif),
            tiff(extratags=tag, compression="deflate", tile=(32, 32)),
        ):
            np.testing.assert_array_equal(read(tmp_path, data).image.rgb, turn(RGB))
            part = read(tmp_path, data, region=(5, 9, 40, 30))
            np.testing.assert_array_equal(part.image.rgb, turn(RGB)[9:39, 5:45])


def test_of_several_frames_the_first_is_read_and_it_is_said(tmp_path: Path) -> None:
    first, second = PillowImage.fromarray(RGB), PillowImage.fromarray(255 - RGB)
    for kind, options in (("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True})):
        data = pillow(first, format=kind, save_all=True, append_images=[second], **options)
        image = read(tmp_path, data)
        assert image.notes == ("first of 2 frames read",)
        assert distance(image) <= (0 if kind != "GIF" else 90)
    assert read(tmp_path, LOSSLESS["tiff-stack"]()).notes == ("first of 2 pages read",)


# ---- pixel size --------------------------------------------------------------------------------


def test_the_pixel_size_is_found_where_files_keep_it(tmp_path: Path) -> None:
    picture = PillowImage.fromarray(RGB)
    imagej = {"imagej": True, "metadata": {"unit": "um", "axes": "YXS"}, "resolution": (2, 2)}
    ome = {"ome": True, "metadata": {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}}
    nanometres = {"PhysicalSizeX": 500.0, "PhysicalSizeXUnit": "nm"}
    nanometres |= {"PhysicalSizeY": 500.0, "PhysicalSizeYUnit": "nm"}
    for data in (
        tiff(**MPP_TAGS),
        tiff(resolution=(50_800, 50_800), resolutionunit="INCH"),
        tiff(**imagej),
        tiff(**ome),
        tiff(ome=True, metadata=nanometres),
        pillow(picture, format="PNG", dpi=(50_800, 50_800)),
        pillow(picture, format="JPEG", dpi=(50_800, 50_800)),
        pyramid(),
    ):
        image = read(tmp_path, data)
        assert image.image.mpp == pytest.approx(0.5, rel=1e-4)
        assert image.mpp_source == "file"


@pytest.mark.parametrize("dpi", [72, 96, 300, 600])
def test_screen_and_printer_resolutions_are_no_pixel_size(tmp_path: Path, dpi: int) -> None:
    for data in (
        tiff(resolution=(dpi, dpi), resolutionunit="INCH"),
        tiff(resolution=(1, 1), resolutionunit="NONE"),
        pillow(PillowImage.fromarray(RGB), format="PNG", dpi=(dpi, dpi)),
    ):
        image = read(tmp_path, data)
        assert image.image.mpp is None
        assert image.mpp_source == "unknown"


def test_an_argument_wins_and_a_contradiction_is_said(tmp_path: Path) -> None:
    image = read(tmp_path, tiff(**MPP_TAGS), mpp=0.25)
    assert (image.image.mpp, image.mpp_source) == (0.25, "argument")
    assert image.notes == ("the file says 0.5 µm/px; 0.25 was given and used",)
    assert read(tmp_path, tiff(**MPP_TAGS), mpp=0.5).notes == ()


@pytest.mark.parametrize("mpp", [0.0, -1.0, 0.01, 21.0, float("nan"), float("inf")])
def test_an_impossible_argument_is_refused(tmp_path: Path, mpp: float) -> None:
    assert "µm per pixel" in refused(tmp_path, tiff(), mpp=mpp)


def test_oblong_pixels_are_refused_unless_told_otherwise(tmp_path: Path) -> None:
    data = tiff(resolution=(2e4, 4e4), resolutionunit="CENTIMETER")
    assert "0.5 x 0.25 µm are not square" in refused(tmp_path, data)
    assert read(tmp_path, data, mpp=0.5).image.mpp == 0.5
    nearly = tiff(resolution=(2e4, 2.02e4), resolutionunit="CENTIMETER")
    assert read(tmp_path, nearly).image.mpp == pytest.approx(0.4975, abs=1e-4)


# ---- pyramids ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"subifds": 1}])
def test_levels_scale_the_region_and_the_pixel_size(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    data = pyramid(**options)
    whole = read(tmp_path, data, level=1)
    np.testing.assert_array_equal(whole.image.rgb, RGB[::2, ::2])
    assert whole.image.mpp == pytest.approx(1.0)
    part = read(tmp_path, data, level=1, region=(20, 10, 40, 60))
    np.testing.assert_array_equal(part.image.rgb, RGB[::2, ::2][5:35, 10:30])
    assert (part.origin, part.downsample) == ((20, 10), 2.0)
    assert read(tmp_path, data, level=1, mpp=0.25).image.mpp == pytest.approx(0.5)
    assert "levels 0 to 1" in refused(tmp_path, data, level=2)


def test_a_level_of_a_flat_image_is_refused(tmp_path: Path) -> None:
    for data in (tiff(), LOSSLESS["png"]()):
        assert "level 0 only" in refused(tmp_path, data, level=1)


@pytest.mark.parametrize(
    "region", [(-1, 0, 20, 20), (0, 0, 81, 20), (70, 0, 20, 20), (0, 90, 20, 20), (0, 0, 0, 20)]
)
def test_a_region_outside_the_image_is_refused(
    tmp_path: Path, region: tuple[int, int, int, int]
) -> None:
    for data in (tiff(), LOSSLESS["png"](), pyramid()):
        assert "not inside the image of 80 x 96 px" in refused(tmp_path, data, region=region)


def test_a_region_of_a_tiff_decodes_only_what_lies_under_it(tmp_path: Path) -> None:
    data = bytearray(tiff(compression="deflate", tile=(32, 32)))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        last, size = page.dataoffsets[-1], page.databytecounts[-1]
    data[last : last + size] = bytes(size)
    part = read(tmp_path, bytes(data), region=(0, 0, 40, 40))
    np.testing.assert_array_equal(part.image.rgb, RGB[:40, :40])
    assert "damaged" in refused(tmp_path, bytes(data))


# ---- bad input ---------------------------------------------------------------------------------


def test_paths_that_are_no_image_file(tmp_path: Path) -> None:
    for path, words in (
        (tmp_path, "is a folder"),
        (tmp_path / "none.png", "does not exist"),
        (Path("a\0b"), r"a\?b"),
        (Path("x" * 5000), "not a usable file name"),
        (Path("line\nbreak.png"), "does not exist"),
        (Path("/dev/null"), "not a regular file"),
    ):
        with pytest.raises(BadInput, match=words) as caught:
            read_image(path)
        assert "\n" not in str(caught.value)


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    path = tmp_path / "image.png"
    with open(path, "wb") as file:  # noqa: PTH123 - Path.open is the thing that is denied
        file.write(LOSSLESS["png"]())
    with pytest.raises(BadInput, match="no permission"):
        read_image(path)


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG\r\n\x1a\n", b"II*\0", b"%PDF-1.7 ...", b"a,b\n1,2\n"]
)
def test_files_that_are_no_image(tmp_path: Path, data: bytes) -> None:
    refused(tmp_path, data)


def test_a_postscript_file_is_not_run(tmp_path: Path) -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\nshowpage\n"
    assert "not an image" in refused(tmp_path, eps)


@pytest.mark.parametrize("size", [(1, 1), (15, 300), (300, 15)])
def test_too_small(tmp_path: Path, size: tuple[int, int]) -> None:
    blank = np.full((*size, 3), 255, np.uint8)
    for data in (tiff(blank), pillow(PillowImage.fromarray(blank), format="PNG")):
        assert "too small" in refused(tmp_path, data)
    assert "too small" in refused(tmp_path, tiff(), region=(0, 0, 8, 8))


def test_float_images_with_impossible_samples(tmp_path: Path) -> None:
    for value, words in ((np.nan, "NaN"), (np.inf, "NaN or inf"), (-3, "-3"), (4e4, "4e+04")):
        samples = RGB.astype(np.float32)
        samples[3, 4, 1] = value
        assert words in refused(tmp_path, tiff(samples))


def test_fluorescence_channels_are_refused(tmp_path: Path) -> None:
    channels = np.stack([RGB[..., 0]] * 5)
    data = tiff(channels, ome=True, photometric="minisblack", metadata={"axes": "CYX"})
    assert "5 separate channels" in refused(tmp_path, data)


def test_a_decompression_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = (
        struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    png = b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", 0)
    assert "60000 x 60000 px is more than the 400,000,000 px" in refused(tmp_path, png)


def test_a_tile_that_unpacks_to_more_than_it_says_is_refused(tmp_path: Path) -> None:
    large = PillowImage.new("RGB", (1000, 1000))
    layout: dict[str, Any] = {"shape": (96, 96, 3), "dtype": "uint8", "tile": (32, 32)}
    for compression, name in (("jpeg", "JPEG"), ("jpeg2000", "JPEG2000")):
        bombs = iter([pillow(large, format=name)] * 9)
        data = tiff(bombs, compression=compression, **layout)
        assert "a tile is larger than it says" in refused(tmp_path, data)


def test_a_large_image_is_read_in_parts_where_its_format_allows(tmp_path: Path) -> None:
    assert "take a region of it, a higher level or a smaller image" in refused(
        tmp_path, pyramid(), max_pixels=5000
    )
    assert read(tmp_path, pyramid(), max_pixels=5000, level=1).image.shape == (48, 40)
    for data in (tiff(), tiff(compression="deflate", tile=(32, 32))):
        assert "take a region" in refused(tmp_path, data, max_pixels=5000)
        part = read(tmp_path, data, max_pixels=5000, region=(0, 0, 40, 40))
        np.testing.assert_array_equal(part.image.rgb, RGB[:40, :40])
    png = refused(tmp_path, LOSSLESS["png"](), max_pixels=5000, region=(0, 0, 40, 40))
    assert "save it as a tiled TIFF" in png


def test_no_metadata_of_the_patient_leaves_the_file(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "Jane Doe 1950")
    png = pillow(PillowImage.fromarray(RGB), format="PNG", pnginfo=text)
    described = tiff(description="Jane Doe 1950", metadata=None, software="Jane Doe")
    for data in (png, described):
        assert "Jane" not in repr(read(tmp_path, data))
    broken = tiff(description='{"shape": [Jane Doe 1950', metadata=None)
    assert "Jane" not in refused(tmp_path, broken)


# ---- property: damage never gets past BadInput ---------------------------------------------------

DAMAGEABLE: dict[str, Callable[[], bytes]] = {
    **LOSSLESS,
    "jpeg": lambda: pillow(PillowImage.fromarray(RGB), format="JPEG"),
    "gif": lambda: pillow(PillowImage.fromarray(RGB), format="GIF"),
    "avif": lambda: pillow(PillowImage.fromarray(RGB), format="AVIF"),
    "tiff-jpeg": lambda: tiff(compression="jpeg", tile=(32, 32)),
    "tiff-ome": lambda: tiff(ome=True, metadata={"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}),
    "slide-jpeg": lambda: pyramid(compression="jpeg"),
}
valid = functools.cache(lambda name: DAMAGEABLE[name]())


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(valid(draw(st.sampled_from(sorted(DAMAGEABLE)))))
    reach = draw(st.sampled_from([64, 600, len(data)]))
    places = st.integers(0, min(reach, len(data)) - 1)
    for place, byte in draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)):
        data[place] = byte
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=damaged())
def test_damaged_files_raise_bad_input_or_give_an_image(tmp_path: Path, data: bytes) -> None:
    try:
        image = read(tmp_path, data, max_pixels=1_000_000)
    except BadInput as error:
        message = str(error)
    else:
        message = image.format
        assert min(image.image.shape) >= MIN_SIDE
    assert message
    assert "\n" not in message


def test_nothing_is_printed_about_damaged_files(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in sorted(DAMAGEABLE):
        data = valid(name)
        for damage in (data[: len(data) // 2], data[:-9], data[:40] + b"\xff" * 9 + data[49:]):
            try:
                read(tmp_path, damage, max_pixels=1_000_000)
            except BadInput:
                continue
    assert capfd.readouterr() == ("", "")


# ---- the sample --------------------------------------------------------------------------------


def test_the_sample_reads_with_its_pixel_size() -> None:
    sample = read_image(sample_path())
    assert sample.image.shape == (1200, 1200)
    assert (sample.image.mpp, sample.mpp_source, sample.notes) == (0.499, "file", ())
    np.testing.assert_array_equal(read_image(DATA).image.rgb, sample.image.rgb[420:676, 500:756])
    assert read_image(DATA).image.mpp == pytest.approx(0.499, abs=1e-4)
