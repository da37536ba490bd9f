"""Images deeper than 8 bits: what they become, what is said of them before training, what is refused."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from kdlab.data import ImageFolder
from kdlab.data.images.image_folder import read_image
from kdlab.data.images.pixels import Deep, Reader, deep_pixels, is_deep, notes
from kdlab.errors import DataDamaged, InputError
from tests.data.images.pictures import folder_of_pictures

RAMP = np.linspace(0, 1, 2400).reshape(40, 60)


def ramp(path, largest, dtype=np.uint16, least=0):
    """An image whose values go from the least to the largest."""
    Image.fromarray((least + RAMP * (largest - least)).astype(dtype)).save(path)
    return str(path)


def colour_png(path, values):
    """A PNG of 16 bits a channel, which Pillow cannot write; (H, W, 2, 3 or 4)."""
    height, width, channels = values.shape

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return str(path)


def colour_tiff(path, values, order, compressed):
    """A TIFF of 16 bits a channel in RGB, in either order of bytes."""
    height, width, channels = values.shape
    content = values.astype(f"{order}u2").tobytes()
    content = zlib.compress(content) if compressed else content
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, channels, None),
        (259, 3, 1, 8 if compressed else 1),
        (262, 3, 1, 2),
        (273, 4, 1, None),
        (277, 3, 1, channels),
        (278, 4, 1, height),
        (279, 4, 1, len(content)),
    ]
    depths = 8 + 2 + 12 * len(tags) + 4
    directory = struct.pack(f"{order}H", len(tags))
    for tag, kind, count, value in tags:
        value = {258: depths, 273: depths + 2 * channels}.get(tag, value)
        directory += (
            struct.pack(f"{order}HHIHH", tag, kind, count, value, 0)
            if (kind, count) == (3, 1)
            else struct.pack(f"{order}HHII", tag, kind, count, value)
        )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    path.write_bytes(
        head + directory + struct.pack(f"{order}I", 0) + struct.pack(f"{order}{channels}H", *[16] * channels) + content
    )
    return str(path)


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize(
    "ending, dtype", [("png", np.uint16), ("tif", np.uint16), ("tif", np.int32), ("jp2", np.uint16)]
)
def test_white_is_the_largest_value_of_so_many_bits(tmp_path, bits, ending, dtype):
    path = ramp(tmp_path / f"x.{ending}", 2**bits - 1, dtype)
    found = np.asarray(Reader(bits=bits)(path))
    assert found.shape == (40, 60, 3) and found.min() == 0 and found.max() == 255
    if ending != "jp2":
        assert np.array_equal(found[..., 0], (RAMP * (2**bits - 1)).astype(int) // 2 ** (bits - 8))


def test_where_nothing_is_said_all_of_16_bits_are_used(tmp_path):
    path = ramp(tmp_path / "x.png", 65535)
    assert np.array_equal(np.asarray(read_image(path))[..., 0], (RAMP * 65535).astype(int) // 256)
    assert np.array_equal(np.asarray(Reader(bits=16)(path)), np.asarray(read_image(path)))
    assert np.asarray(read_image(ramp(tmp_path / "y.png", 4095))).max() == 15


def test_bits_below_eight_and_images_of_eight_bits(tmp_path):
    assert np.asarray(Reader(bits=4)(ramp(tmp_path / "x.png", 15))).max() == 255
    Image.fromarray((RAMP * 255).astype(np.uint8)).save(tmp_path / "y.png")
    assert np.array_equal(
        np.asarray(Reader(bits=12)(str(tmp_path / "y.png")))[..., 0], (RAMP * 255).astype(np.uint8)
    ), "they stay as they are"
    assert not is_deep(str(tmp_path / "y.png")) and is_deep(str(tmp_path / "x.png"))


def test_a_range_for_floats_and_signed_integers(tmp_path):
    path = ramp(tmp_path / "x.tif", 2.0, np.float32, least=-2.0)
    found = np.asarray(Reader(value_range=[-1, 1])(path))[..., 0]
    expected = np.rint(
        (np.linspace(-2, 2, 2400, dtype=np.float32).reshape(40, 60).clip(-1, 1).astype(np.float64) + 1) * 127.5
    )
    assert np.abs(found.astype(int) - expected).max() <= 1 and found[0, 0] == 0 and found[-1, -1] == 255
    scan = ramp(tmp_path / "scan.tif", 3071, np.int32, least=-1024)
    assert np.asarray(Reader(value_range=[-1024, 3071])(scan)).max() == 255
    window = np.asarray(Reader(value_range=[0, 255])(scan))[..., 0]
    values = np.asarray(Image.open(scan))
    assert np.array_equal(window, values.clip(0, 255))


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_16_bits(tmp_path, channels):
    values = np.random.default_rng(0).integers(0, 4096, (5, 7, channels))
    path = colour_png(tmp_path / "x.png", values)
    assert np.array_equal(np.asarray(read_image(path)), values[..., :3] // 256), "as ever: the upper byte"
    assert np.array_equal(deep_pixels(path).values, values[..., :3])
    assert np.array_equal(np.asarray(Reader(bits=12)(path)), values[..., :3] // 16)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
def test_colours_of_16_bits_in_a_tiff(tmp_path, order, compressed):
    values = np.random.default_rng(0).integers(0, 4096, (5, 7, 3))
    path = colour_tiff(tmp_path / "x.tif", values, order, compressed)
    assert np.array_equal(np.asarray(read_image(path)), values // 256)
    assert np.array_equal(np.asarray(Reader(bits=12)(path)), values // 16)


def test_a_photograph_is_turned_upright_where_that_is_asked_for(tmp_path):
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3) * 9
    for orientation, turned in (
        (1, pixels),
        (3, np.rot90(pixels, 2)),
        (6, np.rot90(pixels, -1)),
        (8, np.rot90(pixels)),
        (2, pixels[:, ::-1]),
    ):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
        assert np.array_equal(np.asarray(read_image(str(tmp_path / "x.png"))), pixels)
        assert np.array_equal(np.asarray(Reader(exif_rotation=True)(str(tmp_path / "x.png"))), turned)


# -- refusals ----------------------------------------------------------------------------------------------------------


def nan(path, value=np.nan):
    values = RAMP.astype(np.float32)
    values[3, 4] = value
    Image.fromarray(values).save(path)
    return str(path)


@pytest.mark.parametrize(
    "reader, make, words",
    [
        (
            Reader(),
            lambda path: ramp(path, 1.5, np.float32),
            ["x.tif (mode F)", "from 0 to 1.5", "data.value_range=[0,1.5]"],
        ),
        (
            Reader(),
            lambda path: ramp(path, 3071, np.int32, -1024),
            ["negative pixels, from -1024 to 3071", "data.value_range=[-1024,3071]"],
        ),
        (
            Reader(),
            lambda path: ramp(path, 2**20 - 1, np.int32),
            ["up to 1048575", "16 bits hold 65535", "data.bits=20"],
        ),
        (Reader(bits=12), lambda path: ramp(path, 5000), ["up to 5000", "12 bits hold 4095", "data.bits=14"]),
        (Reader(bits=12), lambda path: ramp(path, 1.0, np.float32), ["floating-point", "data.value_range=[0,1]"]),
        (Reader(value_range=[0, 1]), nan, ["x.tif has pixels that are no finite numbers"]),
        (Reader(value_range=[0, 1]), lambda path: nan(path, np.inf), ["no finite numbers"]),
        (Reader(), nan, ["no finite numbers"]),
    ],
    ids=["float", "negative", "20 bits", "too bright", "float by bits", "NaN", "infinity", "NaN alone"],
)
def test_what_cannot_be_scaled_is_refused(tmp_path, reader, make, words):
    with pytest.raises(InputError) as error:
        reader(make(tmp_path / "x.tif"))
    assert not isinstance(error.value, DataDamaged), "the file is sound"
    for word in words:
        assert word in str(error.value)


def test_grey_with_transparency_of_16_bits(tmp_path):
    """Pillow has no way to the lower bytes."""
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, 2))
    path = colour_png(tmp_path / "x.png", values)
    assert np.array_equal(np.asarray(read_image(path))[..., 0], values[..., 0] // 256)
    with pytest.raises(InputError, match="reads only the upper 8 bits of its 16"):
        Reader(bits=12)(path)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"bits": 0}, "^bits must be from 1 to 32"),
        ({"bits": 33}, "^bits"),
        ({"value_range": [1]}, "^value_range"),
        ({"value_range": [2, 1]}, "^value_range"),
        ({"bits": 8, "value_range": [0, 1]}, "leave one of them out"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        ImageFolder(**arguments)


# -- what is said before training --------------------------------------------------------------------------------------


def folder_of(root, make):
    folder_of_pictures(root, train=4, test=2)
    for path in sorted((root / "train").rglob("*.png")):
        make(path)
    return root


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_unused_bits_are_said_with_the_line_to_type(tmp_path, bits):
    root = folder_of(tmp_path / "own", lambda path: ramp(path, 2**bits - 1))
    (line,) = ImageFolder(str(root), size=8, batch_size=4, validation=0.25).notes()
    assert line.startswith(
        f"data: warning: {root}/train/blue/000.png (mode I;16): the brightest pixel of 12 images of this depth is"
        f" {2**bits - 1} of 65535, which becomes {(2**bits - 1) // 256} of 255."
    )
    assert f"type data.bits={bits};" in line and "data.bits=16 keeps them" in line
    for stated in (bits, 16):
        quiet = ImageFolder(str(root), size=8, batch_size=4, validation=0.25, bits=stated).notes()
        assert bool(quiet) == (stated == 16 and bits < 12), quiet  # below 8 of 255 it is black, whatever was said


def test_images_that_use_their_bits_are_not_spoken_of(tmp_path):
    assert (
        ImageFolder(
            str(folder_of(tmp_path / "own", lambda path: ramp(path, 65535))), size=8, batch_size=4, validation=0.25
        ).notes()
        == []
    )
    assert (
        ImageFolder(str(folder_of_pictures(tmp_path / "other", train=4)), size=8, batch_size=4, validation=0.25).notes()
        == []
    )


def test_colours_that_use_few_bits_are_said(tmp_path):
    root = folder_of(
        tmp_path / "own", lambda path: colour_png(path, np.random.default_rng(0).integers(0, 4096, (8, 8, 3)))
    )
    (line,) = ImageFolder(str(root), size=8, batch_size=4, validation=0.25).notes()
    assert "(mode 16 bits of RGB)" in line and "data.bits=12" in line


@pytest.mark.parametrize("channels", [2, 4])
def test_transparency_is_no_brightness(tmp_path, channels):
    """It is at its greatest in dark images too, and must hide neither their unused bits nor fail for them."""
    values = np.full((8, 8, channels), 65535)
    values[..., :-1] = np.random.default_rng(0).integers(0, 4096, (8, 8, channels - 1))
    path = colour_png(tmp_path / "x.png", values)
    (line,) = notes([deep_pixels(path)], Reader())
    assert "which becomes 15 of 255" in line and "data.bits=12" in line
    assert np.array_equal(Reader(bits=16)(path), read_image(path))


def test_floats_are_refused_before_training(tmp_path):
    root = folder_of(tmp_path / "own", lambda path: ramp(path.with_suffix(".tif"), 1.0, np.float32) and path.unlink())
    with pytest.raises(InputError, match=r"data.value_range=\[0,1\]"):
        ImageFolder(str(root), size=8, batch_size=4, validation=0.25).notes()
    assert ImageFolder(str(root), size=8, batch_size=4, validation=0.25, value_range=[0, 1]).notes() == []
    (line,) = ImageFolder(str(root), size=8, batch_size=4, validation=0.25, value_range=[2, 3]).notes()
    assert "100% of the pixels lie outside data.value_range=[2,3]" in line and "from 0 to 1" in line


def test_a_wrong_range_of_few_pixels_is_a_window():
    half = Deep("x", "F", np.array([[0.0, 0.5, 1.0, 2.0]]))
    assert notes([half], Reader(value_range=[0, 1])) == []


def test_a_run_says_it_once_and_reads_by_the_option(tmp_path, kdlab):
    folder_of(tmp_path / "own", lambda path: ramp(path, 4095))
    command = [
        "train",
        "data=image_folder",
        "data.folder=own",
        "data.classes=3",
        "data.size=8",
        "data.workers=0",
        "data.batch_size=4",
        "strategy=supervised",
        "student=cnn",
        "trainer.max_epochs=1",
        "data.validation=0.25",
    ]
    code, out, err = kdlab(*command)
    assert code == 0 and out.count("type data.bits=12") == 1, (out, err)
    code, out, err = kdlab(*command, "data.bits=12")
    assert code == 0 and "warning" not in out, (out, err)
