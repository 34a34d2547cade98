"""Any image file to 8-bit RGB, images in files, and the bounded queue that decodes them."""

import os
import struct
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shiftbench import images
from shiftbench.errors import InputError
from shiftbench.images import ImageFiles, centre_crop, centre_square, chunks, image_files, load, open_rgb, resize, take
from shiftbench.runtime import compat


def noise(height, width, channels=3, seed=0):
    """A smooth random picture: what photographs are like and JPEG keeps."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (max(height // 16, 2), max(width // 16, 2), 3), dtype=np.uint8))
    pixels = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
    return pixels if channels == 3 else pixels[..., 0]


@pytest.fixture
def save(tmp_path):
    def write(image, name="a.png", **options):
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return write


def rgb(file):
    image = open_rgb(file)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm"])
def test_rgb_stays_as_it_is(save, name):
    pixels = noise(20, 30)
    np.testing.assert_array_equal(rgb(save(pixels, name)), pixels)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_grey(save, name):
    pixels = noise(20, 30, 1)
    np.testing.assert_array_equal(rgb(save(pixels, name)), np.repeat(pixels[..., None], 3, axis=2))


def test_black_and_white(save):
    pixels = noise(20, 30, 1) > 128
    np.testing.assert_array_equal(rgb(save(pixels))[..., 1], pixels * 255)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bits_are_scaled_and_not_clipped(save, name):
    pixels = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    file = save(pixels, name)
    with Image.open(file) as opened:
        assert opened.mode.startswith("I;16")
    np.testing.assert_array_equal(rgb(file)[..., 0], np.round(pixels / 257).astype(np.uint8))


def test_big_endian_16_bits(tmp_path):
    """PGM with 16 bits per pixel is big-endian; some versions of Pillow open it as 32-bit integers."""
    pixels = np.linspace(0, 65535, 600).reshape(20, 30).astype(">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5 30 20 65535\n" + pixels.tobytes())
    np.testing.assert_allclose(rgb(tmp_path / "a.pgm")[..., 0], pixels / 257, atol=0.5)


def test_16_bit_colour(tmp_path):
    """Written by hand, since Pillow cannot: RGB, 16 bits per channel."""
    pixels = np.linspace(0, 65535, 20 * 30 * 3).reshape(20, 30, 3).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    write_png(tmp_path / "a.png", struct.pack(">IIBBBBB", 30, 20, 16, 2, 0, 0, 0), zlib.compress(rows))
    np.testing.assert_allclose(rgb(tmp_path / "a.png"), pixels / 257, atol=1)


@pytest.mark.parametrize(
    "pixels", [np.full((9, 9), 70_000, np.int32), np.full((9, 9), -1, np.int32), np.full((9, 9), 0.5, np.float32)]
)
def test_32_bits_have_no_range(save, pixels):
    with pytest.raises(InputError, match=r"a\.tif' .*no defined range: save it with 8 or 16 bits"):
        open_rgb(save(pixels, "a.tif"))


def test_cmyk(save):
    file = save(Image.fromarray(noise(64, 64)).convert("CMYK"), "a.jpg", quality=95)
    with Image.open(file) as opened:
        assert opened.mode == "CMYK"
    assert np.abs(rgb(file).astype(int) - noise(64, 64)).mean() < 5


def test_palette(save):
    colours = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
    index = noise(20, 30, 1) // 128
    image = Image.fromarray(index, "P")
    image.putpalette(colours.tobytes())
    np.testing.assert_array_equal(rgb(save(image)), colours[index])


def test_transparent_pixels_are_white(save):
    pixels = noise(20, 30)
    alpha = np.full((20, 30), 255, np.uint8)
    alpha[:10] = 0
    expected = pixels.copy()
    expected[:10] = 255
    np.testing.assert_array_equal(rgb(save(np.dstack([pixels, alpha]))), expected)
    half = np.dstack([np.zeros_like(pixels), np.full_like(alpha, 128)])
    np.testing.assert_allclose(rgb(save(half)), 127, atol=1)


def test_a_transparent_colour_of_a_palette_or_of_grey_is_white(save):
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((3, 2), 0)
    pixels = rgb(save(palette, transparency=0))
    assert (pixels[2, 3].tolist(), pixels[0, 0].tolist()) == ([255, 255, 255], [0, 0, 255])
    grey = Image.new("L", (8, 8), 9)
    grey.putpixel((3, 2), 10)
    pixels = rgb(save(grey, transparency=10))
    assert (pixels[2, 3].tolist(), pixels[0, 0].tolist()) == ([255, 255, 255], [9, 9, 9])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_camera_was_turned(save, orientation):
    """EXIF 3: half a turn; 6 and 8: a quarter; 2, 4, 5 and 7: mirrored as well. numpy is the witness."""
    upright = noise(20, 30)
    undone = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2),
        6: np.rot90(upright), 7: upright[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(upright, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = save(np.ascontiguousarray(undone[orientation]), "a.png", exif=exif)
    np.testing.assert_array_equal(rgb(file), upright)


def test_the_first_of_several_frames(save):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    assert rgb(save(frames[0], "a.webp", save_all=True, append_images=frames[1:], lossless=True))[0, 0, 0] == 255


def write_png(file, header, data=b""):
    parts = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


@pytest.mark.parametrize("limit", [images.PIXELS, None])
def test_a_decompression_bomb(tmp_path, limit, monkeypatch):
    """A few bytes that claim 20,000 x 20,000 pixels, also where somebody switched Pillow's own limit off."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit and limit // 2)
    write_png(tmp_path / "bomb.png", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0))
    with pytest.raises(InputError, match=r"Cannot read the image .*bomb\.png' .*pixels") as caught:
        open_rgb(tmp_path / "bomb.png")
    assert "\n" not in str(caught.value)


def test_a_line_that_would_become_huge(save):
    with pytest.raises(InputError, match=r"a\.png' is 9,000 times as long as wide"):
        centre_crop(save(Image.new("L", (9_000, 1))), 224)


@pytest.mark.filterwarnings("ignore:Truncated File Read")  # of Pillow's, before its error
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.bmp"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.95])
def test_truncated(save, name, share):
    file = save(noise(64, 64), name)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=rf"^Cannot read the image '.*{name}' \(\w+: .*\)\.$") as caught:
        open_rgb(file)
    assert str(caught.value).count(name) == 1


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, b"\xff\xd8\xff" + b"\0" * 50])
def test_no_image(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"^Cannot read the image '.*a\.png'"):
        open_rgb(tmp_path / "a.png")


def test_an_image_that_is_gone(tmp_path):
    with pytest.raises(InputError, match=r"No image .*a\.png"):
        open_rgb(tmp_path / "a.png")


@pytest.mark.parametrize("shape", [(300, 400), (375, 500), (500, 333), (256, 256), (1100, 1300), (90, 61), (224, 3000)])
@pytest.mark.parametrize("size", [224, 64])
def test_centre_crop_is_torchvision_s_evaluation(save, shape, size):
    """JPEGs and PNGs, large and small: the same bytes as the transforms that published accuracies were measured with."""
    transforms = compat.torchvision().transforms
    file = save(noise(*shape), "a.jpg", quality=95)
    with Image.open(file) as opened:
        resized = transforms.Resize(round(size * 256 / 224))(opened.convert("RGB"))
    expected = np.asarray(transforms.CenterCrop(size)(resized))
    np.testing.assert_array_equal(centre_crop(file, size), expected)


@pytest.mark.parametrize("shape", [(64, 96), (96, 64), (32, 32), (20, 25)])
def test_centre_square(save, shape):
    transforms = compat.torchvision().transforms
    pixels = noise(*shape)
    expected = transforms.CenterCrop(32)(transforms.Resize(32)(Image.fromarray(pixels)))
    np.testing.assert_array_equal(centre_square(save(pixels), 32), np.asarray(expected))


def test_a_large_jpeg_at_reduced_scale_is_nearly_the_same(save):
    file = save(noise(600, 800), "a.jpg", quality=95)
    with Image.open(file) as opened:
        exact = compat.torchvision().transforms.Resize(64)(opened.convert("RGB"))
    assert open_rgb(file, 64).size == (200, 150)  # a quarter, at least twice of what is wanted
    assert open_rgb(file, 200).size == (800, 600)
    exact = np.asarray(exact.crop((10, 0, 74, 64))).astype(float)
    difference = centre_square(file, 64) - exact
    assert np.sqrt((difference**2).mean()) < 1.5


@pytest.fixture
def files(tmp_path):
    """23 images, each of its number's grey level."""
    for i in range(23):
        Image.new("RGB", (12, 10), (i, i, i)).save(tmp_path / f"{i:02}.png")
    return ImageFiles(image_files(tmp_path), 8, centre_square)


def levels(pixels):
    assert pixels.dtype == torch.uint8
    assert pixels.shape[1:] == (3, 8, 8)
    return pixels[:, 2, 7, 0].tolist()


def test_files_look_like_a_tensor(files):
    assert (len(files), files.shape) == (23, (23, 3, 8, 8))
    assert levels(files[:]) == list(range(23))
    assert levels(files[5:9]) == [5, 6, 7, 8]
    assert levels(files[np.array([7, 0, 7])]) == [7, 0, 7]
    assert levels(files[torch.tensor([3])]) == [3]
    assert files[4:4].shape == (0, 3, 8, 8)


def test_take_and_join(files):
    some = take(files, np.array([9, 2]))
    assert levels(some[:]) == [9, 2]
    both = images.join(some, take(files, np.array([4])))
    assert isinstance(both, ImageFiles)
    assert levels(both[:]) == [9, 2, 4]
    assert both.digest == take(files, np.array([9, 2, 4])).digest
    assert levels(images.join(some[:], files)) == [9, 2, *range(23)]
    assert levels(take(files[:], np.array([9, 2]))) == [9, 2]


def test_content_tells_files_apart_and_names_do_not(files, tmp_path):
    assert take(files, np.array([3, 4])).digest != take(files, np.array([4, 3])).digest
    assert ImageFiles(files.files, 8, centre_crop).digest != files.digest
    (tmp_path / "03.png").rename(tmp_path / "renamed.png")
    renamed = ImageFiles([tmp_path / "renamed.png"], 8, centre_square)
    (tmp_path / "copy.png").write_bytes((tmp_path / "renamed.png").read_bytes())
    assert renamed.digest == ImageFiles([tmp_path / "copy.png"], 8, centre_square).digest


def test_other_pixels_of_the_same_size_are_seen(files, tmp_path):
    """The file's name, length and time are as they were."""
    first = ImageFiles(files.files, 8, centre_square).digest
    path = tmp_path / "05.png"
    status, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert ImageFiles(files.files, 8, centre_square).digest != first


@pytest.mark.parametrize("workers", [1, 2, 5, None])
@pytest.mark.parametrize("size", [1, 4, 23, 100])
def test_chunks_are_whole_and_in_order(files, size, workers):
    found = list(chunks(files, size, workers))
    assert [start for start, _ in found] == list(range(0, 23, size))
    assert all(len(chunk) == size for _, chunk in found[:-1])
    assert levels(torch.cat([chunk for _, chunk in found])) == list(range(23))
    in_memory = list(chunks(files[:], size, workers))
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(found, in_memory, strict=True))


def test_chunks_of_nothing(files):
    assert list(chunks(take(files, np.array([], dtype=int)), 4)) == []


def counting(files, delay=0.0):
    """The same files with a count of the images decoded so far."""
    lock, count = threading.Lock(), [0]

    def decode(file, size):
        time.sleep(delay)
        with lock:
            count[0] += 1
        return centre_square(file, size)

    return ImageFiles(files.files, 8, decode), count


def test_the_queue_is_bounded(files):
    """However slow the consumer is, only two chunks beyond its own are decoded."""
    counted, count = counting(files)
    stream = chunks(counted, 2, workers=2)
    next(stream)
    deadline = time.monotonic() + 20
    while count[0] < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert count[0] == 6
    stream.close()


def test_a_consumer_that_stops_stops_the_decoding(files):
    before = threading.active_count()
    counted, count = counting(files, delay=0.01)
    stream = chunks(counted, 5, workers=2)
    next(stream)
    stream.close()
    assert threading.active_count() == before
    assert count[0] < 23


def test_an_unreadable_file_ends_the_stream(files):
    Path(files.files[10]).write_bytes(b"x")
    before = threading.active_count()
    with pytest.raises(InputError, match=r"Cannot read the image .*10\.png"):
        list(chunks(files, 4))
    assert threading.active_count() == before


def test_load_keeps_what_is_small_in_memory(files, monkeypatch):
    few = take(files, np.arange(3))
    monkeypatch.setattr(images, "IN_MEMORY", 26 * 3 * 8 * 8)
    one, other = load(files, few)
    assert levels(one) == list(range(23))
    assert levels(other) == [0, 1, 2]
    assert load(one, few)[0] is one
    monkeypatch.setattr(images, "IN_MEMORY", 26 * 3 * 8 * 8 - 1)
    assert load(files, few) == [files, few]
    assert levels(load(few)[0]) == [0, 1, 2]


def test_resize_is_pillow_s():
    pixels = np.stack([noise(28, 28, seed=i) for i in range(4)])
    resized = resize(torch.from_numpy(pixels).permute(0, 3, 1, 2), 32)
    assert resized.shape == (4, 3, 32, 32)
    for one, other in zip(resized, pixels, strict=True):
        expected = Image.fromarray(other).resize((32, 32), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(one.permute(1, 2, 0), np.asarray(expected))
    as_they_are = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    assert resize(as_they_are, 28) is as_they_are
    assert resize(as_they_are, None) is as_they_are
    assert resize(as_they_are[:0], 16).shape == (0, 3, 16, 16)
    with pytest.raises(InputError, match=r"data\.size=4: a whole number of pixels, at least 8"):
        resize(as_they_are, 4)


def test_image_files(tmp_path):
    for name in ("b.PNG", "a.jpeg", "c.txt", ".d.png", "e/f.webp", "e/g/h.ppm", ".i/j.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def below(found):
        return [file.removeprefix(f"{tmp_path}/") for file in found]

    assert below(image_files(tmp_path)) == ["a.jpeg", "b.PNG"]
    assert below(image_files(tmp_path, below=True)) == ["a.jpeg", "b.PNG", "e/f.webp", "e/g/h.ppm"]
    assert image_files(tmp_path / "nowhere") == []
